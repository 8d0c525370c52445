"""The compositions behind the commands: a run in, a bundle out; a bundle in, a comparison out."""

from __future__ import annotations

from slimnet.pipeline.bench import BenchReport, bench_bundle, bench_files
from slimnet.pipeline.bench_plot import check_plot, plot_bench
from slimnet.pipeline.compact import export_compact
from slimnet.pipeline.evaluate import evaluate_any
from slimnet.pipeline.export import export_run
from slimnet.pipeline.paper import paper_accounting
from slimnet.pipeline.precisions import PrecisionSettings
from slimnet.pipeline.rebuild import load_slim
from slimnet.pipeline.report import Report, write_report
from slimnet.pipeline.verify import VerifyReport, verify_bundle

__all__ = [
    "BenchReport",
    "PrecisionSettings",
    "Report",
    "VerifyReport",
    "bench_bundle",
    "bench_files",
    "check_plot",
    "evaluate_any",
    "export_compact",
    "export_run",
    "load_slim",
    "paper_accounting",
    "plot_bench",
    "verify_bundle",
    "write_report",
]

"""What each command does, for a program to call: one file a command. A run, a bundle, a checkpoint or an ONNX file in.

Nothing here is imported before it is asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from slimnet._lazy import lazy

if TYPE_CHECKING:
    from slimnet.commands.bench import BenchReport, bench_bundle, bench_files
    from slimnet.commands.bench_plot import check_plot, plot_bench
    from slimnet.commands.calibrate import calibrate_bundle
    from slimnet.commands.compact import export_compact
    from slimnet.commands.evaluate import evaluate_any
    from slimnet.commands.export import export_run
    from slimnet.commands.finetune import prune_and_finetune
    from slimnet.commands.inspect import inspect_checkpoint
    from slimnet.commands.opening import open_checkpoint
    from slimnet.commands.paper import paper_accounting
    from slimnet.commands.prune import prune_checkpoint
    from slimnet.commands.rebuild import load_slim
    from slimnet.commands.report import Report, write_report
    from slimnet.commands.slim import slim_checkpoint
    from slimnet.commands.verify import VerifyReport, verify_bundle
    from slimnet.settings import PrecisionSettings

__all__ = [
    "BenchReport",
    "PrecisionSettings",
    "Report",
    "VerifyReport",
    "bench_bundle",
    "bench_files",
    "calibrate_bundle",
    "check_plot",
    "evaluate_any",
    "export_compact",
    "export_run",
    "inspect_checkpoint",
    "load_slim",
    "open_checkpoint",
    "paper_accounting",
    "plot_bench",
    "prune_and_finetune",
    "prune_checkpoint",
    "slim_checkpoint",
    "verify_bundle",
    "write_report",
]

_HOME = {
    "BenchReport": "bench",
    "bench_bundle": "bench",
    "bench_files": "bench",
    "check_plot": "bench_plot",
    "plot_bench": "bench_plot",
    "calibrate_bundle": "calibrate",
    "export_compact": "compact",
    "evaluate_any": "evaluate",
    "export_run": "export",
    "prune_and_finetune": "finetune",
    "inspect_checkpoint": "inspect",
    "open_checkpoint": "opening",
    "paper_accounting": "paper",
    "PrecisionSettings": "precisions",
    "prune_checkpoint": "prune",
    "load_slim": "rebuild",
    "Report": "report",
    "write_report": "report",
    "slim_checkpoint": "slim",
    "VerifyReport": "verify",
    "verify_bundle": "verify",
}


__getattr__ = lazy(__name__, _HOME)

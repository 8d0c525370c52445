"""``slimnet bench``."""

from __future__ import annotations

from contextlib import nullcontext
from itertools import product
from pathlib import Path
from typing import Any

import click

from slimnet_cli._bench_table import show
from slimnet_cli._emit import emit_json, say
from slimnet_cli._flags import Named
from slimnet_cli._numbers import COUNT, SEED, THREADS, Finite
from slimnet_cli._options import BundlePath, Several, as_json, existing, time_limit, together, trust_code
from slimnet_cli._quick import refuse_missing, refuse_missing_bundle, refuse_runtimes

_how = together(
    click.option("--batch", "batches", type=Several(COUNT), default="1", show_default=True,
                 metavar="N,…", help="Images a run; several are measured one after the other."),
    click.option("--threads", "thread_counts", type=Several(THREADS), default="1", show_default=True,
                 metavar="N,…", help="Threads of each session; several as well."),
    click.option("--runtime", "--runtimes", "runtimes", type=Several(Named("BENCH_RUNTIMES")), default="onnxruntime",
                 show_default=True, metavar="NAME,…",
                 help="Of a bundle: onnxruntime, torch, torch-compile, openvino, litert, ncnn; several are compared; or all."),
    click.option("--provider", type=Named("PROVIDERS"), default="cpu", show_default=True, help="What it runs on."),
    click.option("--inputs", type=existing, metavar="FILE", help="Real input, .npy or .npz.  [default: random]"),
    click.option("--memory", is_flag=True, help="Measure peak memory as well, each network in a process of its own."),
    click.option("--plot", type=existing, metavar="FILE", help="Draw latency against FLOPs and the scatter: .png, .svg, .pdf."),
)  # fmt: skip


@click.command("bench")
@click.argument("what", nargs=-1, required=True, type=BundlePath())
@_how
@click.option("--rounds", type=COUNT, default=200, show_default=True, help="Least number of rounds.")
@click.option("--seconds", type=Finite(min=0), default=10.0, show_default=True, help="Least time of rounds.")
@click.option("--seed", type=SEED, default=0, show_default=True, help="Of inputs, order and bootstrap.")
@time_limit
@trust_code
@as_json
def command(
    what: tuple[Path, ...],
    batches: tuple[int, ...],
    thread_counts: tuple[int, ...],
    runtimes: tuple[str, ...],
    plot: Path | None,
    trust_code: bool,
    as_json: bool,
    **settings: Any,
) -> None:
    """Compare the dense and the slim network of a bundle, or any ONNX files (the first is the baseline).

    Latency is paired: every round runs every network once, in random order, and the baseline twice (A/A).

    \b
    slimnet bench build/r56
    slimnet bench build/r56 --threads 1,2 --batch 1,8 --memory
    slimnet bench build/r56 --runtime onnxruntime,torch,torch-compile
    slimnet bench build/r56 --runtimes all
    slimnet bench a.onnx b.onnx --provider cuda --plot latency.png
    """
    from slimnet.known import is_onnx

    is_bundle = len(what) == 1 and not is_onnx(what[0])
    if not is_bundle and (others := [name for name in runtimes if name != "onnxruntime"]):
        raise click.UsageError(f"--runtime {others[0]} needs a bundle: an ONNX file runs in ONNX Runtime alone.")
    given: Any = {"path": what[0], "runtimes": runtimes, "trust_code": trust_code} if is_bundle else {"paths": _names(what)}
    if is_bundle:
        refuse_missing_bundle(what[0])
        refuse_runtimes(runtimes)
        _say_unused(runtimes)
    else:
        refuse_missing(*what)
    refuse_missing(settings["inputs"], hint="give a .npy or .npz file of inputs")
    from slimnet.commands import bench_bundle, bench_files, check_plot, plot_bench
    from slimnet.progress import Task

    if plot is not None:
        check_plot(plot)
    bench: Any = bench_bundle if is_bundle else bench_files
    combinations = list(product(thread_counts, batches))
    reports = []
    for threads, batch in combinations:
        where = f"{threads} thread{'s' if threads > 1 else ''}, batch {batch}" if len(combinations) > 1 else ""
        with Task(where) if where else nullcontext():
            report = bench(**given, threads=threads, batch=batch, **settings)
        reports.append(report)
        if plot is not None:
            plot_bench(report, _part(plot, threads, batch) if where else plot)
        if not as_json:
            show(report, memory=settings["memory"], heading=where)
    if as_json:
        values = [report.as_dict() for report in reports]
        emit_json(values[0] if len(values) == 1 else {"combinations": values})


def _say_unused(runtimes: tuple[str, ...]) -> None:
    """Say which runtimes ``all`` leaves out: it is every file of the slim network, and PyTorch reads none of them."""
    from slimnet.settings import does_nothing

    for name in runtimes if "all" in runtimes else ():
        if name.startswith("torch"):
            say(does_nothing(name, "`all` compares the files of the bundle; name the runtimes in its place"))


def _part(plot: Path, threads: int, batch: int) -> Path:
    """Of several pictures, the one of a combination."""
    return plot.with_name(f"{plot.stem}-{threads}-threads-batch-{batch}{plot.suffix}")


def _names(paths: tuple[Path, ...]) -> dict[str, Path]:
    """File names as variant names, with their folders where they would be the same."""
    stems = [path.stem for path in paths]
    names = stems if len(set(stems)) == len(stems) else [str(path) for path in paths]
    if len(set(names)) < len(names):
        raise click.UsageError("the same file is given twice.")
    return dict(zip(names, paths, strict=True))

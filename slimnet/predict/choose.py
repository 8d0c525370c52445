"""Which file of a bundle to run."""

from __future__ import annotations

from pathlib import Path

from slimnet.bundle.manifest import PRECISIONS
from slimnet.errors import ArgumentError, FileFormatError
from slimnet.export import Bundle
from slimnet.files.untrusted import member
from slimnet.measure.latency import compare_latency
from slimnet.names import DEPLOYED, RUN_BY
from slimnet.runtimes.formats import check_runs, of_runtime

AUTO, PLAIN = "auto", "fp32"
BATCH = 8  # of the comparison
WORTH = 1.05  # times faster than fp32: less is no reason to leave it


def chosen_file(bundle: Bundle, precision: str | None, *, threads: int) -> tuple[str, Path]:
    """The precision that is asked for, and its ONNX file.

    Args:
        bundle: what to choose from.
        precision: a name; None is fp32, or what a compact bundle holds; ``"auto"``: where there are several, all are timed here
            in interleaved rounds for half a second, and the fastest is taken, or fp32 where none is 5 % faster. (A bundle holds
            only those that lost little accuracy, and no time of the machine that made it.)
        threads: of ONNX Runtime.

    Raises:
        ArgumentError: if there is no such precision at all.
        FileFormatError: if the bundle does not hold it.
    """
    files = bundle.precision_files
    if precision is None or (precision == AUTO and len(files) == 1):
        precision = next(iter(files))
    if precision not in (AUTO, *PRECISIONS):
        raise ArgumentError(f"unknown precision {precision!r}; known: {', '.join((AUTO, *PRECISIONS))}.")
    if precision == AUTO:
        precision = _fastest(files, threads)
    if precision not in files:
        raise FileFormatError(f"{bundle.path} holds no {precision} network: it has {', '.join(files)}.")
    return precision, files[precision]


def chosen_format(bundle: Bundle, runtime: str, precision: str | None) -> tuple[str, tuple[Path, ...]]:
    """The precision that is asked for, and its files for another runtime than ONNX Runtime.

    Args:
        bundle: what to choose from.
        runtime: one of `slimnet.names.DEPLOYED`.
        precision: a name; None is fp32.

    Raises:
        ArgumentError: if there is no such runtime; or for ``"auto"``, which chooses among ONNX files.
        SlimnetError: if it is not installed.
        FileFormatError: if the bundle does not hold such files.
    """
    if runtime not in DEPLOYED:
        raise ArgumentError(f"unknown runtime {runtime!r}; known: {', '.join(RUN_BY)}.")
    if precision == AUTO:
        raise ArgumentError(
            f"the precision {AUTO} is chosen among ONNX files: name one for {runtime}; `slimnet bench` times them."
        )
    check_runs(runtime)
    form, wanted = of_runtime(runtime), precision or PLAIN
    held = {key: files for (name, key), files in bundle.format_files.items() if name == form.name}
    if wanted not in held:
        hint = f"it has {', '.join(held) or 'none'}: `slimnet export --formats {form.name}` writes one"
        raise FileFormatError(f"{bundle.path} holds no {form.name} network in {wanted}; {hint}.")
    return wanted, tuple(member(bundle.path, file.name) for file in held[wanted])


def _fastest(files: dict[str, Path], threads: int) -> str:
    report = compare_latency(files, batch=BATCH, threads=threads, baseline=PLAIN, rounds=10, seconds=0.5, limit=5.0, warmup=0.3)
    best = max(report.variants, key=lambda variant: variant.speedup)
    return best.name if best.speedup > WORTH else PLAIN

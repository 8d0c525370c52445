"""How fast networks are against each other, with an interval and a control. No torch here."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np

from slimnet.errors import ArgumentError
from slimnet.measure.machine import Watch, environment
from slimnet.measure.sessions import OnnxFile
from slimnet.measure.stats import Floats, is_settled
from slimnet.measure.timed import Inputs, Network, Setting, Timed
from slimnet.measure.timings import LatencyReport, Variant, reasons_to_distrust, summarise
from slimnet.progress import Task

__all__ = ["LatencyReport", "Variant", "compare_latency"]


def compare_latency(
    models: Mapping[str, Path | str | Network],
    *,
    batch: int = 1,
    threads: int = 1,
    provider: str = "cpu",
    rounds: int = 200,
    seconds: float = 10.0,
    limit: float = 300.0,
    warmup: float = 5.0,
    inputs: Inputs = None,
    seed: int = 0,
    baseline: str | None = None,
    progress: Callable[[float], None] | None = None,
) -> LatencyReport:
    """Time networks against each other in interleaved rounds.

    All sessions live in this process. Every round runs every model once, in random order, and a second
    session of the baseline as a control; so drifts of the machine hit all alike, and ratios are taken within
    a round.

    Args:
        models: name → ONNX file, or a :class:`~slimnet.measure.torch_sessions.TorchNetwork`.
        batch: images a run.
        threads: threads of each session.
        provider: what runs them: ``"cpu"``, ``"cuda"``, ``"tensorrt"`` or ``"openvino"``; PyTorch knows the first two.
        rounds: least number of rounds.
        seconds: least time spent on rounds; both must be reached.
        limit: most time spent on rounds, even if ``rounds`` is not reached (which is flagged).
        warmup: most time spent on warming up, in seconds; it ends when the timings have settled.
        inputs: real input, (N, …), or name → array where there are several; the first ``batch`` rows are
            used, from the start again where there are fewer. Default: random of the model's shape.
        seed: of the inputs, the order and the bootstrap.
        baseline: name of the model that speed-ups refer to. Default: the first.
        progress: called with the share done, in [0, 1], after rounds.

    Returns:
        Median, p90, p99 and speed-up of each model, the control, and what to beware of.

    Raises:
        ArgumentError: if a number is out of range, ``models`` is empty or lacks ``baseline``, or ``inputs``
            do not fit.
        FileFormatError: if a file is missing or is not an ONNX model.
        MeasureError: if a model does not run, or not on this provider.
    """
    names = list(models)
    at_least_one = {"batch": batch, "threads": threads, "rounds": rounds}
    _check_arguments(names, baseline, at_least_one, {"seconds": seconds, "limit": limit, "warmup": warmup})
    reference = baseline if baseline is not None else names[0]
    where = environment()
    how = Setting(threads, batch, provider, inputs, seed)
    rng = np.random.default_rng(seed)
    with ExitStack() as stack:
        timed = [_opened(name, models[name], how, stack) for name in [*names, reference]]
        with _no_garbage_collection():
            settled = _warm_up(timed, warmup)
            watch = Watch()
            with Task("timing", 1) as task:
                told = _told(task, progress)
                times = _rounds(timed, rounds=rounds, seconds=seconds, limit=limit, rng=rng, progress=told)
            activity = watch.stop()
    where |= {key: value for one in timed for key, value in one.environment.items()}
    home = names.index(reference)
    variants = tuple(summarise(t, times[:, i], times[:, home], seed) for i, t in enumerate(timed[:-1]))
    control = summarise(timed[-1], times[:, -1], times[:, home], seed)
    flags = reasons_to_distrust(variants, control, threads, activity, provider)
    if not settled:
        flags["unsettled"] = f"timings still drifted after {warmup:g} s of warming up."
    if len(times) < rounds:
        flags["short"] = f"only {len(times)} of {rounds} rounds fitted into {limit:g} s."
    given = "random" if inputs is None else "given"
    return LatencyReport(
        variants, control, reference, batch, threads, provider, given, len(times), activity.seconds, flags, where
    )


def as_network(model: Path | str | Network) -> Network:
    """What is named by a path is an ONNX file."""
    return OnnxFile(Path(model)) if isinstance(model, str | Path) else model


def _opened(name: str, model: Path | str | Network, how: Setting, stack: ExitStack) -> Timed:
    timed = as_network(model).open(name, how)
    stack.callback(timed.close)
    return timed


def _check_arguments(
    names: Sequence[str],
    baseline: str | None,
    at_least_one: Mapping[str, int],
    not_negative: Mapping[str, float],
) -> None:
    if not names:
        raise ArgumentError("`models` is empty: give at least one network.")
    if baseline is not None and baseline not in names:
        raise ArgumentError(f"`baseline` must be one of {', '.join(names)}, got {baseline!r}.")
    for least, numbers in ((1, at_least_one), (0, not_negative)):
        for name, value in numbers.items():
            if not least <= value < float("inf"):
                raise ArgumentError(f"`{name}` must be at least {least} and finite, got {value}.")


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    was_on = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def _warm_up(timed: Sequence[Timed], most: float) -> bool:
    """Rounds until the timings have settled; whether they did."""
    end = time.perf_counter() + most
    times: list[list[int]] = []
    while True:
        times.append([t.time() for t in timed])
        if len(times) % 5 == 0 and is_settled(np.asarray(times[-20:], dtype=np.float64)):
            return True
        if time.perf_counter() >= end:
            return False


def _told(task: Task, progress: Callable[[float], None] | None) -> Callable[[float], None]:
    def told(share: float) -> None:
        task.reach(share)
        if progress is not None:
            progress(share)

    return told


def _rounds(
    timed: Sequence[Timed],
    *,
    rounds: int,
    seconds: float,
    limit: float,
    rng: np.random.Generator,
    progress: Callable[[float], None],
) -> Floats:
    """(rounds, variants) nanoseconds."""
    rows: list[list[int]] = []
    start = time.perf_counter()
    shown = 0.0
    while True:
        row = [0] * len(timed)
        for i in rng.permutation(len(timed)):
            row[i] = timed[i].time()
        rows.append(row)
        spent = time.perf_counter() - start
        if (len(rows) >= rounds and spent >= seconds) or spent >= limit:
            break
        if spent - shown >= 0.1:
            shown = spent
            progress(min(len(rows) / rounds, spent / seconds if seconds else 1.0))
    progress(1.0)
    return np.asarray(rows, dtype=np.float64)

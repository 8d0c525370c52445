"""What a paired comparison found: timings of each variant, the control, and reasons to distrust them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np

from slimnet.measure.machine import Activity, processors
from slimnet.measure.stats import Floats, is_bimodal, median_interval
from slimnet.measure.timed import Timed

P99_SAMPLES = 1_000
"""Fewer samples than this say nothing about the slowest 1 %."""
CONTROL_TOLERANCE = 0.03
STEAL_TOLERANCE = 0.02
ON_PROCESSOR = 0.95


@dataclass(frozen=True)
class Variant:
    """The timings of one model.

    Attributes:
        name: as given.
        path: its file; None for a PyTorch module.
        bytes: size of the file, and of those that belong to it.
        samples: timed runs, one a round.
        median_ms, p90_ms: milliseconds of one run of the whole batch.
        p99_ms: the same; None with fewer than 1,000 samples.
        speedup: median over the rounds of baseline time ÷ this one's time in the same round.
        interval: bootstrap 95 % interval of ``speedup``.
        session_ms, first_ms: creating the session; its first run. Not part of the other figures.
        bimodal: whether the timings fall into two clumps.
        runtime: ``"onnxruntime"``, ``"torch"`` or ``"torch-compile"``.
        median_interval: bootstrap 95 % interval of ``median_ms``.
        ratios: (samples,) baseline time ÷ this one's, round by round; not in :meth:`as_dict`.
    """

    name: str
    path: str | None
    bytes: int | None
    samples: int
    median_ms: float
    p90_ms: float
    p99_ms: float | None
    speedup: float
    interval: tuple[float, float]
    session_ms: float
    first_ms: float
    bimodal: bool
    runtime: str = "onnxruntime"
    median_interval: tuple[float, float] | None = None
    ratios: Floats = field(default_factory=lambda: np.ones(0), repr=False, compare=False)

    def as_dict(self) -> dict[str, Any]:
        """All but the ratios, as plain JSON values."""
        values = {item.name: getattr(self, item.name) for item in fields(self) if item.name != "ratios"}
        return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}


@dataclass(frozen=True)
class LatencyReport:
    """A paired comparison.

    Attributes:
        variants: one a model, in the order given.
        control: a second session of the baseline, timed in the same rounds. Its ``speedup`` should be 1; how
            far it is from 1 is what a claim must exceed.
        baseline: name of the variant that speed-ups refer to.
        batch, threads, provider, inputs: how it was measured; ``inputs`` is ``"random"`` or ``"given"``.
        rounds, seconds: how many, and the time that they took.
        flags: why not to trust it, code → sentence: ``contended``, ``bimodal``, ``threads``, ``unsettled``,
            ``short``.
        environment: processor, system, versions, load, date.
    """

    variants: tuple[Variant, ...]
    control: Variant
    baseline: str
    batch: int
    threads: int
    provider: str
    inputs: str
    rounds: int
    seconds: float
    flags: dict[str, str]
    environment: dict[str, Any]

    def __getitem__(self, name: str) -> Variant:
        """The variant of that name."""
        return next(variant for variant in self.variants if variant.name == name)

    def as_dict(self) -> dict[str, Any]:
        """The same as plain JSON values."""
        variants = [variant.as_dict() for variant in self.variants]
        return {**vars(self), "variants": variants, "control": self.control.as_dict()}


def summarise(timed: Timed, times: Floats, base: Floats, seed: int) -> Variant:
    """Statistics of one column of nanoseconds, (rounds,), against the baseline's column."""
    ratios = base / times
    median, p90, p99 = (float(q) / 1e6 for q in np.quantile(times, [0.5, 0.9, 0.99]))
    return Variant(
        name=timed.name,
        path=None if timed.path is None else str(timed.path),
        bytes=timed.size(),
        samples=len(times),
        median_ms=median,
        p90_ms=p90,
        p99_ms=p99 if len(times) >= P99_SAMPLES else None,
        speedup=float(np.median(ratios)),
        interval=median_interval(ratios, seed=seed),
        session_ms=timed.session_ms,
        first_ms=timed.first_ms,
        bimodal=is_bimodal(times),
        runtime=timed.runtime,
        median_interval=median_interval(times / 1e6, seed=seed),
        ratios=ratios,
    )


def reasons_to_distrust(
    variants: Sequence[Variant], control: Variant, threads: int, activity: Activity, provider: str = "cpu"
) -> dict[str, str]:
    """Code → sentence: ``contended``, ``bimodal``, ``threads``; empty on a quiet machine.

    The timing thread does the work itself only with one thread on the ``"cpu"`` provider: others wait for those that do.
    """
    flags, reasons = {}, []
    off = max(abs(end - 1) for end in (control.speedup, *control.interval))
    if off > CONTROL_TOLERANCE:
        reasons.append(f"the A/A control is up to {off:.1%} from 1")
    if activity.load is not None and activity.load > processors():
        reasons.append(f"load average {activity.load:g} on {processors()} processors before the start")
    if activity.stolen > STEAL_TOLERANCE:
        reasons.append(f"{activity.stolen:.1%} of processor time was stolen by other machines")
    if threads == 1 and provider == "cpu" and activity.on_processor < ON_PROCESSOR:
        reasons.append(f"the timing thread had a processor only {activity.on_processor:.1%} of the time")
    if reasons:
        flags["contended"] = f"the machine is contended: {'; '.join(reasons)}."
    clumped = [variant.name for variant in variants if variant.bimodal]
    if clumped:
        flags["bimodal"] = f"timings fall into two clumps: {', '.join(clumped)}."
    if threads > processors():
        flags["threads"] = f"{threads} threads on {processors()} processors: they wait for each other."
    return flags

"""Try the steps one after the other, and keep those that pass the gate and, where asked, pay."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from slimnet.errors import SlimnetError, whole_text
from slimnet.export.steps.report import StepReport, StepResult
from slimnet.export.steps.steps import STEPS, Step
from slimnet.fields import one_of
from slimnet.files import scratch_folder
from slimnet.names import MODES, Mode
from slimnet.onnx import graph as ir
from slimnet.progress import each

if TYPE_CHECKING:
    from slimnet.export.parity import ParityReport
    from slimnet.measure.latency import LatencyReport
    from slimnet.measure.timed import Inputs


Gate = Callable[[bytes], "ParityReport"]


@dataclass(frozen=True)
class Pace:
    """How two graphs are timed against each other; see :func:`slimnet.measure.compare_latency`.

    Attributes:
        threads, batch: of the sessions.
        rounds, seconds: at least so many rounds and so much time.
        inputs: real ones; default: random.
    """

    threads: int = 1
    batch: int = 1
    rounds: int = 100
    seconds: float = 3.0
    inputs: Inputs = None

    def __call__(self, before: bytes, after: bytes) -> LatencyReport:
        """Time two files against each other, ``before`` being the baseline."""
        from slimnet.measure import compare_latency

        with scratch_folder("steps") as folder:
            files = {"before": folder / "before.onnx", "after": folder / "after.onnx"}
            for file, data in zip(files.values(), (before, after), strict=True):
                file.write_bytes(data)
            return compare_latency(
                files,
                batch=self.batch,
                threads=self.threads,
                rounds=self.rounds,
                seconds=self.seconds,
                limit=20 * self.seconds,
                inputs=self.inputs,
            )


def optimise_graph(
    data: bytes, gate: Gate, mode: Mode = "safe", *, pace: Pace | None = None, steps: Sequence[Step] = STEPS
) -> tuple[bytes, StepReport]:
    """Write a graph better, without changing what it computes.

    ``safe`` takes the clean steps, untimed, so that the same network always gives the same file. ``measured`` takes every step
    against the graph before it, and keeps a clean one unless it is slower, any other only if it is faster; both beyond the
    interval and the A/A control (:func:`judge`). A step whose graph is invalid or fails the gate is dropped in any mode.

    Args:
        data: the ONNX file, which passes the gate.
        gate: compares a file with the network; a report that did not pass, or a raised error, refuses the file.
        mode: ``none``, ``safe`` or ``measured``.
        pace: how to time; default: one thread, one image, 3 seconds a step.
        steps: to be tried, in order.

    Returns:
        The file, and what became of each step that had something to do.

    Raises:
        ArgumentError: if the mode is unknown.
    """
    check_mode(mode)
    chosen = [step for step in steps if mode == "measured" or (mode == "safe" and step.is_clean)]
    if mode == "safe" and (together := _together(chosen, data, gate)) is not None:
        return together
    results = []
    for step in each(chosen, "making the graph faster", len(chosen), "steps"):
        after, result = _tried(step, data, gate)
        if result is not None and result.kept and mode == "measured":
            result = judge(result, (pace or Pace())(data, after), is_clean=step.is_clean)
        if result is not None:
            results.append(result)
            data = after if result.kept else data
    return data, StepReport(mode, tuple(results))


def check_mode(mode: str) -> None:
    """Refuse a mode that there is not.

    Raises:
        ArgumentError: if it is unknown.
    """
    one_of(*MODES).check("`optimise`", mode)


def _together(steps: Sequence[Step], data: bytes, gate: Gate) -> tuple[bytes, StepReport] | None:
    """All steps with one look through the gate at what comes out; None if it refuses that or a step fails."""
    results = []
    for step in steps:
        data, result = _tried(step, data, None)
        if result is not None:
            results.append(result)
    failed = not all(result.kept for result in results) or (results and _refusal(data, gate))
    return None if failed else (data, StepReport("safe", tuple(results)))


def _tried(step: Step, data: bytes, gate: Gate | None) -> tuple[bytes, StepResult | None]:
    """The file after a step that passes the gate; the file before it if it does not; no result if nothing was to be done."""
    size = (len(ir.operators(data)), len(data))
    try:
        after, places = step(data)
    except Exception as error:  # whatever a step trips over in a graph that nobody has foreseen must not stop the export
        return data, StepResult(step.name, 0, False, f"failed: {_line(error)}", (size[0],) * 2, (size[1],) * 2)
    if not places:
        return data, None
    nodes, sizes = (size[0], len(ir.operators(after))), (size[1], len(after))
    refusal = _refusal(after, gate) if gate is not None else ""
    reason = f"refused by the parity gate: {refusal}" if refusal else "passed the parity gate"
    return data if refusal else after, StepResult(step.name, places, not refusal, reason, nodes, sizes)


def _refusal(data: bytes, gate: Gate) -> str:
    """Why the gate refuses a file; "" if it lets it pass."""
    try:
        report = gate(data)
    except SlimnetError as error:
        return _line(error)
    return "" if report.passed else str(report.worst)


def judge(result: StepResult, latency: LatencyReport, *, is_clean: bool) -> StepResult:
    """Whether a step that passed the gate pays.

    Let ε be how far the ends of the A/A control's interval are from 1. A step is *faster* if its whole interval lies above 1 + ε,
    *slower* if it lies below 1 − ε.

    Args:
        result: of the step.
        latency: ``before`` against ``after``.
        is_clean: a clean step is kept unless it is slower, any other only if it is faster.
    """
    after = latency["after"]
    (low, high), noise = after.interval, max(abs(end - 1) for end in latency.control.interval)
    is_faster, is_slower = low > 1 + noise, high < 1 - noise
    verdict = "faster" if is_faster else "slower" if is_slower else "no difference beyond the control"
    kept = not is_slower if is_clean else is_faster
    return replace(
        result,
        kept=kept,
        reason=f"{verdict}, {'kept' if kept else 'dropped'}",
        speedup=after.speedup,
        interval=after.interval,
        control=latency.control.interval,
        flags=latency.flags,
    )


def _line(error: BaseException) -> str:
    return whole_text(error)[:200]

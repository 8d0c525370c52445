"""Which precisions of a network are worth shipping: by accuracy first, by the clock second."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slimnet.errors import ArgumentError
from slimnet.export.precision._found import Evaluated, Precision, Precisions, Trial
from slimnet.export.precision._int8 import METHODS, Images, Method, Quantiser
from slimnet.export.precision._place import Compare, candidates, doubt_of, place
from slimnet.fields import one_of
from slimnet.files import scratch_folder
from slimnet.names import PLACEMENTS, PRECISIONS, Placing
from slimnet.onnx.convert import to_fp16
from slimnet.progress import each

if TYPE_CHECKING:
    from slimnet.measure import LatencyReport
    from slimnet.measure.timings import Variant

MAX_DROP = 0.005
"""Most accuracy that a precision may lose: half a point."""

Evaluate = Callable[[bytes], Evaluated]


def make_precisions(
    fp32: bytes,
    names: Sequence[str],
    *,
    calibration: Images,
    evaluate: Evaluate,
    max_drop: float = MAX_DROP,
    reduce_range: bool | None = None,
    placing: Placing = "all",
    compare: Compare | None = None,
) -> Precisions:
    """Make a network's other precisions, and say which are worth keeping.

    int8 is quantised with every calibration method, and the most accurate is taken (the simplest of equals: smallest and
    largest value, then percentile, then entropy). Where that loses accuracy, it is tried again with the first, the last, or both
    layers in float32, and one of these is taken if it is more accurate. With ``placing="measured"``, parts of it that are surely
    faster in float32 stay so (:func:`slimnet.export.precision._place.place`), unless that costs accuracy. All precisions are
    then timed against fp32 in one paired run. A precision is refused if it loses more than ``max_drop``, or if it is both less
    accurate than fp32 and surely slower: the whole 95 % interval of its speed-up below 1 by more than the A/A control is off.
    That last rule, and measured placing, are all here that depends on the clock.

    Args:
        fp32: an ONNX file with one input (N, C, H, W).
        names: of `slimnet.names.PRECISIONS`; ``"fp32"`` is always among the result.
        calibration: (n, C, H, W) float32 training images as the network takes them.
        evaluate: a network → what it answers on the validation split.
        max_drop: most accuracy that a precision may lose, in [0, 1].
        reduce_range: weights of 7 bits; default: where this processor lacks VNNI.
        placing: which layers int8 is for: ``all``, or with ``measured`` those that are not surely faster in float32 here.
        compare: name → file, in; a paired run with the first as the baseline, out. Default: one image, one thread.

    Returns:
        All that were asked for, with what speaks for and against them.

    Raises:
        ArgumentError: if a name is unknown, ``max_drop`` out of range, or the images do not fit.
        ExportError: if the network cannot be converted.
    """
    unknown = [name for name in names if name not in PRECISIONS]
    if unknown:
        raise ArgumentError(f"unknown precision {unknown[0]!r}; known: {', '.join(PRECISIONS)}.")
    if not 0 <= max_drop <= 1:
        raise ArgumentError(f"`max_drop` must be from 0 to 1, got {max_drop}.")
    one_of(*PLACEMENTS).check("`placing`", placing)
    base, compare = evaluate(fp32), compare or _paired(calibration)
    given = _Given(fp32, base, calibration, evaluate, reduce_range, compare if placing == "measured" else None, max_drop)
    made = {"fp32": _Made(fp32, base, {})} | {name: make(given) for name, make in MAKERS.items() if name in names}
    latency = _timed({name: one.data for name, one in made.items()}, compare)
    found = tuple(_weighed(name, one, base, latency, max_drop) for name, one in made.items())
    return Precisions(found, len(base.predictions), max_drop, latency)


@dataclass(frozen=True, eq=False)
class _Given:
    """What a precision is made from: the network, what it answers, and how others are judged."""

    fp32: bytes
    base: Evaluated
    calibration: Images
    evaluate: Evaluate
    reduce_range: bool | None
    place_by: Compare | None
    max_drop: float


@dataclass(frozen=True, eq=False)
class _Made:
    """A network in one precision, before it is weighed."""

    data: bytes
    answers: Evaluated
    how: Mapping[str, Any]
    trials: tuple[Trial, ...] = ()
    placed: Mapping[str, Any] | None = None


def _int8(given: _Given) -> _Made:
    """The most accurate way to quantise; the first tried of equals."""
    quantiser = Quantiser(given.fp32, given.calibration, reduce_range=given.reduce_range)

    def attempt(method: Method, exclude: tuple[str, ...] = ()) -> tuple[Trial, bytes, Evaluated]:
        data = quantiser(method, exclude)
        answers = given.evaluate(data)
        return Trial(method, exclude, answers.accuracy), data, answers

    tried = [attempt(method) for method in each(METHODS, "making int8", len(METHODS), "ways")]
    best = max(tried, key=lambda one: one[0].accuracy)
    if best[0].accuracy < given.base.accuracy:
        ends = _ends(quantiser.layers)
        tried += [attempt(best[0].method, exclude) for exclude in each(ends, "leaving layers in fp32", len(ends), "ways")]
    trial, data, answers = max(tried, key=lambda one: one[0].accuracy)
    exclude, placed = trial.exclude, None
    if given.place_by is not None:
        exclude, data, answers, placed = _placed(given, quantiser, trial, answers)
    how = {
        "method": trial.method,
        "excluded": list(exclude),
        "calibration": {"count": len(given.calibration)},
        "reduce_range": quantiser.reduce_range,
    }
    return _Made(data, answers, how, tuple(one[0] for one in tried), placed)


def _placed(
    given: _Given, quantiser: Quantiser, trial: Trial, answers: Evaluated
) -> tuple[tuple[str, ...], bytes, Evaluated, Mapping[str, Any]]:
    """What stays in float32 for speed too, as long as it is no reason to refuse the network."""
    assert given.place_by is not None
    seen, least = dict[bytes, Evaluated](), min(answers.accuracy, given.base.accuracy - given.max_drop)

    def accepts(data: bytes) -> bool:
        seen[data] = given.evaluate(data)
        return seen[data].accuracy >= least - 1e-12

    placement = place(
        lambda nodes: quantiser(trial.method, nodes),
        candidates(quantiser.prepared),
        fixed=trial.exclude,
        compare=given.place_by,
        accepts=accepts,
        layers=quantiser.layers,
    )
    return placement.nodes, placement.data, seen.get(placement.data, answers), placement.tried


def _fp16(given: _Given) -> _Made:
    half = to_fp16(given.fp32)
    return _Made(half, given.evaluate(half), {})


MAKERS: Mapping[str, Callable[[_Given], _Made]] = {
    "int8": _int8,
    "fp16": _fp16,
}
"""How each precision but fp32 is made; they are tried in this order."""


def _ends(layers: Sequence[str]) -> list[tuple[str, ...]]:
    """The first, the last, both; nothing where no layer would be left between."""
    first, last = layers[:1], layers[-1:]
    return [tuple(first), tuple(last), (*first, *last)] if len(layers) > 2 else []


def _weighed(name: str, made: _Made, base: Evaluated, latency: LatencyReport, max_drop: float) -> Precision:
    timing, control = latency[name], latency.control
    slower = timing.interval[1] < 1 - doubt_of(control)
    refused = None if name == "fp32" else _objection(made.answers.accuracy, base.accuracy, max_drop, timing if slower else None)
    return Precision(
        name=name,
        data=made.data,
        accuracy=made.answers.accuracy,
        agreement=made.answers.agreement(base),
        median_ms=timing.median_ms,
        speedup=timing.speedup,
        interval=timing.interval,
        refused=refused,
        made=made.how,
        trials=made.trials,
        placed=made.placed,
    )


def _objection(accuracy: float, base: float, max_drop: float, slower: Variant | None) -> str | None:
    """Why a precision is not to be written; ``slower`` is its timing where that is surely above fp32's."""
    drop = base - accuracy
    figures = f"{accuracy:.2%} against {base:.2%} of fp32 on the validation split"
    if drop > max_drop + 1e-12:
        return f"it loses {100 * drop:.2f} points of accuracy ({figures}), more than the {100 * max_drop:g} allowed."
    if drop > 0 and slower is not None:
        low, high = slower.interval
        return f"it is slower ({slower.speedup:.2f}×, {low:.2f}–{high:.2f}) and less accurate ({figures})."
    return None


def _timed(networks: Mapping[str, bytes], compare: Compare) -> LatencyReport:
    with scratch_folder("compare") as folder:
        files = {name: folder / f"{name}.onnx" for name in networks}
        for name, data in networks.items():
            files[name].write_bytes(data)
        return compare(files)


def _paired(images: Images) -> Compare:
    def compare(files: Mapping[str, Path]) -> LatencyReport:
        from slimnet.measure import compare_latency

        return compare_latency(files, rounds=100, seconds=2.0, limit=30.0, inputs=images[:1], baseline=next(iter(files)))

    return compare

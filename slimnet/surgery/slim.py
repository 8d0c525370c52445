"""The verb: remove every channel that can go."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from slimnet._foreign import no_exit
from slimnet._modes import flatten_outputs, unwrapped
from slimnet.errors import ArgumentError, SurgeryError, VerificationError, whole_text
from slimnet.graph import Analysis, ExampleInputs, analyse, as_inputs, check_model, in_eval_mode, stream_groups
from slimnet.parts import catch_part
from slimnet.progress import Task
from slimnet.surgery.as_graph import cut_graph
from slimnet.surgery.copies import baked_copy, shared_copy, unshare
from slimnet.surgery.find import Align
from slimnet.surgery.optimizer import check_optimizer, move_optimizer
from slimnet.surgery.plan import Plan
from slimnet.surgery.planning import make_plan
from slimnet.surgery.verify import NothingToCompareError, NotRunningError, OtherSizesError, Verification, verify, whole_checks


@dataclass(frozen=True)
class SlimReport:
    """What surgery did.

    Attributes:
        verification: the comparison with the model before.
        params_before, params_after: numbers of parameters.
        closed, removed: channels with zero filters in all their layers; channels removed.
        zeroed: filters that were zeroed first, for being within the tolerance.
        seconds: analysis and cut, of a graph with the comparison; ``verify_seconds``: the comparison.
        way: ``"module"``: the slim model is a module of the same classes; or it is the exported program, and what of the inputs
            is open: ``"graph, any batch and resolution"``, ``"graph, any batch"``, ``"graph, fixed sizes"``. A module whose
            control flow depends on data is ``"module, as N runs show it"``: on a path that no run took it is not known.
    """

    verification: Verification
    params_before: int
    params_after: int
    closed: int
    removed: int
    zeroed: int
    seconds: float
    verify_seconds: float
    way: str = "module"

    def as_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return {**self.__dict__, "verification": self.verification.as_dict()}


@dataclass(frozen=True, eq=False)
class SlimResult:
    """A slim model, the plan that made it, and what was checked."""

    model: nn.Module
    plan: Plan
    report: SlimReport


def slim(
    model: nn.Module,
    example_inputs: ExampleInputs,
    *,
    align: Align = None,
    optimizer: torch.optim.Optimizer | None = None,
    expand: bool = False,
    tolerance: float = 0.0,
    part: str | None = None,
    as_graph: bool = False,
) -> SlimResult:
    """Remove, exactly, every channel that does not matter to the output, whatever left the zeros.

    Args:
        model: any module; it is left as it was. What ``torch.compile``, DataParallel or DistributedDataParallel wrap is cut, and
            comes back without the wrapper. Where ``torch.export`` cannot follow it, as its control flow depends on data, it is
            recorded in several runs (``report.way`` tells), and what the comparison refuses stays.
        example_inputs: a tensor or tuple of tensors, batch first; best real data, on which the result is verified.
        align: keep closed channels so that each group has a multiple of this many; or name of a group → so many at least, as
            `slimnet.allocation.padded_widths` finds them. None keeps none.
        optimizer: taken along, in place: it then holds the parameters and the state of the slim model.
        expand: where only some of the layers that add to a stream have closed a channel, compute the live rows only and put
            constants in between (concatenate and gather).
        tolerance: filters whose norm is at most this share of the largest in their layer count as zero: they are zeroed first,
            and the result is exact with respect to that.
        part: submodules by name, joined by ``+`` (``"backbone+head"``), where the whole network cannot be followed: they alone
            are cut and verified, on what they are given in a run of the network, and put back. Their outputs stay as they are,
            but for those that only submodules of the part read. See :func:`slimnet.parts.catch_part`.
        as_graph: give the exported program with cut weights, a ``torch.fx.GraphModule``, in place of a module of the network's
            own classes: numbers that the network's code counts channels with are written anew in it, and pin nothing. It is for
            inference: it stays in eval mode, and takes the sizes that ``report.way`` says.

    Returns:
        The slim model (a plain module of the same classes, without masks and hooks; or a graph), the plan, and the report.

    Raises:
        ArgumentError: if ``align`` is not positive, ``tolerance`` not in [0, 1), or ``part`` no submodule; if ``as_graph``
            comes with ``part`` or ``expand``.
        GraphError: if the model cannot be analysed, or the part not taken out.
        VerificationError: if the slim model computes something else in float64; nothing is returned.
    """
    if isinstance(align, int) and align < 1:
        raise ArgumentError(f"`align` must be a positive number of channels, got {align}.")
    check_tolerance(tolerance)
    if as_graph and (part is not None or expand):
        raise ArgumentError("`as_graph` is for whole networks without `expand`: leave `part` and `expand` out.")
    model = unwrapped(model)
    check_model(model)
    if optimizer is not None:
        check_optimizer(optimizer, model)
    start = time.perf_counter()
    with Task("cutting", 3) as task, torch.random.fork_rng(devices=[]):  # plan, cut, verify
        masked = unshare(baked_copy(model), model)  # a network may write into its own tensors as it runs
        zeroed = zero_small_filters(masked, tolerance) if tolerance else 0
        if as_graph:
            plan, small, verification = cut_graph(masked, example_inputs, align, _culprit)
            cut_done = time.perf_counter()
        elif part is None:
            plan, small, verification, cut_done = _cut(masked, example_inputs, align, expand, task)
        else:
            plan, small, verification, cut_done = _cut_part(masked, example_inputs, part, align, expand, task)
    unshare(small, model)
    done = time.perf_counter()
    if optimizer is not None:
        move_optimizer(optimizer, model, small, plan)
    report = SlimReport(
        verification=verification,
        params_before=_size(model),
        params_after=_size(small),
        closed=sum(group.closed for group in plan.groups),
        removed=sum(group.size - len(group.kept) for group in plan.groups),
        zeroed=zeroed,
        seconds=cut_done - start,
        verify_seconds=done - cut_done,
        way=_way(plan),
    )
    return SlimResult(small, plan, report)


def _way(plan: Plan) -> str:
    if plan.graph is None:
        shown = "1 run shows" if plan.runs == 1 else f"{plan.runs} runs show"
        return f"module, as {shown} it" if plan.runs else "module"
    free = plan.graph.free
    return "graph, " + ("any batch and resolution" if len(free) > 1 else "any batch" if free else "fixed sizes")


_COUNTED = "the network's own code counts these channels"
_DIFFERS = "without these channels the network does something else"
_TRAINING = "layers that run in training mode alone read these channels"
_Done = tuple[Plan, nn.Module, Verification, float]


def _cut(masked: nn.Module, example_inputs: ExampleInputs, align: Align, expand: bool, task: Task | None = None) -> _Done:
    """The plan, the slim model, how it was verified, and when it was cut."""
    analysis = analyse(masked, example_inputs)
    plan = make_plan(masked, example_inputs, align=align, expand=expand, analysis=analysis)
    if task:
        task.advance()
    small = plan.apply(shared_copy(masked))
    cut_done = time.perf_counter()
    if task:
        task.advance()
    try:
        verification = _verified(masked, small, example_inputs, plan)
        _check_training(analysis, small, example_inputs)
    except VerificationError as error:
        differs = not isinstance(error, NotRunningError)
        elsewhere = isinstance(error, OtherSizesError | NotTrainingError)
        counts = elsewhere or plan.runs or plan.heads or (differs and analysis.pieces)
        if isinstance(error, NothingToCompareError) or (differs and not counts):
            raise
        plan = runnable_plan(masked, example_inputs, align=align, expand=expand, exact=bool(counts))
        small = plan.apply(shared_copy(masked))
        verification = _verified(masked, small, example_inputs, plan)
    return plan, small, verification, cut_done


def _cut_part(masked: nn.Module, example_inputs: ExampleInputs, part: str, align: Align, expand: bool, task: Task) -> _Done:
    """The same of a part, put back into the network; where this then gives something else, every output of a submodule stays."""
    caught = catch_part(masked, example_inputs, part)
    plan, _, verification, cut_done = _cut(caught.module, caught.inputs, align, expand, task)
    small = plan.apply(shared_copy(masked))
    try:
        checks = whole_checks(masked, small, example_inputs)
    except VerificationError:
        caught = catch_part(masked, example_inputs, part, closed=True)
        plan, _, verification, cut_done = _cut(caught.module, caught.inputs, align, expand)
        small = plan.apply(shared_copy(masked))
        checks = whole_checks(masked, small, example_inputs, only_runs=True)
    return plan, small, Verification((*verification.checks, *checks)), cut_done


def check_tolerance(tolerance: float) -> None:
    """Refuse a share of the largest norm that is none.

    Raises:
        ArgumentError: if it is not in [0, 1).
    """
    if not 0 <= tolerance < 1:
        raise ArgumentError(f"`tolerance` must be in [0, 1), got {tolerance}.")


def zero_small_filters(model: nn.Module, tolerance: float) -> int:
    """Zero, in new memory, every filter whose L2 norm is at most ``tolerance`` times the largest of its layer; how many."""
    zeroed = 0
    for module in model.modules():
        if isinstance(module, nn.modules.conv._ConvNd | nn.Linear) and module.weight.numel():
            weight = module.weight.data.clone()
            rows = weight.movedim(1, 0) if isinstance(module, nn.modules.conv._ConvTransposeNd) else weight
            norms = rows.flatten(1).norm(dim=1)
            small = (norms <= tolerance * norms.max()) & (norms > 0)
            rows[small] = 0
            module.weight.data = weight
            zeroed += int(small.sum())
    return zeroed


def runnable_plan(
    model: nn.Module, example_inputs: ExampleInputs, *, align: Align = None, expand: bool = False, exact: bool = False
) -> Plan:
    """A plan under which the network runs: code that counts channels itself (``view(-1, 512)``) keeps the ones it counts.

    Args:
        model: the network, masks and parametrisations written into its weights.
        example_inputs: a tensor or tuple of tensors, batch first.
        align, expand: see :func:`slim`.
        exact: also keep what the network counts in a way that changes what it computes.

    Raises:
        GraphError: if the model cannot be analysed.
        VerificationError: if no such plan is found.
    """
    keep: dict[str, str] = {}
    shut = True
    analysis = analyse(model, example_inputs)

    def fails(only: list[str]) -> bool:
        plan = make_plan(model, example_inputs, only=only, analysis=analysis)
        return _problem(model, example_inputs, plan, exact, analysis) is not None

    while True:
        plan = make_plan(model, example_inputs, align=align, expand=expand, shut=shut, keep=keep, analysis=analysis)
        problem = _problem(model, example_inputs, plan, exact, analysis)
        if problem is None:
            return plan
        culprit = _culprit(plan, fails)
        told = whole_text(problem)[:120]
        reason = f"{_cause(problem, plan)}: {told}"
        if culprit and culprit not in keep:
            keep.update(dict.fromkeys(_alike(model, plan, culprit), reason))
        elif plan.shuts or plan.expansions:
            shut, expand = shut and not plan.shuts, bool(plan.shuts) and expand
        elif counted := _counted(analysis, keep):
            keep.update(dict.fromkeys(counted, reason))
        elif isinstance(problem, NotTrainingError):  # it is right in eval mode
            return plan
        elif isinstance(problem, VerificationError) and _runs(model, example_inputs, plan):
            raise VerificationError(f"{told} (does it draw random numbers, or keep something from one call to the next?)")
        else:
            raise NotRunningError(f"the slim model does not run: {told}")


def _cause(problem: Exception, plan: Plan) -> str:
    """Why channels stay without which a network has this problem."""
    if isinstance(problem, NotTrainingError):
        return _TRAINING
    if isinstance(problem, OtherSizesError):
        return f"{_DIFFERS} at another batch or size"
    return _DIFFERS if plan.runs else _COUNTED


def _counted(analysis: Analysis, known: Collection[str]) -> list[str]:
    """The groups, besides those known, of which the network counts pieces: only together can they be cut, or be at fault."""
    roots = {root for pieces in analysis.pieces for part in pieces.parts for root in analysis.roots(part).tolist()}
    return [group.name for group in stream_groups(analysis) if group.name not in known and not roots.isdisjoint(group.roots)]


def _alike(model: nn.Module, plan: Plan, culprit: str) -> list[str]:
    """A group that breaks the network; where it is the heads of an attention, all groups of attentions of the same class."""
    modules = dict(model.named_modules())
    places = {path.module: type(modules[path.module]) for path in plan.heads}

    def attention_of(group: str) -> type[nn.Module] | None:
        inside = [kind for path, kind in places.items() if f"{group}.".startswith(f"{path}." if path else "")]
        return inside[0] if inside else None

    kind = attention_of(culprit)
    others = [group.name for group in plan.groups if kind is not None and attention_of(group.name) is kind]
    return [culprit, *others]


def _runs(model: nn.Module, example_inputs: ExampleInputs, plan: Plan) -> bool:
    return _problem(model, example_inputs, plan, exact=False) is None


def _problem(
    model: nn.Module, example_inputs: ExampleInputs, plan: Plan, exact: bool, analysis: Analysis | None = None
) -> Exception | None:
    """Why the network does not run on the example inputs once it is cut (or differs, where that is asked); None where it does."""
    small = plan.apply(shared_copy(model))
    with in_eval_mode(small), torch.no_grad():
        try:
            with no_exit(type(small).__name__):
                small(*as_inputs(example_inputs))
        except Exception as error:
            return error
    try:
        if exact:
            verify(model, small, example_inputs, plan=plan)
        if analysis is not None:
            _check_training(analysis, small, example_inputs)
    except VerificationError as error:
        return error
    return None


class NotTrainingError(VerificationError):
    """A slim model that does not run in training mode, while the model before does."""


def _check_training(analysis: Analysis, small: nn.Module, example_inputs: ExampleInputs) -> None:
    """Run a network in training mode, where it has weights that nothing reads in eval mode: a head for training alone.

    Raises:
        NotTrainingError: if it does not run, while the one before the cut does.
    """
    model, inputs = analysis.model, as_inputs(example_inputs)
    read = {entry.name for entry in analysis.entries.values()} | set(analysis.frozen)
    if all(name in read for name, _ in model.named_parameters()):
        return
    for network in (model, small):
        copied = unshare(shared_copy(network), network).train()
        try:
            with torch.no_grad(), no_exit(type(model).__name__):
                copied(*inputs)
        except Exception as error:
            if network is model:
                return
            raise NotTrainingError(whole_text(error)) from error


def _culprit(plan: Plan, fails: Callable[[list[str]], bool]) -> str:
    """The group that breaks the network once it is cut beside those before it, by bisection; "" for none.

    Of groups that break it only together it is the last.
    """
    suspects = [group.name for group in plan.groups if len(group.kept) < group.size]
    if not suspects or not fails(suspects):
        return ""
    runs, breaks = 0, len(suspects)  # with so many of them cut
    while breaks - runs > 1:
        half = (runs + breaks) // 2
        runs, breaks = (runs, half) if fails(suspects[:half]) else (half, breaks)
    return suspects[breaks - 1]


def _verified(masked: nn.Module, small: nn.Module, example_inputs: ExampleInputs, plan: Plan) -> Verification:
    """Verify; on failure, find the group at fault by bisection and name it."""
    try:
        return verify(masked, small, example_inputs, plan=plan)
    except (NotRunningError, NothingToCompareError, OtherSizesError):
        raise
    except VerificationError as error:
        if _is_random(masked, example_inputs):
            raise VerificationError(
                "the network gives another output each time even in eval mode (dropout that is always on?): "
                "it cannot be verified."
            ) from error
        culprit = _culprit(plan, lambda only: _fails(masked, example_inputs, only))
        if culprit:
            raise VerificationError(f"group {culprit!r} cannot be cut: {error}") from error
        raise


def _is_random(model: nn.Module, example_inputs: ExampleInputs) -> bool:
    inputs = as_inputs(example_inputs)
    model = unshare(shared_copy(model), model)  # it may keep something for the next call
    with in_eval_mode(model), torch.no_grad():
        first, second = flatten_outputs(model(*inputs)), flatten_outputs(model(*inputs))
    if [value.shape for value in first] != [value.shape for value in second]:
        return True
    return any(not torch.allclose(one, other, equal_nan=True) for one, other in zip(first, second, strict=True))


def _fails(masked: nn.Module, example_inputs: ExampleInputs, only: list[str]) -> bool:
    plan = make_plan(masked, example_inputs, only=only)
    try:
        verify(masked, plan.apply(shared_copy(masked)), example_inputs, plan=plan)
    except SurgeryError:
        return True
    return False


def _size(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())

"""The second way to cut: the program that ``torch.export`` makes of a network becomes the slim model.

Numbers that the network's code counts channels with stand in that program, where they can be written anew: what they would pin
in a plain module goes as well.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import nn

from slimnet.errors import GraphError, SurgeryError, VerificationError, whole_text
from slimnet.graph import Analysis, ExampleInputs, analyse, as_inputs, free_dims, stream_groups
from slimnet.surgery.copies import shared_copy
from slimnet.surgery.find import Align
from slimnet.surgery.literals import Graph, OpenSizesError, UnevenError, shapes_of
from slimnet.surgery.plan import Plan
from slimnet.surgery.planning import make_plan
from slimnet.surgery.verify import NothingToCompareError, Verification, verify

Culprit = Callable[[Plan, Callable[[list[str]], bool]], str]


def cut_graph(
    masked: nn.Module, example_inputs: ExampleInputs, align: Align, culprit: Culprit
) -> tuple[Plan, nn.Module, Verification]:
    """The plan, the slim graph, and how it was verified.

    Batch and resolution stay free where torch's program is right for every size, else the batch alone, else neither.

    Args:
        masked: the network, masks and parametrisations written into its weights.
        example_inputs: a tensor or tuple of tensors, batch first.
        align: see :func:`slimnet.slim`.
        culprit: finds the group that breaks a plan when it alone is cut.

    Raises:
        GraphError: if the network cannot be exported.
        VerificationError: if no graph computes the same.
    """
    inputs = as_inputs(example_inputs)
    analysis = analyse(masked, inputs, as_graph=True)
    resolution = tuple(range(2, max(value.dim() for value in inputs)))
    refused: SurgeryError | GraphError | None = None
    for free in ((0, *resolution), (0,), ()):
        graph = shapes_of(inputs, free, analysis)
        try:
            graph = _checked(masked, inputs, graph, analysis)
            return _cut(masked, inputs, align, graph, analysis, culprit)
        except NothingToCompareError:
            raise
        except (SurgeryError, GraphError) as error:
            refused = refused if isinstance(refused, VerificationError) else error
    assert refused is not None
    raise refused


def _checked(masked: nn.Module, inputs: tuple[torch.Tensor, ...], graph: Graph, analysis: Analysis) -> Graph:
    """The graph, free where torch really leaves the size open; the program without a cut computes what the network does.

    Raises:
        SurgeryError, GraphError: if it does not, or is not the one that was analysed.
    """
    open_dims = free_dims(graph.trace(shared_copy(masked)))
    if 0 in graph.free and 0 not in open_dims:
        raise SurgeryError("the size of the batch stands in the program.")
    graph = replace(graph, free=tuple(dim for dim in graph.free if dim in open_dims))
    whole = make_plan(masked, inputs, only=(), analysis=analysis, graph=graph)
    checks = verify(masked, whole.apply(shared_copy(masked)), inputs, plan=whole).checks
    for dim in graph.free:
        if len({check.shape[dim] for check in checks if dim < len(check.shape)}) == 1:
            raise SurgeryError(f"the network itself takes one size alone along dimension {dim} of its input.")
    return graph


def _cut(
    masked: nn.Module, inputs: tuple[torch.Tensor, ...], align: Align, graph: Graph, analysis: Analysis, culprit: Culprit
) -> tuple[Plan, nn.Module, Verification]:
    """Cut, and keep what breaks the program, one group after the other, with that as the reason."""
    keep: dict[str, str] = {}
    names = {root: group.name for group in stream_groups(analysis) for root in group.roots}

    def fails(only: list[str]) -> bool:
        try:
            plan = make_plan(masked, inputs, only=only, analysis=analysis, graph=graph)
            verify(masked, plan.apply(shared_copy(masked)), inputs, plan=plan)
        except (SurgeryError, GraphError):
            return True
        return False

    while True:
        try:
            plan = make_plan(masked, inputs, align=align, keep=keep, analysis=analysis, graph=graph)
        except UnevenError as error:
            found = {names[root] for root in error.roots if root in names} - set(keep)
            if not found:
                raise
            keep.update(dict.fromkeys(found, str(error)))
            continue
        try:
            small = plan.apply(shared_copy(masked))
            return plan, small, verify(masked, small, inputs, plan=plan)
        except (OpenSizesError, NothingToCompareError):
            raise
        except (SurgeryError, GraphError) as error:
            blamed = culprit(plan, fails)
            if not blamed or blamed in keep:
                raise
            keep[blamed] = f"the exported program cannot do without these channels: {whole_text(error)[:120]}"

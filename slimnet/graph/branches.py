"""Residual branches: what is added to a stream that other layers have begun, and can be left out as a whole."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from slimnet._modes import unwrapped
from slimnet.graph.analysis import analyse
from slimnet.graph.capture import ExampleInputs
from slimnet.graph.findings import Summand
from slimnet.graph.groups import ChannelGroup, Rows

Norm = nn.modules.batchnorm._BatchNorm


def residual_branches(model: nn.Module, example_inputs: ExampleInputs) -> tuple[ChannelGroup, ...]:
    """The residual branches of a network, each as a group of one channel: the whole branch.

    A branch ends in a norm with γ and β whose output is only added to something that is not constant. The scale of its one
    channel acts on γ and β. At 0 the branch adds nothing, and surgery removes all of it, exactly. A shortcut of a single
    layer (a projection) is no branch.

    Args:
        model: the network; it is left as it was.
        example_inputs: a tensor or tuple of tensors, batch first.

    Returns:
        The branches in execution order. A branch is named after the norm that ends it; ``inside`` names its modules.

    Raises:
        GraphError: if the model cannot be analysed.
    """
    model = unwrapped(model)
    modules = dict(model.named_modules(remove_duplicate=False))
    found = (summand for summand in analyse(model, example_inputs).summands if _is_branch(summand, modules[summand.module]))
    return tuple(_as_group(summand, modules[summand.module]) for summand in found)


def _is_branch(summand: Summand, last: nn.Module) -> bool:
    """Whether a summand ends in an affine norm and has layers of its own before the two that make its channels."""
    is_affine = isinstance(last, Norm) and last.weight is not None and last.bias is not None
    return is_affine and summand.other_is_live and bool(set(summand.shuts) - set(summand.makers))


def _as_group(summand: Summand, last: nn.Module) -> ChannelGroup:
    assert isinstance(last, Norm)
    names = tuple(f"{summand.module}.{entry}" for entry in ("weight", "bias"))
    every = torch.arange(last.num_features).reshape(1, -1)
    return ChannelGroup(
        name=summand.module,
        size=1,
        filters=tuple(Rows(name, 0, every) for name in names),
        biases=frozenset(names),
        inside=summand.shuts,
    )


def branches_around(shut: Sequence[str], groups: Sequence[ChannelGroup]) -> dict[str, ChannelGroup]:
    """Group that closes whole → the residual branch that it lies in; without those that lie in none."""
    makers = {group.name: {rows.module for rows in group.weights} for group in groups if group.name in shut}
    return {
        name: branch for name, modules in makers.items() for branch in groups if branch.is_branch and modules <= {*branch.inside}
    }

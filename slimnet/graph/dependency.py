"""What torch-pruning makes of a network: a second opinion, for tests and benchmarks. Its façade.

slimnet's own groups (:mod:`slimnet.graph.groups`) come from the exported operators; torch-pruning traces the backward graph.
Where the two differ, one of them is wrong or more careful: ``tests/test_peer.py`` lists every case that is known.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import nn

from slimnet._modes import in_eval_mode
from slimnet.errors import GraphError, one_line
from slimnet.graph.capture import ExampleInputs, as_inputs
from slimnet.graph.groups import ChannelGroup

Filter = tuple[str, int]  # a layer, and a channel of its output
Partition = frozenset[frozenset[Filter]]
Coupled = dict[int, set[Filter]]

LAYERS = (nn.Linear, nn.modules.conv._ConvNd)


def cells(groups: Iterable[ChannelGroup]) -> Partition:
    """The filters that must go together, one set a channel."""
    return frozenset(
        frozenset((rows.module, int(index)) for rows in group.weights for index in rows.index[channel])
        for group in groups
        for channel in range(group.size)
    )


def peer_cells(model: nn.Module, example_inputs: ExampleInputs) -> Partition:
    """The same as torch-pruning has it.

    Raises:
        GraphError: if torch-pruning does not get through the network.
    """
    found: Partition = _guarded(_peer_cells, model, example_inputs)
    return found


def peer_slice(model: nn.Module, example_inputs: ExampleInputs, channels: Mapping[str, Sequence[int]]) -> nn.Module:
    """Let torch-pruning remove channels, and whatever it couples with them.

    Args:
        model: left as it was.
        example_inputs: a tensor or tuple of tensors, batch first.
        channels: a layer of each group → the channels of its output to remove.

    Returns:
        A smaller copy.

    Raises:
        GraphError: if torch-pruning does not get through the network.
    """
    small: nn.Module = _guarded(_peer_slice, model, example_inputs, channels)
    return small


def peer_prune(
    model: nn.Module, example_inputs: ExampleInputs, rate: float, *, round_to: int | None = None, ignore: Sequence[str] = ()
) -> nn.Module:
    """Let torch-pruning choose the channels and remove them: L2 norms of its groups, the same rate in each.

    Args:
        model: left as it was.
        example_inputs: a tensor or tuple of tensors, batch first.
        rate: share of the channels to remove.
        round_to: keep a multiple of so many.
        ignore: modules whose outputs stay, such as the classifier.

    Returns:
        A smaller copy.

    Raises:
        GraphError: if torch-pruning does not get through the network.
    """
    small: nn.Module = _guarded(_peer_prune, model, example_inputs, rate, round_to, ignore)
    return small


def _guarded(function: Any, model: nn.Module, example_inputs: ExampleInputs, *arguments: Any) -> Any:
    copied = copy.deepcopy(model)
    try:
        with in_eval_mode(copied), torch.enable_grad():
            return function(copied, as_inputs(example_inputs), *arguments)
    except Exception as error:  # whatever its tracing runs into
        raise GraphError(f"torch-pruning fails on {type(model).__name__}: {type(error).__name__} {one_line(error)}") from error


def _traced(model: nn.Module, inputs: tuple[torch.Tensor, ...]) -> Any:
    import torch_pruning

    for parameter in model.parameters():
        parameter.requires_grad_(True)
    graph = torch_pruning.DependencyGraph()  # its default arguments are shared between calls: give every one of them
    return graph.build_dependency(
        model, inputs, unwrapped_parameters=[], customized_pruners={}, ignored_layers=[], ignored_params=[], verbose=False
    )


def _peer_cells(model: nn.Module, inputs: tuple[torch.Tensor, ...]) -> Partition:
    graph = _traced(model, inputs)
    names = {module: name for name, module in model.named_modules()}
    found: list[frozenset[Filter]] = []
    seen: set[Filter] = set()
    for name, module in model.named_modules():
        if not isinstance(module, LAYERS) or module not in graph.module2node:
            continue
        pruner = graph.get_pruner_of_module(module)
        left = [channel for channel in range(pruner.get_out_channels(module)) if (name, channel) not in seen]
        for channel, cell in _coupled(graph, names, module, pruner.prune_out_channels, left).items():
            found.append(frozenset(cell | {(name, channel)}))
            seen |= found[-1]
    return frozenset(found)


def _coupled(graph: Any, names: Mapping[nn.Module, str], module: nn.Module, prune: Any, channels: list[int]) -> Coupled:
    """Channel of a layer → filters of other layers that go with it."""
    result: Coupled = {channel: set() for channel in channels}
    if not channels:
        return result
    for item in graph.get_pruning_group(module, prune, channels):
        target = item.dep.target.module
        if isinstance(target, LAYERS) and graph.is_out_channel_pruning_fn(item.dep.handler):
            for index, root in zip(item.idxs, item.root_idxs, strict=True):
                result[root].add((names[target], index))
    return result


def _peer_slice(model: nn.Module, inputs: tuple[torch.Tensor, ...], channels: Mapping[str, Sequence[int]]) -> nn.Module:
    graph = _traced(model, inputs)
    for name, chosen in channels.items():
        module = model.get_submodule(name)
        graph.get_pruning_group(module, graph.get_pruner_of_module(module).prune_out_channels, list(chosen)).prune()
    return model


def _peer_prune(
    model: nn.Module, inputs: tuple[torch.Tensor, ...], rate: float, round_to: int | None, ignore: Sequence[str]
) -> nn.Module:
    import torch_pruning

    for parameter in model.parameters():
        parameter.requires_grad_(True)
    pruner = torch_pruning.pruner.BasePruner(
        model,
        inputs,
        importance=torch_pruning.importance.GroupMagnitudeImportance(p=2),
        pruning_ratio=rate,
        round_to=round_to,
        ignored_layers=[model.get_submodule(name) for name in ignore],
    )
    pruner.step()
    return model

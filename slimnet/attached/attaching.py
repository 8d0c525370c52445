"""The verb: put a method on a network that somebody else's loop trains."""

from __future__ import annotations

import copy
from collections.abc import Sequence

from torch import Tensor, nn
from torch.optim import Optimizer

from slimnet._modes import unwrapped
from slimnet.allocation import Budget
from slimnet.attached.attached import Attached
from slimnet.attached.hooks import check_kind
from slimnet.attached.statistics import Data, device_of, from_first_process, no_statistics, statistics_from
from slimnet.attached.target import check_shut, check_target, met_already, refuse_widths, widths_for
from slimnet.errors import ArgumentError
from slimnet.fields import is_whole
from slimnet.graph import ChannelGroup, ExampleInputs, as_inputs, channel_groups, check_model, residual_branches
from slimnet.methods import Method
from slimnet.methods.base import CLOSES_NOTHING


def attach(
    model: nn.Module,
    example_inputs: ExampleInputs,
    method: Method,
    *,
    epochs: int,
    target: Budget | None = None,
    data: Data | None = None,
    num_classes: int | None = None,
    optimizer: Optimizer | Sequence[Optimizer] | None = None,
) -> Attached:
    """Prune a network while a loop of your own trains it.

    Hooks do what the method does every step; ``with pruner.epoch(e)`` around the steps of an epoch selects and scales at its
    end; ``pruner.slim()`` cuts the network at last. What each hook does is said in docs/own-loop.md.

    Args:
        model: the network, on the device where it is trained; or DistributedDataParallel or ``torch.compile`` around it.
        example_inputs: what it takes, a tensor or a tuple of tensors, batch first; 2 images at least for a target.
        method: what is closed and how, e.g. ``slimnet.FPGM(rate=0.4)``.
        epochs: length of the run, at least 1.
        target: what the network is to cost once it is cut; widths are then chosen now, in place of the method's rate.
        data: labelled training images, for methods that score filters by them (``FSDP``, unless its ``first`` is another
            criterion): a loader of (images, labels), or a function that gives one. All that it gives is taken.
        num_classes: of ``data``; None: as many as the network has outputs.
        optimizer: what trains the network, one or several; None: whichever optimiser of its parameters makes a step.

    Returns:
        The pruner. Its hooks stay until ``slim()`` or ``detach()``.

    Raises:
        ArgumentError: if the method can do nothing with this network, these epochs or this target, or an optimiser holds none of
            the network's parameters.
        GraphError: if the network cannot be analysed.
        ExportError: if a target needs times of a network that cannot be exported.
    """
    network = unwrapped(model)
    optimizers = _checked_optimizers(optimizer, network)
    if not isinstance(method, Method):
        raise ArgumentError(f"`method` must be a method such as slimnet.FPGM(rate=0.4), got {type(method).__name__}.")
    if target is not None:
        refuse_widths(method)
        check_target(method)
    elif not method.closes_anything:
        raise ArgumentError(CLOSES_NOTHING)
    if not is_whole(epochs) or epochs < 1:
        raise ArgumentError(f"`epochs` must be a whole number, at least 1, got {epochs!r}.")
    method.check(epochs=epochs)
    check_model(network)
    device = device_of(network)
    example = tuple(value.detach().to(device) for value in as_inputs(example_inputs))
    groups = channel_groups(network, example, couple=method.couple)
    for part in method.parts:
        check_shut(part, network, example[0], groups)
    if target is not None:
        method = method.with_widths(from_first_process(lambda: _widths(target, method, network, example, groups)))
    if method.closes_branches:
        groups += residual_branches(network, example)
    statistics = no_statistics if data is None else statistics_from(network, example, data, num_classes)
    pruner = method.start(network, groups, epochs=epochs)
    attached = Attached(network, pruner, epochs=epochs, statistics=statistics, optimizers=optimizers, must_step=True)
    attached.remember(method, groups, example, has_target=target is not None)
    return attached


def _checked_optimizers(given: Optimizer | Sequence[Optimizer] | None, network: nn.Module) -> tuple[Optimizer, ...]:
    optimizers = () if given is None else (given,) if isinstance(given, Optimizer) else tuple(given)
    own = {id(parameter) for parameter in network.parameters()}
    for optimizer in optimizers:
        check_kind(optimizer)
        if not any(id(each) in own for group in optimizer.param_groups for each in group["params"]):
            raise ArgumentError(
                f"this {type(optimizer).__name__} holds no parameter of the network: make it of model.parameters()."
            )
    return optimizers


def _widths(
    target: Budget, method: Method, network: nn.Module, example: tuple[Tensor, ...], groups: Sequence[ChannelGroup]
) -> list[tuple[str, int]]:
    if len(example) != 1 or len(example[0]) < 2:
        raise ArgumentError("a target needs a network of one input, and example inputs of two images at least.")
    narrower, found = widths_for(target, method, copy.deepcopy(network).cpu(), example[0].cpu(), groups)
    if not narrower:
        raise ArgumentError(f"{met_already(found)}: ask for more, or train without a pruner.")
    return narrower

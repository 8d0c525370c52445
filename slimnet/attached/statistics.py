"""Class statistics from a loader of the user's own."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from slimnet._modes import in_eval_mode
from slimnet.criteria import ClassStatistics, collect_class_statistics
from slimnet.errors import ArgumentError
from slimnet.graph import ExampleInputs, as_inputs
from slimnet.methods.base import Statistics

Batches = Iterable[tuple[Tensor, Tensor]]
Data = Batches | Callable[[], Batches]
"""Pairs of images (N, C, H, W) and labels (N,), or a function that gives them."""


def no_statistics(modules: Sequence[str]) -> ClassStatistics:
    """Say what is missing."""
    raise ArgumentError(
        f"this method scores {modules[0]!r} by labelled images: give attach(…, data=loader), a loader of (images, labels)."
    )


def statistics_from(model: nn.Module, example: ExampleInputs, data: Data, num_classes: int | None) -> Statistics:
    """Class statistics over all that ``data`` gives, summed over the processes of ``torch.distributed``.

    Torch's random numbers go on afterwards as if nothing had been drawn.

    Args:
        model: the network.
        example: inputs that say how many classes it has, where ``num_classes`` is None.
        data: iterated anew each time.
        num_classes: C.
    """

    def find(modules: Sequence[str]) -> ClassStatistics:
        device = device_of(model)
        classes = _outputs(model, example, device) if num_classes is None else num_classes
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            return collect_class_statistics(model, modules, _on(device, data), classes, reduce=sum_over_processes)

    return find


def device_of(model: nn.Module) -> torch.device:
    """Where the first parameter of a network lies."""
    first = next(model.parameters(), None)
    return torch.device("cpu") if first is None else first.device


def sum_over_processes(tensor: Tensor) -> None:
    """Sum a tensor over the processes of ``torch.distributed``, in place; nothing where there is but one."""
    if is_joined():
        dist.all_reduce(tensor)


def from_first_process(make: Callable[[], Any]) -> Any:
    """What ``make`` gives in the first process, in all of them."""
    if not is_joined():
        return make()
    box = [make() if dist.get_rank() == 0 else None]
    dist.broadcast_object_list(box, src=0)
    return box[0]


def is_joined() -> bool:
    """Whether several processes of ``torch.distributed`` train together."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def _on(device: torch.device, data: Data) -> Iterator[tuple[Tensor, Tensor]]:
    for batch in data() if callable(data) else data:
        if not (isinstance(batch, list | tuple) and len(batch) == 2 and all(isinstance(each, Tensor) for each in batch)):
            got = type(batch).__name__
            raise ArgumentError(f"`data` must give pairs of tensors (images, labels), got {got}: give a function that does.")
        yield batch[0].to(device), batch[1].to(device)


def _outputs(model: nn.Module, example: ExampleInputs, device: torch.device) -> int:
    with in_eval_mode(model), torch.no_grad():
        logits = model(*(value.to(device) for value in as_inputs(example)))
    if not isinstance(logits, Tensor) or logits.dim() != 2:
        raise ArgumentError("the network's answer does not say how many classes there are: give `num_classes`.")
    return logits.shape[1]

"""What is closed, valued by the loss without it."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from slimnet._modes import unwrapped
from slimnet.errors import ArgumentError
from slimnet.graph import ChannelGroup, in_eval_mode
from slimnet.masks import SoftMask

Batch = tuple[Tensor, Tensor]
Forward = Callable[[Tensor], Tensor]
Closed = tuple[ChannelGroup, Tensor]
"""A channel group or residual branch, and the indices of its channels that are closed."""
LOSS_IMAGES = (512, 128)
"""So many training images are enough, and so many a batch."""
TEMPERATURE = 4.0


class ClosedLoss:
    r"""The loss of a network on some images, with channels and branches closed.

    With a ``temperature`` T it is how far the answers move from those of the whole network, as in distillation,

    .. math:: T^2 \operatorname{KL}\bigl(\operatorname{softmax}(z / T) \,\|\, \operatorname{softmax}(z' / T)\bigr)

    which is 0 with nothing closed. On images that a network has learnt by heart the cross-entropy of the labels hardly moves
    until much is closed; this does, and what several groups move it by nearly adds up (docs/widths.md has figures).

    Norms take the statistics of each batch, as if they had been estimated afresh. Weights and statistics are as before after
    every call.

    Example:
        >>> loss = ClosedLoss(model, batches)                           # doctest: +SKIP
        >>> rise = loss([(group, lowest(scores, 8))]) - loss([])        # doctest: +SKIP
    """

    def __init__(
        self,
        model: nn.Module,
        batches: Iterable[Batch],
        *,
        temperature: float | None = None,
        forward: Forward | None = None,
    ) -> None:
        """Keep the images.

        Args:
            model: a trained network, on the device of the images.
            batches: images (N, C, H, W) and labels (N,) of the training split; kept in memory. N should be some hundreds.
            temperature: T, above 0; None: the cross-entropy of the labels.
            forward: how the network is called, e.g. under autocast; default: ``model`` itself.

        Raises:
            ArgumentError: if there is no batch, the temperature is out of its range, or the network gives no single tensor.
        """
        self.model, self.batches, self.temperature = model, list(batches), temperature
        self._forward: Forward = forward or model
        if not self.batches:
            raise ArgumentError("`batches` holds no batch: give training images.")
        if temperature is not None and not 0 < temperature < torch.inf:
            raise ArgumentError(f"`temperature` must be a positive number, got {temperature}.")
        self._whole = [] if temperature is None else self._answers([])

    @classmethod
    def of_answers(cls, model: nn.Module, batches: Iterable[Batch]) -> ClosedLoss:
        """How far the answers move, at the temperature of 4 that is customary in distillation.

        Args:
            model, batches: see :meth:`__init__`; only the images matter.
        """
        return cls(model, batches, temperature=TEMPERATURE)

    def on_first(self, count: int) -> ClosedLoss:
        """The same on fewer images: those of the first ``count`` batches."""
        fewer = copy.copy(self)
        fewer.batches, fewer._whole = self.batches[:count], self._whole[:count]
        return fewer

    def __call__(self, closed: Sequence[Closed]) -> float:
        """Mean loss of an image while these channels emit zero.

        Args:
            closed: see :data:`Closed`; a group stands there once.

        Raises:
            ArgumentError: if a group is not of this network.
        """
        answers = self._answers(closed)
        if self.temperature is None:
            labels = [labels for _, labels in self.batches]
            sums = [F.cross_entropy(*pair, reduction="sum") for pair in zip(answers, labels, strict=True)]
        else:
            sums = [_moved(*pair, self.temperature) for pair in zip(self._whole, answers, strict=True)]
        return float(torch.stack(sums).sum()) / sum(map(len, answers))

    @torch.no_grad()
    def _answers(self, closed: Sequence[Closed]) -> list[Tensor]:
        """Logits (N, classes) of each batch."""
        mask = SoftMask(self.model, [group for group, _ in closed])
        for group, channels in closed:
            scale = torch.ones(group.size)
            scale[channels] = 0.0
            mask.set(group.name, scale)
        tensors = {**dict(self.model.named_parameters()), **dict(self.model.named_buffers())}
        touched = {rows.name for group, _ in closed for rows in (*group.filters, *group.norms)}
        before = {name: tensors[name].detach().clone() for name in touched if name in tensors}
        with _batch_statistics(self.model):
            try:
                mask.apply()
                return [as_logits(self._forward(images), self.model).float() for images, _ in self.batches]
            finally:
                for name, value in before.items():
                    tensors[name].copy_(value)


def as_logits(output: Any, model: nn.Module) -> Tensor:
    """What a network gives, as long as that is the answers of a classifier.

    Args:
        output: that it gave.
        model: the network.

    Raises:
        ArgumentError: if it is not a single tensor (N, classes, …).
    """
    if isinstance(output, Tensor) and output.dim() > 1:
        return output
    given = f"numbers of shape {tuple(output.shape)}" if isinstance(output, Tensor) else f"a {type(output).__name__}"
    raise ArgumentError(
        f"{type(unwrapped(model)).__name__} gives {given}, no logits (N, classes) whose loss could be measured: "
        "choose by weights, with `allocate_by` 'energy' and a criterion that needs no gradients."
    )


def _moved(before: Tensor, after: Tensor, temperature: float) -> Tensor:
    """T²·KL, the sum over a batch."""
    logs = [F.log_softmax(logits / temperature, dim=1) for logits in (before, after)]
    return temperature**2 * F.kl_div(logs[1], logs[0], reduction="sum", log_target=True)


@contextmanager
def _batch_statistics(model: nn.Module) -> Iterator[None]:
    """Inside: eval mode, but norms take the statistics of each batch and remember none."""
    norms = [module for module in model.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    tracked = [norm.track_running_stats for norm in norms]
    running = [(norm.running_mean, norm.running_var) for norm in norms]
    with in_eval_mode(model):
        for norm in norms:
            norm.track_running_stats, norm.running_mean, norm.running_var = False, None, None
        try:
            yield
        finally:
            for norm, track, (mean, variance) in zip(norms, tracked, running, strict=True):
                norm.track_running_stats, norm.running_mean, norm.running_var = track, mean, variance

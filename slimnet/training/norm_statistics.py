"""Norm statistics estimated afresh: soft masks moved the features after the running averages were formed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import Any

import torch
from torch import Tensor, nn

from slimnet._modes import in_eval_mode, widened

MOST_BATCHES = 64
Norm = nn.modules.batchnorm._BatchNorm


def reestimate_norms(
    model: nn.Module, batches: Iterable[tuple[Tensor, Tensor]], *, limit: int = MOST_BATCHES, keep: Sequence[nn.Module] = ()
) -> None:
    """Replace the running statistics of every batch norm by those of all values in some batches, in place.

    A norm's mean is the mean of all values that reach it, its variance their variance about that mean (with Bessel's
    correction): every image counts the same, in whichever batch it comes, and what batches differ by is part of the variance.
    The values are those of training mode: the norms before it bring each batch to its own mean and deviation. A batch of one
    image is joined to the one before it, since a norm behind a linear layer cannot take it alone; where there is but one image
    in all, nothing is changed.

    Weights, γ and β are not touched, so a closed channel stays exactly zero. Give batches of training images *without*
    augmentation: that is what the network will see when it is used. Dropout stays off.

    Args:
        model: the network; its train/eval mode is restored.
        batches: images (N, C, H, W) and labels (N,).
        limit: most batches to use.
        keep: norms that are left as they are, in eval mode.
    """
    kept = set(keep)
    norms = [module for module in model.modules() if isinstance(module, Norm) and module not in kept]
    norms = [norm for norm in norms if norm.running_mean is not None and norm.running_var is not None]
    if not norms:
        return
    with in_eval_mode(model), torch.no_grad(), _observed(norms) as moments:
        for images in _joined(islice(batches, limit)):
            model(images)
    for norm, found in moments.items():
        _set(norm, found)


@dataclass
class _Moments:
    """Number, mean (C,) and sum of squared distances from it (C,), in float64, of the values of each channel so far."""

    count: int
    mean: Tensor
    square: Tensor
    batches: int

    def add(self, other: _Moments) -> None:
        """Take in the values of another batch (Chan, Golub & LeVeque, 1979)."""
        total = self.count + other.count
        apart = other.mean - self.mean
        self.square += other.square + apart.square() * (self.count * other.count / total)
        self.mean += apart * (other.count / total)
        self.count, self.batches = total, self.batches + other.batches


def _moments(values: Tensor) -> _Moments:
    """Of a batch (N, C, …)."""
    count = values.numel() // values.shape[1]
    dims = [dim for dim in range(values.dim()) if dim != 1]
    variance, mean = torch.var_mean(widened(values.detach()), dims, correction=0)
    return _Moments(count, mean.double(), variance.double() * count, 1)


@contextmanager
def _observed(norms: Sequence[Norm]) -> Iterator[dict[Norm, _Moments]]:
    """Inside: ``norms`` are in training mode without changing their statistics, and what reaches them is gathered."""
    found: dict[Norm, _Moments] = {}
    handles = []
    try:
        for norm in norms:
            handles.append(norm.register_forward_pre_hook(_hook(norm, found)))
            norm.train()
        with _unchanged(norms):
            yield found
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def _unchanged(norms: Sequence[Norm]) -> Iterator[None]:
    """Whatever happens to the buffers of ``norms`` inside is undone."""
    before = [{name: None if value is None else value.clone() for name, value in norm._buffers.items()} for norm in norms]
    try:
        yield
    finally:
        for norm, buffers in zip(norms, before, strict=True):
            for name, value in buffers.items():
                if value is not None:
                    getattr(norm, name).copy_(value)


def _hook(norm: Norm, found: dict[Norm, _Moments]) -> Callable[[nn.Module, Any], None]:
    def observe(_: nn.Module, inputs: Any) -> None:
        batch = _moments(inputs[0])
        if norm in found:
            found[norm].add(batch)
        else:
            found[norm] = batch

    return observe


def _joined(batches: Iterable[tuple[Tensor, Tensor]]) -> Iterator[Tensor]:
    """The images of ``batches``; none comes alone, unless it is the only one: then nothing comes."""
    held: Tensor | None = None
    for images, _ in batches:
        if held is not None and min(len(held), len(images)) < 2:
            held = torch.cat([held, images])
            continue
        if held is not None:
            yield held
        held = images
    if held is not None and len(held) > 1:
        yield held


def _set(norm: Norm, found: _Moments) -> None:
    if norm.running_mean is None or norm.running_var is None or found.count < 2:
        return
    norm.running_mean.copy_(found.mean)
    norm.running_var.copy_(found.square / (found.count - 1))
    if norm.num_batches_tracked is not None:
        norm.num_batches_tracked.fill_(found.batches)

"""Norm statistics estimated afresh: soft masks moved the features after the running averages were formed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import islice

import torch
from torch import Tensor, nn


def reestimate_norms(model: nn.Module, batches: Iterable[tuple[Tensor, Tensor]], *, limit: int = 64) -> None:
    """Replace the running statistics of every batch norm by plain averages over some batches, in place.

    Weights, γ and β are not touched, so a closed channel stays exactly zero. Give batches of training images
    *without*
    augmentation: that is what the network will see when it is used. Dropout stays off.

    Args:
        model: the network; its train/eval mode is restored.
        batches: images (N, C, H, W) and labels (N,).
        limit: most batches to use.
    """
    norms = [module for module in model.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    norms = [norm for norm in norms if norm.track_running_stats]
    if not norms:
        return
    with _averaging(model, norms), torch.no_grad():
        for images, _ in islice(batches, limit):
            model(images)


@contextmanager
def _averaging(model: nn.Module, norms: list[nn.modules.batchnorm._BatchNorm]) -> Iterator[None]:
    """Inside: ``norms`` gather cumulative averages from zero, everything else is in eval mode."""
    modes = [(module, module.training) for module in model.modules()]
    momenta = [norm.momentum for norm in norms]
    model.eval()
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None
        norm.train()
    try:
        yield
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
        for module, mode in modes:
            module.training = mode

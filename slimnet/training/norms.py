"""Norm statistics estimated afresh: soft masks moved the features after the running averages were formed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import chain, islice

import torch
from torch import Tensor, nn

from slimnet.graph import in_eval_mode


def reestimate_norms(model: nn.Module, batches: Iterable[tuple[Tensor, Tensor]], *, limit: int = 64) -> None:
    """Replace the running statistics of every batch norm by averages over some batches, in place.

    A batch counts by its images, so that a short last one weighs less. The mean is that of all the images; the variance is the
    average of the (unbiased) variances within the batches, which is what the network was trained with. Batches of a single image
    have no variance and are left out; where there are no others the statistics stay as they are.

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
    usable = (images for images, _ in islice(batches, limit) if len(images) > 1)
    first = next(usable, None)
    if first is None:
        return
    with _averaging(model, norms), torch.no_grad():
        seen = 0
        for images in chain([first], usable):
            seen += len(images)
            for norm in norms:
                norm.momentum = len(images) / seen
            model(images)


@contextmanager
def _averaging(model: nn.Module, norms: list[nn.modules.batchnorm._BatchNorm]) -> Iterator[None]:
    """Inside: ``norms`` gather averages from zero, everything else is in eval mode."""
    momenta = [norm.momentum for norm in norms]
    with in_eval_mode(model):
        for norm in norms:
            norm.reset_running_stats()
            norm.train()
        try:
            yield
        finally:
            for norm, momentum in zip(norms, momenta, strict=True):
                norm.momentum = momentum

"""Test-time augmentation: the mean answer over views of an image.

References:
    Krizhevsky, Sutskever & Hinton, *ImageNet Classification with Deep Convolutional Neural Networks*, NIPS 2012 (ten crops).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor
from torch.nn import functional as F

from slimnet.fields import one_of
from slimnet.names import VIEWS, Views

CROP = 7 / 8  # of each side


def averaged(predict: Callable[[Tensor], Tensor], views: Views) -> Callable[[Tensor], Tensor]:
    """``predict``, answering with the mean of the class probabilities over views of each image.

    Args:
        predict: (N, C, H, W) images in, (N, classes) logits out.
        views: ``"one"``, the image itself; ``"flip"``, and mirrored left to right; ``"ten-crop"``, the four corners and the
            centre, ⅞ of each side, enlarged to the old size (bilinear), and these mirrored.

    Returns:
        A function of the same form; of several views, it gives logarithms of mean probabilities as logits.

    Raises:
        ArgumentError: if ``views`` is unknown.
    """
    one_of(*VIEWS).check("`views`", views)
    if views == "one":
        return predict

    def mean(images: Tensor) -> Tensor:
        probabilities = [predict(view).float().softmax(1) for view in _views(images, views)]
        return torch.stack(probabilities).mean(0).clamp_min(torch.finfo(torch.float32).tiny).log()

    return mean


def _views(images: Tensor, views: Views) -> Iterator[Tensor]:
    for view in [images] if views == "flip" else _crops(images):
        yield view
        yield view.flip(3)


def _crops(images: Tensor) -> Iterator[Tensor]:
    """The corners and the centre of (N, C, H, W) images, each enlarged to (N, C, H, W)."""
    height, width = images.shape[2:]
    rows, columns = max(round(CROP * height), 1), max(round(CROP * width), 1)
    low, right = height - rows, width - columns
    for top, left in ((0, 0), (0, right), (low, 0), (low, right), (low // 2, right // 2)):
        crop = images[:, :, top : top + rows, left : left + columns]
        yield F.interpolate(crop, size=(height, width), mode="bilinear", align_corners=False)

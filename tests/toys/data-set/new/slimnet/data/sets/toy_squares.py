"""Squares of two colours, made by numpy: 200 grey images of 8×8 pixels, told by which square is the brighter one."""

from __future__ import annotations

import numpy as np
import torch

from slimnet.data._source import Request, Source, resized
from slimnet.data.about import About
from slimnet.data.dataset import Split

ABOUT = {"toy-squares": About("CC0: there is nothing in it")}


def load(request: Request) -> Source:
    """Make them; every fifth is for the test."""
    draw = np.random.default_rng(0)
    labels = np.arange(200) % 2
    images = draw.integers(0, 100, (200, 1, 8, 8), dtype=np.uint8)
    images[:, :, :, :4] += (120 * (labels == 0)).astype(np.uint8)[:, None, None, None]
    images[:, :, :, 4:] += (120 * (labels == 1)).astype(np.uint8)[:, None, None, None]
    everything = Split(resized(torch.from_numpy(images), request.image_size), torch.from_numpy(labels).long())
    tested = torch.arange(200) // 2 % 5 == 0
    train, test = (everything.subset(chosen.nonzero().flatten()) for chosen in (~tested, tested))
    return Source(("left", "right"), train, test, flip=False)

"""A bundle whose answers can be told by looking: which half of a picture is the bright one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import nn

from slimnet.export import Bundle, write_bundle
from slimnet.preprocess import describe

LABELS = ("top", "bottom", "left", "right")
SIDE = 16


def halves() -> nn.Module:
    """Four logits: eight times the mean of each half of a grey picture."""
    mask = torch.zeros(4, SIDE, SIDE)
    half = SIDE // 2
    mask[0, :half], mask[1, half:], mask[2, :, :half], mask[3, :, half:] = 1, 1, 1, 1
    linear = nn.Linear(SIDE * SIDE, 4)
    with torch.no_grad():
        linear.weight.copy_(8 * mask.flatten(1) / mask[0].sum())
        linear.bias.zero_()
    return nn.Sequential(nn.Flatten(), linear).eval()


def make_bundle(path: Path, **changes: Any) -> Bundle:
    """Write it."""
    model = halves()
    example = torch.rand(2, 1, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    arguments: dict[str, Any] = {
        "masked": model,
        "slim": model,
        "dense": model,
        "example_inputs": example,
        "plan": {"groups": []},
        "config": {"model": "halves"},
        "labels": LABELS,
        "preprocessing": describe(size=(SIDE, SIDE), channels=1, mean=[0.5], std=[0.5]),
        "real_inputs": [example],
    }
    return write_bundle(path, **arguments | changes)


def bright(half: str, size: tuple[int, int] = (40, 40)) -> Image.Image:
    """A grey picture (width, height), white in one half and black in the other."""
    width, height = size
    pixels = np.zeros((height, width), np.uint8)
    where = {
        "top": np.s_[: height // 2],
        "bottom": np.s_[height // 2 :],
        "left": np.s_[:, : width // 2],
        "right": np.s_[:, width // 2 :],
    }
    pixels[where[half]] = 255
    return Image.fromarray(pixels)


TOP = bright("top")

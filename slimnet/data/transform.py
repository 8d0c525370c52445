"""A transform of the user's own in place of the random changes: a function of (seed, epoch, image), like these."""

from __future__ import annotations

import hashlib
import random
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from slimnet.data.images import ImageFiles
from slimnet.errors import DataError, whole_text

Transform = Callable[[Tensor], Tensor]
_SHOWN = 500


def described(transform: Transform) -> str:
    """What a run records of a transform: how it shows itself, on one line, without addresses."""
    named = getattr(transform, "__qualname__", None)
    text = f"{transform.__module__}.{named}" if isinstance(named, str) else repr(transform)
    return re.sub(r" at 0x[0-9a-fA-F]+", "", " ".join(text.split()))[:_SHOWN]


def mix(*parts: int) -> int:
    """A seed for each tuple of numbers, with no pattern between neighbours."""
    return int.from_bytes(hashlib.blake2b("/".join(map(str, parts)).encode(), digest_size=4).digest(), "big")


@dataclass(frozen=True)
class Transformed:
    """Images of a split, each changed by ``transform``.

    While it runs, the generators of ``torch``, ``random`` and ``numpy.random`` are set for (seed, epoch, image); afterwards they
    are where they were.
    """

    images: ImageFiles | Tensor
    transform: Transform
    seed: int
    epoch: int

    def __call__(self, indices: Sequence[int]) -> Tensor:
        """(n, C, H, W) uint8.

        Raises:
            DataError: if the transform fails, or gives something else.
        """
        with _generators_kept():
            return torch.stack([self._one(index) for index in indices])

    def _one(self, index: int) -> Tensor:
        image = self.images.whole(index) if isinstance(self.images, ImageFiles) else self.images[index].clone()
        _seed(mix(self.seed, self.epoch, index))
        try:
            found = self.transform(image)
        except Exception as error:
            raise DataError(f"the transform fails on an image of shape {tuple(image.shape)}: {whole_text(error)}") from error
        return _checked(found, tuple(self.images.shape[1:]))


def _checked(found: Any, shape: tuple[int, ...]) -> Tensor:
    if not isinstance(found, Tensor) or found.dtype != torch.uint8 or tuple(found.shape) != shape:
        got = f"{found.dtype} of shape {tuple(found.shape)}" if isinstance(found, Tensor) else type(found).__name__
        raise DataError(
            f"the transform must give torch.uint8 of shape {shape}, it gives {got}: leave ToDtype and Normalize out of it, and "
            "let it end at the size of the images (`image_size`)."
        )
    return found.as_subclass(Tensor).cpu()


def _seed(seed: int) -> None:
    torch.default_generator.manual_seed(seed)
    random.seed(seed)
    np.random.seed(seed)


@contextmanager
def _generators_kept() -> Iterator[None]:
    kept = torch.get_rng_state(), random.getstate(), np.random.get_state()
    try:
        yield
    finally:
        torch.set_rng_state(kept[0])
        random.setstate(kept[1])
        np.random.set_state(kept[2])

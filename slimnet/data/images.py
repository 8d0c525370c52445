"""Image files, decoded into uint8 tensors when they are asked for."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Generator, Tensor
from torch.utils.data import DataLoader

from slimnet.errors import DataError
from slimnet.files.untrusted import open_at_once
from slimnet.pictures import picture as pictures
from slimnet.pictures.picture import Picture


@dataclass(frozen=True)
class ImageFiles:
    """Files that stand for a uint8 tensor (N, C, H, W); indexing decodes.

    Attributes:
        paths: the N files.
        channels: 1 (grey) or 3 (RGB).
        size: (H, W). A file of another size is resized until it covers (H, W), then cropped at its centre.
    """

    paths: tuple[Path, ...]
    channels: int
    size: tuple[int, int]

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(N, C, H, W)."""
        return (len(self.paths), self.channels, *self.size)

    @property
    def dtype(self) -> torch.dtype:
        """``torch.uint8``."""
        return torch.uint8

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, indices: Tensor | slice) -> Tensor:
        """Decode some: (n, C, H, W)."""
        return self.__getitems__(torch.arange(len(self))[indices].tolist())

    def __getitems__(self, indices: Sequence[int]) -> Tensor:
        """Decode some, as a DataLoader asks for them: a whole batch at once."""
        if not indices:
            return torch.empty(0, self.channels, *self.size, dtype=torch.uint8)
        return torch.stack([read_image(self.paths[i], channels=self.channels, size=self.size) for i in indices])

    def subset(self, indices: Tensor) -> ImageFiles:
        """The files at ``indices``, not decoded."""
        return replace(self, paths=tuple(self.paths[i] for i in indices.tolist()))

    def stream(self, batches: Sequence[Tensor], *, workers: int | None = None) -> Iterator[Tensor]:
        """Decode batch after batch, ahead of time, in ``workers`` processes.

        Args:
            batches: the indices of each batch.
            workers: number of processes, 0 for none; one a core, but no more than 8, if None.

        Yields:
            uint8 tensors (n, C, H, W).
        """
        loader: DataLoader[Tensor] = DataLoader(
            self,  # type: ignore[arg-type]  # it has what a map-style data set needs
            batch_sampler=[batch.tolist() for batch in batches],
            num_workers=min(8, _cores()) if workers is None else workers,
            collate_fn=_identity,  # __getitems__ has stacked them
            generator=Generator(),  # or it would draw from torch's global generator
        )
        yield from loader


def read_image(path: Path, *, channels: int, size: tuple[int, int] | None = None) -> Tensor:
    """Decode an image file.

    Args:
        path: the file.
        channels: 1 (grey) or 3 (RGB); other images are converted.
        size: (H, W), or None to leave the size as it is. The image is turned upright and brought to the size as
            `slimnet.preprocess` says.

    Returns:
        uint8 (channels, H, W).

    Raises:
        DataError: if the file is missing, not an image, truncated, too large, or has 32 bits a value.
    """
    try:
        with io.BufferedReader(open_at_once(path)) as file, pictures.open_picture(file) as image:
            check_depth(image, path)
            _check_size(image, path, size)
            right = pictures.converted(image, channels)
            pixels = np.array(right if size is None else pictures.fitted(right, size))
    except pictures.BROKEN as error:
        raise _unreadable(path, error) from None
    return torch.from_numpy(pixels.reshape(*pixels.shape[:2], channels)).permute(2, 0, 1).contiguous()


def read_header(path: Path) -> tuple[int, tuple[int, int]]:
    """Channels (1 for a grey image, else 3) and (H, W) of an image file, without decoding it.

    Raises:
        DataError: as in `read_image`.
    """
    try:
        with io.BufferedReader(open_at_once(path)) as file, pictures.open_picture(file) as image:
            check_depth(image, path)
            _check_size(image, path)
            grey = image.mode in ("1", "L") or pictures.is_deep_grey(image)
            return 1 if grey else 3, image.size if pictures.is_lying(image) else (image.height, image.width)
    except pictures.BROKEN as error:
        raise _unreadable(path, error) from None


def check_depth(image: Picture, path: Path) -> None:
    """Refuse an image that cannot be brought to 8 bits a channel."""
    if (fault := pictures.depth_fault(image)) is not None:
        raise DataError(f"{path} {fault}")


def _check_size(image: Picture, path: Path, size: tuple[int, int] | None = None) -> None:
    """Refuse an image before it is decoded that is too large, or would be once it covers the size."""
    if (fault := pictures.size_fault(image.size, size)) is not None:
        raise DataError(f"{path} {fault}")


def _unreadable(path: Path, error: Exception) -> DataError:
    if pictures.is_bomb(error):
        return DataError(f"{path} has more pixels than are decoded ({pictures.most_pixels():,}): make it smaller first.")
    reason = "it does not exist" if isinstance(error, FileNotFoundError) else "it may be truncated or no image"
    return DataError(f"{path} cannot be read as an image: {reason}.")


def _identity(batch: Any) -> Any:
    return batch


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1

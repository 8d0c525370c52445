"""Image files, decoded into uint8 tensors when they are asked for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from slimnet.data.decode import decoded_whole, decoded_window, read_image
from slimnet.data.paths import Paths
from slimnet.data.stream import stream
from slimnet.data.window import Numbers
from slimnet.errors import DataError
from slimnet.files.untrusted import open_at_once
from slimnet.progress import each

_CHUNK = 64
_MANY = 512  # files that are worth starting processes for


class Files(Protocol):
    """What holds pictures: a folder's paths, or the rows of a table."""

    def __len__(self) -> int: ...

    def image(self, place: int, channels: int, size: tuple[int, int] | None) -> Tensor:
        """One picture, decoded, converted and brought to a size."""

    def data(self, place: int) -> bytes:
        """The bytes of one."""

    def called(self, place: int) -> str:
        """What messages call it."""

    def subset(self, indices: Tensor) -> Files:
        """Some of them."""


@dataclass(frozen=True)
class PathFiles:
    """Files by their paths."""

    paths: Paths

    def __len__(self) -> int:
        return len(self.paths)

    def image(self, place: int, channels: int, size: tuple[int, int] | None) -> Tensor:
        """One picture, decoded, converted and brought to a size."""
        return read_image(self.paths[place], channels=channels, size=size)

    def data(self, place: int) -> bytes:
        """The bytes of one."""
        try:
            with open_at_once(self.paths[place]) as file:
                return file.read()
        except OSError as error:
            raise DataError(f"{self.paths[place]} cannot be read: {error.strerror}.") from None

    def called(self, place: int) -> str:
        """Its path."""
        return str(self.paths[place])

    def subset(self, indices: Tensor) -> PathFiles:
        """Some of them."""
        return PathFiles(self.paths.subset(indices))


@dataclass(frozen=True)
class ImageFiles:
    """Files that stand for a uint8 tensor (N, C, H, W); indexing decodes.

    Attributes:
        files: the N files; a sequence of paths becomes one.
        channels: 1 (grey) or 3 (RGB).
        size: (H, W). A file of another size is resized until it covers (H, W), then cropped at its centre.
    """

    files: Files
    channels: int
    size: tuple[int, int]

    @classmethod
    def of(cls, paths: Sequence[Path], *, channels: int, size: tuple[int, int]) -> ImageFiles:
        """Of paths anywhere."""
        return cls(PathFiles(Paths.whole(paths)), channels, size)

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(N, C, H, W)."""
        return (len(self.files), self.channels, *self.size)

    @property
    def dtype(self) -> torch.dtype:
        """``torch.uint8``."""
        return torch.uint8

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, indices: Tensor | slice) -> Tensor:
        """Decode some: (n, C, H, W)."""
        return self.batch(torch.arange(len(self))[indices].tolist())

    def batch(self, indices: Sequence[int]) -> Tensor:
        """Decode some: (n, C, H, W)."""
        if not indices:
            return torch.empty(0, self.channels, *self.size, dtype=torch.uint8)
        return torch.stack([self.files.image(i, self.channels, self.size) for i in indices])

    def window(self, index: int, numbers: Numbers) -> Tensor:
        """A random window of one, brought to the size: (C, H, W)."""
        name, data = self.files.called(index), self.files.data(index)
        return decoded_window(data, name, channels=self.channels, size=self.size, numbers=numbers)

    def whole(self, index: int) -> Tensor:
        """One in its own size: (C, h, w)."""
        return decoded_whole(self.files.data(index), self.files.called(index), channels=self.channels)

    def subset(self, indices: Tensor) -> ImageFiles:
        """The files at ``indices``, not decoded."""
        return replace(self, files=self.files.subset(indices))

    def decoded(self) -> Tensor:
        """All of them, decoded by several processes where there are many: (N, C, H, W)."""
        if len(self) < _MANY:
            return self[:]
        found = torch.empty(self.shape, dtype=torch.uint8)
        chunks = torch.split(torch.arange(len(self)), _CHUNK)
        batches: Iterator[Tensor] = stream(self.batch, (chunk.tolist() for chunk in chunks))
        for chunk, images in zip(chunks, each(batches, "decoding pictures", len(chunks)), strict=True):
            found[chunk] = images
        return found

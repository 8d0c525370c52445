"""What slimnet asks of a runtime: files in, a network that is open out. None of them is imported here."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]


class Runner(ABC):
    """A network that is open: one input of images, the logits out."""

    @abstractmethod
    def run(self, images: Array) -> Array:
        """(N, C, H, W) become (N, classes), whatever N is."""

    @abstractmethod
    def ready(self, images: Array) -> Callable[[], object]:
        """Put the images in place; the function that is returned runs the network on them, to be timed."""


class Runtime(ABC):
    """A library that runs networks. What its functions raise has no common base class: whoever calls them catches all."""

    @abstractmethod
    def version(self) -> str:
        """Of the library, which is imported by this."""

    @abstractmethod
    def convert(self, onnx: Path, out: Sequence[Path], precision: str, images: Array | None) -> None:
        """Make the files of an ONNX file; called in a process of its own (`slimnet.runtimes.apart`).

        Args:
            onnx: in fp32, one input (batch, C, H, W), logits as its first output.
            out: a path for each suffix of the format; their folder may be used for what is left behind.
            precision: one of the format's.
            images: (n, C, H, W) as the network takes them, to calibrate int8 with.
        """

    @abstractmethod
    def open(self, files: Sequence[Path], *, threads: int | None, batch: int | None) -> Runner:
        """Open the files.

        Args:
            files: a path for each suffix of the format.
            threads: None leaves them to the library.
            batch: the only batch that it will be run on; None: any.
        """


def runtime(name: str) -> Runtime:
    """One of `slimnet.names.DEPLOYED`; its library is imported only when it is used."""
    found: Any = import_module(f"slimnet.runtimes.{name}").RUNTIME
    assert isinstance(found, Runtime)
    return found

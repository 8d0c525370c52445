"""An ONNX file that classifies pictures: what it takes and gives is checked before it is run, and after."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slimnet.errors import FileFormatError, MeasureError
from slimnet.measure.timed import Array
from slimnet.onnx.session import open_session

MAX_BATCH = 4096
"""Rows that a file may fix its batch at: where there are fewer images, it is run on them again and again."""
_FLOATS = ("tensor(float)", "tensor(float16)", "tensor(double)")


class Classifier:
    """A network that is open: pictures in, a number for each class out.

    Args:
        source: an ONNX file, or its content.
        name: what an error calls it.
        threads: of ONNX Runtime; None leaves all to it.

    Attributes:
        name: what an error calls it.
        output: of the network, as the runtime describes it; where there are several, the first.

    Raises:
        FileFormatError: if it is no ONNX file, or no network that takes one float32 (N, C, H, W) and gives (N, classes).
        TimeLimitError: if it takes too long to be opened.
    """

    def __init__(self, source: Path | bytes, *, name: str | None = None, threads: int | None = None) -> None:
        self._session = open_session(source, name=name, threads=threads)
        self.name = self._session.name
        inputs, outputs = self._session.inputs, self._session.outputs
        if len(inputs) != 1 or not outputs:
            counts = f"takes {len(inputs)} inputs and gives {len(outputs)} outputs"
            raise FileFormatError(f"{self.name} {counts}: only a network of one input of images can be run.")
        self._input, self.output = inputs[0], outputs[0]
        self._check(self._input, 4, _FLOATS[:1], "takes", "images are float32 (N, C, H, W)")
        self._check(self.output, 2, _FLOATS, "gives", "classes are float (N, classes)")
        fixed = self._input.shape[0] if self._input.shape else None
        if isinstance(fixed, int) and fixed > MAX_BATCH:
            raise FileFormatError(f"{self.name} takes batches of {fixed:,} images alone: at most {MAX_BATCH:,} can be run.")
        self._fixed = fixed if isinstance(fixed, int) and fixed > 0 else None
        self._classes: int | None = None

    def run(self, images: NDArray[np.float32]) -> Array:
        """(N, C, H, W) become (N, classes). Where the file fixes its batch, it is run as often as needed.

        Raises:
            MeasureError: if it does not run on them, or gives something else than a row of numbers for each.
            TimeLimitError: if a run takes too long.
        """
        array = np.ascontiguousarray(images)
        parts = [array] if self._fixed is None else _of_size(array, self._fixed)
        return np.concatenate([self._run(part) for part in parts])[: len(array)]

    def _run(self, images: Array) -> Array:
        (found,) = self._session.run({self._input.name: images}, [self.output.name])
        shape = getattr(found, "shape", None)
        wanted = f"({len(images)}, {self._classes or 'classes'})"
        if shape is None or len(shape) != 2 or len(found) != len(images) or self._classes not in (None, shape[1]):
            got = type(found).__name__ if shape is None else shape
            raise MeasureError(f"{self.name} must give {wanted} for {len(images)} images, it gives {got}.")
        self._classes = shape[1]
        return np.asarray(found)

    def _check(self, spec: Any, rank: int, types: tuple[str, ...], does: str, wanted: str) -> None:
        if spec.type not in types or len(spec.shape) not in (0, rank):  # 0: also where the file does not say
            raise FileFormatError(f"{self.name} {does} {spec.type} {spec.shape} as {spec.name!r}: {wanted}.")


def _of_size(array: Array, size: int) -> list[Array]:
    """Batches of exactly ``size``, for a file whose batch is fixed; the last one starts over where rows are missing."""
    rows = np.arange(-(-len(array) // size) * size) % len(array)
    return np.split(array[rows], len(rows) // size)

"""The arrays that a network is run on: real ones, or random ones of its shape."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile, ZipFile, is_zipfile

import numpy as np

from slimnet.errors import ArgumentError, FileFormatError
from slimnet.measure.timed import Array, Inputs, Setting


@dataclass(frozen=True, eq=False)
class InputSpec:
    """One input of a network.

    Attributes:
        owner: the network, as messages name it.
        name: of the input.
        shape: its sizes; what is no number is open. The first is the batch.
        dtype: of its values.
    """

    owner: str
    name: str
    shape: Sequence[Any]
    dtype: np.dtype[Any]


def make_input(spec: InputSpec, how: Setting, rng: np.random.Generator) -> Array:
    """The array for one input: the first rows of the one given, or a random one.

    Raises:
        ArgumentError: if the network does not take this batch, or what is given does not fit.
    """
    inputs, shape = how.inputs, list(spec.shape)
    if isinstance(inputs, Mapping) and spec.name not in inputs:
        held = ", ".join(inputs) or "none"
        raise ArgumentError(f"`inputs` lacks `{spec.name}`, which {spec.owner} takes; it has {held}.")
    if isinstance(shape[0] if shape else None, int) and shape[0] != how.batch:
        raise ArgumentError(f"`batch` must be {shape[0]} for {spec.owner}, whose batch is fixed, got {how.batch}.")
    if inputs is not None:
        return _cycled(spec, np.asarray(inputs[spec.name] if isinstance(inputs, Mapping) else inputs), how.batch)
    if not all(isinstance(size, int) for size in shape[1:]):
        raise ArgumentError(f"`{spec.name}` of {spec.owner} has the open shape {shape}: give `inputs` of a definite size.")
    size = [how.batch, *shape[1:]]
    if spec.dtype.kind == "f":
        return rng.standard_normal(size).astype(spec.dtype)
    return rng.integers(0, 256 if spec.dtype == np.uint8 else 2, size).astype(spec.dtype)


def _cycled(spec: InputSpec, given: Array, batch: int) -> Array:
    """The first ``batch`` rows of real input, starting over where there are fewer."""
    fits = len(spec.shape) == given.ndim and all(
        want == got for want, got in zip(spec.shape[1:], given.shape[1:], strict=True) if isinstance(want, int)
    )
    if not fits or len(given) == 0:
        raise ArgumentError(f"`inputs` of shape {given.shape} do not fit `{spec.name}` {list(spec.shape)} of {spec.owner}.")
    if not np.can_cast(given.dtype, spec.dtype, "same_kind"):
        raise ArgumentError(f"`inputs` of type {given.dtype} do not fit `{spec.name}` of {spec.owner}, which takes {spec.dtype}.")
    rows = np.arange(batch) % len(given)
    return np.ascontiguousarray(given[rows], dtype=spec.dtype)


MOST_UNPACKED, TIMES = 1 << 30, 10
"""Bytes that a .npz file may unfold to in any case, and how many times its length."""


def read_inputs(path: Path) -> Inputs:
    """Real input from a file: the array of a .npy file or of a .npz file with one; else the arrays of the .npz file by name.

    Raises:
        FileFormatError: if the file is missing, is something else, or holds Python objects.
    """
    if not path.is_file():
        raise FileFormatError(f"{path} does not exist: give a .npy or .npz file of inputs.")
    try:
        if is_zipfile(path):
            _check_unpacked(path)
        loaded = np.load(path, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            return loaded
        with loaded:
            arrays = {name: loaded[name] for name in loaded.files}
    except (OSError, ValueError, EOFError, BadZipFile, MemoryError) as error:
        raise FileFormatError(f"{path} is not a readable .npy or .npz file: {error}") from None
    if not arrays:
        raise FileFormatError(f"{path} holds no array.")
    return next(iter(arrays.values())) if len(arrays) == 1 else arrays


def _check_unpacked(path: Path) -> None:
    with ZipFile(path) as archive:
        found, size = sum(entry.file_size for entry in archive.infolist()), path.stat().st_size
    if found > max(MOST_UNPACKED, TIMES * size):
        raise FileFormatError(f"{path} unfolds to {found:,} bytes and is {size:,} long: give fewer inputs.")

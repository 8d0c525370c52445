"""Eight bits: static quantisation of weights and activations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from slimnet.errors import ArgumentError
from slimnet.export.precision._processor import needs_reduced_range
from slimnet.export.precision._widths import widened
from slimnet.onnx import convert
from slimnet.onnx import graph as ir
from slimnet.onnx.metadata import interface, parse
from slimnet.onnx.opset import check_int8
from slimnet.progress import each

Method = Literal["minmax", "percentile", "entropy"]
METHODS: tuple[Method, ...] = ("minmax", "percentile", "entropy")
"""How the range of an activation is found, simplest first: all that occurs; 99.99 % of it; where the Kullback–Leibler divergence
from the unquantised distribution is least."""

Images = NDArray[np.float32]

WEIGHTED = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})
"""Operators with weights, whose first and last may be left in float32."""

_SETTINGS: Mapping[str, tuple[str, dict[str, Any]]] = {
    "minmax": ("MinMax", {}),
    "percentile": ("Percentile", {"percentile": 99.99, "symmetric": False, "num_bins": 2048}),
    # By default there are as many bins as quantised ones, so that there is nothing to choose from.
    "entropy": ("Entropy", {"num_bins": 256, "num_quantized_bins": 128}),
}
_BATCH, _PIXELS = 32, 2**17
"""Most images a calibration batch, and most pixels: all activations of a batch are held at once."""


def to_int8(
    fp32: bytes,
    calibration: Images,
    *,
    method: Method = "minmax",
    exclude: Sequence[str] = (),
    reduce_range: bool | None = None,
) -> bytes:
    """Quantise a network to 8 bits (QDQ): weights signed with a scale a channel, activations unsigned.

    Unsigned, since ONNX Runtime's fast kernels on x86 are for unsigned activations; static, since convolutional networks
    collapse under dynamic quantisation. Channels of zeros give convolutions the widths that these kernels take.

    Args:
        fp32: an ONNX file with one input, (N, C, H, W) float32.
        calibration: (n, C, H, W) real images as the network takes them; 100 to 500 do.
        method: how ranges of activations are found: ``"minmax"``, ``"percentile"`` or ``"entropy"``.
        exclude: names of nodes that stay in float32.
        reduce_range: 7 bits for the weights; default: where this processor lacks VNNI. Say it to get the same file everywhere.

    Returns:
        The bytes of another ONNX file, the same for the same arguments.

    Raises:
        ArgumentError: if the images do not fit the network, an argument is unknown, or the network's opset is below 13.
        FileFormatError: if ``fp32`` is not ONNX.
        ExportError: if it cannot be quantised.
    """
    return Quantiser(fp32, calibration, reduce_range=reduce_range)(method, tuple(exclude))


class Quantiser:
    """Quantises one network in several ways; what they share is done once.

    Args:
        fp32: an ONNX file.
        calibration: (n, C, H, W) images.
        reduce_range: see :func:`to_int8`.

    Attributes:
        prepared: the network as it is quantised: norms folded, every node named.
        layers: names of the layers with weights, in the order in which they run.
        reduce_range: what was chosen.
    """

    def __init__(self, fp32: bytes, calibration: Images, *, reduce_range: bool | None = None) -> None:
        check_int8(interface(parse(fp32, "the network"))["opset"])
        self._original, self.prepared = fp32, convert.prepare(fp32)
        self._calibration, self._ranges = calibration, dict[str, Any]()
        self.layers = weighted_layers(self.prepared)
        self.reduce_range = needs_reduced_range() if reduce_range is None else reduce_range

    def __call__(self, method: Method, exclude: Sequence[str] = ()) -> bytes:
        """The quantised network."""
        if method not in self._ranges:
            self._ranges[method] = self._calibrated(method)
        names = {node.name for node in ir.read(self.prepared).graph} if exclude else ()
        missing = [name for name in exclude if name not in names]
        if missing:
            known = ", ".join(self.layers)
            raise ArgumentError(f"`exclude` names {missing[0]!r}, which is no layer of the network: it has {known}.")
        with convert.converting():
            wide = widened(self.prepared, exclude=exclude)
        return convert.quantise(
            wide.data,
            self._ranges[method],
            like=self._original,
            same=wide.images,
            exclude=(*exclude, *wide.stem),
            reduce_range=self.reduce_range,
        )

    def _calibrated(self, method: Method) -> Any:
        """ONNX Runtime's table of the range of every activation over the images."""
        if method not in _SETTINGS:
            raise ArgumentError(f"`method` must be one of {', '.join(METHODS)}, got {method!r}.")
        name = _input_name(self.prepared, self._calibration)
        batches = _batches(self._calibration)
        feeds = ({name: batch} for batch in each(batches, f"calibrating int8 ({method})", len(batches)))
        return convert.calibrate(self.prepared, feeds, *_SETTINGS[method])


def weighted_layers(data: bytes) -> tuple[str, ...]:
    """Names of the nodes with weights, in the order in which they run."""
    nodes = [node for node in ir.read(data).graph if node.op_type in WEIGHTED]
    return tuple(node.name for node in nodes if any(value and value.is_initializer() for value in node.inputs[1:]))


def _batches(images: Images) -> list[Images]:
    size = max(1, min(_BATCH, _PIXELS // (images.shape[2] * images.shape[3])))
    return [np.ascontiguousarray(images[start : start + size]) for start in range(0, len(images), size)]


def _input_name(data: bytes, images: Images) -> str:
    """The one input of the network, if the images fit it."""
    entries = [entry for entry in ir.read(data).graph.inputs if not entry.is_initializer()]
    if len(entries) != 1:
        raise ArgumentError(f"only a network with one input can be quantised, this one has {len(entries)}.")
    wanted = [size or 0 for size in ir.shape(entries[0]) or []]
    if images.ndim != 4 or images.dtype != np.float32 or not len(images):
        raise ArgumentError(f"`calibration` must be float32 (N, C, H, W) with N ≥ 1, got {images.dtype} {images.shape}.")
    if len(wanted) != 4 or any(want not in (0, got) for want, got in zip(wanted[1:], images.shape[1:], strict=True)):
        raise ArgumentError(f"`calibration` holds images of {images.shape[1:]}, the network takes {tuple(wanted[1:])}.")
    if not np.isfinite(images).all():
        raise ArgumentError("`calibration` holds NaN or infinity.")
    return str(entries[0].name)

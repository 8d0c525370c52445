"""Eight bits: static quantisation of weights and activations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from slimnet.export.precision import _graph
from slimnet.export.precision._processor import needs_reduced_range
from slimnet.export.precision._quantise import Images, Method, calibrate, prepare, quantise


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
        ArgumentError: if the images do not fit the network, or an argument is unknown.
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
        layers: names of the layers with weights, in the order in which they run.
        reduce_range: what was chosen.
    """

    def __init__(self, fp32: bytes, calibration: Images, *, reduce_range: bool | None = None) -> None:
        self._original, self._prepared = _graph.load(fp32), prepare(fp32)
        self._calibration, self._ranges = calibration, dict[str, Any]()
        self.layers = _graph.weighted_layers(self._prepared)
        self.reduce_range = needs_reduced_range() if reduce_range is None else reduce_range

    def __call__(self, method: Method, exclude: Sequence[str] = ()) -> bytes:
        """The quantised network."""
        if method not in self._ranges:
            self._ranges[method] = calibrate(self._prepared, self._calibration, method)
        proto = quantise(self._prepared, self._ranges[method], exclude=exclude, reduce_range=self.reduce_range)
        return _graph.finished(proto, like=self._original)

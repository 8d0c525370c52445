"""Static quantisation in three steps: prepare, calibrate, quantise. The façade over onnxruntime.quantization."""

from __future__ import annotations

import contextlib
import io
import logging
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from slimnet.errors import ArgumentError, ExportError
from slimnet.export.precision import _graph
from slimnet.export.precision._widths import widened
from slimnet.files import scratch_folder
from slimnet.onnx.opset import first_line

if TYPE_CHECKING:
    import onnx

Method = Literal["minmax", "percentile", "entropy"]
METHODS: tuple[Method, ...] = ("minmax", "percentile", "entropy")
"""How the range of an activation is found, simplest first."""

Images = NDArray[np.float32]

_SETTINGS: Mapping[str, tuple[str, dict[str, Any]]] = {
    "minmax": ("MinMax", {}),
    "percentile": ("Percentile", {"percentile": 99.99, "symmetric": False, "num_bins": 2048}),
    # By default there are as many bins as quantised ones, so that there is nothing to choose from.
    "entropy": ("Entropy", {"num_bins": 256, "num_quantized_bins": 128}),
}
_BATCH, _PIXELS = 32, 2**17
"""Most images a calibration batch, and most pixels: all activations of a batch are held at once."""


def prepare(data: bytes) -> onnx.ModelProto:
    """Fold norms and constants and infer shapes, as quantisation needs it.

    Raises:
        FileFormatError: if it is not ONNX.
        ExportError: if ONNX Runtime cannot read it.
    """
    from onnxruntime.quantization import quant_pre_process

    proto = _graph.load(data)
    with _converting(), scratch_folder("int8") as folder:
        given, out = folder / "network.onnx", folder / "prepared.onnx"
        given.write_bytes(proto.SerializeToString())
        quant_pre_process(given, out, skip_symbolic_shape=True)
        return _graph.load(out.read_bytes())


def calibrate(proto: onnx.ModelProto, images: Images, method: Method) -> Any:
    """The range of every activation over the images.

    Args:
        proto: from :func:`prepare`.
        images: (N, C, H, W) as the network takes them.
        method: ``"minmax"``: all that occurs; ``"percentile"``: 99.99 % of it; ``"entropy"``: where the
            Kullback–Leibler divergence from the unquantised distribution is least.

    Returns:
        onnxruntime's table of ranges.

    Raises:
        ArgumentError: if method or images do not fit.
    """
    from onnxruntime.quantization import CalibrationMethod, create_calibrator

    if method not in _SETTINGS:
        raise ArgumentError(f"`method` must be one of {', '.join(METHODS)}, got {method!r}.")
    name = _input_name(proto, images)
    theirs, options = _SETTINGS[method]
    with _converting(), scratch_folder("int8") as folder:
        path = folder / "network.onnx"
        path.write_bytes(proto.SerializeToString())
        calibrator = create_calibrator(
            path,
            _op_types(),
            augmented_model_path=str(folder / "augmented.onnx"),
            calibrate_method=CalibrationMethod[theirs],
            extra_options=options,
        )
        for batch in _batches(images):
            calibrator.collect_data(_Reader({name: batch}))
        return calibrator.compute_data()


def quantise(proto: onnx.ModelProto, ranges: Any, *, exclude: Sequence[str], reduce_range: bool) -> onnx.ModelProto:
    """The network with quantised weights (signed, a scale a channel) and activations (unsigned).

    Args:
        proto: from :func:`prepare`; left as it is.
        ranges: from :func:`calibrate`.
        exclude: names of nodes that stay in float32.
        reduce_range: 7 bits for the weights.

    Raises:
        ArgumentError: if there is no node of a name to exclude.
    """
    from onnxruntime.quantization import QDQQuantizer, QuantType
    from onnxruntime.quantization.calibrate import TensorsData

    missing = [name for name in exclude if name not in {node.name for node in proto.graph.node}]
    if missing:
        known = ", ".join(_graph.weighted_layers(proto))
        raise ArgumentError(f"`exclude` names {missing[0]!r}, which is no layer of the network: it has {known}.")
    with _converting():
        wide = widened(proto, exclude=exclude)
        like = {tensor: ranges[source] for tensor, source in wide.stem.made.items()}
        quantizer = QDQQuantizer(
            wide.proto,
            per_channel=True,
            reduce_range=reduce_range,
            weight_qType=QuantType.QInt8,
            activation_qType=QuantType.QUInt8,
            tensors_range=TensorsData(ranges.calibration_method, ranges.data | like),
            nodes_to_quantize=[],
            nodes_to_exclude=[*exclude, *(node.name for node in wide.stem.nodes)],
            op_types_to_quantize=_op_types(),
            extra_options={},
        )
        quantizer.quantize_model()
        quantizer.model.topological_sort()
        result: onnx.ModelProto = quantizer.model.model
        return result


class _Reader:
    """One batch, then nothing."""

    def __init__(self, feed: dict[str, Images]) -> None:
        self._feed: dict[str, Images] | None = feed

    def get_next(self) -> dict[str, Images] | None:
        feed, self._feed = self._feed, None
        return feed


def _op_types() -> list[str]:
    """All operators that can be quantised, always in the same order."""
    from onnxruntime.quantization.registry import QDQRegistry, QLinearOpsRegistry

    return sorted({*QLinearOpsRegistry, *QDQRegistry})


def _batches(images: Images) -> Iterator[Images]:
    size = max(1, min(_BATCH, _PIXELS // (images.shape[2] * images.shape[3])))
    for start in range(0, len(images), size):
        yield np.ascontiguousarray(images[start : start + size])


def _input_name(proto: onnx.ModelProto, images: Images) -> str:
    """The one input of the network, if the images fit it."""
    constants = {tensor.name for tensor in proto.graph.initializer}
    entries = [entry for entry in proto.graph.input if entry.name not in constants]
    if len(entries) != 1:
        raise ArgumentError(f"only a network with one input can be quantised, this one has {len(entries)}.")
    wanted = [dim.dim_value for dim in entries[0].type.tensor_type.shape.dim]
    if images.ndim != 4 or images.dtype != np.float32 or not len(images):
        raise ArgumentError(f"`calibration` must be float32 (N, C, H, W) with N ≥ 1, got {images.dtype} {images.shape}.")
    if len(wanted) != 4 or any(want not in (0, got) for want, got in zip(wanted[1:], images.shape[1:], strict=True)):
        raise ArgumentError(f"`calibration` holds images of {images.shape[1:]}, the network takes {tuple(wanted[1:])}.")
    if not np.isfinite(images).all():
        raise ArgumentError("`calibration` holds NaN or infinity.")
    return str(entries[0].name)


@contextlib.contextmanager
def _converting() -> Iterator[None]:
    """No log line and nothing on stdout from the converters; their errors are ours."""
    level = logging.root.manager.disable
    try:
        logging.disable(logging.ERROR)
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    except (ArgumentError, ExportError):
        raise
    except Exception as error:  # the converters' errors share no base class
        raise ExportError(f"the network cannot be converted: {first_line(error)}") from error
    finally:
        logging.disable(level)

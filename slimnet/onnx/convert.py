"""The same network in 8 bits or in half precision. The façade over ONNX Runtime's converters."""

from __future__ import annotations

import contextlib
import io
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import onnx
from numpy.typing import NDArray

from slimnet.errors import ArgumentError, ExportError
from slimnet.files import scratch_folder
from slimnet.onnx.metadata import parse
from slimnet.onnx.opset import first_line
from slimnet.onnx.write import serialised, write

_STANDARD = ("", "ai.onnx")
_PRODUCER = "slimnet"


def prepare(data: bytes) -> bytes:
    """Fold norms and constants, infer shapes, and give every node a name of its own, as quantisation needs it.

    Raises:
        FileFormatError: if it is not ONNX.
        ExportError: if ONNX Runtime cannot read it.
    """
    from onnxruntime.quantization import quant_pre_process

    proto = _named(data)
    with converting(), scratch_folder("int8") as folder:
        given, out = folder / "network.onnx", folder / "prepared.onnx"
        given.write_bytes(serialised(proto))
        quant_pre_process(given, out, skip_symbolic_shape=True)
        return serialised(_named(out.read_bytes()))


def calibrate(data: bytes, feeds: Iterable[Mapping[str, NDArray[Any]]], method: str, options: Mapping[str, Any]) -> Any:
    """ONNX Runtime's table of the range of every activation.

    Args:
        data: from :func:`prepare`.
        feeds: batches, input → array.
        method: ONNX Runtime's name of it.
        options: of the method.

    Raises:
        ExportError: if the network does not run.
    """
    from onnxruntime.quantization import CalibrationMethod, create_calibrator

    with converting(), scratch_folder("int8") as folder:
        path = folder / "network.onnx"
        path.write_bytes(data)
        calibrator = create_calibrator(
            path,
            _op_types(),
            augmented_model_path=str(folder / "augmented.onnx"),
            calibrate_method=CalibrationMethod[method],
            extra_options=dict(options),
        )
        for feed in feeds:
            calibrator.collect_data(_Reader(feed))
        return calibrator.compute_data()


def quantise(
    data: bytes, ranges: Any, *, like: bytes, same: Mapping[str, str], exclude: Sequence[str], reduce_range: bool
) -> bytes:
    """The network with quantised weights (signed, a scale a channel) and activations (unsigned).

    Args:
        data: from :func:`prepare`, perhaps widened.
        ranges: from :func:`calibrate`.
        like: the network that it was made from: the file has its name and metadata.
        same: tensor → the one whose range it has.
        exclude: names of nodes that stay in float32.
        reduce_range: 7 bits for the weights.

    Raises:
        ExportError: if it cannot be quantised.
    """
    from onnxruntime.quantization import QDQQuantizer, QuantType
    from onnxruntime.quantization.calibrate import TensorsData

    with converting():
        quantizer = QDQQuantizer(
            onnx.load_from_string(data),
            per_channel=True,
            reduce_range=reduce_range,
            weight_qType=QuantType.QInt8,
            activation_qType=QuantType.QUInt8,
            tensors_range=TensorsData(ranges.calibration_method, ranges.data | {key: ranges[name] for key, name in same.items()}),
            nodes_to_quantize=[],
            nodes_to_exclude=list(exclude),
            op_types_to_quantize=_op_types(),
            extra_options={},
        )
        quantizer.quantize_model()
        quantizer.model.topological_sort()
    return _finished(quantizer.model.model, like)


def to_fp16(fp32: bytes) -> bytes:
    """Convert a network to float16; inputs and outputs stay float32.

    Half the bytes, and on graphics processors and in browsers often faster. Processors mostly compute it in float32, with
    conversions between. Norms are folded into convolutions first.

    Args:
        fp32: an ONNX file.

    Returns:
        The bytes of another one, the same for the same network.

    Raises:
        FileFormatError: if ``fp32`` is not ONNX.
        ExportError: if it cannot be converted.
    """
    from onnxruntime.quantization.onnx_model import ONNXModel
    from onnxruntime.transformers.float16 import convert_float_to_float16

    try:
        proto = convert_float_to_float16(onnx.load_from_string(prepare(fp32)), keep_io_types=True)
        ONNXModel(proto).topological_sort()
    except (AssertionError, ValueError, RuntimeError) as error:
        raise ExportError(f"the network cannot be converted to float16: {first_line(error)}") from error
    return _finished(proto, fp32)


class _Reader:
    """One batch, then nothing."""

    def __init__(self, feed: Mapping[str, NDArray[Any]]) -> None:
        self._feed: Mapping[str, NDArray[Any]] | None = feed

    def get_next(self) -> Mapping[str, NDArray[Any]] | None:
        feed, self._feed = self._feed, None
        return feed


def _op_types() -> list[str]:
    """All operators that can be quantised, always in the same order."""
    from onnxruntime.quantization.registry import QDQRegistry, QLinearOpsRegistry

    return sorted({*QLinearOpsRegistry, *QDQRegistry})


def _named(data: bytes) -> onnx.ModelProto:
    """The network; nodes without a name, or with another's, get one of their own.

    Raises:
        FileFormatError: if it is not valid ONNX.
    """
    proto = parse(data, "the network")
    seen: set[str] = set()
    for number, node in enumerate(proto.graph.node):
        if not node.name or node.name in seen:
            node.name = f"{node.op_type}_{number}_{node.output[0]}"
        seen.add(node.name)
    return proto


def _finished(proto: onnx.ModelProto, like: bytes) -> bytes:
    """The bytes of a converted network: the same for the same network, whoever converted it when.

    What only the converters need is taken out; name and metadata are those of the network that it was made from.
    """
    origin = onnx.load_from_string(like)
    proto.graph.ClearField("value_info")  # converters leave shapes in the order of a set
    proto.producer_name, proto.producer_version = _PRODUCER, ""
    proto.graph.name = origin.graph.name
    used = {node.domain for node in proto.graph.node}
    kept = [entry for entry in proto.opset_import if entry.domain in _STANDARD or entry.domain in used]
    del proto.opset_import[:]
    proto.opset_import.extend(sorted(kept, key=lambda entry: entry.domain))
    metadata = {entry.key: entry.value for entry in origin.metadata_props}
    return write(proto, metadata=metadata, name="the converted network")


@contextlib.contextmanager
def converting() -> Iterator[None]:
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

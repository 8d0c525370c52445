"""LiteRT (TensorFlow Lite): .tflite files, run by XNNPACK. The façade over its interpreter and its quantiser."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from slimnet._foreign import no_output
from slimnet.errors import ExportError, FileFormatError
from slimnet.runtimes.base import Array, Runner, Runtime

_WITH_NUMBERS = ("PADV2", "MAXIMUM")
"""Operators with a single number beside a map, which the quantiser cannot quantise; they stay in float32."""
_SIGNATURE = "serving_default"


class LiteRt(Runtime):
    """Runs .tflite on the CPU; int8 has 8 bits in weights and activations, fp16 in weights alone."""

    def version(self) -> str:
        """As ``2.3.0``."""
        from importlib.metadata import version

        import ai_edge_litert.interpreter  # noqa: F401  # so that it is loaded

        return version("ai-edge-litert")

    def convert(self, onnx: Path, out: Sequence[Path], precision: str, images: Array | None) -> None:
        """By slimnet's own writer; int8 from that file by Google's quantiser."""
        from slimnet.runtimes.tflite import to_tflite

        data = to_tflite(onnx.read_bytes(), half=precision == "fp16")
        out[0].write_bytes(_quantised(data, images) if precision == "int8" else data)

    def open(self, files: Sequence[Path], *, threads: int | None, batch: int | None) -> Runner:
        """With XNNPACK, as the interpreter has it by default."""
        from ai_edge_litert.interpreter import Interpreter

        with no_output(2):  # it tells of XNNPACK
            interpreter = Interpreter(model_path=str(files[0]), num_threads=threads)
        inputs, outputs = interpreter.get_input_details(), interpreter.get_output_details()
        if len(inputs) != 1 or len(inputs[0]["shape"]) != 4 or not outputs or inputs[0]["dtype"] is not np.float32:
            raise FileFormatError(f"{files[0]} is no network of one input of images.")
        return _Runner(interpreter, inputs[0], outputs[0])


class _Runner(Runner):
    def __init__(self, interpreter: Any, source: Any, output: Any) -> None:
        self._interpreter, self._source, self._output = interpreter, source, output
        self._batch: int | None = None

    def run(self, images: Array) -> Array:
        self._put(images)
        self._interpreter.invoke()
        return np.array(self._interpreter.get_tensor(self._output["index"]), np.float32)

    def ready(self, images: Array) -> Callable[[], object]:
        self._put(images)
        interpreter, output = self._interpreter, self._output["index"]

        def run() -> object:
            interpreter.invoke()
            return interpreter.get_tensor(output)

        return run

    def _put(self, images: Array) -> None:
        """(N, C, H, W) as (N, H, W, C), which the file takes."""
        pixels = np.ascontiguousarray(images.transpose(0, 2, 3, 1))
        index = self._source["index"]
        if self._batch != len(pixels):
            with no_output(2):
                self._interpreter.resize_tensor_input(index, pixels.shape)
                self._interpreter.allocate_tensors()
            self._batch = len(pixels)
        self._interpreter.set_tensor(index, pixels)


def _quantised(data: bytes, images: Array | None) -> bytes:
    """Static: the ranges of activations come from images. Inputs and outputs stay float32."""
    from ai_edge_quantizer import qtyping, quantizer, recipe
    from ai_edge_quantizer.algorithm_manager import AlgorithmName

    if images is None:
        raise ExportError("int8 needs images to calibrate with.")
    maker = quantizer.Quantizer(bytearray(data), recipe.static_wi8_ai8())
    for name in ("INPUT", "OUTPUT", *_WITH_NUMBERS):
        maker.update_quantization_recipe(".*", qtyping.TFLOperationName[name], algorithm_key=AlgorithmName.NO_QUANTIZE)
    samples = [{"images": np.ascontiguousarray(image[None].transpose(0, 2, 3, 1))} for image in images]
    made = maker.quantize(maker.calibrate({_SIGNATURE: samples}))
    return bytes(made.quantized_model)


RUNTIME = LiteRt()

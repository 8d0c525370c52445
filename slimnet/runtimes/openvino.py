"""OpenVINO: IR files, quantised by NNCF. The façade over both."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from slimnet.errors import ExportError, FileFormatError
from slimnet.runtimes.base import Array, Runner, Runtime

_COMPUTE = "f32"
"""Numbers that are computed with: without it a processor with bfloat16 units would use these, and answers would differ."""


class OpenVino(Runtime):
    """Runs IR files (.xml, .bin) on the CPU. Precisions are of the weights: fp16 is computed in float32, as elsewhere on CPUs."""

    def version(self) -> str:
        """As ``2026.4.1``."""
        import openvino

        return str(openvino.__version__).partition("-")[0]

    def convert(self, onnx: Path, out: Sequence[Path], precision: str, images: Array | None) -> None:
        """By OpenVINO's own reader of ONNX files, which sends nothing home; int8 by NNCF's post-training quantisation."""
        import openvino

        model = openvino.Core().read_model(str(onnx))
        if precision == "int8":
            model = _quantised(model, images)
        openvino.save_model(model, str(out[0]), compress_to_fp16=precision == "fp16")

    def open(self, files: Sequence[Path], *, threads: int | None, batch: int | None) -> Runner:
        """Compiled for latency: one stream."""
        import openvino

        core = openvino.Core()
        model = core.read_model(str(files[0]), str(files[1]))
        if len(model.inputs) != 1 or not model.outputs or model.input(0).partial_shape.rank.get_length() != 4:
            raise FileFormatError(f"{files[0]} is no network of one input of images.")
        if batch is not None:
            shape = model.input(0).partial_shape
            model.reshape([batch, *(shape[i].get_length() for i in (1, 2, 3))])
        settings: dict[str, Any] = {"INFERENCE_PRECISION_HINT": _COMPUTE, "NUM_STREAMS": 1}
        if threads is not None:
            settings["INFERENCE_NUM_THREADS"] = threads
        return _Runner(core.compile_model(model, "CPU", settings).create_infer_request())


class _Runner(Runner):
    def __init__(self, request: Any) -> None:
        self._request = request

    def run(self, images: Array) -> Array:
        return np.array(self._request.infer({0: images})[0], np.float32)

    def ready(self, images: Array) -> Callable[[], object]:
        import openvino

        self._request.set_input_tensor(openvino.Tensor(images, shared_memory=True))
        return lambda: self._request.infer(share_outputs=True)


def _quantised(model: Any, images: Array | None) -> Any:
    import nncf

    if images is None:
        raise ExportError("int8 needs images to calibrate with.")
    samples = nncf.Dataset([images[i : i + 1] for i in range(len(images))])
    return nncf.quantize(model, samples, preset=nncf.QuantizationPreset.MIXED, subset_size=len(images))


RUNTIME = OpenVino()

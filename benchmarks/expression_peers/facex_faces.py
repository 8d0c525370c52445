"""facex: `EmotionClassifier.detect_emotion` on the grey face, as its `predict` calls it on each face that it has found."""

from __future__ import annotations

from pathlib import Path

import cv2
import facex
from _serve import Face, serve
from facex.core import EmotionClassifier


def main() -> None:
    cv2.setNumThreads(1)
    classifier = EmotionClassifier(str(Path(facex.__file__).parent / "assets" / "model_optimized.tflite"))

    def whole(face: Face) -> str:
        shares = classifier.detect_emotion(face)
        return max(shares, key=shares.get)

    serve({"the face as it is": whole}, ("facex", "tensorflow", "scikit-image"))


if __name__ == "__main__":
    main()

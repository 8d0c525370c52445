"""what_the_face_classification: its network and transform on the face; and its `predict`, which looks for a face first."""

from __future__ import annotations

import cv2
import torch
from _serve import Face, serve
from PIL import Image
from what_the_face_classification.inference import Image_classifier


def main() -> None:
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    classifier = Image_classifier()
    classifier.net.eval()

    def whole(face: Face) -> str:
        with torch.no_grad():
            return classifier.classes[int(classifier.net(classifier.transform(Image.fromarray(face))).argmax())]

    def found(face: Face) -> str | None:
        label, _ = classifier.predict(Image.fromarray(face))
        return None if label == "no face detected" else label

    ways = {"the face as it is": whole, "with its own search for a face": found}
    serve(ways, ("what_the_face_classification", "torch", "torchvision"))


if __name__ == "__main__":
    main()

"""A bundle that slimnet ships, by `slimnet.predict`: ``python slimnet_faces.py NAME``."""

from __future__ import annotations

import sys

from _serve import Face, serve

from slimnet.predict import Predictor
from slimnet.ready import ready_bundle


def main(name: str) -> None:
    predictor = Predictor(ready_bundle(name), threads=1, top=1)

    def whole(face: Face) -> str:
        return predictor.predict([face])[0].top[0].label

    serve({"the face as it is": whole}, ("onnxruntime",))


if __name__ == "__main__":
    main(sys.argv[1])

"""A bundle and pictures in, classes out: what `slimnet predict` does.

No torch, and nothing is imported before it is asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from slimnet._lazy import lazy

if TYPE_CHECKING:
    from slimnet.predict.annotate import annotated
    from slimnet.predict.faces import FaceFinder, FoundFace
    from slimnet.predict.outputs import Annotations
    from slimnet.predict.predictor import Predictor
    from slimnet.predict.results import Box, Candidate, Prediction, Result
    from slimnet.predict.sources import Source, find_sources, read_names
    from slimnet.predict.video import FrameResult, predict_video

_HOME = {
    "Annotations": "outputs",
    "Box": "results",
    "Candidate": "results",
    "FaceFinder": "faces",
    "FoundFace": "faces",
    "FrameResult": "video",
    "Prediction": "results",
    "Predictor": "predictor",
    "Result": "results",
    "Source": "sources",
    "annotated": "annotate",
    "find_sources": "sources",
    "predict_video": "video",
    "read_names": "sources",
}

__all__ = [
    "Annotations",
    "Box",
    "Candidate",
    "FaceFinder",
    "FoundFace",
    "FrameResult",
    "Prediction",
    "Predictor",
    "Result",
    "Source",
    "annotated",
    "find_sources",
    "predict_video",
    "read_names",
]


__getattr__ = lazy(__name__, _HOME)

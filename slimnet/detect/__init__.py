"""Face detectors of others: their published weights, as networks for ONNX Runtime; pictures in, faces out. No torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from slimnet._lazy import lazy

if TYPE_CHECKING:
    from slimnet.detect.blazeface import BlazeFace
    from slimnet.detect.boxes import Face
    from slimnet.detect.centerface import CenterFace

_HOME = {"BlazeFace": "blazeface", "CenterFace": "centerface", "Face": "boxes"}

__all__ = ["BlazeFace", "CenterFace", "Face"]


__getattr__ = lazy(__name__, _HOME)

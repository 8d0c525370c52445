"""Faces: where they are, and what is cut out; with a detector of the test's own."""

from __future__ import annotations

import json
import math
import sys
import types
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from command import predict
from crowds import TWO, Squares, crowd
from slimnet.detect import Face
from slimnet.errors import ArgumentError
from slimnet.export import Bundle
from slimnet.predict import Box, FaceFinder, Predictor, Source
from slimnet.predict import _cv as cv_module


def test_every_face_is_classified_from_left_to_right(bundle: Bundle, here: Path, detector: None) -> None:
    TWO.save("x.png")
    status, out, _ = predict(bundle.path, "x.png", "--detect", "--json", "--top", "1")
    line = json.loads(out)
    assert status == 0
    assert [(p["label"], p["box"]) for p in line["predictions"]] == [("left", [10, 100, 40, 40]), ("top", [200, 20, 40, 40])]
    _, out, _ = predict(bundle.path, "x.png", "--detect", "--top", "1")
    assert "at 10,100 (40×40)" in out


def test_faces_of_many_pictures_fill_batches(bundle: Bundle) -> None:
    pictures = [crowd([("top", 50 * n, 20) for n in range(count)]) for count in (0, 3, 1, 5, 0, 2)]
    sources = [Source(str(number), image=picture) for number, picture in enumerate(pictures)]
    results = list(Predictor(bundle.path).stream(sources, batch=2, workers=2, faces=FaceFinder(detector=Squares)))
    assert [len(result.predictions) for result in results] == [0, 3, 1, 5, 0, 2]
    assert {p.label for result in results for p in result.predictions} == {"top"}
    assert results[0].notes == ("no face found",)
    assert results[0].width == 300


def test_no_face_is_an_error_only_if_there_is_none_at_all(bundle: Bundle, here: Path, detector: None) -> None:
    TWO.save("two.png")
    crowd([]).save("none.png")
    crowd([]).save("nobody.png")
    assert predict(bundle.path, "none.png", "two.png", "--detect")[0] == 0
    status, out, err = predict(bundle.path, "none.png", "nobody.png", "--detect")
    assert (status, err) == (1, "slimnet: error: no face was found in any of 2 images.\n")
    assert out == "none.png  (no face found)\nnobody.png  (no face found)\n"
    assert predict(bundle.path, "none.png", "--detect")[2] == "slimnet: error: no face was found.\n"


CROPS = [
    (Box(10, 20, 30, 30), 0.0, (10, 20, 40, 50)),
    (Box(10, 20, 30, 30), 0.1, (7, 17, 43, 53)),
    (Box(0, 0, 30, 30), 0.5, (0, 0, 60, 60)),
    (Box(70, 60, 30, 20), 0.5, (40, 50, 100, 90)),
    (Box(10, 10, 60, 60), 2.0, (0, 0, 100, 90)),
]


@pytest.mark.parametrize(("box", "margin", "wanted"), CROPS)
def test_margin(box: Box, margin: float, wanted: tuple[int, int, int, int]) -> None:
    rng = np.random.default_rng(0)
    picture = Image.fromarray(rng.integers(0, 256, (90, 100, 3), np.uint8))
    crop = FaceFinder(margin=margin, detector=Squares).crop(picture, box)
    assert np.array_equal(np.asarray(crop), np.asarray(picture.crop(wanted)))


class Given:
    """A detector that finds what it is told."""

    def __init__(self, *faces: Face) -> None:
        self.faces = faces

    def find(self, picture: Image.Image, /, *, least: float) -> Sequence[Face]:
        return self.faces


def test_the_cascade_searches_large_pictures_at_a_smaller_size(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[tuple[int, ...], int]] = []

    class Detecting:
        def __call__(self, grey: np.ndarray[Any, Any], least: int) -> list[list[int]]:
            seen.append((grey.shape, least))
            return [[100, 50, 20, 20], [1270, 600, 20, 300], [-5, -5, 5, 5]]

    monkeypatch.setattr(cv_module, "Cascade", Detecting)
    finder = FaceFinder(detector="cascade")
    assert finder.find(Image.new("RGB", (5120, 2560))) == (Box(400, 200, 80, 80), Box(5080, 2400, 40, 160))
    assert FaceFinder(detector="cascade", min_face=41).find(Image.new("RGB", (5120, 2560))) == (Box(400, 200, 80, 80),)
    FaceFinder(detector="cascade", min_face=400).find(Image.new("RGB", (5120, 2560)))
    assert seen == [((640, 1280), 24), ((640, 1280), 24), ((640, 1280), 100)]


def test_small_and_doubtful_faces_are_left_out() -> None:
    given = Given(Face(0, 0, 20, 30, 0.9), Face(40.4, 0, 29.8, 30.2, 0.7), Face(80, 0, 40, 40, None), Face(90, 50, 40, 40, 0.5))
    picture = Image.new("RGB", (200, 100))

    def found(**options: float) -> list[tuple[int, float | None]]:
        return [(face.box.x, face.confidence) for face in FaceFinder(detector=lambda: given, **options).faces(picture)]

    assert found() == [(0, 0.9), (40, 0.7), (80, None), (90, 0.5)]
    assert found(min_face=30) == [(40, 0.7), (80, None), (90, 0.5)]
    assert found(min_confidence=0.7) == [(0, 0.9), (40, 0.7), (80, None)]


def test_how_sure_the_detector_is_stands_in_the_result(bundle: Bundle) -> None:
    faces = FaceFinder(detector=lambda: Squares(0.87654321))
    (result,) = Predictor(bundle.path).stream([Source("x", image=TWO)], faces=faces)
    assert [each["face_confidence"] for each in result.as_dict()["predictions"]] == [0.876543, 0.876543]
    (result,) = Predictor(bundle.path).stream([Source("x", image=TWO)])
    assert result.as_dict()["predictions"][0]["face_confidence"] is None


OUT = [
    ({"margin": -0.1}, r"`margin` must be in \[0, 2\]"),
    ({"margin": 2.1}, r"`margin` must be in \[0, 2\]"),
    ({"margin": math.nan}, r"`margin` must be in \[0, 2\]"),
    ({"min_face": -1}, "`min_face` must be 0 or more, got -1"),
    ({"min_face": math.inf}, "`min_face` must be 0 or more, got inf"),
    ({"min_confidence": 1.1}, r"`min_confidence` must be in \[0, 1\], got 1.1"),
    ({"min_confidence": math.nan}, r"`min_confidence` must be in \[0, 1\], got nan"),
    (
        {"detector": "cascades"},
        "unknown detector 'cascades'. Did you mean cascade[?] Known: auto, centerface, blaze",
    ),
    ({"detector": "cascade", "min_confidence": 0.5}, "the cascade gives no confidence: `min_confidence` needs the detector"),
]


@pytest.mark.parametrize(("options", "message"), OUT)
def test_out_of_range(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        FaceFinder(**{"detector": Squares, **options})


OLD_AND_NEW = [
    (None, "faces and video need OpenCV: pip install 'slimnet[faces]'."),
    (types.SimpleNamespace(__version__="5.0.0"), "OpenCV 5.0.0 has no face detector any more: pip install 'slimnet[faces]'."),
]


@pytest.mark.parametrize(("library", "message"), OLD_AND_NEW, ids=["missing", "5.0"])
@pytest.mark.parametrize("option", ["--detect", "--video"])
def test_without_opencv(
    library: Any, message: str, option: str, bundle: Bundle, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cv_module.opencv.cache_clear()
    monkeypatch.setitem(sys.modules, "cv2", library)
    TWO.save("x.png")
    Path("x.mp4").touch()
    arguments = ["x.png", "--detect", "--detector", "cascade"] if option == "--detect" else ["--video", "x.mp4"]
    assert predict(bundle.path, *arguments) == (1, "", f"slimnet: error: {message}\n")
    cv_module.opencv.cache_clear()


@pytest.mark.usefixtures("nothing_kept")
def test_without_any_detector(bundle: Bundle, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cv_module.opencv.cache_clear()
    monkeypatch.setitem(sys.modules, "cv2", None)
    TWO.save("x.png")
    status, out, err = predict(bundle.path, "x.png", "--detect")
    message = "faces and video need OpenCV: pip install 'slimnet[faces]'; or --detector blazeface, fetched once (5 MB)."
    assert (status, out, err) == (1, "", f"slimnet: error: {message}\n")
    cv_module.opencv.cache_clear()


@pytest.mark.usefixtures("nothing_kept")
def test_auto_is_the_cascade_where_nothing_better_is_at_hand(bundle: Bundle, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cv_module, "opencv", lambda: None)
    monkeypatch.setattr(cv_module, "Cascade", lambda: lambda grey, least: [[200, 20, 40, 40]])
    TWO.save("x.png")
    status, out, err = predict(bundle.path, "x.png", "--detect", "--top", "1")
    assert (status, out.rstrip()) == (0, "x.png  top 99.84 % at 200,20 (40×40)")
    assert err == "faces: cascade; --detector blazeface finds tilted and half-lit ones, too (fetched once, 5 MB)\n"
    assert predict(bundle.path, "x.png", "--detect", "--detector", "cascade").err == ""


def test_tilted_faces_are_turned_upright() -> None:
    """A picture that was turned about the face's centre, and what is cut out of it: the face as it stood before."""
    rng = np.random.default_rng(0)
    upright = Image.fromarray(rng.integers(0, 256, (9, 12, 3), np.uint8)).resize((240, 180), Image.Resampling.BICUBIC)
    box = Box(100, 60, 40, 50)
    tilted = upright.rotate(-30, Image.Resampling.BICUBIC, center=(120, 85))  # clockwise
    finder = FaceFinder(detector=Squares)

    def apart(tilt: float) -> float:
        crop = np.asarray(finder.crop(tilted, box, tilt), np.float64)
        return float(np.abs(crop - np.asarray(finder.crop(upright, box), np.float64)).mean())

    assert apart(30) < 2
    assert min(apart(0), apart(-30), apart(7)) > 8
    assert apart(7) == apart(0)  # too little to be turned


def test_tilt_is_told_by_the_eyes() -> None:
    face = Face(0, 0, 40, 40, 0.9, ((10, 10), (30, 30)))
    finder = FaceFinder(detector=lambda: Given(face, Face(50, 0, 40, 40)))
    assert [each.tilt for each in finder.faces(Image.new("RGB", (100, 100)))] == [45, 0]

"""Faces: where they are, and what is cut out; with a detector of the test's own."""

from __future__ import annotations

import json
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from command import predict
from crowds import TWO, crowd, squares
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
    results = list(Predictor(bundle.path).stream(sources, batch=2, workers=2, faces=FaceFinder(detector=lambda: squares)))
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
    crop = FaceFinder(margin=margin, detector=lambda: squares).crop(picture, box)
    assert np.array_equal(np.asarray(crop), np.asarray(picture.crop(wanted)))


def test_large_pictures_are_searched_at_a_smaller_size() -> None:
    seen: list[tuple[int, ...]] = []

    def detect(grey: np.ndarray[Any, Any]) -> list[list[int]]:
        seen.append(grey.shape)
        return [[100, 50, 20, 20], [1270, 600, 20, 300], [-5, -5, 5, 5]]

    found = FaceFinder(detector=lambda: detect).find(Image.new("RGB", (5120, 2560)))
    assert seen == [(640, 1280)]
    assert found == (Box(400, 200, 80, 80), Box(5080, 2400, 40, 160))


@pytest.mark.parametrize("margin", [-0.1, 2.1, float("nan")])
def test_margin_out_of_range(margin: float) -> None:
    with pytest.raises(ArgumentError, match=r"`margin` must be in \[0, 2\]"):
        FaceFinder(margin=margin, detector=lambda: squares)


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
    arguments = ["x.png", "--detect"] if option == "--detect" else ["--video", "x.mp4"]
    assert predict(bundle.path, *arguments) == (1, "", f"slimnet: error: {message}\n")
    cv_module.opencv.cache_clear()

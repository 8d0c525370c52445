"""Faces and video with OpenCV itself."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from command import predict
from skips import reason
from slimnet.errors import FileFormatError, SlimnetError
from slimnet.export import Bundle
from slimnet.predict import FaceFinder, Predictor
from slimnet.predict import _cv as cv_module

needs_cv2 = pytest.mark.skipif(importlib.util.find_spec("cv2") is None, reason=reason("opencv"))


@pytest.fixture(scope="module")
def faces_of_people(data_dir: Path) -> list[Image.Image]:
    from slimnet.data import load_data

    images = load_data("fer2013", data_dir=data_dir).test.images[:40, 0].numpy()
    return [Image.fromarray(image).resize((160, 160), Image.Resampling.BICUBIC) for image in images]


@needs_cv2
def test_real_faces_are_found(faces_of_people: list[Image.Image]) -> None:
    """Half of them at least: FER2013 is full of faces that look aside, and the detector is for frontal ones."""
    finder, right, wrong = FaceFinder(detector="cascade"), 0, 0
    for picture in faces_of_people:
        canvas = Image.new("RGB", (500, 400), (90, 110, 130))
        canvas.paste(picture, (170, 120))
        boxes = finder.find(canvas)
        near = [b for b in boxes if abs(b.x + b.width / 2 - 250) < 40 and abs(b.y + b.height / 2 - 200) < 40 and b.width > 80]
        right, wrong = right + bool(near), wrong + len(boxes) - len(near)
    assert right >= 20
    assert wrong <= 4


MAKE = """
import sys, cv2, numpy as np
writer = cv2.VideoWriter(sys.argv[1], cv2.VideoWriter_fourcc(*"MJPG"), 10, (64, 48))
for n in range(12):
    writer.write(np.full((48, 64, 3), (0, 0, 20 * n), np.uint8))
writer.release()
"""


@needs_cv2
def test_real_video(bundle: Bundle, here: Path) -> None:
    subprocess.run([sys.executable, "-c", MAKE, "x.avi"], check=True)
    status, out, err = predict(bundle.path, "--video", "x.avi", "--json", "--annotate", "out.mp4")
    assert (status, err) == (0, "")
    assert [json.loads(line)["frame"] for line in out.splitlines()] == list(range(12))
    seen = cv_module.VideoReader(Path("out.mp4"))
    assert (seen.count, seen.rate) == (12, 10)
    frame = seen.read()
    seen.close()
    assert frame is not None
    assert frame.shape == (384, 512, 3)


@needs_cv2
def test_red_stays_red(here: Path) -> None:
    subprocess.run([sys.executable, "-c", MAKE, "x.avi"], check=True)
    reader = cv_module.VideoReader(Path("x.avi"))
    last = None
    while (frame := reader.read()) is not None:
        last = frame
    reader.close()
    assert last is not None
    assert np.abs(last.reshape(-1, 3).mean(0) - (220, 0, 0)).max() < 12


@needs_cv2
@pytest.mark.parametrize("content", [b"", b"no video at all\n", bytes(range(256)) * 20], ids=["empty", "text", "noise"])
def test_what_is_no_video(content: bytes, bundle: Bundle, here: Path) -> None:
    Path("x.mp4").write_bytes(content)
    run = [sys.executable, "-m", "slimnet_cli", "predict", str(bundle.path), "--video", "x.mp4"]
    done = subprocess.run(run, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "slimnet: error: x.mp4 cannot be opened as a video.\n"


@needs_cv2
def test_no_camera(bundle: Bundle) -> None:
    with pytest.raises((FileFormatError, SlimnetError), match="camera 97 cannot be opened"):
        from slimnet.predict import predict_video

        next(predict_video(Predictor(bundle.path), 97))

"""Faces: where they are, what is cut out, what is drawn; video. Most of it with a detector and a video of the test's own."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import types
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from command import predict
from skips import reason
from slimnet.errors import ArgumentError, FileFormatError, SlimnetError
from slimnet.export import Bundle
from slimnet.predict import Annotations, Box, Candidate, FaceFinder, Prediction, Predictor, Result, Source, annotated
from slimnet.predict import _cv as cv_module
from slimnet.predict import faces as faces_module
from slimnet.predict.annotate import PALE
from slimnet.predict.network import Network

needs_cv2 = pytest.mark.skipif(importlib.util.find_spec("cv2") is None, reason=reason("opencv"))
SIDE = 40


def squares(grey: np.ndarray[Any, Any]) -> list[list[int]]:
    """A detector whose faces are mid-grey frames: 40×40, their insides black and white."""
    found = []
    for y, x in zip(*np.nonzero(grey == 128), strict=True):
        if (grey[y, x : x + SIDE] == 128).all() and (grey[y : y + SIDE, x] == 128).all() and grey[y, x : x + SIDE].size == SIDE:
            found.append([int(x), int(y), SIDE, SIDE])
    return found[::-1]


def face(half: str) -> Image.Image:
    pixels = np.zeros((SIDE, SIDE), np.uint8)
    pixels[{"top": np.s_[: SIDE // 2], "bottom": np.s_[SIDE // 2 :], "left": np.s_[:, : SIDE // 2]}[half]] = 255
    pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1] = 128, 128, 128, 128
    return Image.fromarray(pixels)


def crowd(faces: Sequence[tuple[str, int, int]], size: tuple[int, int] = (300, 200)) -> Image.Image:
    picture = Image.new("RGB", size, (40, 60, 80))
    for half, x, y in faces:
        picture.paste(face(half), (x, y))
    return picture


TWO = crowd([("top", 200, 20), ("left", 10, 100)])


@pytest.fixture
def detector(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(faces_module, "_cascade", lambda: squares)


# --- faces in pictures ----------------------------------------------------------------------------------------------------


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


# --- what is drawn --------------------------------------------------------------------------------------------------------


def drawn(picture: Image.Image) -> np.ndarray[Any, Any]:
    """Where something was drawn: (H, W) bool."""
    return (np.asarray(picture) == PALE).all(axis=2)


def found(label: str, *boxes: Box | None) -> Result:
    return Result("x", 1, 1, tuple(Prediction((Candidate(label, 0, 0.973),), box) for box in boxes))


@pytest.mark.parametrize("size", [(16, 16), (48, 48), (64, 300), (640, 480), (3000, 2000)])
@pytest.mark.parametrize("label", ["happy", "a label that is longer than most pictures are wide"])
def test_labels_are_legible_and_inside_at_any_size(size: tuple[int, int], label: str) -> None:
    picture = Image.new("RGB", size, (128, 128, 128))
    for box in (None, Box(size[0] // 2, 0, size[0] // 2, size[1]), Box(0, size[1] // 2, size[0] // 3 + 1, size[1] // 3 + 1)):
        marked = annotated(picture, found(label, box))
        assert max(marked.size) >= 480
        assert min(marked.size) >= 240
        assert marked.width / marked.height == size[0] / size[1]
        rows, _ = np.nonzero(drawn(marked))
        ground = drawn(marked)
        letters = (np.asarray(marked) < 100).all(axis=2)
        assert letters.any()
        assert ground.sum() > 200
        assert rows.max() - rows.min() >= 15
        assert not letters[:, -3:].any()


def test_a_box_is_drawn_around_each_face() -> None:
    marked = annotated(TWO.resize((600, 400)), found("happy", Box(20, 200, 80, 80), Box(400, 40, 80, 80)))
    for x, y in ((20, 240), (99, 240), (60, 200), (60, 279), (400, 80), (479, 80), (440, 119)):
        assert marked.getpixel((x, y)) == PALE
    assert marked.getpixel((60, 240)) != PALE


def test_annotate_writes_one_picture(bundle: Bundle, here: Path, detector: None) -> None:
    TWO.save("x.png")
    assert predict(bundle.path, "x.png", "--detect", "--annotate", "out.jpg")[0] == 0
    with Image.open("out.jpg") as image:
        assert (image.format, image.size) == ("JPEG", (600, 400))
    status, _, err = predict(bundle.path, "x.png", "--detect", "--annotate", "out.jpg")
    assert (status, err) == (1, "slimnet: error: out.jpg exists already: choose another output, or overwrite it with --force.\n")
    assert predict(bundle.path, "x.png", "--annotate", "out.jpg", "--force")[0] == 0
    assert sorted(path.name for path in here.iterdir()) == ["out.jpg", "x.png"]


def test_annotate_writes_a_folder_and_leaves_out_what_is_broken(bundle: Bundle, here: Path) -> None:
    for name in ("in/a/x.png", "in/b/x.png", "in/b/x.jpg"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        TWO.save(name)
    Path("in/b/y.png").touch()
    assert predict(bundle.path, "in", "--annotate", "out")[0] == 1
    assert sorted(str(path) for path in Path("out").rglob("*.*")) == ["out/a/x.png", "out/b/x.jpg.png", "out/b/x.png"]


REFUSED: list[tuple[str, list[str], bool, str]] = [
    ("x.png", ["x.png"], True, "x.png is one of the pictures to be read"),
    (".", ["x.png"], True, "x.png is one of the pictures to be read"),
    ("out.png", ["x.png", "y.png"], False, "out.png is one picture, and there are 2: name a folder"),
    ("full", ["x.png"], False, "full exists already"),
    ("y.png", ["x.png"], False, "y.png exists already"),
    ("y.txt", ["x.png"], False, "y.txt is a file, not a folder"),
]


@pytest.mark.parametrize(("out", "names", "force", "message"), REFUSED)
def test_annotations_refuse(out: str, names: list[str], force: bool, message: str, here: Path) -> None:
    for name in ("x.png", "y.png", "y.txt", "full/z"):
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).touch()
    with pytest.raises(ArgumentError, match=message):
        Annotations(Path(out), [Source(name, Path(name)) for name in names], force=force)


# --- video ----------------------------------------------------------------------------------------------------------------


class Film:
    """Stands for a video reader: ten frames, the face moving to the right."""

    frames = 10
    announced: int | None = 10
    rate: float | None = 20.0
    is_open = True
    closed = 0

    def __init__(self, video: Path | int) -> None:
        self.video, self.at, self.count = video, 0, self.announced

    def skip(self) -> bool:
        self.at += 1
        return self.at <= self.frames

    def read(self) -> np.ndarray[Any, Any] | None:
        if not self.skip():
            return None
        return np.asarray(crowd([("top", 20 * (self.at - 1), 20)]))

    def close(self) -> None:
        type(self).closed += 1


class Reel:
    """Stands for a video writer: says in its file what it was given."""

    is_open = True

    def __init__(self, path: Path, **settings: Any) -> None:
        self.path, self.settings, self.count = path, settings, 0

    def write(self, frame: np.ndarray[Any, Any]) -> None:
        assert frame.shape[:2] == self.settings["size"][::-1]
        self.count += 1

    def close(self) -> None:
        self.path.write_text(f"{self.count} {self.settings['rate']} {self.settings['codec']}")

    def is_whole(self) -> bool:
        return True


@pytest.fixture
def film(monkeypatch: pytest.MonkeyPatch, here: Path, detector: None) -> type[Film]:
    fresh = type("Fresh", (Film,), {})
    monkeypatch.setattr(cv_module, "VideoReader", fresh)
    monkeypatch.setattr(cv_module, "VideoWriter", Reel)
    Path("x.mp4").touch()
    return fresh


def test_a_line_a_frame(bundle: Bundle, film: type[Film]) -> None:
    status, out, err = predict(bundle.path, "--video", "x.mp4", "--detect", "--every", "3", "--json", "--annotate", "out.mp4")
    lines = [json.loads(line) for line in out.splitlines()]
    assert (status, err) == (0, "")
    assert list(lines[0]) == ["frame", "seconds", "image", "width", "height", "predictions", "notes", "error"]
    assert [(line["frame"], line["seconds"]) for line in lines] == [(0, 0.0), (3, 0.15), (6, 0.3), (9, 0.45)]
    assert [line["predictions"][0]["box"][0] for line in lines] == [0, 60, 120, 180]
    assert Path("out.mp4").read_text() == f"4 {20 / 3} mp4v"
    assert sorted(path.name for path in Path().iterdir()) == ["out.mp4", "x.mp4"]
    assert film.closed == 1


def nan_in_run(number: int, monkeypatch: pytest.MonkeyPatch, rows: Any = slice(None)) -> None:
    """The network answers NaN in one of its runs, for some pictures of the batch."""
    answer, runs = Network.run, iter(range(1000))

    def run(self: Network, inputs: Any) -> Any:
        logits = answer(self, inputs)
        if next(runs) == number:
            logits[rows, 1:] = np.nan
        return logits

    monkeypatch.setattr(Network, "run", run)


def test_a_frame_without_an_answer_is_an_error(bundle: Bundle, film: type[Film], monkeypatch: pytest.MonkeyPatch) -> None:
    nan_in_run(1, monkeypatch)
    status, out, err = predict(bundle.path, "--video", "x.mp4", "--every", "5")
    assert (status, len(out.splitlines())) == (1, 1)
    assert err.splitlines() == [
        "slimnet: frame 5: x.mp4 cannot be classified: the network gives NaN or infinity for it.",
        "slimnet: error: 1 of 2 frames of x.mp4 could not be classified.",
    ]


def test_a_face_without_an_answer_is_an_error(
    bundle: Bundle, here: Path, detector: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    TWO.save("two.png")
    nan_in_run(0, monkeypatch, rows=1)
    status, out, err = predict(bundle.path, "two.png", "--detect", "--json")
    assert (status, json.loads(out)["predictions"]) == (1, [])
    assert err == "slimnet: error: two.png cannot be classified: the network gives NaN or infinity for it.\n"


def test_frames_come_as_they_are_read(bundle: Bundle, film: type[Film]) -> None:
    from slimnet.predict import predict_video

    frames = predict_video(Predictor(bundle.path), 0)
    first = next(frames)
    assert (first.frame, first.result.image, film.closed) == (0, "camera 0", 0)
    assert first.seconds is not None
    frames.close()
    assert film.closed == 1


def stopping(error: BaseException) -> Callable[..., Any]:
    right = Predictor.stream
    count = 0

    def stream(*arguments: Any, **options: Any) -> Any:
        nonlocal count
        count += 1
        if count > 3:
            raise error
        return right(*arguments, **options)

    return stream


def test_ctrl_c_keeps_what_was_annotated(bundle: Bundle, film: type[Film], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Predictor, "stream", stopping(KeyboardInterrupt()))
    status, out, err = predict(bundle.path, "--video", "0", "--annotate", "out.avi")
    assert (status, err.strip(), out.count("\n")) == (130, "slimnet: interrupted", 3)
    assert Path("out.avi").read_text() == "3 20.0 MJPG"
    assert film.closed == 1


def test_what_fails_leaves_no_video(bundle: Bundle, film: type[Film], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Predictor, "stream", stopping(OSError(28, "No space left on device")))
    status, _, err = predict(bundle.path, "--video", "x.mp4", "--annotate", "out.mp4")
    assert (status, err) == (1, "slimnet: error: OSError: [Errno 28] No space left on device\n")
    assert [path.name for path in Path().iterdir()] == ["x.mp4"]


BAD_VIDEO: list[tuple[str, dict[str, Any], str]] = [
    ("--video no.mp4", {}, "no.mp4 does not exist: give a video file, or the number of a camera."),
    ("--video x.mp4", {"is_open": False}, "x.mp4 cannot be opened as a video."),
    ("--video 3", {"is_open": False}, "camera 3 cannot be opened as a video."),
    ("--video x.mp4", {"announced": 100}, "x.mp4 ends after 10 of 100 frames: it may be cut short."),
    ("--video x.mp4", {"frames": 0, "announced": None}, "x.mp4 ends after 0 frames: it may be cut short."),
    ("--video x.mp4 --annotate out.gif", {}, "out.gif must end in .mp4, .m4v, .mov, .mkv, .avi to be written as a video."),
    ("--video x.mp4 --annotate x.mp4", {}, "x.mp4 exists already: choose another output, or overwrite it with --force."),
]


@pytest.mark.parametrize(("arguments", "changes", "message"), BAD_VIDEO)
def test_bad_video(arguments: str, changes: dict[str, Any], message: str, bundle: Bundle, film: type[Film]) -> None:
    for name, value in changes.items():
        setattr(film, name, value)
    status, _, err = predict(bundle.path, *arguments.split())
    assert (status, err) == (1, f"slimnet: error: {message}\n")
    assert [path.name for path in Path().iterdir()] == ["x.mp4"]


# --- with OpenCV ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def faces_of_people(data_dir: Path) -> list[Image.Image]:
    from slimnet.data import load_data

    images = load_data("fer2013", data_dir=data_dir).test.images[:40, 0].numpy()
    return [Image.fromarray(image).resize((160, 160), Image.Resampling.BICUBIC) for image in images]


@needs_cv2
def test_real_faces_are_found(faces_of_people: list[Image.Image]) -> None:
    """Half of them at least: FER2013 is full of faces that look aside, and the detector is for frontal ones."""
    finder, right, wrong = FaceFinder(), 0, 0
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

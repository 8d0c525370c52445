"""Video, frame by frame, with a reader and a detector of the test's own."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from command import predict
from crowds import TWO, crowd
from slimnet.errors import ArgumentError
from slimnet.export import Bundle
from slimnet.predict import Box, Candidate, Prediction, Predictor, predict_video
from slimnet.predict import _cv as cv_module
from slimnet.predict.follow import Smoother, overlap
from slimnet.predict.network import Network


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
    ("--video ²", {}, "² does not exist: give a video file, or the number of a camera."),
    (f"--video {'9' * 20}", {}, f"{'9' * 20} does not exist: give a video file, or the number of a camera."),
    ("--video 2147483648", {}, "the number of a camera must be from 0 to 2,147,483,647, got 2,147,483,648."),
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


def linked(path: Path) -> None:
    path.symlink_to("x.mp4")


def hard(path: Path) -> None:
    path.hardlink_to("x.mp4")


@pytest.mark.parametrize(("out", "make"), [("x.mp4", None), ("../HERE/x.mp4", None), ("y.mp4", linked), ("y.mp4", hard)])
def test_a_video_is_not_written_over_itself(
    out: str, make: Callable[[Path], None] | None, bundle: Bundle, film: type[Film]
) -> None:
    out = out.replace("HERE", Path.cwd().name)
    Path("x.mp4").write_text("a film")
    if make is not None:
        make(Path(out))
    status, _, err = predict(bundle.path, "--video", "x.mp4", "--annotate", out, "--force")
    assert (status, err) == (1, f"slimnet: error: {out} is the video to be read: choose another output.\n")
    assert Path("x.mp4").read_text() == "a film"
    with pytest.raises(ArgumentError, match="is the video to be read"):
        next(predict_video(Predictor(bundle.path), "x.mp4", annotate=Path(out)))


# --- the mean of the last frames --------------------------------------------------------------------------------------------


def said(shares: list[float], box: Box | None = None) -> Prediction:
    return Predictor.answered(_TWO_CLASSES, np.array(shares), box)


class _TwoClasses:
    """What `Predictor.answered` needs of one."""

    unsure_below = 0.6
    _network = SimpleNamespace(
        best=lambda shares: [tuple(Candidate("ab"[i], int(i), shares[0, i]) for i in np.argsort(-shares[0]))]
    )


_TWO_CLASSES: Any = _TwoClasses()


def means(smoother: Smoother, *predictions: Prediction) -> list[tuple[float, int]]:
    found = smoother.smoothed(predictions)
    return [(round(float(p.smoothed.probabilities[0]), 6), p.frames) for p in found if p.smoothed is not None]


def test_the_mean_is_of_the_last_frames() -> None:
    smoother = Smoother(3, lambda shares, box: said(list(shares), box))
    shares = [0.9, 0.6, 0.3, 0.0]
    found = [means(smoother, said([share, 1 - share]))[0] for share in shares]
    assert found == [(0.9, 1), (0.75, 2), (0.6, 3), (0.3, 3)]
    (last,) = smoother.smoothed([said([0.75, 0.25])])
    assert last.smoothed is not None
    assert (last.label, last.smoothed.label, last.unsure) == ("a", "b", False)
    assert last.told is last.smoothed and last.as_dict()["smoothed"]["frames"] == 3


def test_faces_are_followed_by_the_overlap_of_their_boxes() -> None:
    smoother = Smoother(4, lambda shares, box: said(list(shares), box))
    left, right = Box(0, 0, 40, 40), Box(100, 0, 40, 40)
    assert means(smoother, said([1, 0], left), said([0, 1], right)) == [(1, 1), (0, 1)]
    moved = [Box(box.x + 15, 5, 40, 40) for box in (right, left)]  # the detector names them in another order
    assert means(smoother, said([0, 1], moved[0]), said([0, 1], moved[1])) == [(0, 2), (0.5, 2)]
    assert means(smoother) == []  # nobody is found in a frame
    assert means(smoother, said([1, 0], moved[1]), said([1, 0], Box(200, 100, 40, 40))) == [(round(2 / 3, 6), 3), (1, 1)]
    for _ in range(4):
        assert means(smoother) == []
    assert means(smoother, said([1, 0], moved[1])) == [(1, 1)], "it was gone for longer than the mean goes back"


def test_overlap() -> None:
    assert overlap(Box(0, 0, 10, 10), Box(0, 0, 10, 10)) == overlap(None, None) == 1
    assert overlap(Box(0, 0, 10, 10), Box(10, 0, 10, 10)) == overlap(None, Box(0, 0, 1, 1)) == 0
    assert overlap(Box(0, 0, 10, 10), Box(5, 5, 10, 10)) == pytest.approx(25 / 175)


def test_json_says_both(bundle: Bundle, film: type[Film]) -> None:
    done = predict(bundle.path, "--video", "x.mp4", "--detect", "--smooth", "4", "--json", "--annotate", "out.mp4")
    faces = [line["predictions"][0] for line in done.lines]
    assert [face["smoothed"]["frames"] for face in faces] == [1, 2, 3, 4, 4, 4, 4, 4, 4, 4]
    assert list(faces[0]["smoothed"]) == ["label", "index", "probability", "unsure", "top", "frames"]
    for at, face in enumerate(faces):
        own = [earlier["probability"] for earlier in faces[max(0, at - 3) : at + 1]]
        assert face["smoothed"]["probability"] == pytest.approx(sum(own) / len(own), abs=2e-6)
    assert "smoothed" not in predict(bundle.path, "--video", "x.mp4", "--detect", "--json").lines[0]["predictions"][0]
    assert predict(bundle.path, "--video", "x.mp4", "--detect", "--smooth", "4", "--top", "1").out.startswith("frame 0  top ")


def test_smoothing_is_of_videos(bundle: Bundle, here: Path) -> None:
    assert predict(bundle.path, "x.png", "--smooth", "3")[0] == 2
    with pytest.raises(ArgumentError, match="`smooth` must be at least 1, got 0"):
        Smoother(0, lambda shares, box: said(list(shares), box))

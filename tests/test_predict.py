"""Pictures in, classes out: what is read and how, in which order, and what odd or broken pictures get."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import struct
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnxruntime
import pytest
from PIL import Image

from command import Done, predict
from halves import LABELS, SIDE
from slimnet import terminal
from slimnet.bundle.seal import sealed
from slimnet.errors import ArgumentError, FileFormatError
from slimnet.export import Bundle, read_bundle
from slimnet.measure.classifier import Classifier
from slimnet.predict import Predictor, Source, ahead, choose, find_sources
from slimnet.predict import sources as sources_module
from slimnet.predict.ahead import map_ahead
from slimnet.preprocess import prepare

KEYS = ["image", "width", "height", "predictions", "notes", "error"]


def bright(half: str, size: tuple[int, int] = (40, 40)) -> Image.Image:
    """A grey picture (width, height), white in one half and black in the other."""
    width, height = size
    pixels = np.zeros((height, width), np.uint8)
    where = {
        "top": np.s_[: height // 2],
        "bottom": np.s_[height // 2 :],
        "left": np.s_[:, : width // 2],
        "right": np.s_[:, width // 2 :],
    }
    pixels[where[half]] = 255
    return Image.fromarray(pixels)


def noise(count: int) -> list[Image.Image]:
    rng = np.random.default_rng(0)
    return [Image.fromarray(rng.integers(0, 256, (SIDE, SIDE), np.uint8)) for _ in range(count)]


# --- odd pictures that are read -------------------------------------------------------------------------------------------

TOP = bright("top")
COLOUR = TOP.convert("RGB")
BROKEN_EXIF = b"Exif\0\0II*\0\xff\xff\xff\xff" + b"\xff" * 40


def turned(path: Path, size: tuple[int, int] = (40, 40)) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise by a quarter: what lies at the left comes to the top
    bright("left", size).save(path, exif=exif)


def deep(path: Path) -> None:
    Image.fromarray(np.asarray(TOP).astype(np.uint16) * 257).save(path)


def deep_colour(path: Path) -> None:
    pixels = (np.asarray(COLOUR).astype(np.uint16) * 257).astype(">u2")
    rows = zlib.compress(b"".join(b"\0" + row.tobytes() for row in pixels))
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 40, 40, 16, 2, 0, 0, 0))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", rows) + chunk(b"IEND", b""))


def with_alpha(value: int) -> Image.Image:
    picture = COLOUR.convert("RGBA")
    picture.putalpha(value)
    return picture


def frames(path: Path) -> None:
    TOP.save(path, save_all=True, append_images=[bright("left"), bright("right")])


Save = Callable[[Path], object]
FIRST, SHALLOW, OPAQUE = "the first of several frames", "16 bits a value brought to 8", "transparency dropped"

ODD: dict[str, tuple[str, Save, tuple[str, ...]]] = {
    "grey": ("x.png", TOP.save, ()),
    "RGB": ("x.jpg", COLOUR.save, ()),
    "wrong ending": ("x.txt", lambda p: TOP.save(p, format="PNG"), ()),
    "no ending": ("x", lambda p: TOP.save(p, format="PNG"), ()),
    "one bit": ("x.png", lambda p: TOP.convert("1").save(p), ()),
    "palette": ("x.png", lambda p: COLOUR.quantize(4).save(p), ()),
    "palette with transparency": ("x.png", lambda p: COLOUR.quantize(4).save(p, transparency=0), (OPAQUE,)),
    "16-bit PNG": ("x.png", deep, (SHALLOW,)),
    "16-bit TIFF": ("x.tif", deep, (SHALLOW,)),
    "16-bit colour": ("x.png", deep_colour, (SHALLOW,)),
    "CMYK JPEG": ("x.jpg", lambda p: COLOUR.convert("CMYK").save(p), ("CMYK to RGB without a colour profile",)),
    "alpha": ("x.png", lambda p: with_alpha(100).save(p), (OPAQUE,)),
    "alpha, opaque": ("x.png", lambda p: with_alpha(255).save(p), ()),
    "grey and alpha": ("x.png", lambda p: with_alpha(0).convert("LA").save(p), (OPAQUE,)),
    "animated GIF": ("x.gif", frames, (FIRST,)),
    "animated PNG": ("x.png", frames, (FIRST,)),
    "animated WebP": ("x.webp", frames, (FIRST,)),
    "pages of a TIFF": ("x.tif", frames, (FIRST,)),
    "turned JPEG": ("x.jpg", turned, ()),
    "turned PNG": ("x.png", turned, ()),
    "turned TIFF": ("x.tif", turned, ()),
    "broken EXIF": ("x.jpg", lambda p: COLOUR.save(p, exif=BROKEN_EXIF), ()),
    "one pixel high": ("x.png", lambda p: bright("left", (4, 1)).save(p), ()),
    "30,000 pixels wide": ("x.png", lambda p: bright("top", (30_000, 40)).save(p), ()),
}


@pytest.mark.parametrize("case", ODD)
def test_odd_pictures_are_read(case: str, bundle: Bundle, here: Path) -> None:
    name, save, notes = ODD[case]
    save(here / name)
    done = predict(bundle.path, name, "--json")
    assert (done.status, done.err) == (0, "")
    (line,) = done.lines
    assert list(line) == KEYS
    assert (line["image"], line["notes"], line["error"]) == (name, list(notes), None)
    (prediction,) = line["predictions"]
    assert prediction["label"] == ("left" if case == "one pixel high" else "top")


@pytest.mark.parametrize("name", ["x.jpg", "x.png", "x.tif"])
def test_width_and_height_are_those_of_the_upright_picture(name: str, bundle: Bundle, here: Path) -> None:
    turned(here / name, (60, 40))
    (line,) = predict(bundle.path, name, "--json").lines
    assert (line["width"], line["height"]) == (40, 60)


# --- broken pictures ------------------------------------------------------------------------------------------------------


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, *more: bytes) -> Save:
    """A grey PNG that claims a size, whatever it holds."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    rows = chunk(b"IDAT", zlib.compress(bytes(1 << 19)))
    content = b"\x89PNG\r\n\x1a\n" + header + b"".join(more) + rows + chunk(b"IEND", b"")
    return lambda path: path.write_bytes(content)


def cut(save: Save) -> Save:
    def both(path: Path) -> None:
        save(path)
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])

    return both


def numbers(path: Path, kind: type) -> None:
    Image.fromarray(np.asarray(TOP).astype(kind)).save(path)


def detailed(path: Path) -> None:
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)).save(path)


BROKEN: dict[str, tuple[str, Save, str]] = {
    "text": ("x.png", lambda p: p.write_text("hello\n"), "x.png is no picture that can be read: known are PNG, JPEG, "),
    "empty": ("x.png", Path.touch, "x.png is empty."),
    "cut PNG": ("x.png", cut(detailed), "x.png is damaged or cut short ("),
    "cut JPEG": ("x.jpg", cut(detailed), "x.jpg is damaged or cut short ("),
    "cut GIF": ("x.gif", cut(detailed), "x.gif is damaged or cut short ("),
    "cut WebP": ("x.webp", cut(detailed), "x.webp is "),
    "30,000 × 30,000": ("x.png", png(30_000, 30_000), "x.png has 900,000,000 pixels: at most 89,478,485 are decoded"),
    "12,000 × 9,000": ("x.png", png(12_000, 9_000), "x.png has 108,000,000 pixels: at most 89,478,485 are decoded"),
    "400,000 × 1": ("x.png", png(400_000, 1), "x.png is 400,000×1 pixels: too narrow to be brought to 16×16"),
    "compressed text": (
        "x.png",
        png(4, 4, chunk(b"zTXt", b"k\0\0" + zlib.compress(bytes(1 << 24)))),
        "x.png is damaged or cut short (",
    ),
    "32 bits": ("x.tif", lambda p: numbers(p, np.int32), "x.tif has 32 bits a value (mode I), and nothing says which is white"),
    "floats": ("x.tif", lambda p: numbers(p, np.float32), "x.tif has 32 bits a value (mode F)"),
    "PostScript": ("x.eps", lambda p: p.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"), "x.eps is no picture"),
    "link to nothing": ("x.png", lambda p: p.symlink_to("gone.png"), "x.png is a link to gone.png, which does not exist."),
    "missing": ("x.png", lambda p: None, "x.png does not exist."),
    "folder without images": ("x", Path.mkdir, "x holds no image: known are .avif, .bmp, "),
    "LAB": (
        "x.tif",
        lambda p: Image.new("LAB", (8, 8)).save(p),
        "x.tif has colours (mode LAB) that cannot be brought to RGB here",
    ),
    "pipe": ("x.png", os.mkfifo, "x.png is empty."),
    "device": ("/dev/null", lambda p: None, "/dev/null is empty."),
}


@pytest.mark.parametrize("case", BROKEN)
def test_broken_pictures_get_one_line_and_do_not_stop_the_rest(case: str, bundle: Bundle, here: Path) -> None:
    name, make, message = BROKEN[case]
    make(here / name)
    TOP.save("good.png")
    alone = predict(bundle.path, name)
    assert (alone.status, alone.out, alone.err.count("\n")) == (1, "", 1)
    assert alone.err.startswith(f"slimnet: error: {message}")
    both = predict(bundle.path, name, "good.png", "--json")
    assert both.status == 1
    assert [line["image"] for line in both.lines] == [name, "good.png"]
    assert list(both.lines[0]) == KEYS
    assert (both.lines[0]["predictions"], both.lines[0]["width"]) == ([], None)
    assert both.lines[0]["error"].startswith(message)
    assert both.lines[1]["predictions"][0]["label"] == "top"
    first, last = both.err.splitlines()
    assert first.startswith(f"slimnet: {message}")
    assert last == f"slimnet: error: 1 of 2 images could not be classified: {name}."


def test_one_bad_file_among_a_thousand(bundle: Bundle, here: Path) -> None:
    data = io.BytesIO()
    TOP.save(data, format="PNG")
    for number in range(1000):
        (here / f"{number:03}.png").write_bytes(b"no" if number == 700 else data.getvalue())
    done = predict(bundle.path, here, "--json")
    assert done.status == 1
    assert [line["image"] for line in done.lines] == [str(here / f"{number:03}.png") for number in range(1000)]
    assert [line["image"] for line in done.lines if line["error"]] == [str(here / "700.png")]
    assert sum(line["predictions"][0]["label"] == "top" for line in done.lines if not line["error"]) == 999
    assert done.err.splitlines()[-1] == f"slimnet: error: 1 of 1,000 images could not be classified: {here / '700.png'}."


def test_a_file_that_may_not_be_read(bundle: Bundle, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    TOP.save("x.png")

    def refused(*arguments: Any, **options: Any) -> Any:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Image, "open", refused)
    assert predict(bundle.path, "x.png").err == "slimnet: error: x.png cannot be read (Permission denied).\n"


# --- answers --------------------------------------------------------------------------------------------------------------


def by_hand(bundle: Bundle, pictures: list[Image.Image]) -> np.ndarray[Any, Any]:
    session = onnxruntime.InferenceSession(str(bundle.onnx), providers=["CPUExecutionProvider"])
    inputs = np.stack([prepare(picture, bundle.model["preprocessing"]) for picture in pictures])
    logits = session.run(None, {"input": inputs})[0].astype(np.float64)
    powers = np.exp(logits)
    return powers / powers.sum(1, keepdims=True)


@pytest.mark.parametrize(("batch", "workers"), [(1, 0), (1, 1), (7, 3), (32, 2), (200, 8)])
def test_the_answers_are_those_of_the_network_in_the_order_of_the_files(
    batch: int, workers: int, bundle: Bundle, here: Path
) -> None:
    pictures = noise(50)
    for number, picture in enumerate(pictures):
        picture.save(f"{number:02}.png")
    results = list(Predictor(bundle.path, top=4, threads=1).stream(find_sources([here]), batch=batch, workers=workers))
    assert [Path(result.image).stem for result in results] == [f"{number:02}" for number in range(50)]
    found = np.zeros((50, 4))
    for row, result in zip(found, results, strict=True):
        top = result.predictions[0].top
        assert [candidate.probability for candidate in top] == sorted((c.probability for c in top), reverse=True)
        assert all(candidate.label == LABELS[candidate.index] for candidate in top)
        row[[candidate.index for candidate in top]] = [candidate.probability for candidate in top]
    np.testing.assert_allclose(found, by_hand(bundle, pictures), rtol=1e-5)


def test_predictor_takes_files_pictures_and_arrays(bundle: Bundle, here: Path) -> None:
    TOP.save("x.png")
    colour = np.asarray(bright("left").convert("RGB"))
    predictions = Predictor(bundle.path).predict(["x.png", here / "x.png", bright("bottom"), colour, np.asarray(bright("right"))])
    assert [prediction.label for prediction in predictions] == ["top", "top", "bottom", "left", "right"]
    assert predictions[0].probability == predictions[1].probability > 0.9
    assert predictions[0].index == 0


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda b: Predictor(b).predict([np.zeros((4, 4))]), r"must be a file, .* got float64 \(4, 4\)"),
        (lambda b: Predictor(b).predict([np.zeros((4, 4, 4), np.uint8)]), r"got uint8 \(4, 4, 4\)"),
        (lambda b: Predictor(b).predict([3]), "got int"),
        (lambda b: Predictor(b).predict(["no.png"]), "no.png does not exist"),
        (lambda b: Predictor(b, top=0), "`top` must be at least 1, got 0"),
        (lambda b: Predictor(b, threads=0), "`threads` must be at least 1, got 0"),
        (lambda b: Predictor(b, precision="int4"), "unknown precision 'int4'; known: auto, fp32, int8, fp16"),
        (lambda b: Predictor(b, precision="int8"), "halves holds no int8 network: it has fp32"),
        (lambda b: list(Predictor(b).stream([], batch=0)), "`batch` must be at least 1"),
    ],
)
def test_predictor_refuses(call: Callable[[Path], Any], message: str, bundle: Bundle, here: Path) -> None:
    with pytest.raises((ArgumentError, FileFormatError), match=message):
        call(bundle.path)


@pytest.mark.parametrize(("speedup", "wanted"), [(2.0, "int8"), (1.04, "fp32"), (0.5, "fp32")])
def test_auto_takes_the_fastest_here(
    speedup: float, wanted: str, bundle: Bundle, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    timed: list[dict[str, Any]] = []

    def compared(files: Any, **settings: Any) -> Any:
        timed.append(settings)
        return SimpleNamespace(
            variants=(SimpleNamespace(name="fp32", speedup=1.0), SimpleNamespace(name="int8", speedup=speedup))
        )

    monkeypatch.setattr(choose, "compare_latency", compared)
    assert Predictor(bundle.path, precision="auto").precision == "fp32"
    assert timed == []
    monkeypatch.setattr(Bundle, "precision_files", {"fp32": bundle.onnx, "int8": bundle.dense_onnx})
    TOP.save("x.png")
    done = predict(bundle.path, "x.png", "--precision", "auto", "--threads", "3")
    assert (done.status, done.err) == (0, f"precision: {wanted}\n")
    assert [(settings["threads"], settings["baseline"]) for settings in timed] == [(3, "fp32")]


def test_a_line_of_text_an_image(bundle: Bundle, here: Path) -> None:
    TOP.save("a.png")
    with_alpha(3).save("b.png")
    done = predict(bundle.path, "a.png", "b.png", "--top", "1")
    assert re.fullmatch(r"a\.png  top \d\d\.\d\d %\nb\.png  top \d\d\.\d\d %  \(transparency dropped\)\n", done.out)
    assert len(predict(bundle.path, "a.png", "--top", "9", "--json").lines[0]["predictions"][0]["top"]) == len(LABELS)


# --- what is given --------------------------------------------------------------------------------------------------------


def test_folders_are_searched_in_order_and_hidden_files_left_alone(here: Path) -> None:
    for name in ("b/2.png", "b/10.PNG", "a.jpg", "c/d/e.webp", "b/.hidden.png", ".git/x.png", "notes.txt", "b/x.png/y.png"):
        (here / name).parent.mkdir(parents=True, exist_ok=True)
        (here / name).touch()
    (here / "link.png").symlink_to("nowhere")
    assert [source.name for source in find_sources(["."])] == [
        "a.jpg",
        "link.png",
        "b/10.PNG",
        "b/2.png",
        "b/x.png/y.png",
        "c/d/e.webp",
    ]


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


def test_too_much_on_standard_input(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("slimnet.predict.decode.MAX_BYTES", 10)
    (source,) = find_sources(["-"], stdin=io.BytesIO(bytes(1000)))
    (result,) = Predictor(bundle.path).stream([source])
    assert result.error == "standard input holds more than 0 MiB: that is no single picture."
    assert sources_module.MAX_BYTES == 1 << 28


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


# --- ahead ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [0, 1, 4])
def test_map_ahead_keeps_the_order_and_the_errors(workers: int) -> None:
    def work(item: int) -> int:
        time.sleep(0.001 * (item % 3))
        if item == 30:
            raise ValueError("thirty")
        return -item

    results = map_ahead(work, range(100), workers=workers, chunk=3, ahead=12)
    found = []
    with pytest.raises(ValueError, match="thirty"):
        found.extend(results)
        for value in results:
            found.append(value)
    assert found == [-item for item in range(len(found))]
    assert len(found) in (0, 30)


def test_map_ahead_goes_no_further_than_it_may() -> None:
    taken: list[int] = []

    def items() -> Any:
        for item in range(1000):
            taken.append(item)
            yield item

    results = map_ahead(lambda item: item, items(), workers=2, chunk=5, ahead=20)
    for given in range(100):
        assert next(results) == given
        assert len(taken) - given <= 25
    before = len(taken)
    results.close()  # type: ignore[attr-defined]
    assert len(taken) == before > 100


@pytest.mark.parametrize(("seconds", "sizes"), [(0.02, [4] * 5 + [1] * 32), (1e-6, [4] * 5 + [16] * 2)])
def test_slow_work_is_handed_out_in_small_parts(seconds: float, sizes: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[int] = []
    worked = ahead._worked

    def counted(work: Any, items: Any) -> Any:
        taken.append(len(items))
        return replace(worked(work, items), seconds=seconds * len(items))

    monkeypatch.setattr(ahead, "_worked", counted)
    assert list(map_ahead(lambda item: -item, range(52), workers=4, chunk=16, ahead=16)) == [-item for item in range(52)]
    assert sorted(taken) == sorted(sizes)


def test_a_stream_that_is_left_stops_its_threads(bundle: Bundle) -> None:
    before = threading.active_count()
    stream = Predictor(bundle.path).stream(
        [Source(str(n), image=picture) for n, picture in enumerate(noise(200))], batch=4, workers=3
    )
    next(stream)
    stream.close()
    assert threading.active_count() == before


def test_bundle_is_read_as_it_was_written(bundle: Bundle) -> None:
    assert read_bundle(bundle.path).precision_files == {"fp32": bundle.onnx}

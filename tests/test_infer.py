"""infer.py, which needs nothing of slimnet, and its bad input."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from PIL import Image

from export_cases import LABELS, PREPROCESSING, run_onnx
from slimnet.preprocess import prepare

ALONE = """
import runpy, sys
sys.argv = sys.argv[1:]
try:
    runpy.run_path(sys.argv[0], run_name="__main__")
finally:
    tops = {name.partition(".")[0] for name in sys.modules}
    print(sorted(tops & {"slimnet", "torch", "onnx", "torchvision"}), file=sys.stderr)
"""


def infer(bundle: Path, *paths: Path, cwd: Path) -> subprocess.CompletedProcess:
    command = [sys.executable, "-c", ALONE, str(bundle / "infer.py"), *map(str, paths)]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=cwd)


def pictures(folder: Path) -> list[Path]:
    rng, exif = np.random.default_rng(0), Image.Exif()
    exif[0x0112] = 6
    noise = Image.fromarray(rng.integers(0, 256, (21, 37, 3), np.uint8))
    clear = noise.quantize(16)
    clear.save(folder / "palette.png", transparency=3)
    noise.save(folder / "turned.jpg", exif=exif)
    noise.convert("RGBA").save(folder / "alpha.png")
    noise.convert("L").resize((8, 8)).save(folder / "grey.png")
    return sorted(folder.iterdir())


def test_infer_gives_what_slimnet_gives_with_nothing_of_slimnet(plain, tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    paths = pictures(folder)
    done = infer(plain.path, *paths, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "[]\n")
    lines = [line.split("\t") for line in done.stdout.splitlines()]
    assert [line[0] for line in lines] == [str(path) for path in paths]
    for path, (_, *told) in zip(paths, lines, strict=True):
        with Image.open(path) as image:
            logits = run_onnx(plain.onnx, torch.from_numpy(prepare(image, PREPROCESSING))[None])
        share = torch.from_numpy(logits)[0].softmax(0)
        values, places = share.sort(descending=True)
        assert [entry.split()[0] for entry in told] == [LABELS[i] for i in places[:3]]
        assert [float(entry.split()[1]) for entry in told] == pytest.approx(values[:3].tolist(), abs=6e-5)


def test_infer_names_a_bad_picture_and_goes_on(plain, tmp_path):
    (tmp_path / "a.png").write_text("no picture")
    Image.new("F", (9, 9)).save(tmp_path / "b.png", format="TIFF")
    Image.new("RGB", (9, 9)).save(tmp_path / "c.png")
    done = infer(plain.path, *sorted(tmp_path.glob("*.png")), tmp_path / "none.png", cwd=tmp_path)
    assert done.returncode == 1
    assert len(done.stdout.splitlines()) == 1 and done.stdout.startswith(str(tmp_path / "c.png"))
    bad = done.stderr.splitlines()[:-1]
    assert [line.split()[1] for line in bad] == [str(tmp_path / name) for name in ("a.png", "b.png", "none.png")]
    assert all("cannot be read as an image" in line for line in bad)


@pytest.mark.parametrize("message", ["cannot be opened: ", "does not run: "])
def test_infer_says_in_one_line_that_the_network_fails(plain, tmp_path, message):
    folder = shutil.copytree(plain.path, tmp_path / "b")
    if "opened" in message:
        (folder / "model.onnx").write_bytes(b"no network")
    else:
        proto = onnx.load(folder / "model.onnx")
        proto.graph.input[0].type.tensor_type.elem_type = onnx.TensorProto.DOUBLE
        proto.graph.node.insert(0, onnx.helper.make_node("Cast", ["other"], ["input"], to=onnx.TensorProto.FLOAT))
        proto.graph.input[0].name = "other"
        onnx.save(proto, folder / "model.onnx")
    Image.new("RGB", (9, 9)).save(tmp_path / "c.png")
    done = infer(folder, tmp_path / "c.png", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.splitlines()[:-1] == [line for line in done.stderr.splitlines() if message in line]
    assert done.stderr.startswith(f"infer.py: {folder / 'model.onnx'} {message}")


def test_infer_gives_no_answer_of_nan(plain, tmp_path):
    folder = shutil.copytree(plain.path, tmp_path / "b")
    proto = onnx.load(folder / "model.onnx")
    proto.graph.node[-1].output[0] = "own"
    proto.graph.node.append(onnx.helper.make_node("Sqrt", ["own"], [proto.graph.output[0].name]))  # NaN of what is negative
    onnx.save(proto, folder / "model.onnx")
    Image.new("RGB", (9, 9)).save(tmp_path / "c.png")
    done = infer(folder, tmp_path / "c.png", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.splitlines()[0] == (
        f"infer.py: {tmp_path / 'c.png'} cannot be classified: the network gives NaN or infinity for it"
    )


def test_infer_shows_what_a_terminal_would_obey(plain, tmp_path):
    folder = shutil.copytree(plain.path, tmp_path / "b")
    model = json.loads((folder / "model.json").read_text())
    model["labels"] = [f"{label}\x1b[31m\x9b\nforged\u202e é 日本" for label in model["labels"]]
    (folder / "model.json").write_text(json.dumps(model))
    names = [os.fsdecode(name) for name in (b"new\nline.png", b"red\x1b[31m.png", b"\xff.png", b"bad\x1b.png")]
    for name in names[:-1]:
        Image.new("RGB", (9, 9)).save(tmp_path / name)
    done = infer(folder, *names, cwd=tmp_path)
    assert done.returncode == 1
    assert [line.split("\t")[0] for line in done.stdout.splitlines()] == ["new\\nline.png", "red\\x1b[31m.png", "\\udcff.png"]
    assert done.stdout.count("\\x1b[31m\\x9b\\nforged\\u202e é 日本 0.") == 9
    assert "bad\\x1b.png cannot be read as an image" in done.stderr
    assert not any(character in done.stdout + done.stderr for character in "\x1b\x9b\u202e")


@pytest.mark.slow
def test_infer_in_an_environment_of_its_own(plain, tmp_path):
    """numpy, pillow and onnxruntime in a fresh virtual environment: needs the package registry."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    script = Path(__file__).parents[1] / "benchmarks" / "infer_alone.py"
    command = [sys.executable, str(script), str(plain.path), *map(str, pictures(folder))]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["same_labels"] and told["largest_difference"] <= 1e-4
    assert {"numpy", "pillow", "onnxruntime"} <= told["packages"].keys() and "torch" not in told["packages"]

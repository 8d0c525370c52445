"""slimnet calibrate: a bundle gets what export gives it, and nothing else of it changes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from cli.cases import Bad, Made, change_json, copied, cut, nothing, refused, wrong_usage
from command import slimnet_cli
from slimnet.bundle.seal import sealed
from slimnet.commands import verify_bundle
from slimnet.export import read_bundle
from slimnet.files import read_json
from slimnet.ready import ready_bundle


def without_confidence(folder: Path) -> None:
    """As an older slimnet has exported it."""
    model = read_json(folder / "model.json")
    for entry in model["precisions"].values():
        del entry["confidence"]
    (folder / "model.json").write_bytes(sealed(model))


def test_an_old_bundle_gets_what_export_gives(made: Made, here: Path) -> None:
    shutil.copytree(made.bundle, "b")
    without_confidence(Path("b"))
    assert read_bundle("b").temperature("fp32") == 1
    done = slimnet_cli("calibrate", "b")
    assert (done.status, done.out.splitlines()[-1]) == (0, "b")
    exported = read_bundle(made.bundle)
    assert done.out.splitlines()[2].split()[:2] == ["fp32", f"{exported.temperature('fp32'):g}"]
    for path in made.bundle.iterdir():
        assert (Path("b") / path.name).read_bytes() == path.read_bytes(), path.name
    assert [path.name for path in here.iterdir()] == ["b"]


def test_another_folder_and_a_threshold(made: Made, here: Path) -> None:
    before = {path.name: path.read_bytes() for path in made.bundle.iterdir()}
    done = slimnet_cli("calibrate", made.bundle, "--out", "b", "--unsure-below", "0.5", "--json")
    assert done.json["model"]["unsure_below"] == 0.5
    assert {path.name: path.read_bytes() for path in made.bundle.iterdir()} == before
    after = {path.name: path.read_bytes() for path in Path("b").iterdir()}
    assert {name for name in before if after[name] != before[name]} == {"model.json", "MODEL_CARD.md"}
    assert verify_bundle("b").faults == ()
    assert slimnet_cli("calibrate", made.bundle, "--out", "b").err.endswith("or overwrite it with --force.\n")
    assert slimnet_cli("calibrate", made.bundle, "--out", "b", "--force").status == 0
    assert "unsure_below" not in read_bundle("b").model


def test_infer_of_an_old_bundle_learns_of_the_temperature(made: Made, here: Path) -> None:
    shutil.copytree(made.bundle, "b")
    without_confidence(Path("b"))
    (Path("b") / "infer.py").write_text("print('old')")
    change_json(Path("b") / "model.json", lambda m: m["files"].pop("infer.py"))
    model = json.loads((Path("b") / "model.json").read_text())
    (Path("b") / "model.json").write_bytes(sealed(model))
    assert slimnet_cli("calibrate", "b", "--out", "c").status == 0
    assert not (Path("c") / "infer.py").exists(), "it was not listed"


def test_the_shipped_bundle(data_dir: Path, here: Path) -> None:
    """What it says of itself is what the real data gives; its networks and answers are as they were exported."""
    done = slimnet_cli("calibrate", "expressions", "--data-dir", data_dir / "fer2013", "--out", "b", "--json")
    shipped = read_bundle(ready_bundle("expressions"))
    ((name, entry),) = shipped.model["precisions"].items()
    found = done.json["model"]["precisions"][name]["confidence"]
    assert found["temperature"] == pytest.approx(entry["confidence"]["temperature"], rel=1e-3)
    for figure in ("nll", "ece"):
        assert found["measured"][figure] == pytest.approx(entry["confidence"]["measured"][figure], rel=0.02)
    assert entry["confidence"]["measured"]["ece"]["after"] < entry["confidence"]["measured"]["ece"]["before"]
    assert (Path("b") / entry["file"]).read_bytes() == shipped.onnx.read_bytes()


BAD: list[Bad] = [
    ("calibrate x", "x does not exist: give a bundle that `slimnet export` has written", nothing),
    ("calibrate {run}", "is not a bundle: it holds no model.json", nothing),
    ("calibrate x", "x/model.onnx is not the file that was exported", copied("bundle", lambda f: cut(f / "model.onnx"))),
    ("calibrate expressions", "is part of slimnet: name another folder with --out", nothing),
    ("calibrate {bundle} --data no --out y", "Unknown data set 'no'. Known: digits,", nothing),
    ("calibrate {bundle} --data-dir no --out y", "no does not exist: --data-dir must be where the data set lies", nothing),
    (
        "calibrate expressions --data digits --out y",
        r"digits has images of \(1, 8, 8\) \(C, H, W\), .* takes \(1, 48, 48\)",
        nothing,
    ),
    ("calibrate expressions --out y", "fer2013 needs a data folder", nothing),
]


test_bad_input_gets_one_line_and_nothing_is_written = refused(BAD)
test_wrong_usage_exits_2 = wrong_usage([("calibrate b --unsure-below 2", "2.0 is not in the range 0<=x<=1")])

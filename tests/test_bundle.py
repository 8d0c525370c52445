"""The bundle: what it holds, the same every time, its schema; written whole or not at all, and read back."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys

import numpy as np
import onnx
import pytest
import torch
from jsonschema import Draft202012Validator

from export_cases import LABELS, PREPROCESSING, SHAPE, Branching, bundle_arguments, full_arguments, net, perturbed, real, run_onnx
from slimnet.bundle.card import model_card
from slimnet.bundle.manifest import ALL_FILES, DESCRIBED, FORMAT_FILES, OPTIONAL, REQUIRED
from slimnet.bundle.schema import schema_faults
from slimnet.commands.provenance import recipe_of
from slimnet.errors import ArgumentError, FileFormatError, SlimnetError
from slimnet.export import PrecisionFile, bundle_schema, read_bundle, write_bundle
from slimnet.measure import count
from slimnet.preprocess import describe
from slimnet.recipes import load_recipe, recipe_names
from slimnet.training import TrainConfig

ALWAYS = {*REQUIRED, "model.json", "MODEL_CARD.md", "infer.py"}


# --- what a bundle holds --------------------------------------------------------------------------------------------------


def test_bundle_holds_what_it_promises(plain):
    assert {entry.name for entry in plain.path.iterdir()} == ALWAYS
    assert [entry.name for entry in plain.path.parent.iterdir()] == ["net"]
    model = json.loads((plain.path / "model.json").read_text(encoding="utf-8"))
    assert model == plain.model
    assert model["labels"] == LABELS
    assert model["inputs"] == [{"name": "input", "dtype": "float32", "shape": ["batch", *SHAPE]}]
    assert model["outputs"] == [{"name": "logits", "dtype": "float32", "shape": ["batch", 5]}]
    assert model["preprocessing"] == PREPROCESSING
    assert model["opset"] == 20
    assert model["parity"]["passed"] and len(model["parity"]["worst"]) == 3
    assert {"python", "torch", "onnx", "onnxruntime"} <= set(model["provenance"]["versions"])
    assert model["files"].keys() == ALWAYS - {"model.json"}
    for name, entry in model["files"].items():
        data = (plain.path / name).read_bytes()
        assert entry == {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    assert all(entry.stat().st_mode & 0o444 == 0o444 for entry in plain.path.iterdir())


def test_precisions(plain, full):
    fp32 = {
        "file": "model.onnx",
        "bytes": plain.onnx.stat().st_size,
        "accuracy": {"split": "test", "count": 12, "value": 0.5},
        "agreement": 1.0,
    }
    assert plain.model["precisions"] == {"fp32": fp32}
    assert plain.precision_files == {"fp32": plain.onnx}
    assert list(full.precision_files) == ["fp32", "int8", "fp16"]
    int8 = full.model["precisions"]["int8"]
    assert (int8["file"], int8["method"], int8["agreement"]) == ("model.int8.onnx", "minmax", None)
    assert int8["bytes"] == full.precision_files["int8"].stat().st_size
    assert {entry.name for entry in full.path.iterdir()} == set(ALL_FILES) == {*ALWAYS, *OPTIONAL}


def test_bundle_reports_dense_and_realised_cost(plain):
    assert plain.cost_slim == count(net(), real(1))
    assert plain.cost_dense == count(net(1, width=16), real(1))
    assert plain.model["cost"]["realised"]["flops"] == plain.cost_slim.flops
    assert plain.model["cost"]["flops_ratio"] == pytest.approx(2.0)
    assert plain.report["note"] == "é"
    assert plain.report["accuracy"]["slim"] == 0.5


def test_bundle_onnx_and_tensors_are_the_networks(plain):
    from slimnet.files import read_tensors

    x, slim = real(3), net()
    slim_again = net(5)
    slim_again.load_state_dict(read_tensors(plain.path / "slim.safetensors"))
    for path, model in ((plain.onnx, slim), (plain.dense_onnx, net(1, width=16)), (plain.onnx, slim_again)):
        with torch.no_grad():
            np.testing.assert_allclose(run_onnx(path, x), model.eval()(x).numpy(), atol=1e-5)


def test_every_onnx_file_says_what_it_takes_to_use_it(full):
    files = sorted(full.path.glob("*.onnx"))
    assert len(files) == 5
    for path in files:
        found = {entry.key: entry.value for entry in onnx.load(path).metadata_props}
        assert (found["slimnet.format"], found["slimnet.schema"]) == ("slimnet-bundle", "2")
        assert json.loads(found["slimnet.labels"]) == LABELS
        assert json.loads(found["slimnet.preprocessing"]) == PREPROCESSING
        assert found["slimnet.version"] == full.model["provenance"]["versions"]["slimnet"]


def test_two_exports_give_the_same_bytes(full, tmp_path):
    again = write_bundle(tmp_path / "again", **full_arguments(tmp_path))
    assert {entry.name for entry in again.path.iterdir()} == {entry.name for entry in full.path.iterdir()}
    for entry in full.path.iterdir():
        assert (again.path / entry.name).read_bytes() == entry.read_bytes(), entry.name


def test_card_says_what_the_report_says(full, plain):
    card = (full.path / "MODEL_CARD.md").read_text(encoding="utf-8")
    assert "| a | 2 | 100.00 % | 0.5000 |" in card
    assert "| c | 0 | no picture | – |" in card
    assert "| accuracy, test split (12 pictures) | 75.00 % | 50.00 % |" in card
    assert "| macro-F1 | 0.3917 | 0.3917 |" in card
    assert f"| multiply-adds a picture | {full.cost_dense.flops:,} | {full.cost_slim.flops:,} |" in card
    assert "`toys`: 100 to train." in card and "Terms of the data: not known to slimnet" in card
    assert "50.00 % (val, 12 pictures)" in card and "not measured" in card
    assert "| recipe | r |" in card
    bare = (plain.path / "MODEL_CARD.md").read_text(encoding="utf-8")
    assert "## Trained on" not in bare and "## Accuracy of each class" not in bare


def test_names_are_no_markup_in_the_card(full):
    names = ["<img src=x onerror=alert(1)>", "a|b $x_1$ `c`", "esc\x1b[31mred\u202e", "nl\n# next", "a_b & c"]
    told = full.report | {"data": {"name": "x`<b>", "train": 5, "notes": [f"classes {', '.join(names)}"]}}
    card = model_card({**full.model, "labels": names}, told, {"model": "n`|<i>"})
    safe = ["&#60;img src=x onerror=alert(1)&#62;", "a&#124;b &#36;x_1&#36; &#96;c&#96;", "esc&#92;x1b&#91;31mred&#92;u202e"]
    safe += ["nl&#92;n&#35; next", "a_b &#38; c"]
    assert f"Tells 5 classes of pictures apart: {', '.join(safe)}.\n" in card
    assert f"Note: classes {', '.join(safe)}.\n" in card
    assert [line.split(" | ")[0] for line in card.split("| class |")[1].splitlines()[2:7]] == [f"| {name}" for name in safe]
    text = card.split("\n---\n", 1)[1]
    assert not any(mark in text for mark in ("<img", "<b>", "<i>", "\x1b", "\u202e", "`c`"))


@pytest.mark.parametrize(
    ("removed", "source", "title", "columns", "told"),
    [
        (3, "initial weights", "# n, slimmed", "dense | slim (this network)", "from which 3 closed channels were cut out."),
        (0, "initial weights", "# n", "before training | this network", "nothing was cut out of it."),
        (0, "run", "# n", "dense | this network", "nothing was cut out of it."),
    ],
)
def test_card_of_a_network_that_lost_nothing(plain, removed, source, title, columns, told):
    """What it began with is called so: it is no dense network that this one was cut out of."""
    surgery = {"removed": removed, "params_before": 10, "params_after": 10 - removed}
    report = plain.report | {"surgery": surgery, "dense_source": source, "method": {"name": "dense"}}
    card = model_card(plain.model, report, {"model": "n"})
    assert f"{title}\n" in card and f"| {columns} |" in card and told in card


@pytest.mark.parametrize("name", recipe_names())
def test_the_recipe_is_known_by_its_settings(name):
    recipe = load_recipe(name)
    settings = TrainConfig.from_dict({**recipe.train, "method": recipe.method}).as_dict()
    settings["precision"] = "bf16" if settings["precision"] == "auto" else settings["precision"]
    assert recipe_of(settings) == name
    assert recipe_of({**settings, "epochs": 7, "lr": 0.123}) is None


# --- the schema -----------------------------------------------------------------------------------------------------------


def test_schema_is_one_and_fits(plain, full):
    Draft202012Validator.check_schema(bundle_schema())
    assert schema_faults(plain.model) == []
    assert schema_faults(full.model) == []


def test_schema_takes_grey_and_no_measured_accuracy(plain):
    grey = describe(size=(48, 48), channels=1, mean=[0.5], std=[0.25])
    precisions = {"fp32": {**plain.model["precisions"]["fp32"], "accuracy": None}}
    assert schema_faults({**plain.model, "preprocessing": grey, "accuracy": {}, "precisions": precisions}) == []


def test_schema_lists_the_files_of_a_bundle():
    schema = bundle_schema()
    files, of_a_whole_one = schema["properties"]["files"], schema["else"]["properties"]["files"]
    assert set(files["required"]) == set(DESCRIBED)
    assert {*files["required"], *of_a_whole_one["required"]} == set(REQUIRED)
    assert set(files["propertyNames"]["enum"]) == {*REQUIRED, *OPTIONAL, *FORMAT_FILES}


BROKEN = {
    "$.labels": lambda m: m.update(labels=[1]),
    "$.preprocessing.std": lambda m: m["preprocessing"]["std"].__setitem__(0, 0),
    "$.preprocessing": lambda m: m["preprocessing"].update(color="grey"),
    "$.precisions.int8": lambda m: m["precisions"]["int8"].update(file="../x.onnx"),
    "$.parity.passed": lambda m: m["parity"].update(passed=False),
    "$": lambda m: m.update(extra=1),
    "$.files": lambda m: m["files"].update({"x.txt": m["files"]["infer.py"]}),
}


@pytest.mark.parametrize("place", BROKEN)
def test_schema_names_the_place(place, full):
    model = json.loads(json.dumps(full.model))
    BROKEN[place](model)
    assert any(fault.startswith(place) for fault in schema_faults(model))


# --- written whole or not at all ------------------------------------------------------------------------------------------


BAD_BUNDLES = {
    "gate": {"slim": perturbed(net(), 1e-3)},
    "labels": {"labels": LABELS[:-1]},
    "preprocessing": {"preprocessing": {"size": [8, 8]}},
    "another size": {"preprocessing": {**PREPROCESSING, "size": [8, 9]}},
    "no real input": {"real_inputs": []},
    "wrong real input": {"real_inputs": [torch.zeros(2, 1, 8, 8)]},
    "dense that cannot go": {"dense": Branching()},
    "unknown precision": {"precisions": {"int4": PrecisionFile(b"", {})}},
    "fp32 twice": {"precisions": {"fp32": PrecisionFile(b"", {})}},
    "precision that is no ONNX": {"precisions": {"int8": PrecisionFile(b"int8", {})}},
}


@pytest.mark.parametrize("name", BAD_BUNDLES)
def test_a_bundle_is_written_whole_or_not_at_all(name, tmp_path):
    with pytest.raises(SlimnetError):
        write_bundle(tmp_path / "new" / "net", **bundle_arguments(**BAD_BUNDLES[name]))
    assert list(tmp_path.iterdir()) == []


def test_an_existing_folder_is_kept_without_force(tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(ArgumentError, match="--force"):
        write_bundle(tmp_path, **bundle_arguments())
    assert (tmp_path / "mine.txt").read_text() == "mine"


# --- read back ------------------------------------------------------------------------------------------------------------


def test_bundle_reads_back(plain, full):
    assert read_bundle(plain.path) == plain
    assert read_bundle(full.path) == full


@pytest.mark.parametrize("name", sorted({*REQUIRED, *OPTIONAL}))
@pytest.mark.parametrize("damage", ["gone", "cut short"])
def test_a_damaged_bundle_names_the_file(name, damage, copied):
    victim = copied / name
    victim.unlink() if damage == "gone" else victim.write_bytes(victim.read_bytes()[:-1])
    with pytest.raises(FileFormatError, match=name):
        read_bundle(copied)


NOT_BUNDLES = {
    "no folder": None,
    "no model.json": {},
    "truncated": {"model.json": '{"format": "slim'},
    "not an object": {"model.json": "[]"},
    "something else": {"model.json": '{"format": "other", "schema": 2}'},
    "before preprocessing was exact": {"model.json": '{"format": "slimnet-bundle", "schema": 1}'},
    "from the future": {"model.json": '{"format": "slimnet-bundle", "schema": 99}'},
    "nothing in it": {"model.json": '{"format": "slimnet-bundle", "schema": 2}'},
}


@pytest.mark.parametrize("name", NOT_BUNDLES)
def test_what_is_no_bundle_is_refused(name, tmp_path):
    folder = tmp_path / "net"
    if NOT_BUNDLES[name] is not None:
        folder.mkdir()
        for file, text in NOT_BUNDLES[name].items():
            (folder / file).write_text(text)
    with pytest.raises(FileFormatError, match="net"):
        read_bundle(folder)


def test_reading_and_verifying_import_no_torch(full):
    code = (
        "import sys, slimnet.export as e; from slimnet.commands.verify import verify_bundle; "
        "e.read_bundle(sys.argv[1]); r = verify_bundle(sys.argv[1], parity=False); print(r.passed, 'torch' in sys.modules)"
    )
    command = [sys.executable, "-c", code, str(full.path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", "False"]

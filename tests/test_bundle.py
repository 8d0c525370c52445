"""The bundle: complete, the same every time, and no damage to it goes unnoticed."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from jsonschema import Draft202012Validator
from PIL import Image

from export_cases import LABELS, PREPROCESSING, SHAPE, Branching, bundle_arguments, net, perturbed, real, run_onnx
from slimnet.bundle.manifest import ALL_FILES, DESCRIBED, OPTIONAL, REQUIRED
from slimnet.bundle.schema import schema_faults
from slimnet.bundle.seal import is_sealed, sealed
from slimnet.commands import verify_bundle
from slimnet.commands.provenance import recipe_of
from slimnet.errors import ArgumentError, FileFormatError, SlimnetError
from slimnet.export import PrecisionFile, bundle_schema, export_onnx, read_bundle, write_bundle
from slimnet.export.embed import check_embedded
from slimnet.files import read_json
from slimnet.measure import count
from slimnet.onnx.embed import embed
from slimnet.preprocess import describe, prepare
from slimnet.recipes import load_recipe, recipe_names
from slimnet.training import TrainConfig
from slimnet_cli import _run

ALWAYS = {*REQUIRED, "model.json", "MODEL_CARD.md", "infer.py"}
EVALUATION = {
    "per_class": [1.0, 0.5, None, 0.0, 0.25],
    "confusion": [[2, 0, 0, 0, 0], [1, 1, 0, 0, 0], [0] * 5, [4, 0, 0, 0, 0], [3, 0, 0, 0, 1]],
    "f1": [0.5, 0.6667, None, 0.0, 0.4],
    "macro_f1": 0.3917,
}


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    return write_bundle(tmp_path_factory.mktemp("bundles") / "deep" / "net", **bundle_arguments())


def full_arguments(folder: Path):
    """Everything that a bundle can hold. The other precisions are the same network: what is in a file is their maker's affair."""
    export_onnx(net(), real(1), folder / "again.onnx")
    data = (folder / "again.onnx").read_bytes()
    accuracy = {"split": "val", "count": 12, "value": 0.5}
    report = {"data": {"name": "toys", "train": 100, "terms": None}, "evaluation": {"slim": EVALUATION, "dense": EVALUATION}}
    return bundle_arguments(
        precisions={"fp16": PrecisionFile(data, {}), "int8": PrecisionFile(data, {"accuracy": accuracy, "method": "minmax"})},
        embed_preprocessing=True,
        provenance={"recipe": "r", "seed": 3},
        extra_report=report,
    )


@pytest.fixture(scope="module")
def full(tmp_path_factory):
    folder = tmp_path_factory.mktemp("full")
    return write_bundle(folder / "net", **full_arguments(folder))


@pytest.fixture
def copied(full, tmp_path) -> Path:
    return Path(shutil.copytree(full.path, tmp_path / "net"))


def change(folder: Path, edit, *, seal: bool = True) -> None:
    """Edit ``model.json``, and seal it again as if it had been written so."""
    model = read_json(folder / "model.json")
    edit(model)
    (folder / "model.json").write_bytes(sealed(model) if seal else json.dumps(model).encode())


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
    assert set(files["propertyNames"]["enum"]) == {*REQUIRED, *OPTIONAL}


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


# --- pictures in, probabilities out ---------------------------------------------------------------------------------------


def test_embedded_takes_pictures(full):
    entry = full.model["embedded"]
    assert entry["inputs"] == [{"name": "image", "dtype": "uint8", "shape": ["batch", 8, 8, 3]}]
    assert entry["outputs"] == [{"name": "probabilities", "dtype": "float32", "shape": ["batch", 5]}]
    pictures = np.random.default_rng(0).integers(0, 256, (4, 8, 8, 3), np.uint8)
    session = onnxruntime.InferenceSession(full.path / entry["file"], providers=["CPUExecutionProvider"])
    got = session.run(None, {"image": pictures})[0]
    inputs = torch.from_numpy(np.stack([prepare(Image.fromarray(picture), PREPROCESSING) for picture in pictures]))
    wanted = torch.from_numpy(run_onnx(full.onnx, inputs)).softmax(1).numpy()
    np.testing.assert_allclose(got, wanted, atol=1e-6)
    assert entry["parity"]["relative"] <= 1e-5


def operators(data: bytes) -> list[str]:
    return [node.op_type for node in onnx.load_from_string(data).graph.node]


def exported(model: torch.nn.Module, example: torch.Tensor, tmp_path: Path) -> bytes:
    export_onnx(model, example, tmp_path / "x.onnx")
    return (tmp_path / "x.onnx").read_bytes()


NETWORKS = {
    "plain convolution": (torch.nn.Conv2d(3, 4, 3, padding=1), 3, False),
    "grey": (torch.nn.Conv2d(1, 4, 3, padding=1), 1, False),
    "depthwise convolution": (torch.nn.Conv2d(3, 3, 3, padding=1, groups=3), 3, True),
    "no convolution": (torch.nn.Hardtanh(), 3, True),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_scale_goes_into_the_first_convolution_where_there_is_one(name, tmp_path):
    torch.manual_seed(0)
    first, channels, multiplied = NETWORKS[name]
    model = torch.nn.Sequential(first, torch.nn.Flatten(), torch.nn.LazyLinear(5))
    rule = describe(size=(6, 9), channels=channels, mean=(0.4, 0.5, 0.6)[:channels], std=(0.2, 0.3, 0.4)[:channels])
    example = torch.randn(2, channels, 6, 9)
    model(example)
    data = exported(model, example, tmp_path)
    embedded = embed(data, rule)
    assert ("Mul" in operators(embedded)) == multiplied
    assert operators(embedded)[:3] == ["Cast", "Transpose", "Sub"]
    report = check_embedded(data, embedded, rule, example)
    assert report.passed and report.worst.relative < 1e-5


def test_embedding_the_wrong_preprocessing_does_not_pass(tmp_path):
    data = exported(net(), real(1), tmp_path)
    wrong = describe(size=(8, 8), channels=3, mean=[0.5] * 3, std=[0.3] * 3)
    assert not check_embedded(data, embed(data, wrong), PREPROCESSING, real()).passed


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


# --- verify ---------------------------------------------------------------------------------------------------------------


def test_a_good_bundle_passes_every_check(plain, full):
    for bundle in (plain, full):
        report = verify_bundle(bundle.path, trust_code=True)
        assert (report.faults, report.skipped) == ((), ())
        assert report.figures["parity"] <= 1e-5
    assert report.figures["correlation of int8"] == pytest.approx(1.0)


@pytest.mark.parametrize("name", ALL_FILES)
def test_one_flipped_byte_is_found_and_the_file_named(name, copied):
    data = bytearray((copied / name).read_bytes())
    data[len(data) // 2] ^= 1
    (copied / name).write_bytes(data)
    faults = verify_bundle(copied).faults
    assert faults and all(fault.startswith(f"{copied / name} ") for fault in faults)
    with pytest.raises(FileFormatError, match=name):
        read_bundle(copied)


def test_no_byte_of_model_json_can_be_changed(full):
    data = (full.path / "model.json").read_bytes()
    assert is_sealed(data, full.model)
    for place in range(len(data)):
        changed = bytes((*data[:place], data[place] ^ 4, *data[place + 1 :]))
        try:
            model = json.loads(changed)
        except ValueError:
            continue
        assert not is_sealed(changed, model), changed[place - 20 : place + 20]


FAULTS = {
    "a label is missing": (lambda m: m["labels"].pop(), "has 4 labels, but the network's output is"),
    "unknown schema": (lambda m: m.update(schema=3), "is slimnet-bundle 3, not slimnet-bundle 2: export the bundle again"),
    "other labels": (lambda m: m["labels"].reverse(), "says something else in its metadata than model.json: slimnet.labels"),
    "other opset": (lambda m: m.update(opset=19), r"model.onnx has opset 20, model.json says 19"),
    "other input": (lambda m: m["inputs"][0].update(name="x"), r"model.onnx has inputs \[.*'input'"),
    "other accuracy": (lambda m: m["accuracy"].update(slim=0.9), "claims another accuracy than report.json"),
    "other cost": (lambda m: m["cost"].update(flops_ratio=9.0), "claims another cost than report.json"),
    "other size": (lambda m: m["precisions"]["int8"].update(bytes=1), r"`precisions` of model.json says 1"),
    "broken schema": (lambda m: m.pop("cost"), r"model.json breaks its schema at \$: 'cost' is a required property"),
    "a file not listed": (lambda m: m["files"].pop("infer.py"), "infer.py is not listed in model.json"),
    "files that are no table": (lambda m: m.update(files=[1]), "does not list model.onnx"),
    "a network not listed": (lambda m: m["files"].pop("model.onnx"), "does not list model.onnx"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_verify_finds(name, copied):
    edit, message = FAULTS[name]
    change(copied, edit)
    with pytest.raises(AssertionError, match=message):
        raise AssertionError("\n".join(verify_bundle(copied, parity=False).faults))


def test_a_foreign_file_is_found(copied):
    (copied / "notes.txt").write_text("mine")
    assert verify_bundle(copied).faults == (
        f"{copied / 'notes.txt'} is not listed in model.json: it is no part of the bundle, take it out.",
    )


def test_all_faults_are_told_not_only_the_first(copied):
    (copied / "notes.txt").write_text("mine")
    (copied / "plan.json").unlink()
    change(copied, lambda m: m["labels"].pop(), seal=False)
    faults = "\n".join(verify_bundle(copied).faults)
    for message in ("notes.txt is not listed", "plan.json does not exist", "model.json is not the file that", "has 4 labels"):
        assert message in faults


def replaced(folder: Path, name: str, data: bytes) -> None:
    """Put another file in its place, with hashes and sizes as if it had been exported so."""
    (folder / name).write_bytes(data)

    def edit(model):
        model["files"][name] = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        for entry in (*model["precisions"].values(), model["embedded"]):
            entry["bytes"] = len(data) if entry["file"] == name else entry["bytes"]

    change(folder, edit)


def shifted(path: Path, by: float) -> bytes:
    """The same ONNX file with another bias."""
    proto = onnx.load(path)
    bias = next(w for w in proto.graph.initializer if w.name == "linear.bias")
    value = onnx.numpy_helper.to_array(bias) + np.linspace(0, by, 5, dtype=np.float32)
    bias.CopyFrom(onnx.numpy_helper.from_array(value, bias.name))
    return proto.SerializeToString(deterministic=True)


EXCHANGED = {
    "model.onnx": (1e-2, "model.onnx computes something else than slim.safetensors"),
    "model.int8.onnx": (-90.0, r"model.int8.onnx is unlike model.onnx: correlation -?0\.\d\d"),
    "model.uint8.onnx": (1e-2, "model.uint8.onnx computes something else than model.onnx"),
    "model.fp16.onnx": (float("nan"), "model.fp16.onnx does not give finite logits of 5 classes on random input"),
}


@pytest.mark.parametrize("name", EXCHANGED)
def test_parity_finds_a_network_that_computes_something_else(name, copied):
    by, message = EXCHANGED[name]
    replaced(copied, name, shifted(copied / name, by))
    assert verify_bundle(copied, parity=False).passed
    with pytest.raises(AssertionError, match=message):
        raise AssertionError("\n".join(verify_bundle(copied, trust_code=True).faults))


def test_verify_on_the_command_line(full, copied, capsys):
    assert _run(["verify", str(full.path), "--trust-code"]) == 0
    printed = capsys.readouterr()
    assert printed.err == "" and "not looked at" not in printed.out
    assert _run(["verify", str(full.path), "--no-parity", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["passed"], told["faults"], told["skipped"]) == (True, [], ["parity", "precisions"])
    (copied / "infer.py").write_text("")
    (copied / "plan.json").unlink()
    assert _run(["verify", str(copied)]) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert [line.startswith("slimnet: error: ") for line in printed.err.splitlines()] == [True, True]
    assert _run(["verify", str(copied.parent)]) == 1
    assert "is not a bundle: it holds no model.json" in capsys.readouterr().err


# --- infer.py -------------------------------------------------------------------------------------------------------------

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

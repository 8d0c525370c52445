"""The command line: what each command prints, writes and returns; and what bad input gets."""

from __future__ import annotations

import json
import pickle
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
import onnx
import pytest
import torch
from torch import nn

import slimnet.surgery
from command import Done, slimnet_cli
from slimnet.allocation import aligned
from slimnet_cli import cli

BUNDLE = {"model.onnx", "model.json", "slim.safetensors", "plan.json", "config.json", "dense.onnx", "report.json"}
BUNDLE |= {"MODEL_CARD.md", "infer.py"}
RUN = {"config.json", "metrics.jsonl", "selection.jsonl", "checkpoint.safetensors", "checkpoint.json", "model.safetensors"}
HEAVY = ("torch", "torchvision", "numpy", "onnx", "onnxruntime", "sklearn", "fvcore", "safetensors")
QUICK = ("--epochs", "2", "--finetune-epochs", "1", "--batch-size", "64", "--precision", "fp32", "--seed", "3", "--lr", "0.05")
BENCH = ("--rounds", "3", "--seconds", "0")


@dataclass(frozen=True)
class Made:
    """A run and its bundle, made once by the commands; not to be changed."""

    run: Path
    bundle: Path
    trained: Done
    exported: Done


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    folder = tmp_path_factory.mktemp("cli")
    run, bundle = folder / "run", folder / "bundle"
    trained = slimnet_cli("train", "--model", "resnet8", *QUICK, "--out", run)
    assert trained.status == 0, trained.err
    exported = slimnet_cli("export", run, "--out", bundle)
    assert exported.status == 0, exported.err
    return Made(run, bundle, trained, exported)


# --- what works -----------------------------------------------------------------------------------------------------------


def test_train_leaves_a_run_and_prints_one_table(made: Made) -> None:
    assert {path.name for path in made.run.iterdir()} == RUN
    head, rule, row = made.trained.out.splitlines()
    assert head.split("  ")[0] == "run"
    assert set(rule) == {"-", " "}
    assert row.startswith(str(made.run))
    assert re.search(r"of 2 +\d+\.\d\d % +\d+\.\d\d % +50\.00 %$", row)


def test_progress_goes_to_stderr_only(made: Made) -> None:
    assert "epoch 1/2" in made.trained.err.replace("\r", "\n")
    assert "epoch" not in made.trained.out.splitlines()[2]
    assert "cutting" in made.exported.err
    assert "cutting" not in made.exported.out


def test_train_prints_json(made: Made) -> None:
    printed = slimnet_cli("train", "--resume", "--out", made.run, "--json")  # finished: nothing is left to do
    assert printed.status == 0
    assert printed.json.keys() >= {"run", "best_epoch", "val_accuracy", "test_accuracy", "test_images"}
    assert printed.json["test_images"] == 359


def test_quiet_leaves_stderr_empty(here: Path) -> None:
    done = slimnet_cli("train", "--model", "test_cli:two_layers", "--method", "dense", "--epochs", "1", "--out", "o", "--quiet")
    assert (done.status, done.err) == (0, "")


def test_export_writes_exactly_the_bundle(made: Made) -> None:
    assert {path.name for path in made.bundle.iterdir()} == BUNDLE
    assert not [path for path in made.bundle.parent.iterdir() if path.name.startswith(".")]
    config = (made.bundle / "config.json").read_text()
    assert str(made.bundle.parent) not in config


def test_export_prints_parity_and_cost(made: Made) -> None:
    found = re.search(r"masked (\S+) relative in float64 \(at most 1e-9\)", made.exported.out)
    assert found
    assert 0 <= float(found[1]) <= 1e-9
    found = re.search(r"masked (\S+) relative in float32 \(at most 1e-5\)", made.exported.out)
    assert found
    assert 0 <= float(found[1]) <= 1e-5
    found = re.search(r"FLOPs saved: (\S+) % realised, (\S+) % in paper accounting", made.exported.out)
    assert found
    assert float(found[1]) > float(found[2]) > 50
    assert re.search(r"^FLOPs +\S+ k +\S+ k +[3-5]\.\d\d$", made.exported.out, re.MULTILINE)
    assert made.exported.out.splitlines()[-1] == str(made.bundle)
    assert "started from scratch" in made.exported.err


def test_export_force_replaces_a_bundle_and_prints_json(made: Made, here: Path) -> None:
    shutil.copytree(made.bundle, here / "b")
    (here / "b" / "plan.json").write_text("old")
    done = slimnet_cli("export", made.run, "--out", "b", "--force", "--json", "--dense", made.run / "model.safetensors")
    assert done.status == 0
    assert done.json.keys() == {"path", "model", "report"}
    assert done.json["report"].keys() >= {"parity", "cost", "accuracy", "surgery", "paper_accounting"}
    assert json.loads((here / "b" / "plan.json").read_text())["version"]
    assert [path.name for path in here.iterdir()] == ["b"]


def test_bench_compares_a_bundle(made: Made) -> None:
    table = slimnet_cli("bench", made.bundle, *BENCH)
    assert table.status == 0, table.err
    assert [line.split("  ")[0] for line in table.out.splitlines()[2:4]] == ["dense", "slim"]
    assert "A/A control" in table.out
    assert "multiply-adds" in table.out
    printed = slimnet_cli("bench", made.bundle, *BENCH, "--json").json
    assert printed.keys() == {"variants", "latency", "paper_accounting", "target"}
    assert [row["name"] for row in printed["variants"]] == ["dense", "slim"]
    assert all(row["flops"] > 0 and row["file_bytes"] > 0 and 0 <= row["accuracy"] <= 1 for row in printed["variants"])
    assert printed["latency"]["control"]["interval"]


def test_bench_compares_any_onnx_files(made: Made) -> None:
    rows = slimnet_cli("bench", made.bundle / "dense.onnx", made.bundle / "model.onnx", *BENCH, "--json").json["variants"]
    assert [row["name"] for row in rows] == ["dense", "model"]
    bundle = slimnet_cli("bench", made.bundle, *BENCH, "--json").json["variants"]
    counted = [row["flops"] / in_bundle["flops"] for row, in_bundle in zip(rows, bundle, strict=True)]
    assert all(1 < more < 1.03 for more in counted), "of the file: its two shortcuts are convolutions, in PyTorch they are not"


def test_bench_measures_each_combination(made: Made, here: Path) -> None:
    several = ("bench", made.bundle, *BENCH, "--threads", "1,2", "--batch", "1,3", "--plot", "p.png")
    printed = slimnet_cli(*several, "--json").json
    found = [(report["latency"]["threads"], report["latency"]["batch"]) for report in printed["combinations"]]
    assert found == [(1, 1), (1, 3), (2, 1), (2, 3)]
    assert {path.name for path in here.iterdir()} == {f"p-{t}-threads-batch-{b}.png" for t, b in found}
    table = slimnet_cli(*several)
    assert [line for line in table.out.splitlines() if re.fullmatch(r"\d threads?, batch \d", line)] == [
        "1 thread, batch 1", "1 thread, batch 3", "2 threads, batch 1", "2 threads, batch 3",
    ]  # fmt: skip


def test_bench_compares_runtimes_on_given_inputs(made: Made, here: Path) -> None:
    np.save("x.npy", np.ones((2, 1, 8, 8)))
    done = slimnet_cli("bench", made.bundle, *BENCH, "--runtime", "torch,onnxruntime", "--inputs", "x.npy", "--json")
    assert done.status == 0, done.err
    rows, latency = done.json["variants"], done.json["latency"]
    assert [row["name"] for row in rows] == ["dense (torch)", "slim (torch)", "dense (onnxruntime)", "slim (onnxruntime)"]
    assert [row["accuracy"] is None for row in rows] == [True, False, False, False]  # its weights are fresh ones
    assert (latency["baseline"], latency["inputs"]) == ("dense (torch)", "given")


def test_evaluate_agrees_on_run_bundle_and_onnx(made: Made) -> None:
    of_run, of_bundle = (slimnet_cli("evaluate", what, "--json").json for what in (made.run, made.bundle))
    of_onnx = slimnet_cli("evaluate", made.bundle / "model.onnx", "--data", "digits", "--json").json
    keys = {"split", "classes", "accuracy", "loss", "per_class", "confusion", "f1", "macro_f1", "count", "views"}
    assert of_run.keys() == of_bundle.keys() == of_onnx.keys() == keys
    assert of_run["confusion"] == of_bundle["confusion"] == of_onnx["confusion"]
    assert of_run["accuracy"] == json.loads((made.run / "metrics.jsonl").read_text().splitlines()[-1])["test_accuracy"]
    table = slimnet_cli("evaluate", made.run)
    assert table.out.startswith(f"accuracy {100 * of_run['accuracy']:.2f} %, macro-F1 {100 * of_run['macro_f1']:.2f} %")


def test_bundle_keeps_the_split_and_the_normalisation_of_its_run(made: Made, here: Path) -> None:
    """The validation split depends on the run's seed (3 here, not the default)."""
    of_run, of_bundle = (slimnet_cli("evaluate", what, "--split", "val", "--json").json for what in (made.run, made.bundle))
    assert of_run["confusion"] == of_bundle["confusion"]
    assert of_run["loss"] == pytest.approx(of_bundle["loss"], rel=1e-5)
    shutil.copytree(made.bundle, here / "b")
    (here / "b" / "model.json").unlink()  # which would notice the change
    change_json(here / "b" / "config.json", lambda config: config.update(mean=[5.0]))
    other = slimnet_cli("evaluate", "b", "--split", "val", "--json").json
    assert other["loss"] > 1.1 * of_bundle["loss"]


def test_evaluate_runs_a_file_with_a_fixed_batch(made: Made, here: Path) -> None:
    proto = onnx.load(str(made.bundle / "model.onnx"))
    for value in (*proto.graph.input, *proto.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = 50
    onnx.save(proto, "fixed.onnx")
    dynamic, fixed = (
        slimnet_cli("evaluate", file, "--data", "digits", "--json").json for file in (made.bundle / "model.onnx", "fixed.onnx")
    )
    assert fixed["confusion"] == dynamic["confusion"]


FRESH = """
import sys, numpy, onnxruntime, slimnet, torch
bundle = sys.argv[1]
assert "slimnet.training" not in sys.modules
model = slimnet.load_slim(bundle)
image = numpy.random.default_rng(0).standard_normal((5, 1, 8, 8)).astype(numpy.float32)
session = onnxruntime.InferenceSession(bundle + "/model.onnx", providers=["CPUExecutionProvider"])
found = session.run(None, {session.get_inputs()[0].name: image})[0]
with torch.no_grad():
    wanted = model(torch.from_numpy(image)).numpy()
assert not model.training
print(float(abs(found - wanted).max() / abs(wanted).max()))
"""


def test_slim_network_is_rebuilt_in_a_fresh_process(made: Made, here: Path) -> None:
    done = subprocess.run([sys.executable, "-c", FRESH, str(made.bundle)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) <= 1e-5


# --- the parity gate ------------------------------------------------------------------------------------------------------


def break_surgery(monkeypatch: pytest.MonkeyPatch) -> None:
    """A surgeon who changes one logit by a hair, unnoticed by its own verification."""
    right = slimnet.surgery.slim

    def wrong(*arguments: Any, **options: Any) -> Any:
        result = right(*arguments, **options)
        with torch.no_grad():
            result.model.get_parameter("linear.bias")[0] += 1e-3
        return result

    monkeypatch.setattr(aligned, "slim", wrong)


@pytest.mark.parametrize("was_there", [False, True], ids=["new", "forced"])
def test_failed_parity_leaves_no_bundle(was_there: bool, made: Made, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if was_there:
        shutil.copytree(made.bundle, here / "b")
    before = contents(here)
    break_surgery(monkeypatch)
    done = slimnet_cli("export", made.run, "--out", "b", "--force")
    assert (done.status, done.out) == (1, "")
    assert re.fullmatch(r"slimnet: error: model vs reference .* nothing was written\.", done.err.splitlines()[-1])
    assert contents(here) == before


# --- help -----------------------------------------------------------------------------------------------------------------

HELP = f"""
import contextlib, io, sys
from slimnet_cli import _run, cli
for arguments in [["--help"], ["-h"], *([name, "-h"] for name in cli.commands)]:
    with contextlib.redirect_stdout(io.StringIO()) as out:
        assert _run(arguments) == 0, arguments
    assert out.getvalue().startswith("Usage: slimnet"), arguments
print([name for name in {HEAVY} if name in sys.modules])
"""


def test_help_imports_nothing_heavy() -> None:
    done = subprocess.run([sys.executable, "-c", HELP], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.strip()) == (0, "[]"), done.stderr


ONLY_CLICK = """
import sys
before = set(sys.modules)
from slimnet_cli import _run
status = _run(["--help"])
loaded = {name.partition(".")[0] for name in set(sys.modules) - before} - sys.stdlib_module_names
print(status, *sorted(loaded))
"""


def test_help_is_fast() -> None:
    """Nothing is imported for it but click and the commands' names. The time that this takes depends on the machine."""
    done = subprocess.run([sys.executable, "-c", ONLY_CLICK], capture_output=True, text=True, check=True)
    assert "Usage: slimnet" in done.stdout
    assert done.stdout.splitlines()[-1] == "0 click slimnet_cli"


@pytest.mark.parametrize("name", sorted(cli.commands))
def test_every_option_says_what_it_is_for(name: str) -> None:
    command = cli.commands[name]
    options = [parameter for parameter in command.params if isinstance(parameter, click.Option)]
    silent = [option.name for option in options if not option.help]
    assert command.help
    assert silent == []


# --- bad input ------------------------------------------------------------------------------------------------------------

Change = Callable[[Path, Made], object]


def nothing(here: Path, made: Made) -> None:
    return None


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def change_json(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    value = json.loads(path.read_text())
    change(value)
    path.write_text(json.dumps(value))


def cut(path: Path) -> int:
    return path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def copied(what: str, change: Callable[[Path], object]) -> Change:
    """A copy of the run or the bundle in ``x``, changed."""

    def prepare(here: Path, made: Made) -> None:
        shutil.copytree(getattr(made, what), here / "x")
        change(here / "x")

    return prepare


def remove(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).unlink()


def without_result(change: Callable[[Path], object]) -> Change:
    """A copy of the run that did not finish, changed."""

    def both(folder: Path) -> None:
        (folder / "model.safetensors").unlink()
        change(folder)

    return copied("run", both)


def holding(name: str, make: Callable[[Path], object]) -> Change:
    return lambda here, made: make(here / name)


def two_layers(in_channels: int = 1, num_classes: int = 10) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(64 * in_channels, 4), nn.ReLU(), nn.Linear(4, num_classes))


def seven(in_channels: int = 1) -> nn.Module:
    """A user's factory that knows better than ``num_classes``."""
    return two_layers(in_channels, 7)


def saved_onnx(*shape: int, outputs: int = 10) -> Callable[[Path], object]:
    """A network without convolutions for images of that shape, written by hand."""

    def make(path: Path) -> None:
        helper, kind = onnx.helper, onnx.TensorProto.FLOAT
        size = torch.Size(shape).numel()
        weight = helper.make_tensor("w", kind, (size, outputs), [0.01] * size * outputs)
        nodes = [helper.make_node("Flatten", ["input"], ["flat"]), helper.make_node("MatMul", ["flat", "w"], ["logits"])]
        inputs = [helper.make_tensor_value_info("input", kind, ["batch", *shape])]
        out = [helper.make_tensor_value_info("logits", kind, ["batch", outputs])]
        graph = helper.make_graph(nodes, "g", inputs, out, [weight])
        onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9), str(path))

    return make


TRAIN = "train --out new --precision fp32 --model resnet8"
Bad = tuple[str, str, Change]

TRAINING: list[Bad] = [
    (f"{TRAIN} --model resnet9", r"Unknown model 'resnet9'\. Did you mean resnet8\? Known: resnet8, resnet20,", nothing),
    (f"{TRAIN} --data mnist", "Unknown data set 'mnist'. Known: digits, cifar10, cifar100, folder", nothing),
    (f"{TRAIN} --method foo", "unknown method 'foo'; known: asfp, asrfp, dense, dsd, fpgm, fsdp", nothing),
    (f"{TRAIN} --data cifar10", r"cifar10 needs a data folder: .* \(--data-dir\)", nothing),
    (f"{TRAIN} --data cifar10 --data-dir no", "looked for data_batch_1, .* in no/cifar-10-batches-py", nothing),
    (f"{TRAIN} --data folder --data-dir no", "no/train does not exist", nothing),
    (f"{TRAIN} --data-dir no", "digits lies in no folder, got no", nothing),
    (f"{TRAIN} --rate-cs 1", r"`rate_cs` must be in \[0, 1\), got 1.0", nothing),
    (f"{TRAIN} --rate-gm -0.1", r"`rate_gm` must be in \[0, 1\), got -0.1", nothing),
    (f"{TRAIN} --rate-gm nan", r"`rate_gm` must be in \[0, 1\), got nan", nothing),
    (f"{TRAIN} --rate-cs 0.6 --rate-gm 0.6", r"`rate_cs` \+ `rate_gm` must be in \(0, 1\), got 1.2", nothing),
    (f"{TRAIN} --shut-branches", "`shut_branches` is for a target: give one, or leave it out", nothing),
    (f"{TRAIN} --tau 1.3333333", r"`tau` must be above 4/3, got 1.3333333", nothing),
    (f"{TRAIN} --tau nan", "`tau` must be above 4/3, got nan", nothing),
    (f"{TRAIN} --attenuation 0", r"`attenuation` must be in \(0, 1\], got 0.0", nothing),
    (f"{TRAIN} --couple some", "`couple` must be one of stream, none, got 'some'", nothing),
    (f"{TRAIN} --method dense --tau 5", "method 'dense' has no hyper-parameter 'tau'", nothing),
    (f"{TRAIN} --finetune-epochs 30", "`finetune_epochs` must be less than 30 epochs, got 30", nothing),
    (f"{TRAIN} --epochs 0", "`epochs` must be a whole number of at least 1, got 0", nothing),
    (f"{TRAIN} --batch-size 0", "`batch_size` must be .*, got 0", nothing),
    (f"{TRAIN} --batch-size 5000", "`batch_size` must not exceed the 1294 training images, got 5000", nothing),
    (f"{TRAIN} --lr -1", "`lr` must be a positive number, got -1.0", nothing),
    (f"{TRAIN} --lr nan", "`lr` must be a positive number, got nan", nothing),
    (f"{TRAIN} --weight-decay inf", "`weight_decay` must be .*, got inf", nothing),
    (f"{TRAIN} --seed 99999999999999999999", "`seed` must be a whole number from 0 to", nothing),
    (f"{TRAIN} --device meta", "`device` must be 'auto', 'cpu' or 'cuda', got 'meta'", nothing),
    (f"{TRAIN} --image-size 0", "`image_size` must be .*, got 0", nothing),
    (f"{TRAIN} --normalise imagenet", "needs 3 channels, the images have 1", nothing),
    (f"{TRAIN} --model vgg11 --image-size 9", r"vgg11 cannot take images of shape \(1, 9, 9\)", nothing),
    (f"{TRAIN} --model test_cli:seven", r"must give logits of shape \(2, 10\) for digits, it gives \(2, 7\)", nothing),
    (f"{TRAIN} --model test_cli:eight", "test_cli has no function 'eight'", nothing),
    (f"{TRAIN} --model no_such_module:f", "Cannot import no_such_module", nothing),
    (f"{TRAIN} --init no.pth", "no.pth does not exist", nothing),
    (f"{TRAIN} --data cifar10 --data-dir no --model resnet9", "Unknown model 'resnet9'", nothing),  # before the data
    (f"{TRAIN} --data cifar10 --data-dir no --init no.pth", "no.pth does not exist", nothing),
    (f"{TRAIN} --init x.bin", r"x.bin is not a file of weights: known are \.safetensors, \.pth", nothing),
    (
        f"{TRAIN} --init x.pth",
        "x.pth holds pickled objects, not a plain state dict",
        holding("x.pth", lambda p: torch.save(nn.ReLU(), p)),
    ),
    (
        f"{TRAIN} --init x.pth",
        "x.pth is not a readable file of weights",
        holding("x.pth", lambda p: p.write_bytes(pickle.dumps({"a": 1}, protocol=4))),
    ),
    (
        f"{TRAIN} --init x.pth",
        r"x.pth is not a plain state dict: not tensors are epoch \(int\)",
        holding("x.pth", lambda p: torch.save({"epoch": 3}, p)),
    ),
    (
        f"{TRAIN} --init x.safetensors",
        "x.safetensors is not a readable safetensors file .* truncated",
        lambda here, made: (shutil.copy(made.run / "model.safetensors", here / "x.safetensors"), cut(here / "x.safetensors")),
    ),
    (
        f"{TRAIN} --init x.safetensors --model resnet20",
        "x.safetensors does not fit the model: .* missing: layer1.1.conv1.weight",
        lambda here, made: shutil.copy(made.run / "model.safetensors", here / "x.safetensors"),
    ),
    (f"{TRAIN} --out x", "x exists already: .*--force", copied("run", lambda folder: None)),
    (f"{TRAIN} --out x", "x is a file, not a folder", holding("x", Path.touch)),
    (f"{TRAIN} --out x/y/z", r"x/y/z cannot be written \(Not a directory", holding("x", Path.touch)),
    (f"{TRAIN} --out /proc/x/y", "/proc/x/y cannot be written", nothing),
]

RESUMING: list[Bad] = [
    ("train --resume --out x", "nothing to resume: x is not a run: there is no such folder", nothing),
    ("train --resume --out x", "nothing to resume: x is not a run: it holds no config.json", holding("x", Path.mkdir)),
    ("train --resume --out x", "nothing to resume: x/config.json does not describe a run", copied("bundle", lambda f: None)),
    ("train --resume --out x --lr 0.5", "`lr` was 0.05 when the run in x began, got 0.5", copied("run", lambda f: None)),
    ("train --resume --out x", "x/config.json is not readable JSON", without_result(lambda f: cut(f / "config.json"))),
    (
        "train --resume --quiet --out x",
        "x/checkpoint.safetensors is not a readable safetensors file .* --force",
        without_result(lambda f: cut(f / "checkpoint.safetensors")),
    ),
    (
        "train --resume --quiet --out x",
        "x/checkpoint.json is not readable JSON",
        without_result(lambda f: cut(f / "checkpoint.json")),
    ),
    ("train --resume --quiet --out x", "x/metrics.jsonl, line ", without_result(lambda f: cut(f / "metrics.jsonl"))),
    (
        "train --resume --quiet --out x",
        "x/metrics.jsonl holds 0 of the 2 epochs",
        without_result(lambda f: (f / "metrics.jsonl").write_text("")),
    ),
]

EXPORTING: list[Bad] = [
    ("export x --out new", "x is not a run: there is no such folder", nothing),
    ("export x --out new", "x is not a run: it holds no config.json", holding("x", Path.mkdir)),
    ("export x --out new", "x is not a run: it is a file", holding("x", Path.touch)),
    ("export x --out new", "x/config.json does not describe a run", copied("bundle", lambda f: None)),
    ("export x --out new", "the training in x did not finish: .*--resume", without_result(lambda f: None)),
    ("export x --out new", "x/config.json is not readable JSON", copied("run", lambda f: cut(f / "config.json"))),
    ("export x --out new", "x/metrics.jsonl, line ", copied("run", lambda f: cut(f / "metrics.jsonl"))),
    ("export x --out new", "x/metrics.jsonl, line 1", copied("run", lambda f: (f / "metrics.jsonl").write_bytes(b"\xff\n"))),
    (
        "export x --out new",
        "x/metrics.jsonl lacks lines of the 2 epochs",
        copied("run", lambda f: (f / "metrics.jsonl").write_text((f / "metrics.jsonl").read_text().splitlines()[-1])),
    ),
    (
        "export x --out new",
        "x/model.safetensors is not a readable safetensors",
        copied("run", lambda f: cut(f / "model.safetensors")),
    ),
    (
        "export x --out new",
        "x/model.safetensors does not fit resnet20",
        copied("run", lambda f: change_json(f / "config.json", lambda c: c["train"].update(model="resnet20"))),
    ),
    (
        "export x --out new",
        "x/config.json: `data` lacks `classes`",
        copied("run", lambda f: change_json(f / "config.json", lambda c: c["data"].pop("classes"))),
    ),
    (
        "export x --out new",
        "x/config.json: `model` must be a name, got 3",
        copied("run", lambda f: change_json(f / "config.json", lambda c: c["train"].update(model=3))),
    ),
    (
        "export x --out new",
        "/gone.pth, the weights of the dense network, does not exist: .*--dense",
        copied("run", lambda f: change_json(f / "config.json", lambda c: c["train"].update(init="/gone.pth"))),
    ),
    ("export {run} --out new --data-dir no", "digits lies in no folder, got no", nothing),
    ("export {run} --out new --dense no.pth", "no.pth, the weights of the dense network, does not exist", nothing),
    ("export {run} --out new --dense {bundle}", "bundle/config.json does not describe a run", nothing),
    ("export {run} --out new --opset 99", "`opset` must be from 7 to .*, got 99", nothing),
    ("export {run} --out x", "x exists already: .*--force", copied("bundle", lambda f: None)),
    ("export x --out x --force", "x holds checkpoint.json, which is not ours to overwrite", copied("run", lambda f: None)),
    ("export x --out . --force", r"\. holds x, which is not ours to overwrite", copied("run", lambda f: None)),
    ("export {run} --out x", "x is a file, not a folder", holding("x", Path.touch)),
    ("export {run} --out x/y", r"x/y cannot be written \(Not a directory", holding("x", Path.touch)),
    ("export {run} --out /proc/x", "/proc/x cannot be written", nothing),
]

LISTED = sorted(BUNDLE - {"model.json"})


def cutting(name: str) -> Change:
    return copied("bundle", lambda folder: cut(folder / name))


def removing(name: str) -> Change:
    return copied("bundle", lambda folder: remove(folder, name))


MEASURING: list[Bad] = [
    ("bench x.onnx", "x.onnx is not a readable ONNX file", holding("x.onnx", lambda p: p.write_text("hello"))),
    ("bench x.onnx", "x.onnx is not a readable ONNX file", holding("x.onnx", Path.touch)),
    (
        "bench {bundle}/dense.onnx x.onnx",
        "x.onnx is not a readable ONNX file",
        lambda here, made: (shutil.copy(made.bundle / "model.onnx", here / "x.onnx"), cut(here / "x.onnx")),
    ),
    ("bench x.onnx", "x.onnx does not exist", nothing),
    ("bench x.onnx", "x.onnx is a folder: give an ONNX file", holding("x.onnx", Path.mkdir)),
    ("bench x", "x does not exist: give a bundle", nothing),
    ("bench x", "x is not a folder: give a bundle", holding("x", Path.touch)),
    ("bench x", "x is not a bundle: it holds no model.json", holding("x", Path.mkdir)),
    ("bench {run}", "run is not a bundle: it holds no model.json", nothing),
    ("bench {bundle} {bundle}/model.onnx", "bundle is a folder: give an ONNX file", nothing),
    ("bench {bundle} --inputs x.npy", "x.npy does not exist: give a .npy or .npz file", nothing),
    (
        "bench {bundle} --inputs x.npy",
        r"`inputs` of shape \(1, 3, 8, 8\) do not fit `input`",
        holding("x.npy", lambda p: np.save(p, np.ones((1, 3, 8, 8)))),
    ),
    ("bench {bundle} --plot x.gif", "x.gif must end in .png, .svg or .pdf", nothing),
    ("bench {bundle} --provider tensorrt", "this ONNX Runtime has no TensorrtExecutionProvider", nothing),
    ("bench {bundle} --runtime torch --provider openvino", "torch runs on cpu and cuda, not on openvino", nothing),
    ("bench x", "x/model.json is not readable JSON", copied("bundle", lambda f: cut(f / "model.json"))),
    (
        "bench x",
        "x/model.json is none 2, not slimnet-bundle 2",
        copied("bundle", lambda f: change_json(f / "model.json", lambda m: m.update(format="none"))),
    ),
    *(("bench x", f"x/{n} is not the file that was exported: its SHA-256 differs", cutting(n)) for n in LISTED),
    *(("bench x", f"x/{n} does not exist: the bundle is incomplete", removing(n)) for n in LISTED),
]


def bare(change: Callable[[Path], object]) -> Change:
    """The slim network of a bundle alone, without the checksums of ``model.json``, changed."""

    def both(folder: Path) -> None:
        (folder / "model.json").unlink()
        change(folder)

    return copied("bundle", both)


def in_plan(change: Callable[[dict[str, Any]], object]) -> Change:
    return bare(lambda folder: change_json(folder / "plan.json", change))


def in_config(change: Callable[[dict[str, Any]], object]) -> Change:
    return bare(lambda folder: change_json(folder / "config.json", change))


EVALUATING: list[Bad] = [
    ("evaluate x", "x does not exist: give a run, a bundle, or an ONNX file", nothing),
    ("evaluate x", "x is neither a run nor a bundle: it holds no config.json", holding("x", Path.mkdir)),
    ("evaluate x.pth --data digits", "x.pth is neither a run, a bundle, nor an ONNX file", holding("x.pth", Path.touch)),
    ("evaluate x.onnx --data digits", "x.onnx is not a readable ONNX file", holding("x.onnx", Path.touch)),
    ("evaluate x.onnx", "x.onnx does not know its data set: name it with --data", holding("x.onnx", Path.touch)),
    ("evaluate {bundle}/model.onnx --data no", "Unknown data set 'no'. Known: digits,", nothing),
    ("evaluate {run} --data cifar10 --data-dir no", "looked for data_batch_1, .* in no/cifar-10-batches-py", nothing),
    ("evaluate {run} --data-dir no", "digits lies in no folder, got no", nothing),
    ("evaluate x", "the training in x did not finish", copied("run", lambda f: (f / "metrics.jsonl").unlink())),
    ("evaluate x", "x/model.safetensors is not a readable", copied("run", lambda f: cut(f / "model.safetensors"))),
    ("evaluate x", "x/model.onnx is not the file that was exported", copied("bundle", lambda f: cut(f / "model.onnx"))),
    ("evaluate x", "x/slim.safetensors is not a readable safetensors", bare(lambda f: cut(f / "slim.safetensors"))),
    ("evaluate x", "x/plan.json is not readable JSON", bare(lambda f: cut(f / "plan.json"))),
    (
        "evaluate x",
        "x/config.json does not describe a run",
        copied("bundle", lambda f: remove(f, *BUNDLE - {"config.json"})),
    ),
    ("evaluate x", "x/plan.json does not fit resnet8: plan version 9", in_plan(lambda p: p.update(version=9))),
    ("evaluate x", "x/plan.json does not fit resnet8: ", in_plan(lambda p: p["cuts"][0].update(dim="a"))),
    ("evaluate x", "x/plan.json does not fit resnet8: .*'nope'", in_plan(lambda p: p["cuts"][0].update(name="nope.weight"))),
    ("evaluate x", "x/slim.safetensors does not fit plan.json", in_plan(lambda p: p["cuts"].pop(0))),
    (
        "evaluate x",
        'x/config.json: `num_classes` must be a whole number, got "a"',
        in_config(lambda c: c.update(num_classes="a")),
    ),
    ("evaluate x", "x/config.json: Unknown model 'nope'", in_config(lambda c: c.update(model="nope"))),
    ("evaluate x", "x/config.json: `mean` must be a list", in_config(lambda c: c.update(mean=5))),
    ("evaluate x.onnx --data digits", r"cannot take images of shape \(1, 8, 8\)", holding("x.onnx", saved_onnx(1, 9, 9))),
    ("evaluate x.onnx --data digits", r"cannot take images of shape \(1, 8, 8\)", holding("x.onnx", saved_onnx(3, 8, 8))),
    (
        "evaluate x.onnx --data digits",
        "label 9 is out of range: the network has 7 outputs",
        holding("x.onnx", saved_onnx(1, 8, 8, outputs=7)),
    ),
    (
        "evaluate x.onnx --data digits",
        "x.onnx has 12 outputs, digits has 10 classes",
        holding("x.onnx", saved_onnx(1, 8, 8, outputs=12)),
    ),
]

WEIGHTS = "x.safetensors --model resnet8"


def weights(here: Path, made: Made) -> None:
    shutil.copy(made.run / "model.safetensors", here / "x.safetensors")


CHECKPOINTS: list[Bad] = [
    ("inspect x.pth --model resnet8", "x.pth does not exist", nothing),
    ("inspect x.pth --model resnet8", "x.pth holds pickled objects", holding("x.pth", lambda p: torch.save(nn.ReLU(), p))),
    (f"inspect {WEIGHTS}8", "Unknown model 'resnet88'", weights),
    ("slim x.safetensors --model resnet20 --out new", "x.safetensors does not fit the model: .* missing", weights),
    (f"slim {WEIGHTS} --out new --tolerance nan", r"`tolerance` must be in \[0, 1\), got nan", weights),
    (f"slim {WEIGHTS} --out . --force", r"\. holds x.safetensors, which is not ours to overwrite", weights),
    (f"prune {WEIGHTS} --rate 1 --out new", r"`rate` must be in \[0, 1\), got 1.0", weights),
    (f"prune {WEIGHTS} --rate 0.5 --out new --shut-branches", "`shut_branches` is for a target", weights),
    (f"prune {WEIGHTS} --rate 0.5 --out new --allocate-by energy", "`allocate_by` is for a target", weights),
    (f"prune {WEIGHTS} --target-ms 1 --out new --allocate-by loss", "needs data: name a data set with --data", weights),
    (f"prune {WEIGHTS} --target-ms 1 --out new --plot plan.jpg", r"plan.jpg must end in .png, .svg or .pdf", weights),
    (f"prune {WEIGHTS} --target-ms 1 --out new --shut-branches --no-mask-norm", "leave `mask_norm` on", weights),
    (f"prune {WEIGHTS} --rate 0.5 --out new --criterion x", "unknown `criterion` 'x'; known: l1, l2, gm", weights),
    (f"prune {WEIGHTS} --rate 0.5 --out new --criterion cs", "'cs' needs data: name a data set with --data", weights),
    (f"prune {WEIGHTS} --rate 0.5 --out . --force", r"\. holds x.safetensors, which is not ours to overwrite", weights),
]

ALL_BAD = [*TRAINING, *RESUMING, *EXPORTING, *MEASURING, *EVALUATING, *CHECKPOINTS]


def named(cases: list[Bad]) -> list[Any]:
    return [pytest.param(*case, id=f"{case[0].removeprefix(TRAIN).strip()}: {case[1][:40]}") for case in cases]


@pytest.mark.parametrize(("command", "message", "prepare"), named(ALL_BAD))
def test_bad_input_gets_one_line_and_nothing_is_written(
    command: str, message: str, prepare: Change, made: Made, here: Path
) -> None:
    prepare(here, made)
    before, folders = contents(here), sorted(here.rglob("*"))
    arguments = command.format(run=made.run, bundle=made.bundle).split()
    done = slimnet_cli(*arguments)
    assert done.status == 1
    assert done.out == ""
    assert re.fullmatch(r"slimnet: error: [^\n]+\n", done.err), done.err
    assert re.search(message, done.err), done.err
    assert (contents(here), sorted(here.rglob("*"))) == (before, folders)


USAGE = [
    ("prune x.pth --model resnet8 --rate 0.5 --out new --plot plan.svg", "--plot draws the plan for a target: give one"),
    ("", "Usage: slimnet"),
    ("frob", "No such command 'frob'"),
    ("train --out o", "Missing option '--model'"),
    ("train --model resnet8", "Missing option '--out'"),
    ("train --model resnet8 --out o --epochs two", "'two' is not a valid integer"),
    ("train --model resnet8 --out o --rates 0.5", "No such option '--rates'"),
    ("train --resume --force --out o", "--resume goes on with a run, --force starts it again"),
    ("export", "Missing argument 'RUN'"),
    ("export r --out o --align 0", "0 is not in the range 1<=x<=2147483647"),
    ("prune x.pth --model resnet8 --out o", "give one of --rate, --flops and --target"),
    ("bench", "Missing argument 'WHAT...'"),
    ("bench a.onnx a.onnx", "the same file is given twice"),
    ("bench a.onnx --batch 0", "0 is not in the range 1<=x<=2147483647"),
    ("bench a.onnx --seconds nan", "nan is not a finite number"),
    ("bench a.onnx --seconds inf", "inf is not a finite number"),
    ("bench a.onnx --threads 99999999999999999999", "is not in the range 1<=x<=1024"),
    ("evaluate a.onnx --batch-size 99999999999999999999", "is not in the range 1<=x<=2147483647"),
    ("bench a.onnx --threads 1,two", "'two' is not a valid integer range"),
    ("bench a.onnx --runtime torch", "--runtime torch needs a bundle"),
    ("bench a --runtime onnxruntime,jax", "'jax' is not one of 'onnxruntime', 'torch', 'torch-compile'"),
    ("evaluate r --split dev", "'dev' is not one of 'train', 'val', 'test'"),
]


@pytest.mark.parametrize(("command", "message"), USAGE)
def test_wrong_usage_exits_2(command: str, message: str, here: Path) -> None:
    done = slimnet_cli(*command.split())
    assert (done.status, done.out) == (2, "")
    assert message in done.err
    assert "Traceback" not in done.err
    assert not any(here.iterdir())


def test_a_fault_of_ours_is_not_hidden(monkeypatch: pytest.MonkeyPatch, made: Made) -> None:
    def faulty(*_: Any, **__: Any) -> None:
        raise KeyError("ours")

    monkeypatch.setattr("slimnet.commands.evaluate_any", faulty)
    with pytest.raises(KeyError, match="ours"):
        slimnet_cli("evaluate", made.run)

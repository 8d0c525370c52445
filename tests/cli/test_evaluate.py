"""slimnet evaluate: a run, its bundle and its ONNX file agree; and what bad input gets."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch

from cli.cases import (
    BUNDLE,
    Bad,
    Change,
    Made,
    change_json,
    copied,
    cut,
    holding,
    nothing,
    refused,
    remove,
    wrong_usage,
)
from command import slimnet_cli

# --- what works -----------------------------------------------------------------------------------------------------------


def test_evaluate_agrees_on_run_bundle_and_onnx(made: Made) -> None:
    of_run, of_bundle = (slimnet_cli("evaluate", what, "--json").json for what in (made.run, made.bundle))
    of_onnx = slimnet_cli("evaluate", made.bundle / "model.onnx", "--data", "digits", "--json").json
    keys = {"split", "classes", "accuracy", "loss", "per_class", "confusion", "f1", "macro_f1", "count", "views"}
    keys |= {"temperature", "nll", "ece"}
    assert of_run.keys() == of_bundle.keys() == of_onnx.keys() == keys
    assert of_run["confusion"] == of_bundle["confusion"] == of_onnx["confusion"]
    assert of_run["temperature"] == 1
    assert of_run["nll"] == pytest.approx(of_run["loss"], rel=1e-6)
    found = json.loads((made.bundle / "model.json").read_text())["precisions"]["fp32"]["confidence"]
    assert of_bundle["temperature"] == found["temperature"] != 1
    for name in ("nll", "ece"):
        assert of_run[name] == pytest.approx(found["measured"][name]["before"], rel=1e-4)
        assert of_bundle[name] == pytest.approx(found["measured"][name]["after"], rel=1e-4)
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


# --- bad input ------------------------------------------------------------------------------------------------------------


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


BAD: list[Bad] = [
    ("evaluate x", "x does not exist: give a run, a bundle, or an ONNX file", nothing),
    ("evaluate x", "x is neither a run nor a bundle: it holds no config.json", holding("x", Path.mkdir)),
    ("evaluate x.pth --data digits", "x.pth is neither a run, a bundle, nor an ONNX file", holding("x.pth", Path.touch)),
    ("evaluate x.onnx --data digits", "x.onnx is not a readable ONNX file", holding("x.onnx", Path.touch)),
    ("evaluate x.onnx", "x.onnx does not know its data set: name it with --data", holding("x.onnx", Path.touch)),
    ("evaluate x.ONNX", "x.ONNX does not know its data set: name it with --data", holding("x.ONNX", Path.touch)),
    ("evaluate {bundle}/model.onnx --data no", "Unknown data set 'no'. Known: digits,", nothing),
    ("evaluate {run} --data cifar10 --data-dir no", "no does not exist: --data-dir must be where the data set lies", nothing),
    ("evaluate {run} --data-dir .", r"digits lies in no folder, got \.", nothing),
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


test_bad_input_gets_one_line_and_nothing_is_written = refused(BAD)


USAGE = [
    ("evaluate a.onnx --batch-size 99999999999999999999", "is not in the range 1<=x<=2147483647"),
    ("evaluate r --split dev", "'dev' is not one of 'train', 'val', 'test'"),
]


test_wrong_usage_exits_2 = wrong_usage(USAGE)

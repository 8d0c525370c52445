"""What each schema takes, place by place: all that is not listed here is refused."""

from __future__ import annotations

from importlib.resources import files
from typing import Any

import pytest

from schema_cases import WHOLE, changed, taken
from slimnet._json import check, fast, schema
from slimnet.errors import FileFormatError

TAKEN: dict[str, dict[str, str]] = {
    "checkpoint": {
        "-1": "best.loss pruner.epoch pruner.state.epoch",
        "-1e7": "best.loss",
        "0": ("epoch step seconds.0 best.epoch best.accuracy best.loss pruner.epoch pruner.stage pruner.state.epoch"),
        "1e19": "seconds.0 best.loss",
        "1e299": "seconds.0 best.loss",
        "a further list": "$ plan pruner pruner.state",
        "a further text": "$ plan pruner pruner.state",
        "missing": "plan pruner.epoch pruner.adaptive pruner.stage pruner.state pruner.state.epoch",
        "not": "pruner.adaptive",
        "null": "best",
    },
    "copy": {
        "0": "bad_count",
        "a further list": "$",
        "a further text": "$",
        "a long text": "key bad.0",
        "missing": "bad bad_count",
        "no item": "bad",
        "no text": "key bad.0",
        "one item more": "bad",
    },
    "cost_entry": {
        "0": "value",
    },
    "costs": {
        "a further list": "$ target entries",
        "a further text": "$ target entries",
    },
    "metrics": {
        "0": "epoch best_epoch train_accuracy val_accuracy test_accuracy test_images test_confusion.0.0",
        "a further text": "$",
        "missing": (
            "final epoch best_epoch is_closed norms_reestimated train_accuracy val_accuracy test_accuracy test_images "
            "test_confusion"
        ),
        "no item": "test_confusion test_confusion.0",
        "not": "is_closed norms_reestimated",
        "null": "train_accuracy val_accuracy test_accuracy",
        "one item more": "test_confusion test_confusion.0",
    },
    "network": {
        "-1": "mean.0",
        "0": "mean.0 seed",
        "a further list": "$",
        "a further text": "$",
        "a long text": "data data_dir",
        "missing": (
            "image_shape mean std data data_dir image_size val_fraction train_fraction seed normalise data_options "
            "data_options.balanced"
        ),
        "no text": "data data_dir normalise",
        "not": "data_options.balanced",
        "null": "image_shape mean std data data_dir image_size normalise",
        "one item more": "mean std",
    },
    "plan": {
        "-1": ("folds.0.constants.0 folds.0.carrier folds.0.carrier_value shuts.0.values.0 expansions.0.values.0"),
        "-1e7": "folds.0.constants.0 folds.0.carrier_value shuts.0.values.0 expansions.0.values.0",
        "0": (
            "groups.0.size groups.0.closed groups.0.partly groups.0.reasons.why cuts.0.dim cuts.0.size folds.0.in_dim "
            "folds.0.columns.0 folds.0.constants.0 folds.0.carrier folds.0.carrier_value moves.0.in_size moves.0.out_size "
            "shuts.0.values.0 expansions.0.values.0"
        ),
        "1e19": "folds.0.constants.0 folds.0.carrier_value shuts.0.values.0 expansions.0.values.0",
        "1e299": "folds.0.constants.0 folds.0.carrier_value shuts.0.values.0 expansions.0.values.0",
        "missing": "groups.0.reasons groups.0.reasons.why folds.0.carrier folds.0.carrier_value",
        "no item": (
            "groups groups.0.members cuts folds folds.0.columns folds.0.constants moves shuts shuts.0.values "
            "shuts.0.others expansions expansions.0.values"
        ),
        "no text": (
            "groups.0.name groups.0.kept groups.0.members.0 cuts.0.name cuts.0.kept folds.0.weight folds.0.bias "
            "moves.0.module moves.0.inputs moves.0.outputs shuts.0.module shuts.0.others.0 expansions.0.module "
            "expansions.0.live"
        ),
        "not": "shuts.0.full",
        "one item more": (
            "groups groups.0.members cuts folds folds.0.columns folds.0.constants moves shuts shuts.0.values "
            "shuts.0.others expansions expansions.0.values"
        ),
    },
    "report": {
        "-1": "paper_accounting.saved target.target.flops",
        "-1e7": "paper_accounting.saved target.target.flops",
        "0": (
            "parity.slim.checks.0.max_abs parity.slim.checks.0.agreement parity.slim.checks.0.undecided "
            "parity.dense.checks.0.max_abs parity.dense.checks.0.agreement parity.dense.checks.0.undecided "
            "cost.dense.flops cost.dense.params cost.dense.bytes cost.dense.unknown.Foo cost.dense.by_module.conv "
            "cost.slim.flops cost.slim.params cost.slim.bytes cost.slim.unknown.Foo cost.slim.by_module.conv "
            "accuracy.count accuracy.slim accuracy.dense paper_accounting.saved target.target.flops"
        ),
        "1e19": (
            "parity.slim.checks.0.max_abs parity.slim.checks.0.scale parity.slim.checks.0.tolerance "
            "parity.dense.checks.0.max_abs parity.dense.checks.0.scale parity.dense.checks.0.tolerance "
            "paper_accounting.saved target.target.flops"
        ),
        "1e299": (
            "parity.slim.checks.0.max_abs parity.slim.checks.0.scale parity.slim.checks.0.tolerance "
            "parity.dense.checks.0.max_abs parity.dense.checks.0.scale parity.dense.checks.0.tolerance "
            "paper_accounting.saved target.target.flops"
        ),
        "a further list": (
            "$ parity parity.slim parity.slim.checks.0 parity.dense parity.dense.checks.0 cost cost.dense cost.slim "
            "accuracy paper_accounting surgery method data target target.predicted"
        ),
        "a further text": (
            "$ parity parity.slim parity.slim.checks.0 parity.dense parity.dense.checks.0 cost cost.dense cost.slim "
            "accuracy paper_accounting surgery method data target target.predicted"
        ),
        "a long text": (
            "parity.slim.checks.0.pair parity.slim.checks.0.input parity.slim.checks.0.dtype parity.dense.checks.0.pair "
            "parity.dense.checks.0.input parity.dense.checks.0.dtype accuracy.split"
        ),
        "missing": (
            "accuracy paper_accounting surgery method data target parity.dense cost.dense.unknown cost.dense.by_module "
            "cost.dense.unknown.Foo cost.dense.by_module.conv cost.slim.unknown cost.slim.by_module cost.slim.unknown.Foo "
            "cost.slim.by_module.conv accuracy.split accuracy.count accuracy.slim accuracy.dense"
        ),
        "no text": (
            "parity.slim.checks.0.pair parity.slim.checks.0.input parity.slim.checks.0.dtype parity.dense.checks.0.pair "
            "parity.dense.checks.0.input parity.dense.checks.0.dtype accuracy.split"
        ),
        "null": "parity.slim.checks.0.agreement parity.dense.checks.0.agreement accuracy.slim accuracy.dense",
        "one item more": "parity.slim.checks parity.dense.checks",
    },
    "run": {
        "-1": "data.mean.0",
        "0": (
            "data.train data.val data.test data.mean.0 environment.threads environment.world_size target.layers.0.reads "
            "target.layers.0.makes target.layers.0.reads_kept target.layers.0.makes_kept target.layers.0.dense_ms "
            "target.layers.0.ms"
        ),
        "a further list": "$ train data environment target target.predicted target.layers.0",
        "a further text": "$ train data environment target target.predicted target.layers.0",
        "a long text": "slimnet data.name data.notes.0",
        "missing": (
            "format slimnet target data.name data.train data.val data.test data.notes environment.threads "
            "environment.world_size target.predicted target.layers"
        ),
        "no item": "data.notes target.layers",
        "no text": "slimnet data.name data.classes.0 data.notes.0 target.layers.0.name",
        "one item more": "data.classes data.mean data.std data.notes target.layers",
    },
    "selection": {
        "0": "epoch",
        "a further list": "$",
        "a further text": "$",
        "missing": "selected.a",
        "no text": "selected.a",
    },
    "site": {
        "a further list": "$",
        "a further text": "$",
        "a long text": "files.0",
        "no item": "files",
        "no text": "files.0",
        "one item more": "files",
    },
    "bundle": {
        "-1": "preprocessing.mean.0 cost.flops_ratio provenance.epochs provenance.seed",
        "-1e7": "cost.flops_ratio provenance.epochs provenance.seed",
        "0": (
            "preprocessing.mean.0 preprocessing.range.0 cost.dense.flops cost.dense.params cost.dense.bytes "
            "cost.realised.flops cost.realised.params cost.realised.bytes cost.flops_ratio "
            "cost.unknown_operators.dense.Foo accuracy.slim accuracy.dense precisions.fp32.accuracy.value "
            "precisions.fp32.agreement precisions.fp32.per_class.0 precisions.int8.accuracy.value "
            "precisions.int8.agreement precisions.int8.per_class.0 embedded.parity.max_abs embedded.parity.tolerance "
            "embedded.parity.agreement embedded.parity.undecided embedded.parity.relative parity.worst.pair.max_abs "
            "parity.worst.pair.tolerance parity.worst.pair.agreement parity.worst.pair.undecided "
            "parity.worst.pair.relative provenance.epochs provenance.seed files.config.json.bytes files.report.json.bytes "
            "files.model.onnx.bytes files.dense.onnx.bytes files.slim.safetensors.bytes files.plan.json.bytes"
        ),
        "1e19": (
            "cost.dense.flops cost.dense.params cost.dense.bytes cost.realised.flops cost.realised.params "
            "cost.realised.bytes cost.flops_ratio cost.unknown_operators.dense.Foo accuracy.count precisions.fp32.bytes "
            "precisions.fp32.accuracy.count precisions.int8.bytes precisions.int8.accuracy.count embedded.bytes "
            "embedded.parity.batch embedded.parity.max_abs embedded.parity.scale embedded.parity.tolerance "
            "embedded.parity.undecided embedded.parity.relative parity.worst.pair.batch parity.worst.pair.max_abs "
            "parity.worst.pair.scale parity.worst.pair.tolerance parity.worst.pair.undecided parity.worst.pair.relative "
            "provenance.epochs provenance.seed files.config.json.bytes files.report.json.bytes files.model.onnx.bytes "
            "files.dense.onnx.bytes files.slim.safetensors.bytes files.plan.json.bytes"
        ),
        "1e299": (
            "cost.flops_ratio embedded.parity.max_abs embedded.parity.scale embedded.parity.tolerance "
            "embedded.parity.relative parity.worst.pair.max_abs parity.worst.pair.scale parity.worst.pair.tolerance "
            "parity.worst.pair.relative"
        ),
        "a further list": (
            "cost cost.dense cost.realised accuracy precisions.fp32 precisions.fp32.accuracy precisions.int8 "
            "precisions.int8.accuracy embedded.parity parity parity.worst.pair provenance"
        ),
        "a further text": (
            "cost cost.dense cost.realised accuracy precisions.fp32 precisions.fp32.accuracy precisions.int8 "
            "precisions.int8.accuracy embedded.parity parity parity.worst.pair provenance provenance.versions"
        ),
        "a long text": (
            "inputs.0.name inputs.0.shape.0 outputs.0.name outputs.0.shape.0 cost.convention accuracy.split "
            "precisions.fp32.accuracy.split precisions.int8.accuracy.split embedded.inputs.0.name "
            "embedded.inputs.0.shape.0 embedded.outputs.0.name embedded.outputs.0.shape.0 embedded.parity.pair "
            "embedded.parity.dtype parity.worst.pair.pair parity.worst.pair.dtype provenance.recipe provenance.model "
            "provenance.method provenance.data provenance.versions.torch"
        ),
        "missing": (
            "embedded cost.unknown_operators.dense cost.unknown_operators.dense.Foo accuracy.split accuracy.count "
            "accuracy.slim accuracy.dense precisions.int8 precisions.fp32.per_class precisions.int8.per_class "
            "embedded.parity.undecided parity.worst.pair parity.worst.pair.undecided provenance.recipe provenance.model "
            "provenance.method provenance.data provenance.epochs provenance.seed provenance.run_config_sha256 "
            "provenance.versions.torch"
        ),
        "no item": (
            "inputs.0.shape outputs.0.shape precisions.fp32.per_class precisions.int8.per_class embedded.inputs.0.shape "
            "embedded.outputs.0.shape"
        ),
        "no text": (
            "inputs.0.name inputs.0.shape.0 outputs.0.name outputs.0.shape.0 labels.0 cost.convention accuracy.split "
            "precisions.fp32.accuracy.split precisions.int8.accuracy.split embedded.inputs.0.name "
            "embedded.inputs.0.shape.0 embedded.outputs.0.name embedded.outputs.0.shape.0 embedded.parity.pair "
            "embedded.parity.dtype parity.worst.pair.pair parity.worst.pair.dtype provenance.recipe provenance.model "
            "provenance.method provenance.data provenance.versions.torch"
        ),
        "null": (
            "cost.flops_ratio accuracy.slim accuracy.dense precisions.fp32.accuracy precisions.fp32.accuracy.value "
            "precisions.fp32.agreement precisions.fp32.per_class.0 precisions.int8.accuracy "
            "precisions.int8.accuracy.value precisions.int8.agreement precisions.int8.per_class.0 "
            "embedded.parity.agreement parity.worst.pair.agreement provenance.recipe"
        ),
        "one item more": (
            "inputs inputs.0.shape outputs outputs.0.shape labels preprocessing.mean preprocessing.std "
            "precisions.fp32.per_class precisions.int8.per_class embedded.inputs embedded.inputs.0.shape embedded.outputs "
            "embedded.outputs.0.shape"
        ),
    },
}
KINDS = {entry.name.removesuffix(".schema.json") for entry in files("slimnet._json").iterdir() if "schema" in entry.name}


def arguments(kind: str) -> tuple[str, ...]:
    return (kind, "slimnet.bundle") if kind == "bundle" else (kind,)


def test_every_schema_has_its_value() -> None:
    assert WHOLE.keys() == TAKEN.keys() == KINDS | {"bundle"}


@pytest.mark.parametrize("kind", WHOLE)
def test_all_else_is_refused(kind: str) -> None:
    fits = fast.compiled(schema(*arguments(kind)))
    assert fits(WHOLE[kind])
    assert taken(WHOLE[kind], fits) == TAKEN[kind]


LONG: list[tuple[str, tuple[str | int, ...], Any, int]] = [  # the longest lists, and what they are of
    ("run", ("data", "classes"), "a", 1048576),
    ("run", ("data", "mean"), 0.5, 4096),
    ("run", ("target", "layers"), WHOLE["run"]["target"]["layers"][0], 100000),
    ("metrics", ("test_confusion",), [1], 100000),
    ("metrics", ("test_confusion", 0), 1, 100000),
    ("network", ("mean",), 0.5, 4096),
    ("plan", ("folds", 0, "constants"), 0.5, 1048576),
    ("bundle", ("labels",), "a", 1048576),
    ("bundle", ("inputs", 0, "shape"), 1, 16),
    ("bundle", ("preprocessing", "mean"), 0.5, 3),
]


@pytest.mark.parametrize(("kind", "path", "item", "most"), LONG)
def test_lists_have_an_end(kind: str, path: tuple[str | int, ...], item: Any, most: int) -> None:
    fits = fast.compiled(schema(*arguments(kind)))
    assert not fits(changed(WHOLE[kind], path, [item] * (most + 1)))
    assert fits(changed(WHOLE[kind], path, [item] * min(most, 5000)))


COMPACT = {"precisions": {"int8": WHOLE["bundle"]["precisions"]["int8"]}, "compact": True}
FP32 = WHOLE["bundle"]["precisions"]["fp32"]
RGB = {name: rule for name, rule in WHOLE["bundle"]["preprocessing"].items() if name != "grey"} | {"channels": 3, "color": "rgb"}
BUNDLES: dict[str, tuple[dict[str, Any], bool]] = {
    "compact": (COMPACT, True),
    "compact: false": ({**COMPACT, "compact": False}, False),
    "compact, of two": ({"compact": True}, False),
    "whole, without fp32": ({"precisions": COMPACT["precisions"]}, False),
    "whole, without its dense network": ({"files": {"config.json": {"bytes": 5, "sha256": "0" * 64}}}, False),
    "grey, of three channels": ({"preprocessing": {**WHOLE["bundle"]["preprocessing"], "channels": 3}}, False),
    "compact, with pictures": ({**COMPACT, "embedded": WHOLE["bundle"]["embedded"]}, False),
    "compact, without a network": ({"compact": True, "precisions": {}}, False),
    "fp16 in a file of another name": ({"precisions": {**WHOLE["bundle"]["precisions"], "fp16": FP32}}, False),
    "a range of true and false": (
        {"preprocessing": {**WHOLE["bundle"]["preprocessing"], "range": [False, True]}},
        False,
    ),
    "1 for true": ({"preprocessing": {**RGB, "resize": {**RGB["resize"], "antialias": 1}}}, False),
    "a negative size": ({"inputs": [{"name": "x", "dtype": "float32", "shape": [-1]}]}, False),
    "a size of 2^31": ({"inputs": [{"name": "x", "dtype": "float32", "shape": [1 << 31]}]}, False),
    "colours": ({"preprocessing": RGB}, True),
    "colours, of one channel": ({"preprocessing": {**RGB, "channels": 1}}, False),
    "colours, with weights of grey": ({"preprocessing": {**RGB, "grey": WHOLE["bundle"]["preprocessing"]["grey"]}}, False),
    "no known colours": ({"preprocessing": {**RGB, "color": "bgr"}}, False),
    "grey, as colours": ({"preprocessing": {**WHOLE["bundle"]["preprocessing"], "color": "rgb"}}, False),
    "a file of another folder": ({"files": {**WHOLE["bundle"]["files"], "../x": {"bytes": 5, "sha256": "0" * 64}}}, False),
}


@pytest.mark.parametrize("case", BUNDLES)
def test_kinds_of_bundles(case: str) -> None:
    change, good = BUNDLES[case]
    value = {name: item for name, item in WHOLE["bundle"].items() if name != "embedded"} | change
    assert fast.compiled(schema(*arguments("bundle")))(value) == good


def test_words_of_schemas() -> None:
    assert not fast.compiled({"oneOf": [True, True]})(1)  # one, not several
    with pytest.raises(ValueError, match="unknown word in a schema: format"):
        fast.compiled({"type": "string", "format": "date"})


def test_a_very_long_number_is_not_shown() -> None:
    with pytest.raises(FileFormatError, match="`num_classes` must be a whole number, got a number of very many digits"):
        check({**WHOLE["network"], "num_classes": 10**400}, "network", "x.json")


@pytest.mark.parametrize("kind", WHOLE)
def test_what_is_refused_gets_one_line(kind: str) -> None:
    """Also where it is no object at all, and whatever is in its place."""
    package = "slimnet.bundle" if kind == "bundle" else None
    for value in ([], None, "x", 10**400, float("nan"), [[]] * 50, {"x" * 5000: [1]}):
        with pytest.raises(FileFormatError) as error:
            check(value, kind, "x.json", package=package)
        assert str(error.value).startswith("x.json: ") and len(str(error.value)) < 400

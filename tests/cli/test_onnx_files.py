"""slimnet slim, prune and inspect on ONNX files. What is cut: test_onnx_surgery.py."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest

from command import slimnet_cli
from onnx_nets import CONV, CONV_WEIGHTS, GONE, HEAD, HEAD_WEIGHTS, model, plain, shapes


@pytest.fixture
def file(here: Path) -> Path:
    onnx.save(plain(), here / "a.onnx")
    return here / "a.onnx"


def test_slim_writes_the_smaller_file_its_plan_and_the_figures(file: Path, here: Path) -> None:
    done = slimnet_cli("slim", file.name, "--out", "out")
    assert (done.status, done.err) == (0, "")
    assert "channels: 3 removed, 3 were zero in every layer" in done.out
    assert {path.name for path in (here / "out").iterdir()} == {"model.onnx", "plan.json", "report.json"}
    assert shapes(onnx.load(here / "out/model.onnx"))["w"] == (8 - len(GONE), 3, 3, 3)
    report = json.loads((here / "out/report.json").read_text())
    assert report["cost"]["after"]["flops"] < report["cost"]["before"]["flops"]
    assert report["surgery"]["verification"]["worst"] <= 1e-9


def test_prune_closes_and_cuts_at_once(file: Path, here: Path) -> None:
    done = slimnet_cli("prune", file.name, "--rate", "0.5", "--out", "out")
    assert (done.status, done.err) == (0, "")
    assert done.out.splitlines()[-1] == "out/model.onnx"
    masked, small = (onnx.load(here / "out" / name) for name in ("masked.onnx", "model.onnx"))
    weight = next(onnx.numpy_helper.to_array(tensor) for tensor in masked.graph.initializer if tensor.name == "w")
    closed = ~np.abs(weight).reshape(8, -1).any(axis=1)
    assert closed.sum() == 4
    assert closed[list(GONE)].all()  # the lowest norms of all
    assert shapes(small)["w"] == (4, 3, 3, 3)
    report = json.loads((here / "out/report.json").read_text())
    assert report["groups"] == [{"name": "c", "size": 8, "closed": 4}]
    assert slimnet_cli("slim", "out/masked.onnx", "--out", "again").status == 0
    assert (here / "again/model.onnx").read_bytes() == (here / "out/model.onnx").read_bytes()


def test_inspect_says_what_can_go(file: Path) -> None:
    done = slimnet_cli("inspect", file.name, "--json")
    (group, head) = json.loads(done.out)["groups"]
    assert (group["name"], group["closed"], group["kept"]) == ("c", 3, 5)
    assert (head["kept"], head["size"]) == (5, 5)


def test_a_fixed_batch_is_that_of_the_target(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    onnx.save(model(CONV + HEAD, CONV_WEIGHTS | HEAD_WEIGHTS, inputs="float[4, 3, 8, 8] x"), here / "a.onnx")
    done = slimnet_cli("prune", "a.onnx", "--target-speedup", "2", "--out", "out")
    assert (done.status, done.err) == (1, (
        "slimnet: error: a.onnx has a fixed batch of 4, the target is for 1: give --target-batch 4 (`batch` in Python).\n"
    ))  # fmt: skip
    assert not (here / "out").exists()
    timed: list[int] = []
    monkeypatch.setattr("slimnet.allocation.aligned.fit_padding", lambda *_, batch: timed.append(batch))
    assert slimnet_cli("slim", "a.onnx", "--align", "auto", "--out", "out").status == 0
    assert timed == [4]


def test_pictures_are_not_made_to_fit_a_network_of_other_than_square_ones(here: Path) -> None:
    wide = {"w": CONV_WEIGHTS["w"][:, :1], "b": CONV_WEIGHTS["b"]}
    onnx.save(model(CONV + HEAD, wide | HEAD_WEIGHTS, inputs="float[N, 1, 8, 16] x"), here / "a.onnx")
    for criterion in ("cs", "taylor"):
        done = slimnet_cli("prune", "a.onnx", "--criterion", criterion, "--rate", "0.5", "--data", "digits", "--out", "out")
        assert (done.status, done.err) == (1, (
            "slimnet: error: the network takes images of 8×16, those of digits are made square: "
            "give a network of square images, or a criterion that needs no data, without --data.\n"
        ))  # fmt: skip
    assert not (here / "out").exists()


def test_what_is_not_followed_is_said(here: Path) -> None:
    body = CONV + HEAD.replace("y = Gemm", "z = Gemm") + "k = Constant <value = int64[1] {3}> () y, i = TopK (z, k)"
    onnx.save(model(body, CONV_WEIGHTS | HEAD_WEIGHTS), here / "a.onnx")
    done = slimnet_cli("slim", "a.onnx", "--out", "out")
    assert done.status == 0
    assert "not followed: TopK (y): an operator that slimnet does not know" in done.err
    assert json.loads((here / "out/report.json").read_text())["not_followed"] == {
        "TopK (y)": "an operator that slimnet does not know"
    }


def test_a_network_of_two_inputs_is_slimmed_and_not_pruned(here: Path) -> None:
    two = "float[N, 3, 8, 8] x, float[N, 8] z"
    body = CONV + "p = GlobalAveragePool (r) f = Flatten (p) g = Add (f, z) y = Gemm <transB = 1> (g, v, u)"
    onnx.save(model(body, CONV_WEIGHTS | HEAD_WEIGHTS, inputs=two), here / "a.onnx")
    assert slimnet_cli("slim", "a.onnx", "--out", "out").status == 0
    done = slimnet_cli("prune", "a.onnx", "--rate", "0.5", "--out", "new")
    assert (done.status, done.out) == (1, "")
    assert "a.onnx has 2 inputs: only networks of one are pruned" in done.err
    assert not (here / "new").exists()


def test_names_from_the_file_do_not_reach_the_terminal_as_they_are(here: Path) -> None:
    proto = model(CONV + HEAD.replace("y = Gemm", "z = Gemm") + "y = Strange (z)", CONV_WEIGHTS | HEAD_WEIGHTS)
    proto.graph.node[-1].op_type = "\x1b[31mStrange"
    proto.graph.node[-1].domain = "somebody"
    proto.graph.node[0].name = "conv\x1b]0;title\x07"
    proto.opset_import.append(onnx.helper.make_opsetid("somebody", 1))
    onnx.save(proto, here / "a.onnx")
    for command in ("inspect a.onnx", "slim a.onnx --out out"):
        done = slimnet_cli(*command.split())
        assert "\x1b" not in done.out + done.err
        assert "\x07" not in done.out + done.err

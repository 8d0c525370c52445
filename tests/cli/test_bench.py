"""slimnet bench: what is compared and printed, and what bad input gets."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import numpy as np

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

BENCH = ("--rounds", "3", "--seconds", "0")


# --- what works -----------------------------------------------------------------------------------------------------------


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


def test_pytorch_beside_all_is_said_to_do_nothing(made: Made) -> None:
    done = slimnet_cli("bench", made.bundle, "--runtimes", "all,torch", *BENCH, "--json")
    assert [row["name"] for row in done.json["variants"]] == ["onnxruntime fp32"]
    assert done.err.splitlines()[0] == (
        "`torch` does nothing here: `all` compares the files of the bundle; name the runtimes in its place"
    )


# --- bad input ------------------------------------------------------------------------------------------------------------

LISTED = sorted(BUNDLE - {"model.json"})


def cutting(name: str) -> Change:
    return copied("bundle", lambda folder: cut(folder / name))


def removing(name: str) -> Change:
    return copied("bundle", lambda folder: remove(folder, name))


BAD: list[Bad] = [
    ("bench x.onnx", "x.onnx is not a readable ONNX file", holding("x.onnx", lambda p: p.write_text("hello"))),
    ("bench x.onnx", "x.onnx is not a readable ONNX file", holding("x.onnx", Path.touch)),
    ("bench x.ONNX", "x.ONNX is not a readable ONNX file", holding("x.ONNX", Path.touch)),
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


test_bad_input_gets_one_line_and_nothing_is_written = refused(BAD)


USAGE = [
    ("bench", "Missing argument 'WHAT...'"),
    ("bench a.onnx a.onnx", "the same file is given twice"),
    ("bench a.onnx --batch 0", "0 is not in the range 1<=x<=2147483647"),
    ("bench a.onnx --seconds nan", "nan is not a finite number"),
    ("bench a.onnx --seconds inf", "inf is not a finite number"),
    ("bench a.onnx --threads 99999999999999999999", "is not in the range 1<=x<=1024"),
    ("bench a.onnx --threads 1,two", "'two' is not a valid integer range"),
    ("bench a.onnx --runtime torch", "--runtime torch needs a bundle"),
    ("bench a.onnx --runtime onnxruntime,ncnn", "--runtime ncnn needs a bundle"),
    ("bench a --runtime onnxruntime,jax", "'jax' is not one of 'all', 'onnxruntime', 'torch', 'torch-compile'"),
]


test_wrong_usage_exits_2 = wrong_usage(USAGE)

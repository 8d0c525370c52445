"""What surrounds a measurement: given inputs, target against prediction, pictures."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from PIL import Image

from chain import matmuls
from slimnet.commands import BenchReport, bench_files, check_plot, plot_bench
from slimnet.commands.target import against_target
from slimnet.errors import ArgumentError, FileFormatError, SlimnetError
from slimnet.measure import LatencyReport, Variant
from slimnet.measure.inputs import read_inputs
from slimnet.report.latency import Point, plot_latency
from slimnet_cli._bench_table import show

# --- inputs ---------------------------------------------------------------------------------------------------------------


def test_inputs_from_files(tmp_path: Path) -> None:
    one, two = np.ones((2, 3), np.uint8), np.zeros((2, 4))
    np.save(tmp_path / "one.npy", one)
    np.savez(tmp_path / "one.npz", images=one)
    np.savez(tmp_path / "two.npz", images=one, others=two)
    for name in ("one.npy", "one.npz"):
        found = read_inputs(tmp_path / name)
        assert isinstance(found, np.ndarray)
        np.testing.assert_array_equal(found, one)
    named = read_inputs(tmp_path / "two.npz")
    assert isinstance(named, dict) and named.keys() == {"images", "others"}


@pytest.mark.parametrize("kind", ["missing", "text", "empty", "objects", "cut", "no array", "folder"])
def test_files_that_hold_no_inputs(kind: str, tmp_path: Path) -> None:
    path = tmp_path / ("inputs.npz" if kind == "no array" else "inputs.npy")
    if kind == "text":
        path.write_text("hello")
    elif kind == "empty":
        path.touch()
    elif kind == "objects":
        np.save(path, np.array([{}, []], dtype=object), allow_pickle=True)
    elif kind == "cut":
        np.save(path, np.ones(1000))
        path.write_bytes(path.read_bytes()[:500])
    elif kind == "no array":
        np.savez(path)
    elif kind == "folder":
        path.mkdir()
    with pytest.raises(FileFormatError, match=r"inputs\.np[yz]") as caught:
        read_inputs(path)
    assert "\n" not in str(caught.value)


# --- target, prediction, measurement --------------------------------------------------------------------------------------


def variant(name: str, ms: float, speedup: float = 1.0) -> Variant:
    ends = (speedup - 0.05, speedup + 0.05)
    return Variant(name, None, None, 9, ms, ms, None, speedup, ends, 1.0, 1.0, False, median_interval=(ms - 0.1, ms + 0.1),
                   ratios=np.full(9, speedup))  # fmt: skip


def measured(*, threads: int = 1, batch: int = 1, provider: str = "cpu", cpu: str = "this") -> LatencyReport:
    variants = (variant("dense", 3.0), variant("slim", 1.0, 2.95))
    return LatencyReport(variants, variant("dense", 3.0), "dense", batch, threads, provider, "random", 9, 1.0, {},
                         {"cpu": cpu, "instructions": "avx2"})  # fmt: skip


PREDICTED = {"ms": 1.02, "dense_ms": 3.01, "speedup": 3.02, "flops_left": 0.3, "params_left": 0.2}
TARGET = {"target": {"speedup": 3.0}, "predicted": PREDICTED, "threads": 1, "batch": 1, "cpu": "this"}


def said(target: dict[str, Any], latency: LatencyReport, capsys: pytest.CaptureFixture[str], first: str = "onnxruntime") -> str:
    row = dict.fromkeys(("accuracy", "flops", "params", "file_bytes", "unknown_operators", "memory_bytes"))
    rows = ({**row, "name": "dense"}, {**row, "name": "slim"})
    show(BenchReport(rows, latency, None, against_target(target, latency, first=first)), memory=False)
    return capsys.readouterr().out.splitlines()[-1]


def test_the_instruction_set_is_told_beside_the_processor(capsys: pytest.CaptureFixture[str]) -> None:
    assert said({}, measured(), capsys).endswith("batch 1, 1 thread, 9 rounds, random inputs, this, avx2")


@pytest.mark.parametrize(
    ("target", "line"),
    [
        ({"speedup": 3.0}, "target 3.00×, predicted 3.02×, measured 2.95× (2.90–3.00)"),
        ({"ms": 1.0}, "target 1.000 ms, predicted 1.020 ms, measured 1.000 ms (0.900–1.100)"),
        ({"flops": 0.3}, "target 30.00 % of the FLOPs, predicted 3.02×, measured 2.95× (2.90–3.00)"),
        ({"params": 0.2}, "target 20.00 % of the weights, predicted 3.02×, measured 2.95× (2.90–3.00)"),
    ],
)
def test_target_prediction_and_measurement(target: dict[str, float], line: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert said({**TARGET, "target": target}, measured(), capsys) == line


@pytest.mark.parametrize(
    ("latency", "first", "reason"),
    [
        (measured(threads=2), "onnxruntime", "it is for threads 1, measured was threads 2"),
        (measured(batch=8), "onnxruntime", "it is for batch 1, measured was batch 8"),
        (measured(provider="openvino"), "onnxruntime", "it is for ONNX Runtime on the CPU"),
        (measured(), "torch", "it is for ONNX Runtime on the CPU"),
        (measured(cpu="other"), "onnxruntime", "it is for another processor, this"),
    ],
)
def test_what_cannot_be_held_against_a_target(
    latency: LatencyReport, first: str, reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert said(TARGET, latency, capsys, first) == f"target 3.00×, predicted 3.02×, not comparable: {reason}"
    assert (against_target(TARGET, latency, first=first) or {})["measured"] is None


@pytest.mark.parametrize(
    ("made_for", "reason"),
    [("onnxruntime", "it is for ONNX Runtime on the CPU"), ("openvino", "a bundle holds no dense network for openvino")],
)
@pytest.mark.parametrize("count", [1, 2])
def test_a_runtime_without_a_dense_network_is_not_held_against_a_target(count: int, made_for: str, reason: str) -> None:
    slim = (variant("slim (openvino)", 1.0), variant("slim int8 (openvino)", 0.5, 2.0))
    told = against_target({**TARGET, "runtime": made_for}, replace(measured(), variants=slim[:count]), first="openvino")
    assert told is not None
    assert (told["measured"], told["reason"]) == (None, reason)


def test_no_target_nothing_said(capsys: pytest.CaptureFixture[str]) -> None:
    assert against_target(None, measured(), first="onnxruntime") is None
    assert said({}, measured(), capsys).startswith("A/A control")


# --- pictures -------------------------------------------------------------------------------------------------------------


def point(name: str, ms: float, flops: int | None, base: float, runtime: str = "onnxruntime") -> Point:
    ratios = base / ms * np.random.default_rng(0).normal(1, 0.02, 50)
    return Point(name, runtime, flops, ms, (0.99 * ms, 1.01 * ms), base / ms, (0.98 * base / ms, 1.02 * base / ms), ratios)


SETS = {
    "two": [point("dense", 3, 100, 3), point("slim", 1, 30, 3)],
    "without FLOPs": [point("a", 3, None, 3), point("b", 1, None, 3)],
    "one": [point("a", 3, 10, 3)],
    "far apart": [point("dense", 3, 100, 3), point("dense (torch)", 90, 100, 3, "torch"), point("slim", 1, 30, 3)],
}


@pytest.mark.parametrize("name", SETS)
def test_pictures(name: str, tmp_path: Path) -> None:
    words = plot_latency(SETS[name], point("dense", 3, None, 3), "1 thread, batch 1", tmp_path / "p.png")
    assert words.title.endswith(": 1 thread, batch 1")
    assert all(p.name in words.alt for p in SETS[name])
    with Image.open(tmp_path / "p.png") as picture:
        assert picture.width == 900
        assert np.asarray(picture.convert("L")).std() > 10  # something is drawn
    assert [path.name for path in tmp_path.iterdir()] == ["p.png"]


def test_a_constant_ratio_can_be_drawn(tmp_path: Path) -> None:
    report = BenchReport(({"flops": 10}, {"flops": 5}), measured())
    plot_bench(report, tmp_path / "p.svg")
    assert "<svg" in (tmp_path / "p.svg").read_text()


def test_a_picture_that_cannot_be_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ArgumentError, match=r"p\.gif must end in \.png, \.svg or \.pdf"):
        check_plot(tmp_path / "p.gif")
    with pytest.raises(ArgumentError, match="no timings"):
        plot_latency([], point("a", 1, None, 1), "", tmp_path / "p.png")
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(SlimnetError, match=r"pip install 'slimnet\[plots\]'"):
        check_plot(tmp_path / "p.png")


def test_files_are_counted_and_their_memory_is_seen(tmp_path: Path) -> None:
    files = {name: matmuls(tmp_path / f"{name}.onnx", layers) for name, layers in (("a", 4), ("b", 1))}
    report = bench_files(files, memory=True, rounds=3, seconds=0.0, warmup=0.0)
    assert [row["flops"] for row in report.rows] == [4 * 128 * 128, 128 * 128]
    assert all(row["memory_bytes"] is None or row["memory_bytes"] > 0 for row in report.rows)
    plot_bench(report, tmp_path / "p.png")
    assert report.as_dict()["target"] is None


def test_weights_beside_a_file_count_with_it(tmp_path: Path) -> None:
    whole = matmuls(tmp_path / "whole.onnx", 1)
    onnx.save(onnx.load(whole), tmp_path / "a.onnx", save_as_external_data=True, size_threshold=0, location="a.data")
    report = bench_files({name: tmp_path / f"{name}.onnx" for name in ("whole", "a")}, rounds=3, seconds=0.0, warmup=0.0)
    sizes = [whole.stat().st_size, sum((tmp_path / name).stat().st_size for name in ("a.onnx", "a.data"))]
    assert [row["file_bytes"] for row in report.rows] == [variant.bytes for variant in report.latency.variants] == sizes

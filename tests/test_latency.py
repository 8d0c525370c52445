"""Paired latency: statistics on made-up samples, and real sessions small enough to run in a second."""

from __future__ import annotations

import gc
import json
import threading
import time

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from chain import Scripted, matmuls
from slimnet.errors import ArgumentError, FileFormatError, MeasureError
from slimnet.measure import compare_latency
from slimnet.measure.machine import Activity, Watch, processors
from slimnet.measure.stats import is_bimodal, is_settled, median_interval
from slimnet.measure.timings import Variant, reasons_to_distrust

QUICK = {"rounds": 30, "seconds": 0.0, "warmup": 0.3}


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    return {"dense": matmuls(folder / "dense.onnx", 64), "slim": matmuls(folder / "slim.onnx", 8)}


@pytest.fixture(scope="module")
def report(models):
    return compare_latency(models, rounds=60, seconds=0.2, warmup=0.5, batch=8)


def test_finds_the_faster_model(report):
    dense, slim = report["dense"], report["slim"]
    assert [variant.name for variant in report.variants] == ["dense", "slim"]
    assert report.baseline == report.control.name == "dense"
    assert dense.speedup == 1.0 and dense.interval == (1.0, 1.0)
    assert slim.speedup > 2  # it does an eighth of the work, in the same rounds
    assert slim.interval[0] <= slim.speedup <= slim.interval[1]
    assert 0 < slim.median_ms < dense.median_ms
    assert slim.median_ms <= slim.p90_ms
    assert slim.session_ms > 0 and slim.first_ms > 0


DRIFT = np.linspace(1, 3, 50)  # the machine gets three times slower


def scripted(**paces: int) -> dict[str, Scripted]:
    """Networks that take 1 ms × pace, on a machine that drifts."""
    return {name: Scripted([pace * round(1e6 * factor) for factor in DRIFT]) for name, pace in paces.items()}


def test_a_drift_hits_all_alike():
    report = compare_latency(scripted(dense=4, slim=1), rounds=50, seconds=0, warmup=0)
    assert report["slim"].speedup == report["slim"].interval[0] == report["slim"].interval[1] == 4
    assert report["dense"].median_ms == pytest.approx(8, rel=0.01)
    assert report["slim"].p90_ms == pytest.approx(2.8, rel=0.01)
    assert report.control.speedup == 1 and report.control.interval == (1, 1)


def test_control_is_the_baseline_again(report):
    assert report.control.runtime == report["dense"].runtime and report.control.bytes == report["dense"].bytes
    assert report.control.interval != (1.0, 1.0)
    assert report.control.samples == report.rounds


def test_ratios_are_kept(report):
    slim = report["slim"]
    assert slim.ratios.shape == (report.rounds,)
    assert slim.speedup == np.median(slim.ratios)
    assert "ratios" not in slim.as_dict()


def test_rounds_and_seconds_are_both_reached(report):
    assert report.rounds >= 60
    assert report.seconds >= 0.2
    assert all(variant.samples == report.rounds for variant in report.variants)


def test_report_is_json(report):
    value = json.loads(json.dumps(report.as_dict(), allow_nan=False))
    assert len(json.dumps(value)) < 4000  # no single timings
    assert (value["provider"], value["inputs"]) == ("cpu", "random")
    low, high = value["variants"][1]["median_interval"]
    assert low <= value["variants"][1]["median_ms"] <= high
    assert value["variants"][1]["interval"] == list(report["slim"].interval)
    assert {
        "cpu",
        "instructions",
        "processors",
        "governor",
        "system",
        "python",
        "onnxruntime",
        "numpy",
        "load_average",
        "date",
    } == set(value["environment"])


def test_p99_needs_a_thousand_samples(models, report):
    assert report.rounds < 1000 and report["slim"].p99_ms is None
    many = compare_latency({"slim": models["slim"]}, rounds=1000, seconds=0, warmup=0.1)
    assert many["slim"].p99_ms >= many["slim"].p90_ms


def test_baseline_by_name():
    report = compare_latency(scripted(dense=4, slim=1), baseline="slim", rounds=50, seconds=0, warmup=0)
    assert report.baseline == report.control.name == "slim"
    assert report["dense"].speedup == 0.25


def test_limit_ends_it_and_says_so(models):
    report = compare_latency(models, rounds=10**9, seconds=0, limit=0.1, warmup=0.1)
    assert report.rounds < 10**9
    assert "rounds" in report.flags["short"]


def test_more_threads_than_processors_is_flagged(models):
    threads = processors() + 1
    report = compare_latency({"slim": models["slim"]}, threads=threads, rounds=3, seconds=0, warmup=0)
    assert f"{threads} threads" in report.flags["threads"]


@pytest.mark.parametrize("failing", [False, True])
def test_garbage_collection_is_off_inside_and_on_again_outside(models, failing):
    seen = []

    def progress(share):
        seen.append((share, gc.isenabled()))
        if failing:
            raise KeyboardInterrupt

    if failing:
        with pytest.raises(KeyboardInterrupt):
            compare_latency(models, progress=progress, **QUICK)
    else:
        compare_latency(models, progress=progress, rounds=30, seconds=0.3, warmup=0.1)
        assert seen[-1][0] == 1.0 and all(0 <= share <= 1 for share, _ in seen)
    assert seen and not any(enabled for _, enabled in seen)
    assert gc.isenabled()


INPUTS = {
    "as many as the batch": np.ones((3, 128), np.float32),
    "fewer: starts over": np.ones((2, 128), np.float32),
    "more: the first": np.ones((9, 128), np.float32),
    "of another type": np.ones((3, 128), np.float64),
    "by name": {"x": np.ones((3, 128), np.float32)},
}


@pytest.mark.parametrize("name", INPUTS)
def test_real_inputs(models, name):
    report = compare_latency({"slim": models["slim"]}, batch=3, inputs=INPUTS[name], **QUICK)
    assert report.batch == 3


BAD = {
    "no models": ({}, {}),
    "batch 0": (None, {"batch": 0}),
    "threads 0": (None, {"threads": 0}),
    "rounds 0": (None, {"rounds": 0}),
    "negative seconds": (None, {"seconds": -1.0}),
    "endless": (None, {"limit": float("inf")}),
    "not a number": (None, {"seconds": float("nan")}),
    "unknown baseline": (None, {"baseline": "other"}),
    "input of another size": (None, {"inputs": np.ones((1, 3), np.float32)}),
    "input without batch": (None, {"inputs": np.ones(128, np.float32)}),
    "empty input": (None, {"inputs": np.ones((0, 128), np.float32)}),
    "input of another kind": (None, {"inputs": np.ones((1, 128), np.complex64)}),
    "unknown provider": (None, {"provider": "npu"}),
    "input of another name": (None, {"inputs": {"y": np.ones((1, 128), np.float32)}}),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_arguments(models, name):
    given, arguments = BAD[name]
    with pytest.raises(ArgumentError) as caught:
        compare_latency(models if given is None else given, **{**QUICK, **arguments})
    assert "\n" not in str(caught.value)


def test_fixed_batch(tmp_path):
    path = matmuls(tmp_path / "fixed.onnx", 1, batch=2)
    with pytest.raises(ArgumentError, match=r"`batch` must be 2 .*got 1"):
        compare_latency({"fixed": path}, **QUICK)
    assert compare_latency({"fixed": path}, batch=2, **QUICK).batch == 2


@pytest.mark.parametrize("kind", [TensorProto.DOUBLE, TensorProto.INT64, TensorProto.INT32])
def test_random_input_of_other_types(tmp_path, kind):
    path = matmuls(tmp_path / "typed.onnx", 1, kind=kind)
    assert compare_latency({"typed": path}, **QUICK)["typed"].median_ms > 0


@pytest.mark.parametrize("content", [None, b"", b"not an onnx file", "cut short"])
def test_unreadable_files_are_named(models, tmp_path, content, capfd):
    path = tmp_path / "broken.onnx"
    if content is not None:
        path.write_bytes(models["dense"].read_bytes()[:-2000] if content == "cut short" else content)
    with pytest.raises(FileFormatError, match=r"broken\.onnx") as caught:
        compare_latency({"dense": models["dense"], "broken": path}, **QUICK)
    assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")


def test_a_model_that_fails_when_run_is_named(tmp_path):
    nodes = [helper.make_node("Reshape", ["x", "shape"], ["y"])]
    ends = [[helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 4])] for name in ("x", "y")]
    shape = numpy_helper.from_array(np.array([3, 5], np.int64), "shape")
    model = helper.make_model(helper.make_graph(nodes, "g", *ends, [shape]), ir_version=10)
    model.opset_import[0].version = 18
    path = tmp_path / "reshape.onnx"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(MeasureError, match=r"reshape\.onnx does not run at batch 1"):
        compare_latency({"reshape": path}, **QUICK)


def by_resampling(values: np.ndarray, resamples: int = 4000) -> np.ndarray:
    rng = np.random.default_rng(0)
    medians = np.median(rng.choice(values, (resamples, len(values))), axis=1)
    return np.quantile(medians, [0.025, 0.975])


@pytest.mark.parametrize("n", [1, 2, 21, 40, 401])
def test_interval_is_that_of_resampling(n):
    values = np.random.default_rng(n).normal(10, 1, n)
    np.testing.assert_allclose(median_interval(values), by_resampling(values), atol=0.12 if n > 2 else 1e-9)


def test_interval_covers_the_true_median():
    rng = np.random.default_rng(3)
    intervals = [median_interval(rng.lognormal(0, 0.3, 60), seed=i) for i in range(300)]
    assert 0.92 <= np.mean([low <= 1 <= high for low, high in intervals]) <= 0.99


def test_interval_is_seeded():
    values = np.random.default_rng(0).normal(size=50)
    assert median_interval(values, seed=1) == median_interval(values, seed=1)


def normal(mean: float, spread: float, n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(mean, spread, n)


SHAPES = {
    "normal": (normal(10, 0.3, 500), False),
    "uniform": (np.random.default_rng(0).uniform(8, 12, 500), False),
    "long tail": (np.random.default_rng(0).lognormal(0, 0.5, 500), False),
    "a few outliers": (np.concatenate([normal(10, 0.2, 480), normal(30, 1, 20)]), False),
    "two clumps": (np.concatenate([normal(10, 0.2, 300), normal(13, 0.2, 200)]), True),
    "clumps too near to matter": (np.concatenate([normal(10, 0.01, 300), normal(10.1, 0.01, 200)]), False),
    "too few": (np.array([1.0, 2.0] * 5), False),
    "all equal": (np.ones(100), False),
}


@pytest.mark.parametrize("name", SHAPES)
def test_bimodal(name):
    values, expected = SHAPES[name]
    assert is_bimodal(values) is expected


def test_settled_means_no_variant_drifts():
    flat = np.ones((20, 2))
    drifting = flat * np.linspace(2, 1, 20)[:, None] ** [0, 1]
    assert is_settled(flat)
    assert not is_settled(drifting)
    assert not is_settled(flat[:10])


def variant(speedup: float = 1.0, interval: tuple[float, float] = (0.99, 1.01), *, bimodal: bool = False) -> Variant:
    return Variant("a", "a.onnx", 1, 200, 1.0, 1.1, None, speedup, interval, 1.0, 1.0, bimodal)


QUIET = Activity(seconds=1.0, load=0.1, stolen=0.0, on_processor=0.999)
DISTRUST = {
    "quiet": (variant(), variant(), QUIET, set()),
    "control off": (variant(), variant(1.05, (1.04, 1.06)), QUIET, {"contended"}),
    "control's interval wide": (variant(), variant(1.0, (0.96, 1.01)), QUIET, {"contended"}),
    "stolen": (variant(), variant(), Activity(1.0, 0.1, 0.1, 1.0), {"contended"}),
    "loaded": (variant(), variant(), Activity(1.0, 999.0, 0.0, 1.0), {"contended"}),
    "waiting for a processor": (variant(), variant(), Activity(1.0, None, 0.0, 0.7), {"contended"}),
    "bimodal": (variant(bimodal=True), variant(), QUIET, {"bimodal"}),
}


def test_a_thread_that_waits_for_others_is_no_sign_of_contention():
    waiting = Activity(1.0, None, 0.0, 0.2)
    assert reasons_to_distrust([variant()], variant(), 1, waiting).keys() == {"contended"}
    assert reasons_to_distrust([variant()], variant(), 2, waiting, "cpu").keys() <= {"threads"}
    assert reasons_to_distrust([variant()], variant(), 1, waiting, "cuda") == {}


@pytest.mark.parametrize("name", DISTRUST)
def test_reasons_to_distrust(name):
    timed, control, activity, codes = DISTRUST[name]
    assert set(reasons_to_distrust([timed], control, 1, activity)) == codes


def test_watch_sees_a_thread_that_waits():
    watch = Watch()
    waiting = threading.Event()
    waiting.wait(0.2)
    assert watch.stop().on_processor < 0.5
    watch, end = Watch(), time.perf_counter() + 0.02
    while time.perf_counter() < end:
        pass
    assert watch.stop().seconds >= 0.02

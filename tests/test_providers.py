"""Execution providers: what a build lacks, what falls back in silence, and runs whose data stay on the GPU."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

from chain import matmuls
from skips import skip_without
from slimnet.errors import ArgumentError, MeasureError
from slimnet.measure import compare_latency
from slimnet.onnx.providers import PROVIDERS, provider_options

QUICK: dict[str, Any] = {"rounds": 5, "seconds": 0.0, "warmup": 0.0}
CPU = PROVIDERS["cpu"]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return matmuls(tmp_path_factory.mktemp("models") / "model.onnx", 2)


def having(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [PROVIDERS[name] for name in names])


@pytest.mark.parametrize(
    ("provider", "package"), [("cuda", "onnxruntime-gpu"), ("tensorrt", "onnxruntime-gpu"), ("openvino", "onnxruntime-openvino")]
)
def test_a_provider_that_the_build_lacks(model: Path, provider: str, package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    having(monkeypatch, "cpu")
    with pytest.raises(MeasureError) as caught:
        compare_latency({"model": model}, provider=provider, **QUICK)
    assert str(caught.value).startswith(f"this ONNX Runtime has no {PROVIDERS[provider]} (it has {CPU}): install {package} ")


def test_what_takes_over_what_a_provider_cannot_run(monkeypatch: pytest.MonkeyPatch) -> None:
    having(monkeypatch, *PROVIDERS)
    chains = {name: [entry for entry, _ in provider_options(name, 3)] for name in PROVIDERS}
    assert chains["cpu"] == [CPU]
    assert chains["cuda"] == [PROVIDERS["cuda"], CPU]
    assert chains["tensorrt"] == [PROVIDERS["tensorrt"], PROVIDERS["cuda"], CPU]
    assert provider_options("openvino", 3)[0][1]["num_of_threads"] == "3"
    with pytest.raises(ArgumentError, match="`provider` must be one of cpu, cuda, tensorrt, openvino, got 'npu'"):
        provider_options("npu", 1)


class Fake:
    """A session that says which provider it runs on, takes 2 ms a run, and notes how it was run."""

    runs_on = CPU

    def __init__(self, path: str, options: Any, providers: Any) -> None:
        self.real = real(path, options, providers=[CPU])
        self.bound: dict[str, Any] = {}
        self.waited = 0

    def get_providers(self) -> list[str]:
        return [self.runs_on, CPU]

    def get_inputs(self) -> Any:
        return self.real.get_inputs()

    def get_outputs(self) -> Any:
        return self.real.get_outputs()

    def io_binding(self) -> Fake:
        return self

    def bind_ortvalue_input(self, name: str, value: Any) -> None:
        self.bound[name] = value

    def bind_output(self, name: str, device: str) -> None:
        self.bound[name] = device

    def run_with_iobinding(self, binding: Any, options: Any) -> None:
        assert binding is self
        assert self.bound == {"x": ("cuda", (3, 128)), "y": "cuda"}
        time.sleep(0.002)

    def synchronize_outputs(self) -> None:
        self.waited += 1
        time.sleep(0.002)


real = onnxruntime.InferenceSession


def fake_gpu(monkeypatch: pytest.MonkeyPatch, runs_on: str) -> None:
    def value(array: np.ndarray, device: str, _: int) -> Any:
        return device, array.shape

    having(monkeypatch, "tensorrt", "cuda", "cpu")
    monkeypatch.setattr(Fake, "runs_on", runs_on)
    monkeypatch.setattr(onnxruntime, "InferenceSession", Fake)
    monkeypatch.setattr(onnxruntime.OrtValue, "ortvalue_from_numpy", staticmethod(value))


@pytest.mark.parametrize("provider", ["cuda", "tensorrt"])
def test_silent_fallback_is_an_error(model: Path, provider: str, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_gpu(monkeypatch, CPU)
    with pytest.raises(
        MeasureError, match=rf"model\.onnx would run on {CPU}: ONNX Runtime could not start {PROVIDERS[provider]}"
    ):
        compare_latency({"model": model}, provider=provider, **QUICK)


@pytest.mark.parametrize("provider", ["cuda", "tensorrt"])
def test_on_a_gpu_data_stay_there_and_the_run_is_waited_for(model: Path, provider: str, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_gpu(monkeypatch, PROVIDERS[provider])
    report = compare_latency({"model": model}, provider=provider, batch=3, **QUICK)
    assert report.provider == report.as_dict()["provider"] == provider
    assert report["model"].median_ms >= 4  # the wait is part of the time


OPENVINO = """
import sys
from slimnet.measure import compare_latency
report = compare_latency({"model": sys.argv[1]}, provider="openvino", rounds=5, seconds=0, warmup=0)
print(report.provider, report["model"].median_ms > 0)
"""


def test_openvino(model: Path) -> None:
    """In a process of its own: a build with OpenVINO takes the place of the ordinary one."""
    folder = os.environ.get("SLIMNET_ORT_OPENVINO", "")
    if not folder and PROVIDERS["openvino"] not in onnxruntime.get_available_providers():
        skip_without("onnxruntime-openvino")
    path = os.pathsep.join(filter(None, (folder, os.environ.get("PYTHONPATH"))))
    command = [sys.executable, "-c", OPENVINO, str(model)]
    done = subprocess.run(command, env=os.environ | {"PYTHONPATH": path}, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.split()) == (0, ["openvino", "True"]), done.stderr

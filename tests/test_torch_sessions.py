"""PyTorch modules timed in the same rounds as ONNX files."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from chain import matmuls
from slimnet.errors import ArgumentError, MeasureError
from slimnet.measure import TorchNetwork, compare_latency
from slimnet.measure.torch_sessions import cuda_clock

QUICK: dict[str, Any] = {"rounds": 10, "seconds": 0.0, "warmup": 0.1}
X = torch.zeros(1, 128)


class Chain(nn.Module):
    """A chain of linear layers that notes what it was run on."""

    def __init__(self, layers: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(*(nn.Linear(128, 128) for _ in range(layers)))
        self.seen: list[Tensor] = []
        self.modes: set[tuple[bool, bool, int]] = set()

    def forward(self, x: Tensor) -> Tensor:
        if not torch.compiler.is_compiling():
            self.seen.append(x)
            self.modes.add((self.training, torch.is_inference_mode_enabled(), torch.get_num_threads()))
        return self.layers(x)  # type: ignore[no-any-return]


def test_modules_and_files_in_the_same_rounds(tmp_path: Path) -> None:
    networks = {
        "dense (torch)": TorchNetwork(Chain(64), X),
        "slim (torch)": TorchNetwork(partial(Chain, 8), X),
        "slim": matmuls(tmp_path / "slim.onnx", 8),
    }
    report = compare_latency(networks, rounds=40, seconds=0.1, warmup=0.3)
    assert [variant.runtime for variant in report.variants] == ["torch", "torch", "onnxruntime"]
    assert report["slim (torch)"].speedup > 2
    assert (report["slim (torch)"].path, report["slim (torch)"].bytes) == (None, None)
    assert report.environment["torch"] == torch.__version__
    assert report.control.runtime == "torch"


def test_how_a_module_is_run() -> None:
    module = Chain(1).train()
    given = np.arange(2 * 128, dtype=np.float64).reshape(2, 128)
    compare_latency({"it": TorchNetwork(module, X)}, threads=2, batch=3, inputs={"any name": given}, **QUICK)
    assert module.modes == {(False, True, 2)}  # in evaluation mode, in inference mode, with two threads
    assert module.seen[0].dtype == torch.float32
    np.testing.assert_array_equal(module.seen[0].numpy(), given[[0, 1, 0]].astype(np.float32))
    assert torch.get_num_threads() == 1


def test_random_input_is_that_of_onnx_runtime() -> None:
    module = Chain(1)
    compare_latency({"it": TorchNetwork(module, X)}, batch=2, seed=5, **QUICK)
    np.testing.assert_array_equal(module.seen[0], np.random.default_rng(5).standard_normal((2, 128)).astype(np.float32))


CHAIN, ARRAY = partial(Chain, 1), X.numpy()
BAD: dict[str, tuple[type[Exception], str, Callable[[], nn.Module], dict[str, Any]]] = {
    "another provider": (ArgumentError, "torch runs on cpu and cuda, not on openvino", CHAIN, {"provider": "openvino"}),
    "no GPU": (MeasureError, "finds no CUDA device on this machine", CHAIN, {"provider": "cuda"}),
    "input of another size": (ArgumentError, r"`inputs` of shape \(1, 3\) do not fit", CHAIN, {"inputs": np.ones((1, 3))}),
    "two inputs": (ArgumentError, "`inputs` are 2 arrays, first takes 1", CHAIN, {"inputs": {"a": ARRAY, "b": ARRAY}}),
    "does not run": (MeasureError, "it does not run at batch 1: .*shapes", partial(nn.Linear, 3, 3), {}),
}


@pytest.mark.parametrize("name", BAD)
def test_one_line_and_threads_are_restored(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    kind, message, make, settings = BAD[name]
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(kind, match=message) as caught:
        compare_latency({"first": TorchNetwork(Chain(1), X), "it": TorchNetwork(make, X)}, threads=3, **QUICK | settings)
    assert "\n" not in str(caught.value)
    assert torch.get_num_threads() == 1


def test_networks_of_one_class_are_all_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    """More than torch's limit of recompilations, after which it would run them uncompiled and say nothing."""
    compiled = []

    def backend(graph: torch.fx.GraphModule, _: Any) -> Any:
        compiled.append(graph)
        return graph.forward

    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=backend))
    networks = {f"{width}": TorchNetwork(nn.Linear(128, width), X, compiled=True) for width in range(1, 5)}
    with torch._dynamo.config.patch(recompile_limit=2):
        report = compare_latency(networks, **QUICK)
    assert len(compiled) == len(networks) + 1  # and the control
    assert {variant.runtime for variant in report.variants} == {"torch-compile"}


@pytest.mark.slow
def test_torch_compile_with_its_own_compiler(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "cache"))
    dense, slim = (TorchNetwork(Chain(layers), X, compiled=True) for layers in (64, 8))
    report = compare_latency({"dense": dense, "slim": slim}, rounds=40, seconds=0.1, warmup=0.3)
    assert report["slim"].speedup > 2
    assert report["slim"].first_ms > 10 * report["slim"].median_ms  # it is compiled in the first run


@pytest.mark.parametrize(
    "error", ["No working C++ compiler found in torch._inductor.config.cpp.cxx", "CppCompileError: no Python.h"]
)
def test_what_cannot_be_compiled_is_one_line(error: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def backend(*_: Any) -> Any:
        raise RuntimeError(f"{error}\nSet TORCHDYNAMO_VERBOSE=1")

    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=backend))
    wanted = (
        "needs a C\\+\\+ compiler to run it on the CPU: install"
        if "C++" in error
        else "torch.compile cannot compile it: .*Python.h"
    )
    with pytest.raises(MeasureError, match=wanted) as caught:
        compare_latency({"it": TorchNetwork(nn.Linear(128, 2), X, compiled=True)}, **QUICK)
    assert "\n" not in str(caught.value)


def test_on_a_gpu_the_time_is_between_two_events(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []

    class Event:
        def __init__(self, *, enable_timing: bool) -> None:
            assert enable_timing

        def record(self) -> None:
            calls.append("record")

        def synchronize(self) -> None:
            calls.append("wait for the event")

        def elapsed_time(self, end: Event) -> float:
            assert end is not self
            return 1.25

    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: calls.append("wait for all"))
    clock = cuda_clock(lambda x: calls.append("run"), [X])
    assert clock() == 1_250_000
    assert calls == ["wait for all", "record", "run", "record", "wait for the event"]

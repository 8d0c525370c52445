"""A model that is looked at comes back as it was: each module in its own mode, each tensor itself, whatever happened."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import slimnet
from slimnet._modes import in_eval_mode, kept_modes, on_device
from slimnet.allocation import LiveFlops
from slimnet.criteria import collect_class_statistics
from slimnet.data import Split
from slimnet.graph import channel_groups
from slimnet.measure import TorchNetwork, compare_latency
from slimnet.training.norm_statistics import reestimate_norms
from tiny_net import TinyNet, tiny_groups, tiny_net

EXAMPLE = torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(0))
SPLIT = Split(torch.zeros(4, 1, 8, 8, dtype=torch.uint8), torch.tensor([0, 1, 2, 0]))
BATCHES = [(EXAMPLE, torch.tensor([0, 1]))]

LOOKS: dict[str, Callable[[TinyNet, Path], object]] = {
    "evaluate": lambda model, _: slimnet.evaluate(model, SPLIT, mean=(0.5,), std=(0.5,)),
    "evaluate, ten crops": lambda model, _: slimnet.evaluate(model, SPLIT, mean=(0.5,), std=(0.5,), views="ten-crop"),
    "count": lambda model, _: slimnet.count(model, EXAMPLE),
    "channel_groups": lambda model, _: channel_groups(model, EXAMPLE),
    "slim": lambda model, _: slimnet.slim(model, EXAMPLE),
    "export_onnx": lambda model, out: slimnet.export_onnx(model, EXAMPLE, out / "model.onnx"),
    "class statistics": lambda model, _: collect_class_statistics(model, ["bn"], BATCHES, 3),
    "live FLOPs": lambda model, _: LiveFlops(model, tiny_groups(model), EXAMPLE),
    "latency": lambda model, _: compare_latency({"a": TorchNetwork(model, EXAMPLE)}, rounds=2, seconds=0, warmup=0),
    "norms": lambda model, _: reestimate_norms(model, BATCHES),
}


def half_asleep() -> TinyNet:
    """A network in training mode, but for a norm that is frozen."""
    model = tiny_net().train()
    model.bn1.eval()
    return model


def state(model: nn.Module) -> list[Any]:
    hooks = [len(module._forward_hooks) + len(module._forward_pre_hooks) for module in model.modules()]
    tensors = [(name, id(tensor), tensor.device) for name, tensor in (*model.named_parameters(), *model.named_buffers())]
    return [[module.training for module in model.modules()], hooks, tensors, [id(module) for module in model.modules()]]


@pytest.mark.parametrize("name", LOOKS)
def test_a_model_is_left_as_it_was(name: str, tmp_path: Path) -> None:
    model = half_asleep()
    before, values = state(model), {key: value.clone() for key, value in model.state_dict().items()}
    LOOKS[name](model, tmp_path)
    assert state(model) == before
    if name != "norms":
        assert all(torch.equal(value, values[key]) for key, value in model.state_dict().items())


@pytest.mark.parametrize("name", LOOKS)
def test_and_after_an_error(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = half_asleep()
    before, values = state(model), {key: value.clone() for key, value in model.state_dict().items()}

    def broken(_: Tensor) -> Tensor:
        raise RuntimeError("in the middle")

    monkeypatch.setattr(model, "forward", broken)
    with suppress(slimnet.SlimnetError, RuntimeError):
        LOOKS[name](model, tmp_path)
        pytest.fail("it did not run the network")
    assert state(model) == before
    assert all(torch.equal(value, values[key]) for key, value in model.state_dict().items())


@pytest.mark.parametrize("context", [kept_modes, in_eval_mode])
def test_modes_come_back(context: Any) -> None:
    model = half_asleep()
    before = state(model)
    with suppress(ValueError), context(model):
        model.train(context is kept_modes)
        raise ValueError
    assert state(model) == before


@pytest.mark.parametrize("device", ["meta", *(["cuda"] if torch.cuda.is_available() else [])])
@pytest.mark.parametrize("fails", [False, True])
def test_tensors_come_back_from_another_device(device: str, fails: bool) -> None:
    model = half_asleep()
    model(EXAMPLE).sum().backward()
    before, weight, gradient = state(model), model.stem.weight.detach().clone(), model.stem.weight.grad
    with suppress(ValueError), on_device(model, device):
        assert {tensor.device.type for tensor in model.parameters()} == {device}
        if fails:
            raise ValueError
    assert state(model) == before
    assert torch.equal(model.stem.weight, weight)
    assert gradient is not None
    assert model.stem.weight.grad is gradient


def test_a_model_on_two_devices_stays_on_both() -> None:
    model = half_asleep()
    model.head.to("meta")
    before = state(model)
    with on_device(model, "meta"):
        assert model.stem.weight.device.type == "meta"
    assert state(model) == before


def test_evaluation_on_another_device_leaves_the_model_where_it_was() -> None:
    """On a GPU where there is one."""
    model, device = half_asleep(), "cuda" if torch.cuda.is_available() else "cpu"
    before = state(model)
    wanted = slimnet.evaluate(model, SPLIT, mean=(0.5,), std=(0.5,))
    assert slimnet.evaluate(model, SPLIT, mean=(0.5,), std=(0.5,), device=device).confusion == wanted.confusion
    assert state(model) == before

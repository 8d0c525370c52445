"""Removed equals masked, in float64 to 1e-12, for networks, masks and norms drawn at random."""

from __future__ import annotations

import os
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from slimnet.errors import VerificationError
from slimnet.surgery import find, slim

EXAMPLES = int(os.environ.get("SLIMNET_PROPERTY_EXAMPLES", "300"))
ACTIVATIONS = ("relu", "silu", "sigmoid", "hardswish", "leaky_relu", "gelu", "tanh", "elu", "softplus", "relu6")
KINDS = (
    "conv", "residual", "concat", "depthwise", "grouped", "gate", "max_pool", "avg_pool", "padded_avg_pool", "preact",
    "joined", "halves", "counted", "glu", "stacked", "selective", "transposed", "to_space", "to_channels", "shuffled", "energy",
    "heads", "norm groups",
)  # fmt: skip

layers = st.fixed_dictionaries(
    {
        "kind": st.sampled_from(KINDS),
        "width": st.sampled_from([4, 6, 8]),
        "kernel": st.sampled_from([1, 3]),
        "padding": st.sampled_from(["none", "zeros", "reflect", "replicate", "circular"]),
        "norm": st.booleans(),
        "bias": st.booleans(),
        "act": st.sampled_from(ACTIVATIONS),
    }
)


class Layer(nn.Module):
    """Convolution, norm (or none), activation."""

    def __init__(self, spec: dict[str, Any], inputs: int, outputs: int, groups: int = 1, *, same: bool = False) -> None:
        super().__init__()
        mode = spec["padding"] if spec["padding"] not in ("none", "zeros") else "zeros"
        padded = same or spec["padding"] != "none"
        padding = spec["kernel"] // 2 if padded else 0
        self.conv = nn.Conv2d(
            inputs, outputs, spec["kernel"], padding=padding, padding_mode=mode, groups=groups, bias=spec["bias"]
        )  # fmt: skip
        self.norm = nn.BatchNorm2d(outputs) if spec["norm"] else nn.Identity()
        self.act = spec["act"]

    def forward(self, x: Tensor) -> Tensor:
        return getattr(F, self.act)(self.norm(self.conv(x)))


class Counted(nn.Module):
    """A number of its own says how many channels go through the layer."""

    def __init__(self, inner: nn.Module, c: int) -> None:
        super().__init__()
        self.inner, self.c = inner, c

    def forward(self, x: Tensor) -> Tensor:
        one, two = x.split((self.c, self.c), 1)
        return torch.cat([one, self.inner(two), x[:, : self.c]], 1)


class Attend(nn.Module):
    """Attention over places, with heads of two channels."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.num_heads = outputs // 2
        self.qkv = nn.Linear(inputs, 3 * outputs)

    def forward(self, x: Tensor) -> Tensor:
        n, _, h, w = x.shape
        rows = self.qkv(x.flatten(2).transpose(1, 2)).reshape(n, h * w, 3, self.num_heads, 2)
        out = F.scaled_dot_product_attention(*rows.permute(2, 0, 3, 1, 4).unbind(0))
        return out.transpose(1, 2).reshape(n, h * w, -1).transpose(1, 2).reshape(n, -1, h, w)


class Drawn(nn.Module):
    """A network made of the layers that were drawn."""

    def __init__(self, specs: list[dict[str, Any]], *, flatten: bool) -> None:
        super().__init__()
        self.kinds = [spec["kind"] for spec in specs]
        self.first = nn.ModuleList()
        self.second = nn.ModuleList()
        width = 3
        for spec in specs:
            one, two, width = _blocks(spec, width)
            self.first.append(one)
            self.second.append(two)
        self.flatten = flatten
        self.hidden = nn.Linear(width * 4 if flatten else width, 6)
        self.head = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        for kind, one, two in zip(self.kinds, self.first, self.second, strict=True):
            x = _run(kind, one, two, x)
        x = F.adaptive_avg_pool2d(x, 2 if self.flatten else 1).flatten(1)
        return self.head(F.relu(self.hidden(x)))


def _blocks(spec: dict[str, Any], width: int) -> tuple[nn.Module, nn.Module, int]:
    empty, out = nn.Identity(), spec["width"]
    match spec["kind"]:
        case "conv":
            return Layer(spec, width, out), empty, out
        case "residual":
            return Layer(spec, width, out, same=True), Layer(spec, out, width, same=True), width
        case "preact":
            return nn.BatchNorm2d(width), nn.Conv2d(width, width, 3, padding=1), width
        case "concat":
            return Layer(spec, width, out, same=True), Layer(spec, width, 4, same=True), out + 4
        case "depthwise":
            return Layer(spec, width, width, groups=width), Layer(spec | {"kernel": 1}, width, out), out
        case "grouped":
            return Layer(spec, width, 8), Layer(spec | {"kernel": 1}, 8, 8, groups=2), 8
        case "gate":
            return nn.Conv2d(width, 4, 1), nn.Conv2d(4, width, 1), width
        case "joined" | "shuffled" | "energy":
            return Layer(spec, width, out, same=True), empty, out
        case "halves":
            return Layer(spec, width, 2 * out), Layer(spec, out, 4, same=True), 2 * out + 4
        case "counted":
            return Layer(spec, width, 2 * out), Counted(Layer(spec, out, 4, same=True), out), 2 * out + 4
        case "glu":
            return Layer(spec, width, 2 * out), empty, out
        case "stacked":
            return Layer(spec, width, out, same=True), Layer(spec | {"kernel": 1}, width, out, same=True), out
        case "selective":
            gates = (nn.Linear(out, 4), nn.Linear(4, out), nn.Linear(4, out))
            return nn.ModuleList(Layer(spec, width, out, same=True) for _ in range(2)), nn.ModuleList(gates), out
        case "transposed":
            grouped = spec["kernel"] == 3
            inner = nn.ConvTranspose2d(6, 12, 3, padding=1, groups=3) if grouped else nn.ConvTranspose2d(6, 6, 2, groups=6)
            return Layer(spec, width, 6), inner, 12 if grouped else 6
        case "to_space":
            return Layer(spec, width, 4 * out), empty, out
        case "to_channels":
            return Layer(spec, width, 4), empty, 16
        case "heads":
            return Attend(width, out), nn.Conv2d(out, out, 1), out
        case "norm groups":
            return Layer(spec, width, out), nn.GroupNorm(2, out), out
        case _:
            return empty, empty, width


def _run(kind: str, one: nn.Module, two: nn.Module, x: Tensor) -> Tensor:
    if kind in ("to_space", "to_channels") and min(x.shape[2:]) % 2:
        x = F.pad(x, (0, x.shape[3] % 2, 0, x.shape[2] % 2))
    match kind:
        case "residual":
            return F.relu(two(one(x)) + x)
        case "preact":
            return x + two(F.relu(one(x)))
        case "concat":
            return torch.cat([one(x), two(x)], 1)
        case "gate":
            return x * torch.sigmoid(two(F.relu(one(F.adaptive_avg_pool2d(x, 1)))))
        case "joined":
            y = one(x)
            both = torch.cat([y, y.transpose(2, 3)], 2)
            return both.narrow(2, 0, y.shape[2]) * both.mean(3, keepdim=True).narrow(2, y.shape[2], y.shape[2])
        case "halves":
            y = list(one(x).chunk(2, 1))
            return torch.cat([*y, two(y[-1])], 1)
        case "glu":
            return F.glu(one(x), 1)
        case "stacked":
            both = torch.stack([one(x), two(x)], 1)
            return both.sum(1) + both.amax(1)
        case "selective":
            both = torch.stack([layer(x) for layer in one], 1)
            squeezed = F.relu(two[0](both.sum(1).mean((2, 3))))
            gates = torch.stack([gate(squeezed) for gate in list(two)[1:]], 1).softmax(1)
            return (both * gates[:, :, :, None, None]).sum(1)
        case "to_space":
            return F.pixel_shuffle(one(x), 2)
        case "to_channels":
            return F.pixel_unshuffle(one(x), 2)
        case "shuffled":
            y = one(x)
            return y.view(y.shape[0], 2, -1, *y.shape[2:]).transpose(1, 2).reshape(y.shape)
        case "energy":
            y = one(x)
            return y * torch.sigmoid(y.square().sum(1, keepdim=True))
        case "max_pool":
            return F.max_pool2d(x, 3, 1, 1)
        case "avg_pool":
            return F.avg_pool2d(x, 2, 1)
        case "padded_avg_pool":
            return F.avg_pool2d(x, 3, 1, 1)
        case _:
            return two(one(x))


def randomise(model: nn.Module, seed: int, share: float) -> None:
    """Live norms, and a share of the filters of every layer zero (with probability ½ the norm and bias with them)."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=generator)

    for tensor in (*model.parameters(), *model.buffers()):
        if tensor.dim() == 1:
            tensor.data.copy_(draw(*tensor.shape) + 0.2)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d | nn.Conv2d | nn.ConvTranspose2d) and module.bias is not None:
            module.bias.data -= 0.7
    for name, module in model.named_modules():
        if isinstance(module, nn.Conv2d | nn.Linear | nn.ConvTranspose2d) and name != "head":
            zero = draw(len(module.weight)) < share
            module.weight.data[zero] = 0
            zero = zero if not isinstance(module, nn.ConvTranspose2d) else zero[:1].expand(module.out_channels)
            if module.bias is not None and float(draw(1)) < 0.5:
                module.bias.data[zero] = 0


def build(specs: list[dict[str, Any]], flatten: bool, seed: int, share: float) -> Drawn:
    """A network with everything drawn."""
    torch.manual_seed(seed)
    model = Drawn(specs, flatten=flatten).eval()
    randomise(model, seed, share)
    return model


drawn = {
    "specs": st.lists(layers, min_size=1, max_size=4),
    "flatten": st.booleans(),
    "seed": st.integers(0, 10_000),
    "share": st.sampled_from([0.2, 0.5, 0.8, 1.0]),
}


@settings(max_examples=EXAMPLES, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(expand=st.booleans(), **drawn)
def test_removed_equals_masked(specs: list[dict[str, Any]], flatten: bool, seed: int, share: float, expand: bool) -> None:
    model = build(specs, flatten, seed, share)
    result = slim(model, torch.randn(2, 3, 17, 17, generator=torch.Generator().manual_seed(seed)), expand=expand)
    assert result.report.verification.worst <= 1e-12


def test_the_property_fails_when_the_carrier_is_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    """The oracle sees a carrier that is chosen and never given its column."""
    spec = {"kind": "conv", "width": 8, "kernel": 3, "padding": "zeros", "norm": True, "bias": False, "act": "sigmoid"}
    model = build([spec, spec], False, 3, 0.5)
    x = torch.randn(2, 3, 17, 17)
    assert slim(model, x).report.verification.worst <= 1e-12
    good = find.Search.dropped_constants

    def without_carried(self: find.Search, link: find.Link) -> Tensor:
        return good(self, link) & ~link.carried

    monkeypatch.setattr(find.Search, "dropped_constants", without_carried)
    with pytest.raises(VerificationError, match=r"group 'first\.0\.conv' cannot be cut"):
        slim(model, x)

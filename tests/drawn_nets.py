"""Networks whose layers, masks, norms and outputs are drawn: `build` makes one of what was drawn."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

ACTIVATIONS = ("relu", "silu", "sigmoid", "hardswish", "leaky_relu", "gelu", "tanh", "elu", "softplus", "relu6")
KINDS = (
    "conv", "residual", "concat", "depthwise", "grouped", "gate", "max_pool", "avg_pool", "padded_avg_pool", "preact",
    "joined", "halves", "counted", "glu", "stacked", "selective", "transposed", "to_space", "to_channels", "shuffled", "energy",
    "heads", "norm groups",
)  # fmt: skip
TAPS = ("map", "half", "again", "dense", "task", "embedding", "strength", "chained", "changed")
FORMS = ("tensor", "tuple", "list", "dict", "nested", "dataclass")


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


@dataclass
class Answer:
    """Outputs with names."""

    first: Any
    others: tuple[Any, ...]


torch.export.register_dataclass(Answer)


class Drawn(nn.Module):
    """A network made of the layers that were drawn, with the outputs that were drawn.

    A tap is an output of its own, from the network's input (0), from behind a layer (1, 2 …), or from behind the logits.
    """

    def __init__(self, specs: list[dict[str, Any]], *, flatten: bool, outputs: dict[str, Any]) -> None:
        super().__init__()
        self.kinds = [spec["kind"] for spec in specs]
        self.first = nn.ModuleList()
        self.second = nn.ModuleList()
        widths = [3]
        for spec in specs:
            one, two, width = _blocks(spec, widths[-1])
            self.first.append(one)
            self.second.append(two)
            widths.append(width)
        self.flatten = flatten
        self.hidden = nn.Linear(width * 4 if flatten else width, 6)
        self.head = nn.Linear(6, 3)
        self.form, self.logits = outputs["form"], outputs["logits"]
        self.taps = sorted(((kind, min(at, len(specs) + 1)) for kind, at in outputs["taps"]), key=lambda tap: tap[1])
        self.ends = nn.ModuleList()
        made: list[int] = []  # channels of the outputs so far
        for kind, at in self.taps:
            before = 3 if at == len(widths) else made[-1] if made else widths[min(at, len(specs))]
            end, channels = _end(kind, widths[min(at, len(specs))], before)
            self.ends.append(end)
            made.append(channels)

    def forward(self, x: Tensor) -> Any:
        found: list[Tensor] = []
        self._tap(found, 0, x)
        for place, (kind, one, two) in enumerate(zip(self.kinds, self.first, self.second, strict=True), 1):
            x = _run(kind, one, two, x)
            self._tap(found, place, x)
        pooled = F.adaptive_avg_pool2d(x, 2 if self.flatten else 1).flatten(1)
        logits = self.head(F.relu(self.hidden(pooled)))
        early = len(found)
        self._tap(found, len(self.kinds) + 1, x, logits)
        if self.logits == "none" and early:  # what makes them is then for nothing, or for an output behind them
            return _formed(self.form, found)
        return _formed(self.form, [logits, *found] if self.logits == "first" else [*found, logits])

    def _tap(self, found: list[Tensor], place: int, x: Tensor, logits: Tensor | None = None) -> None:
        for (kind, at), end in zip(self.taps, self.ends, strict=True):
            if at == place:
                before = logits if logits is not None else found[-1] if found else x
                found.append(_give(kind, end, x, before, changes=place > 0))


def _end(kind: str, width: int, before: int) -> tuple[nn.Module, int]:
    """What makes an output, and how many channels that has."""
    match kind:
        case "dense":
            return nn.Conv2d(width, 5, 1), 5
        case "task":
            return nn.Sequential(nn.Linear(width, 4), nn.ReLU(), nn.Linear(4, 2)), 2
        case "chained":
            return nn.Sequential(nn.Linear(before, 4), nn.Tanh(), nn.Linear(4, 2)), 2
        case "half":
            return nn.Identity(), -(-width // 2)
        case "again":
            return nn.Identity(), before
        case "strength":
            return nn.Identity(), 1
        case _:
            return nn.Identity(), width


def _give(kind: str, end: nn.Module, x: Tensor, before: Tensor, *, changes: bool) -> Tensor:
    """An output. ``before``: the one before it, which ``again`` gives once more, and ``chained`` takes."""
    match kind:
        case "half":
            return x.chunk(2, 1)[0]
        case "again":
            return before
        case "task":
            return end(x.mean((2, 3)))
        case "embedding":
            return F.normalize(x.mean((2, 3)), dim=1)
        case "strength":
            return x.square().sum(1, keepdim=True)
        case "chained":
            return end(before if before.dim() == 2 else before.mean((2, 3)))
        case "changed" if changes:  # the map itself, and every output that is the same memory, loses what is below zero
            return F.relu_(x)
        case _:
            return end(x)


def _formed(form: str, found: list[Tensor]) -> Any:
    """The outputs, held in one of the ways in which people hold them."""
    match form:
        case "tensor":
            return found[-1]
        case "tuple":
            return tuple(found)
        case "list":
            return found
        case "dict":
            return {f"out{number}": output for number, output in enumerate(found)}
        case "nested":
            return {"loss": None, "maps": (found[0], {"inner": tuple(found[1:])}), "last": [found[-1]]}
        case _:
            return Answer(found[0], tuple(found[1:]))


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
            return Layer(spec, width, out), nn.GroupNorm(2, out, affine=spec["bias"]), out
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


def build(specs: list[dict[str, Any]], flatten: bool, seed: int, share: float, outputs: dict[str, Any] | None = None) -> Drawn:
    """A network with everything drawn."""
    torch.manual_seed(seed)
    model = Drawn(specs, flatten=flatten, outputs=outputs or {"form": "tensor", "taps": [], "logits": "first"}).eval()
    randomise(model, seed, share)
    return model

"""Surgery over channels that are joined, counted, split and multiplied: what is closed goes, exactly, or stays for a reason."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from slimnet.attached import attach
from slimnet.export import export_onnx
from slimnet.methods import FSDP
from slimnet.methods.closing import prune
from slimnet.surgery import Plan, slim
from written_networks import Forward, Written, reasons, written, x


class Normed(nn.Module):
    """A group norm written out; it counts with a number of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.groups, self.weight, self.bias = 4, nn.Parameter(torch.rand(8)), nn.Parameter(torch.rand(8))

    def forward(self, x: Tensor) -> Tensor:
        return F.group_norm(x, self.groups, self.weight, self.bias)


def coordinates(m: Any, x: Tensor) -> Any:
    """Coordinate attention: maps pooled along both sides are joined along the height."""
    y = F.relu(m.a(x))
    h, w = y.shape[2:]
    pooled = torch.cat([y.mean(3, keepdim=True), y.mean(2, keepdim=True).permute(0, 1, 3, 2)], 2)
    tall, flat = F.relu(m.down(pooled)).split([h, w], 2)
    return m.head(y * torch.sigmoid(m.up(tall)) * torch.sigmoid(m.wide(flat.permute(0, 1, 3, 2))))


def selective(m: Any, x: Tensor) -> Any:
    """Selective kernels: a softmax over two branches weighs their channels."""
    both = torch.stack([F.relu(m.a(x)), F.relu(m.other(x))], 1)
    squeezed = F.relu(m.down(both.sum(1).mean((2, 3))))
    gates = torch.stack([m.up(squeezed), m.wide(squeezed)], 1)
    return m.head((both * gates.softmax(1)[:, :, :, None, None]).sum(1))


def to_space(m: Any, x: Tensor) -> Any:
    y = F.relu(m.a(x))
    b, c, h, w = y.shape
    return m.head(y.view(b, c // 4, 2, 2, h, w).permute(0, 1, 4, 2, 5, 3).reshape(b, c // 4, h * 2, w * 2))


def to_channels(m: Any, x: Tensor) -> Any:
    y = F.relu(m.a(x))
    b, c, h, w = y.shape
    return m.head(y.view(b, c, h // 2, 2, w // 2, 2).permute(0, 3, 5, 1, 2, 4).reshape(b, c * 4, h // 2, w // 2))


def grown(m: Any, x: Tensor) -> Any:
    """The C2f block of YOLOv8: the second half goes on, all are joined."""
    y = list(F.silu(m.a(x)).chunk(2, 1))
    y.append(F.silu(m.inner(y[-1])))
    return m.head(torch.cat(y, 1))


class Counting(nn.Module):
    """The other form of the same block: it counts with a number of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.c = 4
        self.inner = nn.Conv2d(4, 4, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        y = list(x.split((self.c, self.c), 1))
        return torch.cat([*y, F.silu(self.inner(y[-1]))], 1)


class Sliced(Counting):
    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([F.silu(self.inner(x[:, : self.c])), x[:, self.c : 2 * self.c]], 1)


class Narrowed(Counting):
    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([F.silu(self.inner(x.narrow(1, 0, self.c))), x.narrow(1, self.c, self.c)], 1)


def halves(m: Any, x: Tensor) -> Any:
    y = F.relu(m.a(x))
    c = y.shape[1] // 2
    return m.head(torch.cat([2 * y[:, :c], torch.tanh(y[:, c:])], 1))


def shuffled(m: Any, x: Tensor) -> Any:
    y = F.relu(m.a(x))
    b, c, h, w = y.shape
    return m.head(y.view(b, 2, c // 2, h, w).transpose(1, 2).reshape(b, -1, h, w))


def correlated(m: Any, x: Tensor) -> Any:
    left, right = F.relu(m.a(x)).flatten(2), F.relu(m.other(x)).flatten(2)
    return m.end(torch.bmm(left.transpose(1, 2), right).amax(2).mean(1, keepdim=True))


def outer(m: Any, x: Tensor) -> Any:
    return m.end(torch.einsum("bchw,bnhw->bcn", F.relu(m.a(x)), m.few(x)).flatten(1))


def dotted(m: Any, x: Tensor) -> Any:
    return m.end(torch.einsum("bc..., bn... -> bcn", F.relu(m.a(x)), m.few(x)).flatten(1))


def unsaid(m: Any, x: Tensor) -> Any:
    """How much two maps are alike, place by place."""
    alike = torch.einsum("...z,...z", *(y.movedim(1, -1) for y in (F.relu(m.a(x)), m.other(x))))
    return m.one(x) * alike.sigmoid().unsqueeze(1)


def generated(m: Any, x: Tensor) -> Any:
    return m.head(F.relu(m.fc(x.mean((2, 3)))).view(x.shape[0], -1, 4, 4))


THREE, HALF = "a:0-3", "a:0-2 a:4-6"
CONV: Any = nn.Conv2d

# what a network does, the rows that are zero (weights and biases), other modules, channels that are removed
REMOVES: dict[str, tuple[Forward, str, dict[str, Any], int]] = {
    "joined along the height": (coordinates, "a:0-5 up:0-5 wide:0-5 down:0-2",
        {"down": (CONV, 8, 4, 1), "up": (CONV, 4, 8, 1), "wide": (CONV, 4, 8, 1)}, 7),
    "selective kernels": (selective, "a:0-5 other:0-5 down:0-2",
        {"other": (CONV, 3, 8, 5, 1, 2), "down": (nn.Linear, 8, 4), "up": (nn.Linear, 4, 8), "wide": (nn.Linear, 4, 8)}, 7),
    "stacked maximum": (lambda m, x: m.head(torch.stack([m.a(x), m.other(x)]).max(0)[0]), "a:0-5 other:0-5",
        {"other": (CONV, 3, 8, 3, 1, 1)}, 5),
    "larger of two": (lambda m, x: m.head(torch.max(m.a(x), m.other(x))), "a:0-5 other:0-5", {"other": (CONV, 3, 8, 3, 1, 1)}, 5),
    "transposed, depthwise": (lambda m, x: m.head(m.t(F.relu(m.a(x)))), "a:0-5 t:0-5",
        {"t": (nn.ConvTranspose2d, 8, 8, 2, 2, 0, 0, 8)}, 5),
    "transposed, in groups": (lambda m, x: m.head(m.t(F.relu(m.a(x)))), "a:0-4 t:0-4",
        {"t": (nn.ConvTranspose2d, 8, 16, 4, 2, 1, 0, 4), "head": (CONV, 16, 3, 1)}, 2),
    "pixel shuffle": (lambda m, x: m.head(F.pixel_shuffle(m.a(x), 2)), "a:0-4", {"head": (CONV, 2, 3, 1)}, 1),
    "pixel unshuffle": (lambda m, x: m.head(F.pixel_unshuffle(m.a(x), 2)), "a:0-5", {"head": (CONV, 32, 3, 1)}, 5),
    "channels to space": (to_space, "a:0-4", {"head": (CONV, 2, 3, 1)}, 1),
    "space to channels": (to_channels, "a:0-5", {"head": (CONV, 32, 3, 1)}, 5),
    "chunks": (grown, "a:0-2 a:4-7 inner:0-1", {"inner": (CONV, 4, 4, 3, 1, 1), "head": (CONV, 12, 3, 1)}, 5),
    "split by a number": (lambda m, x: m.head(m.block(F.relu(m.a(x)))), HALF + " block.inner:0-1",
        {"block": (Counting,), "head": (CONV, 12, 3, 1)}, 5),
    "sliced by a number": (lambda m, x: m.head(m.block(F.relu(m.a(x)))), HALF + " block.inner:0-1", {"block": (Sliced,)}, 5),
    "narrowed by a number": (lambda m, x: m.head(m.block(F.relu(m.a(x)))), HALF + " block.inner:0-1", {"block": (Narrowed,)}, 5),
    "slices of a half": (halves, HALF, {}, 4),
    "gated linear unit": (lambda m, x: m.head(F.glu(m.a(x), 1)), HALF, {"head": (CONV, 4, 3, 1)}, 2),
    "gate": (lambda m, x: m.head(torch.mul(*m.a(x).chunk(2, 1))), HALF, {"head": (CONV, 4, 3, 1)}, 2),
    "channel shuffle": (shuffled, HALF, {}, 2),
    "nn.ChannelShuffle": (lambda m, x: m.head(m.shuffle(m.a(x))), HALF, {"shuffle": (nn.ChannelShuffle, 2)}, 2),
    "unflattened": (lambda m, x: m.head(m.a(x).unflatten(1, (2, -1)).sum(1)), HALF, {"head": (CONV, 4, 3, 1)}, 2),
    "nn.Unflatten": (lambda m, x: m.head(m.wide(F.relu(m.fc(x.mean((2, 3)))))), "fc:0-32",
        {"fc": (nn.Linear, 3, 128), "wide": (nn.Unflatten, 1, (8, 4, 4))}, 2),
    "a row becomes a map": (generated, "fc:0-32", {"fc": (nn.Linear, 3, 128)}, 2),
    "repeated": (lambda m, x: m.head(m.a(x).repeat_interleave(2, 1)), "a:0-5", {"head": (CONV, 16, 3, 1)}, 5),
    "tiled": (lambda m, x: m.head(m.a(x).repeat(1, 2, 1, 1)), "a:0-5", {"head": (CONV, 16, 3, 1)}, 5),
    "bmm": (correlated, "a:0-5 other:0-5", {"other": (CONV, 3, 8, 1), "end": (nn.Linear, 1, 3)}, 5),
    "einsum": (outer, "a:0-5", {"few": (CONV, 3, 2, 1), "end": (nn.Linear, 16, 3)}, 5),
    "einsum, the rest by dots": (dotted, "a:0-5", {"few": (CONV, 3, 2, 1), "end": (nn.Linear, 16, 3)}, 5),
    "einsum, the output unsaid": (unsaid, "a:0-5 other:0-5", {"other": (CONV, 3, 8, 1), "one": (CONV, 3, 3, 1)}, 5),
    "norm groups without a scale": (lambda m, x: m.head(m.norm(m.a(x))), "a:0-4", {"norm": (nn.GroupNorm, 4, 8, 1e-5, False)}, 2),
    "norm groups by a number": (lambda m, x: m.head(m.norm(m.a(x))), "a:0-4 norm:0-4", {"norm": (Normed,)}, 2),
    "norm groups by a depth": (lambda m, x: m.head(F.group_norm(y := m.a(x), y.shape[1] // 2)), "a:0-4", {}, 2),
    "energy": (lambda m, x: m.a(x).square().sum(1, keepdim=True) * m.one(x), "a:0-5", {"one": (CONV, 3, 3, 1)}, 5),
}  # fmt: skip


def network(name: str, *, closed: bool) -> Written:
    forward, zero, modules, _ = REMOVES[name]
    torch.manual_seed(0)
    model = written(forward, "", **{key: kind(*arguments) for key, (kind, *arguments) in modules.items()})
    for place in zero.split() if closed else ():
        path, _, rows = place.partition(":")
        layer = model.get_submodule(path)
        for tensor in (layer.weight, layer.bias):
            tensor.data[slice(*map(int, rows.split("-")))] = 0
    return model


@pytest.mark.parametrize("name", REMOVES)
def test_what_is_zero_in_all_its_pieces_goes(name: str) -> None:
    result = slim(network(name, closed=True), x())
    assert result.report.verification.worst <= 1e-12 and len(result.report.verification.checks) >= 6
    assert result.report.removed == REMOVES[name][3]
    assert Plan.from_dict(result.plan.as_dict()) == result.plan


@pytest.mark.parametrize("name", REMOVES)
def test_every_channel_of_a_group_that_is_closed_goes(name: str) -> None:
    """By the groups that slimnet finds, half of each closed."""
    model = network(name, closed=False)
    closed = sum(int(rows.sum()) for rows in prune(model, x(), rate=0.5).closed().values())
    result = slim(model, x())
    assert result.report.verification.worst <= 1e-12
    assert result.report.removed == closed > 0


@pytest.mark.parametrize(
    "name", ["joined along the height", "transposed, in groups", "pixel shuffle", "split by a number", "nn.Unflatten"]
)
def test_the_slim_network_is_exported(name: str, tmp_path: Path) -> None:
    model = network(name, closed=True).double()
    result = slim(model, x().double())
    export_onnx(result.model.float(), x(), tmp_path / "net.onnx")
    assert (tmp_path / "net.onnx").stat().st_size > 0


# what the code counts by numbers that are written in it, a part of the reason, channels of ``a`` that stay
KEEPS: dict[str, tuple[Forward, dict[str, Any], str, int]] = {
    "slice": (lambda m, x: m.head(m.a(x)[:, :4]), {"head": (CONV, 4, 3, 1)}, "a number that is written in the code", 4),
    "last": (lambda m, x: m.head(m.a(x)[:, -4:]), {"head": (CONV, 4, 3, 1)}, "a number that is written in the code", 4),
    "one": (lambda m, x: m.head(m.a(x)[:, 2:3]), {"head": (CONV, 1, 3, 1)}, "a number that is written in the code", 3),
    "select": (lambda m, x: m.head(m.a(x)[:, 2].unsqueeze(1)), {"head": (CONV, 1, 3, 1)}, "written in the code", 3),
    "split": (lambda m, x: m.head(torch.mul(*m.a(x).split(4, 1))), {"head": (CONV, 4, 3, 1)}, "written in the code", 4),
    "view": (lambda m, x: m.head(m.a(x).view(-1, 2, 4, 12, 12).sum(1)), {"head": (CONV, 4, 3, 1)}, "written in the code", 8),
    "every second": (lambda m, x: m.head(m.a(x)[:, ::2]), {"head": (CONV, 4, 3, 1)}, "picked by channel number", 8),
    "uneven chunks": (lambda m, x: m.head(m.a(x).chunk(3, 1)[0]), {"head": (CONV, 3, 3, 1)}, "picked by channel number", 8),
    "filled": (lambda m, x: m.head(torch.cat([m.a(x), torch.ones(len(x), 8, 1, 12)], 2)), {}, "joined with a tensor", 8),
    "norm groups": (lambda m, x: m.head(F.group_norm(m.a(x), 4)), {}, "written in the code (operator aten.group_norm", 4),
    "softmax over channels": (lambda m, x: m.head(m.a(x).softmax(1)), {}, "aten.softmax", 8),
}  # fmt: skip


@pytest.mark.parametrize("name", KEEPS)
def test_what_the_code_counts_by_its_own_numbers_stays(name: str) -> None:
    forward, modules, reason, count = KEEPS[name]
    model = written(forward, "", **{key: kind(*arguments) for key, (kind, *arguments) in modules.items()})
    model.a.weight.data.zero_()
    model.a.bias.data.zero_()
    result = slim(model, x(), expand=False)
    assert result.report.verification.worst <= 1e-12
    assert reason in reasons(result)
    assert sum(len(group.kept) for group in result.plan.groups if group.name.startswith("a")) == count


def test_a_number_that_means_something_else_as_well_stays() -> None:
    """What is counted with it then stays: the network gives the same, whatever it does."""

    class Also(Counting):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x) * self.c

    model = written(lambda m, x: m.head(m.block(F.relu(m.a(x)))), "", block=Also(), head=nn.Conv2d(12, 3, 1))
    for rows in (slice(0, 2), slice(4, 6)):
        model.a.weight.data[rows] = model.a.bias.data[rows] = 0
    result = slim(model, x())
    assert result.report.verification.worst <= 1e-12
    assert "the network's own code counts these channels" in reasons(result)


def test_groups_that_break_a_network_only_together_are_found() -> None:
    """A layer whose answer nobody uses reads what is spare of `a` once the rows of `b` go that read it as well."""

    def forward(m: Any, x: Tensor) -> Tensor:
        y = m.a(x)
        m.c(y)
        return m.head(m.b(y)) + m.up(m.wide(x))

    model = written(forward, "wide", wide=nn.Conv2d(3, 8, 1), up=nn.Conv2d(8, 3, 1))
    model.wide.bias.data[:5] = model.b.weight.data[5:, :3] = model.head.weight.data[:, :5] = 0
    result = slim(model, x())
    assert result.report.verification.worst <= 1e-12
    assert {group.name: len(group.kept) for group in result.plan.groups} == {"a": 8, "b": 8, "wide": 3, "head": 3}


def test_channels_that_are_all_one_may_move_in_any_way() -> None:
    """Two norm groups whose channels are added to each other are one, of which nothing varies in what follows."""

    def forward(m: Any, x: Tensor) -> Tensor:
        y = m.a(x)
        one, two = y.chunk(2, 1)
        joined = torch.cat([one + two, m.b(m.norm(y)), m.norm(y).flatten(2).unflatten(2, x.shape[2:])], 1)
        return m.head(m.c(joined))

    model = written(forward, "", norm=nn.GroupNorm(2, 8), c=nn.Conv2d(20, 8, 3))
    for layer in (model.a, model.c):
        layer.weight.data[:5] = layer.bias.data[:5] = 0
    result = slim(model, x())
    assert result.report.verification.worst <= 1e-12
    widths = {group.name: (group.size, len(group.kept)) for group in result.plan.groups}
    assert widths["a"] == (1, 1) and widths["c"] == (8, 3)


def test_the_network_is_left_as_it_was() -> None:
    model = network("split by a number", closed=True)
    slim(model, x())
    assert type(model.block.c) is int and model.block.c == 4


@pytest.mark.parametrize(
    "name", ["joined along the height", "pixel shuffle", "chunks", "transposed, in groups", "split by a number"]
)
def test_a_method_closes_such_groups_in_training(name: str) -> None:
    """FSDP in a loop of one's own: what has closed at its end is cut out, all of it."""
    model = network(name, closed=False)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    pruner = attach(model, x(), FSDP(rate_cs=0.0, rate_gm=0.5), epochs=3, optimizer=optimizer)
    for epoch in range(3):
        with pruner.epoch(epoch):
            model(x()).square().mean().backward()
            optimizer.step()
            optimizer.zero_grad()
    closed = sum(int(rows.sum()) for rows in pruner.mask.closed().values())
    result = slim(model, x())
    assert result.report.verification.worst <= 1e-12
    assert result.report.removed == closed > 0


HALVES: Forward = lambda y: torch.cat([torch.tanh(part) for part in y.chunk(2, 1)], 1)  # noqa: E731


@pytest.mark.parametrize(
    ("join", "align", "kept"), [(F.relu, 4, (4, 5, 6, 7)), (HALVES, None, (1, 2, 3, 5, 6, 7))], ids=["aligned", "in proportion"]
)
def test_of_spare_channels_those_with_most_weight_left_stay(join: Forward, align: int | None, kept: tuple[int, ...]) -> None:
    """Filters 0 to 4 are zero; what the next layer reads of them rises with their number, which training on can use."""
    model = written(lambda m, x: m.head(m.b(join(m.a(x)))), b=nn.Conv2d(8, 8, 3), head=nn.Conv2d(8, 3, 3))
    model.a.bias.data[:5] = 0
    model.b.weight.data[:, :5] *= torch.arange(5).view(1, 5, 1, 1)
    result = slim(model, x(), align=align)
    assert {cut.name: cut.kept for cut in result.plan.cuts if not cut.dim}["a.weight"] == kept
    assert result.report.verification.worst < 1e-12

"""Attention heads and norm groups: chosen whole, cut exactly, kept where the code cannot do without them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import slimnet
from slimnet.criteria import collect_class_statistics
from slimnet.errors import ArgumentError
from slimnet.graph import channel_groups, prunable
from slimnet.surgery import Plan, SlimResult, slim
from slimnet.surgery.heads import FewerHeads

EXACT = 1e-12
WIDTH, HEADS = 16, 4


def tokens(batch: int = 2, length: int = 5, width: int = WIDTH) -> Tensor:
    return torch.randn(batch, length, width, generator=torch.Generator().manual_seed(0))


def pictures(side: int = 32) -> Tensor:
    return torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(0))


def roughened(model: nn.Module) -> nn.Module:
    """In eval mode, no bias or scale at a number that hides a mistake."""
    generator = torch.Generator().manual_seed(1)
    for parameter in model.parameters():
        if parameter.dim() == 1:
            parameter.data.copy_(torch.rand(parameter.shape, generator=generator) + 0.2)
    return model.eval()


class Own(nn.Module):
    """An attention as people write them."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.kind, self.heads, self.head_dim, self.inner_dim = kind, HEADS, WIDTH // HEADS, WIDTH
        self.q, self.k, self.v = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)
        self.qkv, self.out = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, 3)
        self.norm = nn.LayerNorm(self.head_dim)
        self.bias = nn.Parameter(torch.randn(9, HEADS))
        self.register_buffer("places", torch.arange(5)[:, None] - torch.arange(5)[None] + 4)

    def forward(self, x: Tensor) -> Any:
        b, n, _ = x.shape
        if self.kind in ("fused", "relative"):
            q, k, v = self.qkv(x).view(b, n, 3, self.heads, self.head_dim).permute(2, 0, 3, 1, 4)
        else:
            q, k, v = (layer(x).view(b, n, self.heads, -1).transpose(1, 2) for layer in (self.q, self.k, self.v))
        if self.kind == "normed":
            q, k = self.norm(q), self.norm(k)
        if self.kind in ("fused", "fast", "causal"):
            y = F.scaled_dot_product_attention(q, k, v, is_causal=self.kind == "causal")
        elif self.kind == "linear":
            y = F.relu(q) @ (F.relu(k).transpose(-2, -1) @ v)
        else:
            scores = q @ k.transpose(-2, -1) * self.head_dim**-0.5
            if self.kind == "relative":
                scores = scores + self.bias[self.places.view(-1)].view(5, 5, -1).permute(2, 0, 1)
            weights = F.dropout(scores.softmax(-1), 0.1, self.training)
            if self.kind == "said":
                return self.out((weights @ v).transpose(1, 2).reshape(b, n, self.inner_dim)), weights.mean(1)
            y = weights @ v
        width = x.shape[2] if self.kind == "counts" else self.inner_dim
        return self.out(y.transpose(1, 2).reshape(b, n, width))


VALUES = {"fused": "qkv", "relative": "qkv"}


def close(model: nn.Module, head: int, *, bias: bool = True) -> None:
    """Zero the values of one head."""
    layer = model.get_submodule(VALUES.get(model.kind, "v"))  # type: ignore[arg-type]
    start = (2 * WIDTH if layer is model.qkv else 0) + head * model.head_dim  # type: ignore[operator]
    layer.weight.data[start : start + model.head_dim] = 0  # type: ignore[index, operator, union-attr]
    if bias:
        layer.bias.data[start : start + model.head_dim] = 0  # type: ignore[index, operator, union-attr]


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("kind", ["fused", "fast", "causal", "normed", "plain", "relative"])
def test_a_head_of_which_the_values_are_constant_goes(kind: str, bias: bool) -> None:
    """Its constant goes into the projection's bias."""
    model = roughened(Own(kind))
    close(model, 1, bias=bias)
    result = slim(model, tokens())
    assert result.report.verification.worst <= EXACT
    assert [(each.size, each.kept) for each in result.plan.heads] == [(HEADS, (0, 2, 3))]
    assert result.model.out.in_features == 12 and result.model.heads == 3 and result.model.head_dim == 4
    assert bool(result.plan.folds) is not bias
    if kind == "relative":
        assert result.model.bias.shape == (9, 3)
    assert Plan.from_dict(json.loads(json.dumps(result.plan.as_dict()))) == result.plan


def test_a_head_that_the_projection_does_not_read_goes() -> None:
    model = roughened(Own("fused"))
    model.out.weight.data[:, 4:12] = 0
    assert [each.kept for each in slim(model, tokens()).plan.heads] == [(0, 3)]


def test_a_head_of_queries_alone_stays() -> None:
    """Zero queries make a mean of the values, which varies; and a part of the values is no head."""
    model = roughened(Own("plain"))
    model.q.weight.data[:4] = 0
    model.v.weight.data[4:7] = 0
    result = slim(model, tokens())
    assert result.report.removed == 0 and not result.plan.heads


def test_linear_attention_has_heads_that_go_where_they_are_zero() -> None:
    model = roughened(Own("linear"))
    close(model, 2)
    result = slim(model, tokens())
    assert result.report.verification.worst <= EXACT and result.plan.heads[0].kept == (0, 1, 3)
    model = roughened(Own("linear"))
    close(model, 2, bias=False)  # what comes out is the sum of the weights, which varies
    assert slim(model, tokens()).report.removed == 0


@pytest.mark.parametrize(("kind", "reason"), [("counts", "the network's own code counts"), ("said", "mean")])
def test_heads_stay_where_the_code_needs_them(kind: str, reason: str) -> None:
    model = roughened(Own(kind))
    close(model, 0)
    result = slim(model, tokens())
    assert result.report.verification.worst <= EXACT and not result.plan.heads and result.report.removed == 0
    assert any(reason in each for group in result.plan.groups for each in group.reasons)


def test_code_that_runs_with_fewer_heads_and_differs_keeps_them() -> None:
    class Scaled(Own):
        def forward(self, x: Tensor) -> Any:
            q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
            weights = (q @ k.transpose(-2, -1) / self.heads).softmax(-1)
            return self.out((weights @ v).transpose(1, 2).flatten(2))

    model = roughened(Scaled("fused"))
    close(model, 0)
    result = slim(model, tokens())
    assert result.report.verification.worst <= EXACT and not result.plan.heads
    assert any("differs" in each for group in result.plan.groups for each in group.reasons)


def test_masks_act_on_values_alone() -> None:
    """Queries and keys go with their head; a head that is closed may come back, and what fades, fades in proportion."""
    model = roughened(Own("fused"))
    group = next(group for group in prunable(channel_groups(model, tokens())) if group.name == "qkv")
    assert group.size == HEADS
    assert sorted(group.filters[0].flat().tolist()) == list(range(2 * WIDTH, 3 * WIDTH))
    assert sorted(group.others[0].flat().tolist()) == list(range(2 * WIDTH))
    mask = slimnet.masks.SoftMask(model, [group])
    before = model.qkv.weight.detach().clone()
    mask.set("qkv", torch.tensor([1.0, 0.5, 0.0, 1.0]))
    mask.apply()
    after = model.qkv.weight.detach()
    assert torch.equal(after[: 2 * WIDTH + 4], before[: 2 * WIDTH + 4])
    assert torch.equal(after[36:40], before[36:40] / 2) and not after[40:44].any()
    assert slim(model, tokens()).plan.heads[0].kept == (0, 1, 3)


class Encoder(nn.Module):
    """torch's own encoder, which takes the weights of its attention into one operator where it may."""

    def __init__(self, batch_first: bool, depth: int = 2) -> None:
        super().__init__()
        torch.manual_seed(0)
        layer = nn.TransformerEncoderLayer(WIDTH, HEADS, 32, batch_first=batch_first)
        self.embed, self.head = nn.Linear(8, WIDTH), nn.Linear(WIDTH, 3)
        self.layers = nn.TransformerEncoder(layer, depth, enable_nested_tensor=batch_first)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.layers(self.embed(x)))


@pytest.mark.parametrize("batch_first", [True, False])
def test_torchs_encoder(batch_first: bool, tmp_path: Path) -> None:
    model, x = roughened(Encoder(batch_first)), tokens(2, 5, 8)
    slimnet.prune(model, x, rate=0.5)
    result = slim(model, x)
    assert result.report.verification.worst <= EXACT
    attention = result.model.layers.layers[0].self_attn
    assert type(attention) is FewerHeads and attention.num_heads == 2 and attention.in_proj_weight.shape == (24, WIDTH)
    assert result.model.layers.layers[0].linear1.out_features == 16
    assert [group.size for group in channel_groups(result.model, x) if group.name.endswith("self_attn")] == [2, 2]
    result.model.train()(x).sum().backward()
    small = nn.Sequential(result.model.eval(), nn.Flatten()) if batch_first else None
    if small is not None:
        slimnet.export_onnx(small, x, tmp_path / "slim.onnx")


def test_an_attention_with_fewer_heads_takes_what_torchs_takes() -> None:
    """Masks of all kinds, unbatched inputs, and keys that are others than the queries."""
    torch.manual_seed(0)
    for batch_first in (True, False):
        whole = roughened(nn.MultiheadAttention(WIDTH, HEADS, batch_first=batch_first))
        small = roughened(nn.MultiheadAttention(WIDTH, HEADS, batch_first=batch_first))
        rows = [part * WIDTH + channel for part in range(3) for channel in (*range(4), *range(8, 12))]
        for model in (whole, small):
            model.out_proj.weight.data[:, [*range(4, 8), *range(12, 16)]] = 0  # heads 1 and 3
        small.load_state_dict(whole.state_dict())
        small.in_proj_weight.data, small.in_proj_bias.data = whole.in_proj_weight[rows].data, whole.in_proj_bias[rows].data
        small.out_proj.weight.data = whole.out_proj.weight.data[:, [*range(4), *range(8, 12)]]
        slimnet.surgery.heads.keep_heads(small, HEADS, (0, 2))
        x, other = tokens(3, 5), tokens(3, 5).flip(1)
        batched = x if batch_first else x.transpose(0, 1)
        keys = other if batch_first else other.transpose(0, 1)
        causal = torch.ones(5, 5).triu(1).bool()
        padding = torch.arange(5).expand(3, 5) > torch.tensor([[4], [3], [2]])
        for arguments, named in (
            ((batched,) * 3, {}),
            ((batched,) * 3, {"attn_mask": causal, "key_padding_mask": padding}),
            ((batched,) * 3, {"attn_mask": torch.randn(12, 5, 5), "need_weights": False}),
            ((batched, keys, keys), {"need_weights": False}),
            ((x[0],) * 3, {"attn_mask": causal}),
        ):
            want, got = whole(*arguments, **named)[0], small(*arguments, **named)[0]
            assert want.shape == got.shape and torch.allclose(want, got, atol=1e-5)


def networks() -> dict[str, tuple[Callable[[], nn.Module], Tensor, int]]:
    timm = pytest.importorskip("timm")
    import torchvision

    def vit(**more: Any) -> nn.Module:
        sizes = {"img_size": 32, "patch_size": 8, "embed_dim": 48, "num_heads": 4, "depth": 2, "num_classes": 3}
        return timm.models.VisionTransformer(**sizes, **more)

    deit = {"depth": 1, "num_classes": 3, "img_size": 32}
    swin = {"img_size": 64, "window_size": 4, "depths": (2, 2), "num_heads": (2, 4), "embed_dim": 32, "num_classes": 3}
    return {
        "timm ViT": (vit, pictures(), 4),
        "timm ViT, normed": (lambda: vit(qk_norm=True, init_values=0.1), pictures(), 4),
        "timm DeiT": (lambda: timm.create_model("deit_tiny_distilled_patch16_224", **deit), pictures(), 1),
        "timm Swin": (lambda: timm.models.SwinTransformer(**swin), pictures(64), 6),
        "torchvision ViT": (lambda: torchvision.models.VisionTransformer(32, 8, 2, 4, 32, 64, num_classes=3), pictures(), 4),
    }  # fmt: skip


@pytest.mark.parametrize("name", ["timm ViT", "timm ViT, normed", "timm DeiT", "timm Swin", "torchvision ViT"])
def test_real_networks(name: str, tmp_path: Path) -> None:
    make, x, gone = networks()[name]
    torch.manual_seed(0)
    model = roughened(make())
    slimnet.prune(model, x, rate=0.5)
    result = slim(model, x)
    assert result.report.verification.worst <= EXACT
    assert sum(each.size - len(each.kept) for each in result.plan.heads) == gone
    again = result.plan.apply(make())  # as a file of weights and its plan come back
    again.load_state_dict(result.model.state_dict())
    assert torch.equal(again.eval()(x), result.model(x))
    if name != "timm Swin":
        slimnet.export_onnx(result.model, x, tmp_path / "slim.onnx", reference=model, tolerance=1e-5)


def test_code_that_counts_heads_out_of_the_width_keeps_all_of_them() -> None:
    """torchvision's Swin: found once, and believed of all attentions of its class."""
    import torchvision

    torch.manual_seed(0)
    model = roughened(torchvision.models.SwinTransformer([4, 4], 32, [2, 2], [2, 4], [4, 4], num_classes=3))
    slimnet.prune(model, pictures(64), rate=0.5)
    result = slim(model, pictures(64))
    assert result.report.verification.worst <= EXACT and not result.plan.heads
    assert result.report.removed == 128 + 256
    kept = [group.name for group in result.plan.groups if any("own code counts" in reason for reason in group.reasons)]
    assert kept == [f"features.{stage}.{block}.attn.qkv" for stage in (1, 3) for block in (0, 1)]


METHODS: dict[str, Callable[[], Any]] = {
    "fsdp": lambda: slimnet.FSDP(rate_cs=0.2, rate_gm=0.3),
    "sfp": lambda: slimnet.SFP(0.5),
    "fpgm": lambda: slimnet.FPGM(0.5),
}


@pytest.mark.parametrize("method", METHODS)
def test_methods_choose_heads(method: str) -> None:
    timm = pytest.importorskip("timm")
    torch.manual_seed(0)
    model = timm.models.VisionTransformer(img_size=16, patch_size=8, embed_dim=32, num_heads=4, depth=1, num_classes=3)
    x, y = torch.randn(6, 3, 16, 16), torch.arange(6) % 3
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    pruner = slimnet.attach(model, x[:2], METHODS[method](), epochs=4, data=[(x, y)])
    for epoch in range(4):
        with pruner.epoch(epoch):
            F.cross_entropy(model(x), y).backward()
            optimizer.step()
            optimizer.zero_grad()
    assert pruner.is_closed
    result = pruner.slim(optimizer=optimizer)
    assert result.report.verification.worst <= EXACT
    assert [len(each.kept) for each in result.plan.heads] == [2] and result.model.blocks[0].mlp.fc1.out_features == 64
    F.cross_entropy(result.model(x), y).backward()
    optimizer.step()


def test_class_statistics_of_tokens_are_of_channels() -> None:
    layer = nn.Linear(4, 6)
    x, y = torch.randn(5, 3, 4), torch.tensor([0, 1, 0, 1, 1])
    found = collect_class_statistics(nn.Sequential(layer), ["0"], [(x, y)], 2)
    want = layer(x).amax(1).relu().double()
    assert torch.allclose(found.sums["0"][0], want[y == 0].sum(0))
    with pytest.raises(ArgumentError, match="gives no feature map"):
        collect_class_statistics(Encoder(True), ["layers.layers.0.self_attn"], [(tokens(5, 3, 8), y)], 2)


class Normed(nn.Module):
    """Two convolutions with group norms, added."""

    def __init__(self, groups: int = 4) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.a, self.b = nn.Conv2d(3, 16, 3, padding=1), nn.Conv2d(16, 16, 1)
        self.norm, self.second = nn.GroupNorm(groups, 16), nn.GroupNorm(groups, 16)
        self.head = nn.Conv2d(16, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = F.silu(self.norm(self.a(x)))
        return self.head(F.silu(self.second(self.b(y))))


def of_groups(result: SlimResult) -> tuple[int, int]:
    return result.model.norm.num_groups, result.model.second.num_groups


def test_norm_groups_go_whole() -> None:
    model, x = roughened(Normed()), pictures(9)
    model.a.weight.data[4:8] = 0  # the second norm group, constant
    model.b.weight.data[[0, 1, 5]] = 0  # parts of two
    result = slim(model, x)
    assert result.report.verification.worst <= EXACT
    assert of_groups(result) == (3, 4) and result.model.a.out_channels == 12
    reasons = {reason for group in result.plan.groups for reason in group.reasons}
    assert any("norm group" in reason for reason in reasons)


def test_a_norm_group_of_scale_zero_is_constant() -> None:
    model = roughened(Normed())
    model.second.weight.data[8:] = 0
    result = slim(model, pictures(9))
    assert result.report.verification.worst <= EXACT and of_groups(result) == (4, 2)


@pytest.mark.parametrize("method", ["prune", *METHODS])
def test_norm_groups_are_chosen_whole(method: str, tmp_path: Path) -> None:
    model, x, y = roughened(Normed()), pictures(9), torch.tensor([0, 1])
    if method == "prune":
        slimnet.prune(model, x, rate=0.5)
        result = slim(model, x)
    else:
        whole = nn.Sequential(model, nn.AdaptiveAvgPool2d(1), nn.Flatten())
        pruner = slimnet.attach(whole, x, METHODS[method](), epochs=4, data=[(x, y)])
        optimizer = torch.optim.SGD(whole.parameters(), lr=0.01)
        for epoch in range(4):
            with pruner.epoch(epoch):
                F.cross_entropy(whole(x), y).backward()
                optimizer.step()
                optimizer.zero_grad()
        cut = pruner.slim()
        result = SlimResult(cut.model[0], cut.plan, cut.report)
    assert result.report.verification.worst <= EXACT and of_groups(result) == (2, 2)
    pooled = nn.Sequential(result.model, nn.AdaptiveAvgPool2d(1), nn.Flatten())
    slimnet.export_onnx(pooled, x, tmp_path / "slim.onnx")


WHOLE: dict[str, Callable[[], nn.Module]] = {
    "GroupNorm": lambda: nn.GroupNorm(1, 16),
    "LayerNorm": lambda: nn.LayerNorm([16, 9, 9]),
}


@pytest.mark.parametrize("name", WHOLE)
def test_what_counts_in_one_mean_stays(name: str) -> None:
    model = Normed()
    model.norm = WHOLE[name]()
    model = roughened(model)
    model.a.weight.data[:8] = 0
    result = slim(model, pictures(9))
    plan = {group.name: group for group in result.plan.groups}["a"]
    assert len(plan.kept) == 16 and [*plan.reasons.values()] == [8]
    assert next(iter(plan.reasons)).startswith(f"counts in the mean and variance of {name} (norm, at test_heads.py:")

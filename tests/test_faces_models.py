"""VGG-Face, the networks for faces of 48×48 pixels, VGG-16 for CIFAR: size, weights from elsewhere, surgery."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from slimnet.errors import ArgumentError, ModelError
from slimnet.graph import channel_groups
from slimnet.measure import count
from slimnet.methods.closing import prune
from slimnet.models import VGGFace, VGGFaceGap, build_model, load_weights, vgg_face
from slimnet.surgery import slim

CONVS = "1_1 1_2 2_1 2_2 3_1 3_2 3_3 4_1 4_2 4_3 5_1 5_2 5_3".split()
LAYERS = [*(f"conv_{place}" for place in CONVS), "fc6", "fc7", "fc8"]


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """VGG-Face with the same layers, narrow."""
    monkeypatch.setattr(vgg_face, "STAGES", ((8, 2), (8, 2), (8, 3), (8, 3), (16, 3)))
    monkeypatch.setattr(vgg_face, "UNITS", 32)


def face(classes: int = 7, **options: Any) -> VGGFace:
    return VGGFace(classes, image_size=64, **options)


# --- size and names ---


def test_vggface_is_the_published_network() -> None:
    with torch.device("meta"):
        model = build_model("vggface", num_classes=2622)
        assert model(torch.empty(2, 3, 224, 224)).shape == (2, 2622)
    shapes = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    assert list(shapes) == [f"{layer}.{entry}" for layer in LAYERS for entry in ("weight", "bias")]
    assert tuple(shapes) == VGGFace.layout
    assert shapes["conv_1_1.weight"] == (64, 3, 3, 3)
    assert shapes["fc6.weight"] == (4096, 25088)
    assert shapes["fc8.weight"] == (2622, 4096)
    assert sum(p.numel() for p in model.parameters()) == 145_002_878


# Published: VGG-16-BN on CIFAR has 14.98 M parameters and 313.7 M multiply-adds (0.28 M of these are additions of biases).
SIZES = [
    ("vgg16_bn_cifar", 3, 32, 10, 14.98e6, 313.7e6),
    ("vgg9_face", 1, 48, 7, 1.174e6, 117.5e6),
    ("vgg13_face", 1, 48, 7, 9.41e6, 510.9e6),
    ("xception_face", 1, 48, 7, 0.0893e6, 15.47e6),
    ("resnet12_face", 1, 48, 7, 1.580e6, 184.2e6),
    ("resnet18_face", 1, 48, 7, 11.17e6, 1247e6),
    ("vggface_gap", 1, 64, 7, 14.72e6, 1248e6),
]


@pytest.mark.parametrize(("name", "channels", "side", "classes", "params", "flops"), SIZES)
def test_sizes(name: str, channels: int, side: int, classes: int, params: float, flops: float) -> None:
    model = build_model(name, num_classes=classes, in_channels=channels)
    cost = count(model, torch.zeros(1, channels, side, side))
    assert cost.params == pytest.approx(params, rel=1e-3)
    assert cost.flops == pytest.approx(flops, rel=1e-3)


@pytest.mark.parametrize("name", [name for name, *_ in SIZES])
def test_any_resolution(name: str) -> None:
    model = build_model(name, num_classes=5, in_channels=1).eval()
    for side in (48, 64):
        assert model(torch.randn(1, 1, side, side)).shape == (1, 5)


def test_vggface_has_one_resolution(small: None) -> None:
    assert face()(torch.randn(2, 3, 64, 64)).shape == (2, 7)
    with pytest.raises(ArgumentError, match="`image_size` must be a multiple of 32, got 48"):
        VGGFace(7, image_size=48)


def test_random_weights_let_signals_through(small: None) -> None:
    logits = face(dropout=0.0)(torch.randn(8, 3, 64, 64))
    assert 0.01 < float(logits.detach().std()) < 100


# --- weights from elsewhere ---


def saved(path: Path, model: nn.Module, names: list[str] | None = None) -> Path:
    state = dict(model.state_dict())
    torch.save(dict(zip(names, state.values(), strict=True)) if names else state, path)
    return path


def same(one: nn.Module, other: nn.Module, but: tuple[str, ...] = ()) -> bool:
    return all(torch.equal(p, other.get_parameter(name)) for name, p in one.named_parameters() if not name.startswith(but or "-"))


def torchvision_names() -> list[str]:
    convs = [0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28]
    layers = [*(f"features.{i}" for i in convs), *(f"classifier.{i}" for i in (0, 3, 6))]
    return [f"{layer}.{entry}" for layer in layers for entry in ("weight", "bias")]


def test_a_converted_file_loads_as_it_is(tmp_path: Path, small: None) -> None:
    source, model = face(2622), face(2622)
    assert load_weights(model, saved(tmp_path / "vgg_face.pth", source)) == ()
    assert same(source, model)


def test_other_names_load_by_order_and_shape(tmp_path: Path, small: None) -> None:
    source, model = face(2622), face(2622)
    notes = load_weights(model, saved(tmp_path / "vgg.pth", source, torchvision_names()))
    assert notes == ("vgg.pth: its 32 entries have other names: loaded by order and shape",)
    assert same(source, model)


def test_a_new_head_for_another_number_of_classes(tmp_path: Path, small: None) -> None:
    source, model = face(2622), face(7)
    before = copy.deepcopy(model.fc8)
    path = saved(tmp_path / "vgg_face.pth", source)
    with pytest.raises(ModelError, match="it was trained for 2622 classes, the model has 7"):
        load_weights(model, path)
    (note,) = load_weights(model, path, new_head=True)
    assert note == "vgg_face.pth: fc8 starts afresh: it is (2622, 32) there, (7, 32) in the model"
    assert same(source, model, but=("fc8",))
    assert torch.equal(model.fc8.weight, before.weight)
    assert not model.fc8.bias.any()


def test_the_new_head_is_drawn_as_specified() -> None:
    head = VGGFaceGap(1000).fc8
    assert float(head.weight.detach().std()) == pytest.approx(0.1, rel=0.01)
    assert not head.bias.any()
    assert float(VGGFaceGap(2622).fc8.weight.detach().std()) < 0.05


def test_weights_tuned_for_the_same_classes_keep_their_head(tmp_path: Path, small: None) -> None:
    source, model = face(7), face(7)
    assert load_weights(model, saved(tmp_path / "tuned.pth", source), new_head=True) == ()
    assert same(source, model)


@pytest.mark.parametrize("names", [None, torchvision_names()])
def test_the_pooled_head_takes_the_convolutions(tmp_path: Path, small: None, names: list[str] | None) -> None:
    source, model = face(2622), VGGFaceGap(7)
    notes = load_weights(model, saved(tmp_path / "vgg_face.pth", source, names), new_head=True)
    assert [note.split(": ", 1)[1] for note in notes][-3:] == [
        "fc6 left out: the model has none",
        "fc7 left out: the model has none",
        "fc8 starts afresh: it is (2622, 32) there, (7, 16) in the model",
    ]
    assert all(torch.equal(source.get_parameter(f"conv_{i}.weight"), model.get_parameter(f"conv_{i}.weight")) for i in CONVS)


@pytest.mark.parametrize("names", [None, torchvision_names()])
def test_grey_input_is_folded_exactly(tmp_path: Path, small: None, names: list[str] | None) -> None:
    source, model = face(7).double().eval(), face(7, in_channels=1).double().eval()
    notes = load_weights(model, saved(tmp_path / "rgb.pth", source, names))
    assert notes[-1] == "rgb.pth: conv_1_1 reads grey images: its kernel is summed over red, green and blue"
    x = torch.randn(3, 1, 64, 64, dtype=torch.float64)
    torch.testing.assert_close(model(x), source(x.expand(-1, 3, -1, -1)), rtol=1e-12, atol=1e-12)


def test_any_network_folds_grey(tmp_path: Path) -> None:
    source = build_model("resnet8", num_classes=10).eval()
    model = build_model("resnet8", num_classes=10, in_channels=1, weights=saved(tmp_path / "w.pth", source)).eval()
    x = torch.randn(2, 1, 16, 16)
    torch.testing.assert_close(model(x), source(x.expand(-1, 3, -1, -1)), rtol=1e-4, atol=1e-4)


def swapped(state: dict[str, Tensor]) -> dict[str, Tensor]:
    pairs = list(state.items())
    pairs[2], pairs[3] = pairs[3], pairs[2]
    return dict(pairs)


@pytest.mark.parametrize("model", ["vggface", "resnet8"])
def test_no_network_loads_by_order_what_does_not_fit(tmp_path: Path, small: None, model: str) -> None:
    source = face(7) if model == "vggface" else build_model(model, num_classes=7)
    state = swapped({f"a{i:03}": tensor for i, tensor in enumerate(source.state_dict().values())})
    torch.save(state, tmp_path / "other.pth")
    before = copy.deepcopy(source)
    with pytest.raises(ModelError, match=r"missing: .* unexpected: a000, a00\d") as caught:
        load_weights(source, tmp_path / "other.pth", new_head=True)
    assert "\n" not in str(caught.value)
    assert same(before, source)


def test_networks_with_norms_never_load_by_order(tmp_path: Path) -> None:
    """Their entries have too many equal shapes for order to mean anything."""
    source = build_model("resnet8", num_classes=7)
    torch.save({f"a{i:03}": tensor for i, tensor in enumerate(source.state_dict().values())}, tmp_path / "other.pth")
    with pytest.raises(ModelError, match="unexpected: a000"):
        load_weights(build_model("resnet8", num_classes=7), tmp_path / "other.pth")


# --- surgery ---


def cut(model: nn.Module, x: Tensor, rate: float = 0.5) -> nn.Module:
    """Prune half of every group, cut it out, and check what came out; `slim` verifies in float64."""
    masked = copy.deepcopy(model).eval()
    prune(masked, x, rate=rate)
    result = slim(masked, x)
    with torch.no_grad():
        torch.testing.assert_close(result.model(x), masked(x), rtol=1e-3, atol=1e-4)
    assert result.report.removed > 0
    return result.model


def test_vggface_loses_the_columns_and_units(small: None) -> None:
    model = face(in_channels=1)
    groups = {group.name: group.size for group in channel_groups(model.eval(), torch.randn(2, 1, 64, 64))}
    assert (groups["conv_5_3"], groups["fc6"], groups["fc7"]) == (16, 32, 32)
    result = cut(model, torch.randn(2, 1, 64, 64))
    shapes = {name: tuple(p.shape) for name, p in result.named_parameters() if name.endswith("weight")}
    assert shapes["conv_5_3.weight"] == (8, 8, 3, 3) or shapes["conv_5_3.weight"][0] == 8
    assert shapes["fc6.weight"] == (16, 8 * 4)
    assert shapes["fc7.weight"] == (16, 16)
    assert shapes["fc8.weight"] == (7, 16)


@pytest.mark.parametrize(
    ("name", "side", "share"),
    [
        ("vgg16_bn_cifar", 32, 0.27),
        ("vgg9_face", 48, 0.27),
        ("vgg13_face", 48, 0.27),
        ("xception_face", 48, 0.29),  # depthwise layers have half of their multiply-adds, not a quarter
        ("resnet12_face", 48, 0.27),
        ("resnet18_face", 16, 0.27),
    ],
)
def test_slim_networks_have_half_the_filters(name: str, side: int, share: float) -> None:
    torch.manual_seed(0)
    model = build_model(name, num_classes=7, in_channels=1)
    x = torch.randn(2, 1, side, side)
    small = cut(model, x)
    assert count(small, x[:1]).flops < share * count(model, x[:1]).flops
    last = [module for module in small.modules() if isinstance(module, nn.Linear)][-1]
    before = [module for module in model.modules() if isinstance(module, nn.Linear)][-1]
    assert (last.in_features, last.out_features) == (before.in_features // 2, 7)


def test_slim_vggface_gap(small: None) -> None:
    result = cut(VGGFaceGap(7, in_channels=1), torch.randn(2, 1, 64, 64))
    assert result.fc8.weight.shape == (7, 8)  # type: ignore[union-attr]


@pytest.mark.slow
def test_slim_vggface_at_full_size() -> None:
    torch.manual_seed(0)
    model, x = build_model("vggface", num_classes=7, in_channels=1), torch.randn(2, 1, 224, 224)
    result = cut(model, x)
    shapes = {name: tuple(p.shape) for name, p in result.named_parameters() if name.endswith("weight")}
    assert shapes["fc6.weight"] == (2048, 256 * 49)
    assert shapes["fc8.weight"] == (7, 2048)
    assert count(result, x[:1]).flops < 0.27 * count(model, x[:1]).flops

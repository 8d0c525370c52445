from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from slimnet.data import Batches, Split, load_data
from slimnet.errors import ArgumentError, FileFormatError, ModelError, SlimnetError, SurgeryError
from slimnet.models import PadShortcut, build_model, find_sizes, load_weights, model_names
from slimnet.training import train

# Numbers of parameters from table 6 of He et al. (in millions), and of convolutions and linear layers.
DEPTHS = [(20, 0.27), (32, 0.46), (44, 0.66), (56, 0.85), (110, 1.7)]


@pytest.mark.parametrize(("depth", "millions"), DEPTHS)
def test_cifar_resnet_has_the_published_depth_and_size(depth: int, millions: float) -> None:
    model = build_model(f"resnet{depth}", num_classes=10)
    layers = [m for m in model.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    assert len(layers) == depth
    assert sum(p.numel() for p in model.parameters()) / 1e6 == pytest.approx(millions, rel=0.03)


@pytest.mark.parametrize(("channels", "side", "classes"), [(3, 32, 10), (1, 8, 10), (3, 33, 100), (1, 48, 7)])
def test_cifar_resnet_takes_any_resolution_and_channels(channels: int, side: int, classes: int) -> None:
    model = build_model("resnet8", num_classes=classes, in_channels=channels)
    logits = model(torch.randn(2, channels, side, side))
    assert logits.shape == (2, classes)
    assert logits.isfinite().all()


def test_shortcut_has_no_parameters_and_shifts_channels() -> None:
    shortcut = PadShortcut(stride=2, before=2, after=1)
    x = torch.randn(2, 3, 5, 5)
    out = shortcut(x)
    assert not list(shortcut.state_dict())
    assert torch.equal(out[:, 2:5], x[:, :, ::2, ::2])
    assert out.shape == (2, 6, 3, 3)
    assert not out[:, :2].any()
    assert not out[:, 5:].any()


def test_shortcut_follows_removed_channels() -> None:
    shortcut = PadShortcut(stride=1, before=2, after=2)
    x = torch.randn(1, 3, 4, 4)
    inputs, outputs = (
        torch.tensor([True, False, True]),
        torch.tensor([True, False, True, False, True, False, False]),
    )
    wanted = shortcut(x)[:, outputs]
    shortcut.keep_channels(inputs, outputs)
    assert (shortcut.before, shortcut.after) == (1, 0)
    assert torch.equal(shortcut(x[:, inputs]), wanted)
    with pytest.raises(SurgeryError, match="without its output channel"):
        PadShortcut(1, 1, 1).keep_channels(torch.tensor([True]), torch.tensor([True, False, True]))


def test_identity_where_the_shape_stays() -> None:
    model = build_model("resnet20", num_classes=10)
    padded = [name for name, module in model.named_modules() if isinstance(module, PadShortcut)]
    assert padded == ["layer2.0.shortcut", "layer3.0.shortcut"]


TORCHVISION = [
    ("resnet18", 1, 64),
    ("mobilenet_v3_small", 1, 64),
    ("shufflenet_v2_x0_5", 4, 64),
    ("squeezenet1_1", 1, 64),
    ("googlenet", 1, 64),
    ("inception_v3", 3, 96),
]


@pytest.mark.parametrize(("name", "channels", "side"), TORCHVISION)
def test_torchvision_models_by_name(name: str, channels: int, side: int) -> None:
    with torch.device("meta"):
        model = build_model(name, num_classes=7, in_channels=channels)
        assert model(torch.empty(2, channels, side, side)).shape == (2, 7)


def test_new_first_convolution_keeps_its_geometry() -> None:
    old, new = (build_model("resnet18", num_classes=7, in_channels=channels).conv1 for channels in (3, 1))
    assert isinstance(old, nn.Conv2d)
    assert isinstance(new, nn.Conv2d)
    assert new.weight.shape == (64, 1, 7, 7)
    assert (new.stride, new.padding, new.bias) == (old.stride, old.padding, old.bias)


def test_names_are_unique_and_ours_come_first() -> None:
    names = model_names()
    assert len(set(names)) == len(names)
    assert {"resnet20", "resnet32", "resnet44", "resnet56", "resnet110", "resnet50", "vgg16_bn"} <= set(names)
    assert names[0].startswith("resnet")


FACTORIES = """
from torch import nn
def both(num_classes, in_channels): return nn.Conv2d(in_channels, num_classes, 1)
def rest(**options): return nn.Conv2d(options["in_channels"], options["num_classes"], 1)
def classes(num_classes=4): return nn.Conv2d(3, num_classes, 1)
def grey(): return nn.Sequential(nn.Conv2d(1, 5, 1), nn.Conv2d(5, 5, 1, bias=False))
def number(num_classes): return 3
def broken(num_classes): raise RuntimeError("no\\nluck")
value = 3
"""


@pytest.fixture
def factories(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_nets.py").write_text(FACTORIES)
    (tmp_path / "my_broken.py").write_text("import no_such_module_at_all")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "my_nets", raising=False)


@pytest.mark.parametrize(("function", "channels"), [("both", 1), ("rest", 2), ("classes", 3)])
def test_user_factory(factories: None, function: str, channels: int) -> None:
    before = list(sys.path)
    model = build_model(f"my_nets:{function}", num_classes=5, in_channels=channels)
    assert isinstance(model, nn.Conv2d)
    assert model.weight.shape[:2] == (5, channels)
    assert sys.path == before


def test_a_network_for_grey_pictures_keeps_its_first_convolution(factories: None, tmp_path: Path) -> None:
    name = "my_nets:grey"
    grey = build_model(name, num_classes=5, in_channels=1)
    assert [module.in_channels for module in grey.modules() if isinstance(module, nn.Conv2d)] == [1, 5]
    torch.save(grey.state_dict(), tmp_path / "grey.pth")
    with pytest.raises(ModelError, match="no first convolution that reads 3 channels: it cannot take 2"):
        build_model(name, num_classes=5, in_channels=2)
    build = lambda classes, channels: build_model(name, num_classes=classes, in_channels=channels)  # noqa: E731
    assert find_sizes(build, tmp_path / "grey.pth") == (5, 1)


BAD_NAMES = [
    ("ResNet-20", {}, ModelError, r"Unknown model 'ResNet-20'\. Did you mean resnet20\?.* Known: .*resnet56"),
    ("zzz", {}, ModelError, r"Unknown model 'zzz'\. Known: "),
    ("my_nets:", {}, ModelError, "not of the form package.module:function"),
    ("no_such_package:f", {}, ModelError, "Cannot import no_such_package"),
    ("my_broken:f", {}, ModelError, "Cannot import my_broken.*no_such_module_at_all"),
    ("my_nets:nothing", {}, ModelError, "no function 'nothing'"),
    ("my_nets:value", {}, ModelError, "no function 'value'"),
    ("my_nets:number", {}, ModelError, "must return an nn.Module, it returned a int"),
    ("my_nets:broken", {}, ModelError, "failed: RuntimeError: no luck"),
    ("my_nets:classes", {"in_channels": 1}, ModelError, "no first convolution that reads 3 channels"),
    ("resnet20", {"in_channels": 0}, ArgumentError, "`in_channels` must be at least 1, got 0"),
    ("resnet20", {"num_classes": 0}, ArgumentError, "`num_classes` must be at least 1, got 0"),
]


@pytest.mark.parametrize(("name", "options", "kind", "message"), BAD_NAMES)
def test_bad_models_are_refused_in_one_line(
    factories: None, name: str, options: dict[str, int], kind: type[SlimnetError], message: str
) -> None:
    with pytest.raises(kind, match=message) as caught:
        build_model(name, **{"num_classes": 10, **options})
    assert "\n" not in str(caught.value)


def small(classes: int = 10, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return build_model("resnet8", num_classes=classes)


def with_prefix(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {f"module.{name}": tensor for name, tensor in state.items()}


def old(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in state.items() if not name.endswith("num_batches_tracked")}


FORMATS: list[tuple[str, Callable[[dict[str, Tensor]], Any]]] = [
    ("plain.pth", dict),
    ("nested.th", lambda state: {"best_prec1": 91.0, "state_dict": with_prefix(state)}),
    ("model.pt", lambda state: {"model": state, "epoch": 3}),
    ("old.pth", lambda state: with_prefix(old(state))),
    ("plain.safetensors", old),
]


@pytest.mark.parametrize(("name", "made"), FORMATS)
def test_weights_come_back(tmp_path: Path, name: str, made: Callable[[dict[str, Tensor]], Any]) -> None:
    source = small(seed=1)
    content = made(dict(source.state_dict()))
    path = tmp_path / name
    save_file(content, path) if path.suffix == ".safetensors" else torch.save(content, path)
    model = build_model("resnet8", num_classes=10, weights=path)
    assert all(torch.equal(a, b) for a, b in zip(source.parameters(), model.parameters(), strict=True))


def without(name: str, state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {key: tensor for key, tensor in state.items() if key != name}


MISFITS: list[tuple[Callable[[dict[str, Tensor]], dict[str, Tensor]], str]] = [
    (lambda s: without("conv1.weight", s), r"1 missing: conv1\.weight\.$"),
    (lambda s: s | {"fc.weight": torch.zeros(1)}, r"1 unexpected: fc\.weight\.$"),
    (
        lambda s: s | {"conv1.weight": torch.zeros(16, 1, 3, 3)},
        r"conv1\.weight \(16, 1, 3, 3\) for \(16, 3, 3, 3\)",
    ),
    (lambda s: {"a": s["conv1.weight"]}, r"\d\d missing: .* and \d\d more; 1 unexpected: a\."),
    (lambda s: s | {"bn1.bias": torch.full((16,), float("nan"))}, r"NaN or infinite in bn1\.bias"),
    (lambda s: s | {"bn1.bias": torch.full((16,), float("inf"))}, r"NaN or infinite in bn1\.bias"),
    (lambda s: s | {"bn1.bias": torch.full((16,), float("nan")).to(torch.float8_e5m2)}, r"NaN or infinite in bn1\.bias"),
    (lambda s: s | {"bn1.bias": torch.full((16,), float("nan")).to(torch.float8_e4m3fn)}, r"NaN or infinite in bn1\.bias"),
    (
        lambda s: s | {"linear.weight": torch.zeros(7, 64), "linear.bias": torch.zeros(7)},
        r"trained for 7 classes, the model has 10",
    ),
    (
        lambda s: s | {"linear.weight": torch.zeros(10, 32)},
        r"last layer reads 32 features, the model's reads 64",
    ),
]


@pytest.mark.parametrize(("change", "message"), MISFITS)
def test_weights_that_do_not_fit_leave_the_model_alone(
    tmp_path: Path, change: Callable[[dict[str, Tensor]], dict[str, Tensor]], message: str
) -> None:
    model = small()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    torch.save(change(dict(small(seed=1).state_dict())), tmp_path / "w.pth")
    with pytest.raises(ModelError, match=message) as caught:
        load_weights(model, tmp_path / "w.pth")
    assert "\n" not in str(caught.value)
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


def truncated(path: Path) -> None:
    torch.save(dict(small().state_dict()), path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


BAD_FILES: list[tuple[str, Callable[[Path], object], str]] = [
    ("none.pth", lambda path: None, "does not exist"),
    ("none.safetensors", lambda path: None, "does not exist"),
    ("model.onnx", lambda path: path.write_bytes(b"x"), "is an ONNX file, not a file of weights"),
    ("whole.pth", lambda path: torch.save(small(), path), "holds pickled objects.*state_dict"),
    ("cut.pth", truncated, "corrupt or truncated"),
    ("text.pth", lambda path: path.write_text("hello, this is no file of weights"), "corrupt or truncated"),
    ("empty.pth", lambda path: path.write_bytes(b""), "is empty"),
    ("text.safetensors", lambda path: path.write_text("hello"), "truncated"),
    ("list.pth", lambda path: torch.save([1, 2], path), "holds no state dict .it holds a list"),
    ("mixed.pth", lambda path: torch.save({"a": torch.zeros(1), "b": 3}, path), r"not tensors are b \(int\)"),
    ("nothing.pth", lambda path: torch.save({}, path), "holds no state dict"),
]


@pytest.mark.parametrize(("name", "write", "message"), BAD_FILES)
def test_bad_files_are_refused_in_one_line(tmp_path: Path, name: str, write: Callable[[Path], object], message: str) -> None:
    write(tmp_path / name)
    with pytest.raises(FileFormatError, match=message) as caught:
        build_model("resnet8", num_classes=10, weights=tmp_path / name)
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)


def test_import_leaves_torchvision_alone() -> None:
    code = "import sys, slimnet.models, slimnet.data; sys.exit('torchvision' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(("name", "at_least"), [("resnet20", 0.89), ("resnet56", 0.91)])
def test_published_weights_reach_their_accuracy(data_dir: Path, name: str, at_least: float) -> None:
    model = build_model(name, num_classes=10, weights=data_dir / "weights" / f"{name}_cifar10.th").eval()
    cifar = load_data("cifar10", data_dir=data_dir)
    part = Split(cifar.test.images[:1000], cifar.test.labels[:1000])
    with torch.inference_mode():
        batches = Batches(part, 250, mean=cifar.mean, std=cifar.std).epoch(0)
        right = sum(int((model(images).argmax(1) == labels).sum()) for images, labels in batches)
    assert right / 1000 >= at_least


def test_weights_of_nothing_and_weights_too_large_to_train(tmp_path: Path) -> None:
    model = build_model("resnet8", num_classes=10, in_channels=1)
    save_file({}, tmp_path / "none.safetensors")
    large = {name: tensor * 0 + 3e38 if tensor.is_floating_point() else tensor for name, tensor in model.state_dict().items()}
    save_file(large, tmp_path / "large.safetensors")
    with pytest.raises(ModelError, match=r"none\.safetensors does not fit the model"):
        load_weights(model, tmp_path / "none.safetensors")
    with pytest.raises(ModelError, match=r"resnet8 answers NaN or infinity with the weights of .*large\.safetensors"):
        train(model="resnet8", data="digits", init=tmp_path / "large.safetensors", out=tmp_path / "run", epochs=1, progress=False)
    assert not (tmp_path / "run").exists()

"""timm's networks through the commands; runs and bundles of them are built again from their own folder."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from command import slimnet_cli
from export_cases import resealed
from slimnet.commands.rebuild import load_dense_shape, load_slim
from slimnet.files import read_json, read_tensors
from slimnet.models import build_model
from slimnet.onnx.session import open_session
from zoo import roughen

SIZE = 32
CASES = [("test_resnet", ()), ("test_efficientnet", ()), ("test_efficientnet", ("--no-mask-norm",)), ("test_byobnet", ()),
         ("test_convnext", ())]  # fmt: skip
"""The networks that timm has for tests, about half a million parameters each."""


@torch.no_grad()
def answers(file: Path, x: Tensor) -> Tensor:
    session = open_session(file)
    return torch.from_numpy(session.run({session.inputs[0].name: x.numpy()})[0])


@pytest.mark.parametrize(("name", "flags"), CASES)
def test_prune_slim_verify(name: str, flags: tuple[str, ...], tmp_path: Path) -> None:
    """The cut network and its ONNX file compute what the pruned one does; `verify` needs the folder alone."""
    torch.manual_seed(0)
    size, generator = SIZE, torch.Generator().manual_seed(0)
    model = build_model(f"timm:{name}", num_classes=5).eval()
    roughen(model, torch.randn(4, 3, size, size, generator=generator), generator)
    torch.save(model.state_dict(), tmp_path / "weights.pth")
    network = ("--model", f"timm:{name}", "--num-classes", "5", "--in-channels", "3", "--image-size", str(size))
    pruned = tmp_path / "pruned" / "model.safetensors"
    for arguments in (("prune", tmp_path / "weights.pth", *network, "--rate", "0.5", *flags, "--out", tmp_path / "pruned"),
                      ("slim", pruned, *network, "--out", tmp_path / "slim"), ("verify", tmp_path / "slim")):  # fmt: skip
        done = slimnet_cli(*arguments)
        assert done.status == 0, done.err
    cost = read_json(tmp_path / "slim" / "report.json")["cost"]
    assert cost["after"]["flops"] < 0.95 * cost["before"]["flops"]
    model.load_state_dict(read_tensors(pruned))
    x = torch.randn(3, 3, size, size, generator=generator)
    expected = model(x).detach()
    assert float((expected[0] - expected[1]).abs().max()) > 1e-3 * float(expected.abs().max())  # it says more than one thing
    for found in (answers(tmp_path / "slim" / "model.onnx", x), load_slim(tmp_path / "slim")(x).detach()):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5 * float(expected.abs().max()))


def test_tensors_that_are_in_no_file(tmp_path: Path) -> None:
    """A network may make tensors when it is built (LeViT's indices): a folder builds them again."""
    (tmp_path / "net.py").write_text(
        "import torch\n"
        "class Net(torch.nn.Sequential):\n"
        "    def __init__(self, num_classes):\n"
        "        super().__init__(torch.nn.Conv2d(3, 8, 3), torch.nn.ReLU(), torch.nn.Conv2d(8, num_classes, 3))\n"
        "        self.register_buffer('order', torch.arange(num_classes).flip(0), persistent=False)\n"
        "    def forward(self, x): return super().forward(x).mean((2, 3))[:, self.order]\n"
    )
    name, file = f"{tmp_path}/net.py:Net", tmp_path / "weights.pth"
    torch.save(build_model(name, num_classes=5).state_dict(), file)
    network = ("--model", name, "--num-classes", "5", "--in-channels", "3", "--image-size", "12")
    assert slimnet_cli("slim", file, *network, "--out", tmp_path / "slim").status == 0
    done = slimnet_cli("verify", tmp_path / "slim", "--trust-code")
    assert done.status == 0, done.err


def test_what_cannot_be_analysed_is_one_line(tmp_path: Path) -> None:
    """Control flow that depends on data ends it where a layer never runs, with the place."""
    (tmp_path / "net.py").write_text(
        "import timm, torch\n"
        "class Net(timm.models.ResNet):\n"
        "    def forward(self, x):\n"
        "        out = self.forward_head(self.forward_features(x))\n"
        "        return self.more(out) if x.mean() > 1e9 else out\n"
        "def net(num_classes):\n"
        "    made = Net(timm.models.resnet.BasicBlock, (1, 1, 1, 1), num_classes=num_classes)\n"
        "    made.more = torch.nn.Linear(num_classes, num_classes)\n"
        "    return made\n"
    )
    torch.save(build_model(f"{tmp_path}/net.py:net", num_classes=5).state_dict(), tmp_path / "weights.pth")
    done = slimnet_cli("inspect", tmp_path / "weights.pth", "--model", f"{tmp_path}/net.py:net", "--num-classes", "5",
                       "--in-channels", "3")  # fmt: skip
    assert done.status == 1
    assert len(done.err.splitlines()) == 1
    assert "net.py:5: return self.more(out) if x.mean() > 1e9 else out" in done.err
    assert "more never ran" in done.err


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of a timm network with an argument of its own, on grey pictures, and its bundle."""
    folder = tmp_path_factory.mktemp("timm")
    arguments = ("--model", "timm:test_resnet", "--model-arg", "drop_rate=0.25", "--data", "digits", "--image-size", "16",
                 "--epochs", "1", "--train-fraction", "0.2", "--precision", "fp32", "--device", "cpu", "--method", "fpgm",
                 "--rate", "0.5", "--quiet", "--out", folder / "run")  # fmt: skip
    for command in (("train", *arguments), ("export", folder / "run", "--out", folder / "bundle")):
        done = slimnet_cli(*command)
        assert done.status == 0, done.err
    return folder


def test_a_run_and_a_bundle_need_no_flags(made: Path) -> None:
    for command in ("verify bundle", "evaluate bundle", "evaluate run"):
        verb, folder = command.split()
        done = slimnet_cli(verb, made / folder)
        assert done.status == 0, done.err
    for folder in ("run", "bundle"):
        config = read_json(made / folder / "config.json")
        config = config.get("train", config)
        assert (config["model"], config["model_args"]) == ("timm:test_resnet", {"drop_rate": 0.25})
    for network in (load_slim(made / "bundle"), load_dense_shape(made / "bundle")):
        assert network.drop_rate == 0.25
        assert next(module for module in network.modules() if isinstance(module, nn.Conv2d)).in_channels == 1


@pytest.mark.parametrize("arguments", [{"pretrained": True}, {"checkpoint_path": "/tmp/x"}, {"embed_dim": 10**9}])
def test_a_bundle_hands_on_plain_arguments_alone(made: Path, arguments: dict[str, object], tmp_path: Path) -> None:
    import shutil

    shutil.copytree(made / "bundle", tmp_path / "bundle")
    config = read_json(tmp_path / "bundle" / "config.json")
    (tmp_path / "bundle" / "config.json").write_text(json.dumps({**config, "model_args": arguments}))
    resealed(tmp_path / "bundle")
    done = slimnet_cli("verify", tmp_path / "bundle")
    assert done.status == 1
    assert f"`{next(iter(arguments))}`" in done.err


def test_a_resumed_run_has_its_own_arguments(made: Path) -> None:
    done = slimnet_cli("train", "--resume", "--out", made / "run", "--model", "timm:test_resnet", "--model-arg", "drop_rate=0.5")
    assert done.status == 1
    assert "`model_args` was {'drop_rate': 0.25}" in done.err


def test_a_slim_folder_is_verified(made: Path, tmp_path: Path) -> None:
    """Its ONNX file against its network; a damaged one is found."""
    weights = made / "run" / "model.safetensors"
    network = ("--model", "timm:test_resnet", "--num-classes", "10", "--in-channels", "1", "--image-size", "16")
    assert slimnet_cli("slim", weights, *network, "--out", tmp_path / "slim").status == 0
    assert slimnet_cli("verify", tmp_path / "slim").status == 0
    slim = tmp_path / "slim" / "config.json"
    config = read_json(slim)
    slim.write_text(json.dumps({**config, "image_shape": None}))
    assert "does not say what images" in slimnet_cli("verify", tmp_path / "slim").err
    slim.write_text(json.dumps({**config, "model": "timm:test_convnext"}))
    assert "does not fit timm:test_convnext" in slimnet_cli("verify", tmp_path / "slim").err
    slim.write_text(json.dumps(config))
    assert slimnet_cli("slim", weights, *network, "--no-such-flag").status == 2
    other = build_model("timm:test_resnet", num_classes=10, in_channels=1)
    torch.save(other.state_dict(), tmp_path / "other.pth")
    assert slimnet_cli("slim", tmp_path / "other.pth", *network, "--out", tmp_path / "other").status == 0
    (tmp_path / "slim" / "model.onnx").write_bytes((tmp_path / "other" / "model.onnx").read_bytes())
    done = slimnet_cli("verify", tmp_path / "slim")
    assert done.status == 1
    assert "computes something else than slim.safetensors" in done.err

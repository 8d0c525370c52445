from __future__ import annotations

from pathlib import Path

from command import slimnet_cli
from slimnet.files import write_tensors
from slimnet.models import build_model


def test_layers(tmp_path: Path) -> None:
    write_tensors(tmp_path / "x.safetensors", build_model("resnet8", num_classes=10).state_dict())
    assert slimnet_cli("layers", tmp_path / "x.safetensors", "--model", "resnet8").out == "8\n"
    assert slimnet_cli("layers", tmp_path / "x.safetensors", "--model", "resnet8", "--json").json == {"layers": 8}
    assert slimnet_cli("layers", tmp_path / "none.safetensors", "--model", "resnet8").status == 1

"""slimnet inspect: bad input."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import nn

from cli.cases import WEIGHTS, Bad, holding, nothing, refused, weights, wrong_usage
from command import slimnet_cli
from slimnet.models import build_model

BAD: list[Bad] = [
    ("inspect x.pth --model resnet8", "x.pth does not exist", nothing),
    ("inspect x.pth --model resnet8", "x.pth holds pickled objects", holding("x.pth", lambda p: torch.save(nn.ReLU(), p))),
    ("inspect {bundle}/model.onnx --cross-check", "torch-pruning does not read ONNX files", nothing),
    (f"inspect {WEIGHTS}8", "Unknown model 'resnet88'", weights),
]


test_bad_input_gets_one_line_and_nothing_is_written = refused(BAD)
test_wrong_usage_exits_2 = wrong_usage(
    [
        ("inspect x.pth --model resnet8 --cross-check-seconds 9", "--cross-check-seconds is for --cross-check"),
        ("inspect x.pth --model resnet8 --cross-check --cross-check-seconds 0", "0.0 is not in the range x>0"),
    ]
)


NET = """
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self, num_classes, in_channels):
        super().__init__()
        self.stem, self.more, self.head = nn.Conv2d(in_channels, 4, 3), nn.Conv2d(4, 4, 1), nn.Linear(4, num_classes)

    def forward(self, x):
        maps = self.stem(x).relu()
        if DEPENDS:
            maps = self.more(maps).relu()
        return self.head(maps.mean((2, 3)))
"""


@pytest.mark.parametrize(("depends", "runs"), [("x.abs().mean() > 1", 2), ("x.abs().mean() > -1", 1), ("True", 0)])
def test_what_depends_on_data_is_said(tmp_path: Path, depends: str, runs: int) -> None:
    """A network that is known from some runs alone is not shown like one that is known."""
    file, weights = tmp_path / "net.py", tmp_path / "net.pth"
    file.write_text(NET.replace("DEPENDS", depends))
    torch.save(build_model(f"{file}:Net", num_classes=3).state_dict(), weights)
    options = ("--model", f"{file}:Net", "--num-classes", "3", "--in-channels", "3", "--image-size", "8")
    done = slimnet_cli("inspect", weights, *options)
    assert (done.status, done.err) == (0, "")
    assert ("The control flow of this network depends on data" in done.out) == bool(runs)
    assert ("2 runs of it were recorded" in done.out) == (runs == 2)
    assert json.loads(slimnet_cli("inspect", weights, *options, "--json").out)["runs"] == runs

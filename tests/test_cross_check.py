"""slimnet's channel sets against torch-pruning's: who is right is decided by cutting."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from torch import Tensor, nn

from slimnet.models import build_model
from slimnet.surgery import Difference, cross_check
from slimnet_cli.inspect import command


class Normed(nn.Module):
    """A stream that a LayerNorm reads: what is closed still counts in its mean."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.norm, self.b = nn.Linear(8, 12), nn.LayerNorm(12), nn.Linear(12, 3)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.b(self.norm(self.a(x)).relu())
        return y


class Counted(nn.Module):
    """The code counts channels by a number that is written in it."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 8, 3), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.b(self.a(x).relu().mean((2, 3)).view(-1, 8))
        return y


def alike() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 4, 1), nn.BatchNorm2d(4))


def found(model: nn.Module, *shape: int) -> tuple[Difference, ...]:
    torch.manual_seed(0)
    return cross_check(model.eval(), torch.randn(shape))


@pytest.mark.parametrize("model", [alike, Counted])
def test_where_both_agree_there_is_no_row(model: type[nn.Module]) -> None:
    assert found(model(), 2, 3, 12, 12) == ()


def test_what_a_layer_norm_reads_stays_and_that_is_right() -> None:
    (only,) = found(Normed(), 2, 8)
    assert only.layers == ("a",) and only.channels == 12 and only.right == "slimnet"
    assert only.ours.outcome == "stays" and "mean and variance of LayerNorm" in only.ours.note
    assert only.theirs.filters == ("a[0]",) and only.theirs.error is not None and only.theirs.error > 1e-3


def test_a_padded_shortcut_shifts_channels() -> None:
    (only,) = found(build_model("resnet8", num_classes=10), 2, 3, 16, 16)
    assert only.right == "slimnet" and only.channels == 64
    assert only.ours.is_exact and "layer2.0.conv2[8]" in only.ours.filters
    assert only.theirs.outcome == "fails" and only.theirs.note.startswith("does not run on given input: ")


def test_convolution_groups_go_whole() -> None:
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3, groups=2), nn.ReLU(), nn.Conv2d(8, 4, 1))
    (only,) = found(model, 2, 3, 12, 12)
    assert only.ours.is_exact and len(only.ours.filters) == 8 and not only.theirs.is_exact


def test_the_command_shows_a_row_for_each(tmp_path: Path) -> None:
    torch.save(build_model("resnet8", num_classes=10, in_channels=3).state_dict(), tmp_path / "net.pth")
    arguments = [str(tmp_path / "net.pth"), "--model", "resnet8", "--num-classes", "10", "--in-channels", "3"]
    shown = CliRunner().invoke(command, [*arguments, "--image-size", "16", "--cross-check"])
    assert shown.exit_code == 0, shown.output
    assert "torch-pruning cuts" in shown.output and "does not run on given input" in shown.output
    assert "torch-pruning cuts" not in CliRunner().invoke(command, [*arguments, "--image-size", "16"]).output
    written = CliRunner().invoke(command, [*arguments, "--image-size", "16", "--cross-check", "--json"])
    assert json.loads(written.stdout)["differences"][0]["right"] == "slimnet"

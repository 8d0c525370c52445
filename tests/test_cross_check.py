"""slimnet's channel sets against torch-pruning's: who is right is decided by cutting."""

from __future__ import annotations

import json
import sys
import threading
import time
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from click.testing import CliRunner
from torch import Tensor, nn

from slimnet.errors import ArgumentError
from slimnet.models import build_model
from slimnet.surgery import Difference, NoAnswerError, cross_check
from slimnet_cli.inspect import command
from written_networks import written


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


# --- who is right: by number --------------------------------------------------------------------------------------------


def test_both_are_exact_where_torch_pruning_ties_more() -> None:
    """What is added up over its channels goes by itself; torch-pruning ties it to what the sum weighs."""
    (only,) = found(written(lambda m, x: m.head(m.b(x) * m.c(x).square().sum(1, keepdim=True).sigmoid()), zero=""), 2, 8, 12, 12)
    assert only.right == "both" and only.layers == ("b", "c") and only.channels == 16
    assert only.ours.filters == ("b[0]",) and only.theirs.filters == ("b[0]", "c[0]")
    assert only.ours.is_exact and only.theirs.is_exact


def test_torch_pruning_is_right_where_slimnet_does_not_know_an_operator() -> None:
    """It takes every operator for one that leaves channels where they are, as a Fourier transform of each map does."""
    model = written(lambda m, x: m.head(torch.fft.ifft2(torch.fft.fft2(m.a(x))).real), zero="")
    (only,) = found(model, 2, 3, 12, 12)
    assert only.right == "torch-pruning" and only.layers == ("a",) and only.channels == 8
    assert only.ours.outcome == "stays" and "aten.fft_fft2" in only.ours.note and not only.ours.filters
    assert only.theirs.filters == ("a[0]",) and only.theirs.is_exact


def test_inputs_for_which_the_network_is_not_defined_decide_nothing() -> None:
    """The logarithm of random numbers is NaN before a cut, too."""
    model = written(lambda m, x: m.head(torch.fft.ifft2(torch.fft.fft2(m.a(x.log()))).real), zero="")
    (only,) = cross_check(model, torch.rand(2, 3, 12, 12) + 1)
    assert only.right == "torch-pruning" and only.theirs.is_exact


def test_neither_is_right_where_nothing_can_be_compared() -> None:
    """Dropout that is always on, behind convolution groups."""
    grouped = {"grouped": nn.Conv2d(8, 8, 3, groups=2)}
    (only,) = found(written(lambda m, x: F.dropout(m.head(m.grouped(m.a(x))), training=True), zero="", **grouped), 2, 3, 12, 12)
    assert only.right == "neither" and only.layers == ("a", "grouped")
    assert only.ours.outcome == "fails" and "another output each time" in only.ours.note and len(only.ours.filters) == 8
    assert only.theirs.outcome == "fails" and only.theirs.note.startswith("does not run on given input: ")


# --- torch-pruning that gives no answer ---------------------------------------------------------------------------------


def endless(*_: object, **__: object) -> None:
    while True:
        time.sleep(0.001)


@pytest.mark.parametrize("where", ["build_dependency", "get_pruning_group"])
def test_torch_pruning_that_never_ends_is_stopped(where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(f"torch_pruning.DependencyGraph.{where}", endless)
    with pytest.raises(
        NoAnswerError, match=r"^torch-pruning did not end in 0\.3 s: give it longer with --cross-check-seconds\.$"
    ):
        cross_check(Normed().eval(), torch.randn(2, 8), seconds=0.3)
    assert all(thread.name != "slimnet-network" for thread in threading.enumerate())


def test_a_cut_of_torch_pruning_that_never_ends_is_no_answer_of_one_row(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its sets are there, and so is slimnet's side of each."""
    monkeypatch.setattr(sys.modules[cross_check.__module__], "peer_slice", endless)
    (only,) = cross_check(Normed().eval(), torch.randn(2, 8), seconds=5)
    assert only.theirs.outcome == "fails" and only.theirs.note.startswith("torch-pruning did not end in 5 s")


def test_the_limit_is_a_time() -> None:
    with pytest.raises(ArgumentError, match="`seconds` must be above 0, got 0"):
        cross_check(alike(), torch.randn(2, 3, 12, 12), seconds=0)


def test_the_command_says_that_torch_pruning_did_not_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.save(build_model("resnet8", num_classes=10, in_channels=3).state_dict(), tmp_path / "net.pth")
    arguments = [str(tmp_path / "net.pth"), "--model", "resnet8", "--num-classes", "10", "--in-channels", "3"]
    arguments += ["--image-size", "16", "--cross-check", "--cross-check-seconds", "0.3"]
    monkeypatch.setattr("torch_pruning.DependencyGraph.build_dependency", endless)
    line = "torch-pruning did not end in 0.3 s: give it longer with --cross-check-seconds."
    shown = CliRunner().invoke(command, arguments)
    assert shown.exit_code == 0 and shown.stdout.splitlines()[-1] == line and "layer1.0.conv1" in shown.stdout
    report = json.loads(CliRunner().invoke(command, [*arguments, "--json"]).stdout)
    assert report["no_answer"] == line and report["groups"] and "differences" not in report


def test_the_command_shows_a_row_for_each(tmp_path: Path) -> None:
    torch.save(build_model("resnet8", num_classes=10, in_channels=3).state_dict(), tmp_path / "net.pth")
    arguments = [str(tmp_path / "net.pth"), "--model", "resnet8", "--num-classes", "10", "--in-channels", "3"]
    shown = CliRunner().invoke(command, [*arguments, "--image-size", "16", "--cross-check"])
    assert shown.exit_code == 0, shown.output
    assert "torch-pruning cuts" in shown.output and "does not run on given input" in shown.output
    assert "torch-pruning cuts" not in CliRunner().invoke(command, [*arguments, "--image-size", "16"]).output
    written = CliRunner().invoke(command, [*arguments, "--image-size", "16", "--cross-check", "--json"])
    assert json.loads(written.stdout)["differences"][0]["right"] == "slimnet"

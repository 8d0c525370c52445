"""Methods through the whole engine: a method of one's own, and the command line."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import click
import pytest
import torch

import slimnet
from slimnet.methods import DSD, FPGM, FSDP, Method, SoftMethod, Stages, base, get_method, method_names
from slimnet.schedules import Schedule, constant
from slimnet.training import Run
from slimnet_cli import _run, train

CARDS = Path(__file__).parents[1] / "docs" / "methods"
QUICK = {"precision": "fp32", "channels_last": False, "batch_size": 64, "lr": 0.05}
TRAIN = ("train", "--model", "resnet8", "--precision", "fp32", "--batch-size", "256", "--quiet")


@pytest.fixture
def toy() -> Iterator[type[Method]]:
    """All that a new method takes: a rate, a scale, a name."""

    @dataclass(frozen=True)
    class Toy(SoftMethod):
        """Close the filters of least norm at once."""

        name: ClassVar[str] = "toy"
        share: float = 0.5

        @property
        def final_rate(self) -> float:
            return self.share

        def rate_schedule(self, last_epoch: int) -> Schedule:
            return constant(self.share)

        def scale_schedule(self, last_epoch: int) -> Schedule:
            return constant(0.0)

    yield Toy
    base._METHODS.pop("toy")


def test_a_new_method_is_one_class_that_trains_masks_and_exports(toy, tmp_path):
    assert get_method("toy") is toy
    assert Method.from_dict({"name": "toy", "share": 0.4}) == toy(share=0.4)
    run = slimnet.train(model="resnet8", method=toy(share=0.5), epochs=2, out=tmp_path / "run", progress=False, **QUICK)
    assert run.method == toy(share=0.5)
    assert all(int(closed.sum()) == len(closed) // 2 for closed in run.masks().values())
    slimnet.export_run(run.path, tmp_path / "bundle")
    report = json.loads((tmp_path / "bundle" / "report.json").read_text())
    assert report["parity"]["slim"]["passed"]
    slim = slimnet.load_slim(tmp_path / "bundle")
    shapes = {name: tuple(tensor.shape) for name, tensor in slim.state_dict().items()}
    assert shapes["conv1.weight"][0] == 8


def test_stages_leave_and_resume_as_any_method(tmp_path):
    method = Stages((DSD(), 0.6), (FPGM(0.4, rate_norm=0.1), 0.4))
    run = slimnet.train(model="resnet8", method=method, epochs=5, out=tmp_path / "run", progress=False, **QUICK)
    assert Run.open(run.path).method == method
    assert [line["stage"] for line in run.metrics] == [0, 0, 0, 1, 1]
    assert [line["lr"] <= 0.005 * 1.001 for line in run.metrics][2]  # the second dense phase
    assert all(torch.isfinite(tensor).all() for tensor in run.load_model().state_dict().values())
    assert all(int(closed.sum()) == int(0.4 * len(closed)) for closed in run.masks().values())


# -- command line ------------------------------------------------------------------------------------------


def _chosen(tmp_path: Path, *arguments: str) -> Run:
    out = tmp_path / "run"
    assert _run([*TRAIN, *arguments, "--out", str(out), "--force"]) == 0
    return Run.open(out)


def test_any_method_and_any_field_can_be_asked_for(tmp_path):
    run = _chosen(
        tmp_path, *"--method fpgm --rate 0.5 --rate-norm 0.1 --epochs 2 --set mask-momentum=false --set gamma=0.5".split()
    )
    assert run.method == FPGM(0.5, rate_norm=0.1, mask_momentum=False)
    assert run.config.gamma == 0.5
    again = ("train", "--resume", "--out", str(run.path), "--quiet")
    assert _run([*again, "--rate", "0.5", "--set", "epochs=2"]) == 0
    assert _run([*again, "--rate", "0.3"]) == 1


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        ("--method fsdp --rate 0.4", 1, "method 'fsdp' has no hyper-parameter 'rate': did you mean `rate_"),
        ("--method sfp --sparsity 0.4", 1, "method 'sfp' has no hyper-parameter 'sparsity'"),
        (
            "--method sfp --set rat=0.4",
            1,
            "`rat` is neither a hyper-parameter of sfp nor a setting of training: did you",
        ),
        ("--method sfp --set epoch=3", 1, "did you mean `epochs`"),
        ("--method sfp --set method=dsd", 1, "`method` is neither a hyper-parameter"),
        ("--method sfp --set rate=x", 1, "`rate` must be in (0, 1), got 'x'"),
        ("--method sfp --set epochs=x", 1, "`epochs` must be a whole number of at least 1, got 'x'"),
        ("--method sfp --set compile=yes", 1, "`compile` must be true or false, got 'yes'"),
        ("--method sfp --set milestones=5", 1, "`milestones` must be rising whole numbers"),
        ("--method stages", 1, "`stages` must hold a"),
        ("--method sfp --set rate", 2, "--set takes NAME=VALUE, got 'rate'"),
        ("--method sfp --set rate=0.1 --set rate=0.2", 2, "--set gives 'rate' twice"),
    ],
)
def test_a_wrong_setting_is_one_line(arguments, status, message, tmp_path, capsys):
    assert _run([*TRAIN, *arguments.split(), "--out", str(tmp_path / "new")]) == status
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error
    assert not (tmp_path / "new").exists()


def test_help_names_every_method():
    help_text = next(p.help for p in train.command.params if p.name == "method")
    assert set(method_names()) == set(re.search(r": (.*?)\. ", help_text)[1].split(", "))


@pytest.mark.parametrize("card", sorted(set(CARDS.glob("*.md")) - {CARDS / "README.md"}), ids=lambda path: path.stem)
def test_the_cards_say_what_runs(card):
    """The Python of a card makes the method of that name; its command is one that ``train`` understands."""
    text = card.read_text(encoding="utf-8")
    python = re.search(r"```python\n(.*?)```", text, re.DOTALL)[1].replace("from slimnet.training import train", "")
    seen: dict[str, object] = {}
    exec(compile(python, str(card), "exec"), {"train": lambda **settings: seen.update(settings)})
    assert isinstance(seen["method"], Method)
    assert seen["method"].name == card.stem
    command = re.search(r"```sh\nslimnet train (.*?)\n```", text, re.DOTALL)[1]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("slimnet.known.check_there", lambda *_: None)  # files of the reader's
        patch.setattr("slimnet.training.train", lambda **settings: seen.update(settings) or (_ for _ in ()).throw(click.Abort))
        with pytest.raises(click.Abort):
            train.command.main(shlex.split(command), standalone_mode=False)
    assert seen["method"].name == card.stem
    assert isinstance(seen["method"], FSDP) == (card.stem == "fsdp")

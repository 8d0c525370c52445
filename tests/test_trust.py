"""Data is no code: what a run or a bundle names is built only if slimnet has it, or if the user trusts it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import slimnet
from command import slimnet_cli
from export_cases import resealed
from slimnet import Dense
from slimnet.commands import slim_checkpoint
from slimnet.commands.rebuild import load_dense_shape
from slimnet.errors import ArgumentError, GraphError, MeasureError, ModelError, SlimnetError
from slimnet.files import read_json
from slimnet.graph import channel_groups
from slimnet.measure import count
from slimnet.models import build_model
from slimnet.models.trust import check_trusted
from slimnet.training import Run, evaluate

TESTS = Path(__file__).parent
NAME = "canary:make"
QUICK: dict[str, Any] = {"data": "digits", "epochs": 1, "train_fraction": 0.2, "precision": "fp32", "device": "cpu"}
QUICK_FLAGS = "--epochs 1 --train-fraction 0.2 --precision fp32 --method dense --device cpu --quiet"

CANARY = """
from pathlib import Path
Path("IMPORTED").touch()
def make(num_classes, in_channels):
    from slimnet import build_model
    Path("CALLED").touch()
    return build_model("resnet8", num_classes=num_classes, in_channels=in_channels)
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run, one that did not finish, a bundle and a slim network, all of a network of slimnet's."""
    folder = tmp_path_factory.mktemp("made")
    run = slimnet.train(model="resnet8", method=Dense(), out=folder / "run", progress=False, **QUICK)
    shutil.copytree(folder / "run", folder / "stopped")
    (folder / "stopped" / "model.safetensors").unlink()
    slimnet.export_run(run.path, folder / "bundle")
    slim_checkpoint(
        run.path / "model.safetensors", folder / "slim", model="resnet8", num_classes=None, in_channels=None, image_size=8
    )
    return folder


def naming(folder: Path, name: str) -> None:
    """Let the run, the bundle or the slim network be one of another network."""
    config = read_json(folder / "config.json")
    config.get("train", config)["model"] = name
    (folder / "config.json").write_text(json.dumps(config))
    if (folder / "model.json").exists():
        resealed(folder)


@pytest.fixture
def hostile(made: Path, here: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Everything that is made, asking for a factory of a module in the current directory."""
    shutil.copytree(made, here, dirs_exist_ok=True)
    for folder in ("run", "stopped", "bundle", "slim"):
        naming(here / folder, NAME)
    (here / "canary.py").write_text(CANARY)
    monkeypatch.delitem(sys.modules, "canary", raising=False)
    return here


COMMANDS = {
    "evaluate a run": "evaluate run",
    "evaluate a bundle": "evaluate bundle",
    "evaluate a slim network": "evaluate slim --data digits",
    "verify": "verify bundle",
    "bench": "bench bundle --runtime torch --rounds 2 --seconds 0",
    "bench --memory": "bench bundle --runtime torch --rounds 2 --seconds 0 --memory",
    "report": "report run",
    "export": "export run --out new",
    "export --compact": "export run --out new --compact",
    "resume": "train --resume --quiet --out stopped",
    "teacher": f"train --model resnet8 --teacher run --out new {QUICK_FLAGS}",
}
CALLS: dict[str, Callable[[Any], object]] = {
    "load_slim of a bundle": lambda trust: slimnet.load_slim("bundle", trust_code=trust),
    "load_slim": lambda trust: slimnet.load_slim("slim", trust_code=trust),
    "load_dense_shape": lambda trust: load_dense_shape("bundle", trust_code=trust),
    "build_model": lambda trust: Run.open("run", trust_code=trust).build_model(),
    "load_model": lambda trust: Run.open("run", trust_code=trust).load_model(),
    "groups": lambda trust: Run.open("run", trust_code=trust).groups,
    "masks": lambda trust: Run.open("run", trust_code=trust).masks(),
    "resume": lambda trust: slimnet.train(out="stopped", resume=True, progress=False, trust_code=trust),
}


def names_in(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*")}


@pytest.mark.parametrize("command", COMMANDS)
def test_no_command_runs_what_data_names(command: str, hostile: Path) -> None:
    before = names_in(hostile)
    done = slimnet_cli(*COMMANDS[command].split())
    assert done.status == 1
    lines = [line for line in done.err.splitlines() if "error" in line]
    assert len(lines) == 1
    assert "config.json asks to run 'canary:make'" in lines[0] and "allow it with --trust-code" in lines[0]
    assert names_in(hostile) == before
    assert "canary" not in sys.modules


@pytest.mark.parametrize("command", [name for name in COMMANDS if name != "export --compact"])  # which exports, and packs again
def test_every_command_runs_what_is_trusted(command: str, hostile: Path) -> None:
    done = slimnet_cli(*COMMANDS[command].split(), "--trust-code")
    assert done.status == 0, done.err
    assert (hostile / "CALLED").exists()


@pytest.mark.parametrize("call", CALLS)
def test_no_call_runs_what_data_names(call: str, hostile: Path) -> None:
    with pytest.raises(ModelError, match="asks to run 'canary:make'"):
        CALLS[call](False)
    assert not (hostile / "IMPORTED").exists()
    CALLS[call](True)
    assert (hostile / "CALLED").exists()


@pytest.mark.parametrize("name", ["sys:exit", "http.server:test", "run.canary:make", ":", "a:b:c", " resnet8:x"])
def test_no_colon_gets_through(name: str) -> None:
    with pytest.raises(ModelError, match="asks to run"):
        check_trusted(name, Path("config.json"), False)
    with pytest.raises(ModelError, match="asks to run"):
        check_trusted(name, Path("config.json"), "other:make")
    check_trusted(name, Path("config.json"), name)
    check_trusted("resnet8", Path("config.json"), False)


def test_naming_the_factory_trusts_that_one_alone(hostile: Path) -> None:
    with pytest.raises(ArgumentError, match="`model` was 'canary:make'"):
        slimnet.train(out="stopped", resume=True, model="other:make", progress=False)
    assert not (hostile / "IMPORTED").exists()
    run = slimnet.train(out="stopped", resume=True, model=NAME, progress=False)
    assert run.load_model().training is False  # the run that is given back was named by the caller
    naming(hostile / "run", "other:make")
    done = slimnet_cli("train", "--model", NAME, "--teacher", "run", "--out", "new", *QUICK_FLAGS.split())
    assert (done.status, "asks to run 'other:make'" in done.err) == (1, True)


def test_a_recipe_that_the_user_gives_is_the_users_word(hostile: Path) -> None:
    settings = "\n".join(f"{key} = {json.dumps(value)}" for key, value in {**QUICK, "model": NAME}.items())
    (hostile / "mine.toml").write_text(f'about = "a"\nexpected = "b"\n[train]\n{settings}\n[method]\nname = "dense"\n')
    assert slimnet_cli("recipes", "mine.toml").status == 0
    assert not (hostile / "IMPORTED").exists()
    done = slimnet_cli("train", "--recipe", "mine.toml", "--out", "new", "--quiet")
    assert done.status == 0, done.err
    assert (hostile / "CALLED").exists()


# -- where modules come from ---------------------------------------------------------------------------------


def test_the_current_directory_takes_the_place_of_no_installed_module(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (here / "my_own.py").write_text("import colorsys\nfrom torch import nn\ndef make(): return nn.Identity()\n")
    (here / "colorsys.py").write_text("from pathlib import Path\nPath('RAN').touch()\n")
    for name in ("my_own", "colorsys"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    before = list(sys.path)
    assert isinstance(build_model("my_own:make", num_classes=2), nn.Identity)
    assert not (here / "RAN").exists()
    assert sys.path == before


def test_no_module_of_the_commands_own_comes_from_the_current_directory(here: Path) -> None:
    """``python -m slimnet_cli`` puts it first: a click.py there is not taken for click."""
    for name in ("click", "numpy", "slimnet", "torch"):
        (here / f"{name}.py").write_text("from pathlib import Path\nPath('RAN').touch()\n")
    places = os.pathsep.join(str(Path(module.__file__).parents[1]) for module in (slimnet, sys.modules["slimnet_cli"]))
    command = [sys.executable, "-m", "slimnet_cli", "verify", "expressions", "--no-parity"]
    done = subprocess.run(command, env={**os.environ, "PYTHONPATH": places}, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert not (here / "RAN").exists()


# -- code that would end the program -------------------------------------------------------------------------


class Quitter(nn.Module):
    """Raises something when it is run; in training alone, if so asked."""

    def __init__(self, error: BaseException, *, in_training: bool = False) -> None:
        super().__init__()
        self.layer, self.error, self.in_training = nn.Conv2d(1, 10, 1), error, in_training

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.training or not self.in_training:
            raise self.error
        return self.layer(x).mean((2, 3))


class Stop(BaseException):
    """No Exception, and no SystemExit."""


def at_call(num_classes: int, in_channels: int) -> nn.Module:
    sys.exit()


def at_run(num_classes: int, in_channels: int) -> nn.Module:
    return Quitter(SystemExit(0))


def at_training(num_classes: int, in_channels: int) -> nn.Module:
    return Quitter(Stop("enough"), in_training=True)


def interrupted(num_classes: int, in_channels: int) -> nn.Module:
    raise KeyboardInterrupt


@pytest.mark.parametrize(("name", "message"), [("quits:make", "Cannot import quits"), ("test_trust:at_call", "at_call failed")])
def test_nor_where_a_network_is_built(name: str, message: str, here: Path) -> None:
    (here / "quits.py").write_text("raise SystemExit(0)")
    with pytest.raises(ModelError, match=f"{message}.*tried to end the program"):
        build_model(name, num_classes=2)


def test_nor_where_it_is_first_run(here: Path) -> None:
    settings = {**QUICK, "method": Dense(), "out": here / "new", "progress": False}
    with pytest.raises(ModelError, match=r"at_run cannot take images of shape \(1, 8, 8\): .*tried to end the program"):
        slimnet.train(model="test_trust:at_run", **settings)


@pytest.mark.parametrize("name", ["at_import", "at_call", "at_run", "at_training"])
def test_foreign_code_does_not_end_the_program(name: str, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (here / "quits.py").write_text("raise SystemExit(0)")
    model = "quits:make" if name == "at_import" else f"test_trust:{name}"
    done = slimnet_cli("train", "--model", model, "--out", "new", *QUICK_FLAGS.split())
    assert (done.status, done.out) == (1, "")
    assert done.err.startswith("slimnet: error: ") and len(done.err.splitlines()) == 1
    assert "tried to end the program" in done.err and model.split(":", maxsplit=1)[0] in done.err


@pytest.mark.parametrize(
    ("call", "kind"),
    [
        (channel_groups, GraphError),
        (count, MeasureError),
        (slimnet.slim, SlimnetError),
        (lambda model, x: slimnet.export_onnx(model, x, "x.onnx"), SlimnetError),
    ],
)
def test_no_verb_lets_it(call: Callable[[nn.Module, torch.Tensor], object], kind: type[Exception], here: Path) -> None:
    with pytest.raises(kind, match="tried to end the program"):
        call(Quitter(SystemExit(3)).eval(), torch.zeros(2, 1, 4, 4))


def test_evaluate_does_not_let_it(made: Path) -> None:
    data = Run.open(made / "run").dataset()
    with pytest.raises(SlimnetError, match="tried to end the program"):
        evaluate(Quitter(SystemExit(3)).eval(), data.val, mean=data.mean, std=data.std)


def test_what_nobody_foresaw_is_stopped_at_the_command(hostile: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def quits(*_: object, **__: object) -> None:
        raise SystemExit(0)

    monkeypatch.setattr("slimnet.commands.evaluate_any", quits)
    done = slimnet_cli("evaluate", "run")
    assert (done.status, done.err) == (1, "slimnet: error: code that was run tried to end the program (SystemExit: 0).\n")


def test_an_interrupt_is_still_one(here: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        build_model("test_trust:interrupted", num_classes=2)

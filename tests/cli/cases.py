"""What commands are tried on: a run and its bundle, whole or spoilt; and what they do with bad input."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from command import Done, slimnet_cli
from test_files import contents

BUNDLE = {"model.onnx", "model.json", "slim.safetensors", "plan.json", "config.json", "dense.onnx", "report.json",
          "MODEL_CARD.md", "infer.py"}  # fmt: skip
HEAVY = ("torch", "torchvision", "numpy", "onnx", "onnxruntime", "sklearn", "fvcore", "safetensors")


@dataclass(frozen=True)
class Made:
    """A run and its bundle, made once by the commands; not to be changed."""

    run: Path
    bundle: Path
    trained: Done
    exported: Done


Change = Callable[[Path, Made], object]
Bad = tuple[str, str, Change]  # a command, what it must say, and what is prepared


def nothing(here: Path, made: Made) -> None:
    return None


def change_json(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    value = json.loads(path.read_text())
    change(value)
    path.write_text(json.dumps(value))


def cut(path: Path) -> int:
    return path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def copied(what: str, change: Callable[[Path], object]) -> Change:
    """A copy of the run or the bundle in ``x``, changed."""

    def prepare(here: Path, made: Made) -> None:
        shutil.copytree(getattr(made, what), here / "x")
        change(here / "x")

    return prepare


def remove(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).unlink()


def without_result(change: Callable[[Path], object]) -> Change:
    """A copy of the run that did not finish, changed."""

    def both(folder: Path) -> None:
        (folder / "model.safetensors").unlink()
        change(folder)

    return copied("run", both)


def holding(name: str, make: Callable[[Path], object]) -> Change:
    return lambda here, made: make(here / name)


WEIGHTS = "x.safetensors --model resnet8"


def weights(here: Path, made: Made) -> None:
    shutil.copy(made.run / "model.safetensors", here / "x.safetensors")


def named(cases: list[Bad], prefix: str = "") -> list[Any]:
    """With names for them: the command without ``prefix``, and the message."""
    return [pytest.param(*case, id=f"{case[0].removeprefix(prefix).strip()}: {case[1][:40]}") for case in cases]


def refused(cases: list[Bad], prefix: str = "") -> Callable[..., None]:
    """A test that each gets one line that says it, and that nothing is written."""

    @pytest.mark.parametrize(("command", "message", "prepare"), named(cases, prefix))
    def test(command: str, message: str, prepare: Change, made: Made, here: Path) -> None:
        prepare(here, made)
        before, folders = contents(here), sorted(here.rglob("*"))
        arguments = command.format(run=made.run, bundle=made.bundle).split()
        done = slimnet_cli(*arguments)
        assert done.status == 1
        assert done.out == ""
        assert re.fullmatch(r"slimnet: error: [^\n]+\n", done.err), done.err
        assert re.search(message, done.err), done.err
        assert (contents(here), sorted(here.rglob("*"))) == (before, folders)

    return test


def wrong_usage(cases: list[tuple[str, str]]) -> Callable[..., None]:
    """A test that each exits with 2 and writes nothing."""

    @pytest.mark.parametrize(("command", "message"), cases)
    def test(command: str, message: str, here: Path) -> None:
        done = slimnet_cli(*command.split())
        assert (done.status, done.out) == (2, "")
        assert message in done.err
        assert "Traceback" not in done.err
        assert not any(here.iterdir())

    return test

"""What the toys' ``use.py`` share: the command line in this process, and a run of one epoch on a few digits."""

from __future__ import annotations

import contextlib
import io
import itertools
import os

import slimnet as library
from slimnet.training import Run
from slimnet_cli import _run

_numbers = itertools.count()


def slimnet(*arguments: str | os.PathLike[str]) -> str:
    """What a command prints; a command that fails ends the program with what it said."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = _run([os.fspath(argument) for argument in arguments])
    assert status == 0, err.getvalue()
    return out.getvalue()


def trained(*arguments: str) -> Run:
    """One epoch of ResNet-8."""
    out = f"run{next(_numbers)}"
    few = () if "train_fraction=1" in arguments else ("--set", "train_fraction=0.05")
    slimnet("train", "--model", "resnet8", "--epochs", "1", "--batch-size", "32", "--precision", "fp32", *few, *arguments,
            "--out", out, "--quiet")  # fmt: skip
    return library.Run.open(out)

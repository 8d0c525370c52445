"""slimnet inspect: bad input."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from cli.cases import WEIGHTS, Bad, Change, Made, assert_refused, holding, named, nothing, weights

BAD: list[Bad] = [
    ("inspect x.pth --model resnet8", "x.pth does not exist", nothing),
    ("inspect x.pth --model resnet8", "x.pth holds pickled objects", holding("x.pth", lambda p: torch.save(nn.ReLU(), p))),
    (f"inspect {WEIGHTS}8", "Unknown model 'resnet88'", weights),
]


@pytest.mark.parametrize(("command", "message", "prepare"), named(BAD))
def test_bad_input_gets_one_line_and_nothing_is_written(
    command: str, message: str, prepare: Change, made: Made, here: Path
) -> None:
    assert_refused(command, message, prepare, made, here)

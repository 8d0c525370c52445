"""slimnet slim: bad input. What is cut: test_surgery_adversarial.py, test_classes.py."""

from __future__ import annotations

from pathlib import Path

import pytest

from cli.cases import WEIGHTS, Bad, Change, Made, assert_refused, named, weights

BAD: list[Bad] = [
    ("slim x.safetensors --model resnet20 --out new", "x.safetensors does not fit the model: .* missing", weights),
    (f"slim {WEIGHTS} --out new --tolerance nan", r"`tolerance` must be in \[0, 1\), got nan", weights),
    (f"slim {WEIGHTS} --out . --force", r"\. holds x.safetensors, which is not ours to overwrite", weights),
]


@pytest.mark.parametrize(("command", "message", "prepare"), named(BAD))
def test_bad_input_gets_one_line_and_nothing_is_written(
    command: str, message: str, prepare: Change, made: Made, here: Path
) -> None:
    assert_refused(command, message, prepare, made, here)

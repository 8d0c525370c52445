"""Names that the commands write again, so that their help needs nothing of the library: they are the library's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from typing import get_args

import click
import pytest

from slimnet.allocation import Budget
from slimnet.bundle.manifest import PRECISIONS
from slimnet.commands.bench import RUNTIMES
from slimnet.criteria import Ranking
from slimnet.evaluation.views import Views
from slimnet.export import precision
from slimnet.export.steps import Mode
from slimnet.graph import Couple
from slimnet.onnx.providers import PROVIDERS
from slimnet.predict.choose import AUTO
from slimnet.training import rules
from slimnet_cli import _options, _precision, cli

CHOICES: list[tuple[str, str, Sequence[str]]] = [
    ("bench", "runtimes", RUNTIMES),
    ("bench", "provider", tuple(PROVIDERS)),
    ("evaluate", "views", get_args(Views)),
    ("export", "optimise", get_args(Mode)),
    ("predict", "precision", (AUTO, *PRECISIONS)),
    ("prune", "couple", get_args(Couple)),
    ("prune", "ranking", get_args(Ranking)),
]


def option(command: str, name: str) -> click.Option:
    (found,) = (parameter for parameter in cli.commands[command].params if parameter.name == name)
    assert isinstance(found, click.Option)
    return found


@pytest.mark.parametrize(("command", "name", "known"), CHOICES)
def test_choices(command: str, name: str, known: Sequence[str]) -> None:
    kind = option(command, name).type
    choice = getattr(kind, "each", kind)
    assert isinstance(choice, click.Choice) and tuple(choice.choices) == known


@pytest.mark.parametrize(("name", "known"), rules.CHOICES.items())
def test_choices_in_the_help_of_training(name: str, known: Sequence[str | None]) -> None:
    assert (option("train", name).metavar or "").split("|") == [each for each in known if each]


def test_precisions_and_targets() -> None:
    assert _precision.NAMES == tuple(PRECISIONS) == precision.NAMES
    assert (option("export", "precision").metavar or "").split(",") == list(PRECISIONS)
    assert list(_options.TARGETS.values()) == [item.name for item in fields(Budget)]

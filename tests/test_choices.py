"""Names are written once, in `slimnet.names`: the registries hold what each stands for, and the commands offer them."""

from __future__ import annotations

from collections.abc import Iterable

import click
import pytest

from slimnet import names
from slimnet.bundle import manifest
from slimnet.criteria import criterion_names
from slimnet.data import data_names
from slimnet.data.about import loader_of
from slimnet.fields import describe
from slimnet.methods import method_names
from slimnet.models.build import OWN
from slimnet.onnx.providers import PROVIDERS
from slimnet.predict.choose import AUTO
from slimnet.runtimes import FORMATS
from slimnet.settings import TrainSettings
from slimnet_cli import cli

OPTIONS = {name for data in names.DATA for name in getattr(loader_of(data), "OPTIONS", {}).get(data, {})}

REGISTRIES: list[tuple[str, Iterable[str]]] = [
    ("METHODS", method_names()),
    ("MODELS", OWN),
    ("CRITERIA", criterion_names()),
    ("DATA", data_names()),
    ("DATA_OPTIONS", sorted(OPTIONS)),
    ("PROVIDERS", PROVIDERS),
    ("PRECISIONS", manifest.PRECISIONS),
    ("FORMATS", ("onnx", *FORMATS)),
    ("DEPLOYED", (form.runtime for form in FORMATS.values())),
    ("CHOSEN_PRECISIONS", (AUTO, *manifest.PRECISIONS)),
]

CHOICES = [
    ("bench", "runtimes", "BENCH_RUNTIMES"),
    ("export", "formats", "FORMATS"),
    ("predict", "runtime", "RUN_BY"),
    ("bench", "provider", "PROVIDERS"),
    ("evaluate", "split", "SPLITS"),
    ("evaluate", "views", "VIEWS"),
    ("export", "optimise", "MODES"),
    ("export", "placing", "PLACEMENTS"),
    ("predict", "precision", "CHOSEN_PRECISIONS"),
    ("prune", "couple", "COUPLES"),
    ("prune", "criterion", "CRITERIA"),
    ("prune", "ranking", "RANKINGS"),
]


def option(command: str, name: str) -> click.Option:
    (found,) = (parameter for parameter in cli.commands[command].params if parameter.name == name)
    assert isinstance(found, click.Option)
    return found


@pytest.mark.parametrize(("table", "registry"), REGISTRIES)
def test_registries_and_tables_agree(table: str, registry: Iterable[str]) -> None:
    assert list(getattr(names, table)) == list(registry)


@pytest.mark.parametrize(("command", "name", "table"), CHOICES)
def test_choices(command: str, name: str, table: str) -> None:
    kind = option(command, name).type
    choice = getattr(kind, "each", kind)
    assert isinstance(choice, click.Choice) and tuple(choice.choices) == getattr(names, table)


def test_choices_in_the_help_of_training() -> None:
    shapes = {row.name: row.rule.wanted.removeprefix("one of ").split(", ") for row in describe(TrainSettings)}
    for name in ("optimizer", "schedule", "precision", "cut", "allocate_by"):
        assert (option("train", name).metavar or "").split("|") == shapes[name]


def test_precisions_and_methods_in_help() -> None:
    assert (option("export", "precision").metavar or "").split(",") == list(names.PRECISIONS)
    assert ", ".join(names.METHODS) in (option("train", "method").help or "")
    assert names.METHOD in names.METHODS

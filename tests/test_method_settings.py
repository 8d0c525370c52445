"""Hyper-parameters of the methods are written once: rule, flag and row of the documentation come from the field."""

from __future__ import annotations

import ast
import importlib
import re
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from slimnet.commands import PrecisionSettings
from slimnet.data import Augment
from slimnet.errors import ArgumentError
from slimnet.fields import describe
from slimnet.methods import DSD, FSDP, SFP, SoftMethod, get_method, method_names
from slimnet.settings import MethodSettings

DOCS = Path(__file__).parents[1] / "docs" / "methods"
KINDS = [get_method(name) for name in method_names()]
SHARED = {row.name: row for row in describe(MethodSettings)}
CLAIM = re.compile(r"`(\w+)=([^`]+)`")


@pytest.mark.parametrize("kind", KINDS, ids=method_names())
def test_every_hyper_parameter_is_described(kind: type) -> None:
    assert [row.name for row in describe(kind)] == [item.name for item in fields(kind)]
    assert all(row.words.endswith((".", "[M].")) for row in describe(kind))
    assert all(f"    {row.name}: {row.words}" in (kind.__doc__ or "") for row in describe(kind))


def test_a_flag_is_the_hyper_parameter_of_every_method_that_has_one_of_its_name() -> None:
    found = {name: [row for kind in KINDS for row in describe(kind) if row.name == name] for name in SHARED}
    assert [name for name, rows in found.items() if not rows] == []
    assert [row for rows in found.values() for row in rows if row.rule.kind is not SHARED[row.name].rule.kind] == []
    assert [row for rows in found.values() for row in rows if row.shape != SHARED[row.name].shape] == []


@pytest.mark.parametrize("kind", KINDS, ids=method_names())
def test_what_a_card_says_of_a_default_is_so(kind: type) -> None:
    """In the last table of the card, which says where the method is not the paper's."""
    card = (DOCS / f"{kind.name}.md").read_text(encoding="utf-8") if kind.name != "dense" else ""  # type: ignore[attr-defined]
    table = card.partition("## Where we deviate")[2].partition("\n## ")[0]
    column = [line.split(" | ")[2] for line in table.splitlines() if line.count(" | ") > 1]
    said = {name: ast.literal_eval(value) for cell in column for name, value in CLAIM.findall(cell)}
    defaults = {row.name: row.default for row in describe(kind)}
    assert {name: defaults.get(name) for name in said} == said


@pytest.mark.parametrize("path", sorted(DOCS.glob("*.md")), ids=lambda path: path.stem)
def test_the_tables_of_hyper_parameters_are_not_stale(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(DOCS.parents[1] / "benchmarks")
    tables = importlib.import_module("settings_tables")
    name = "soft" if path.stem == "README" else path.stem
    made = tables.soft_table() if name == "soft" else tables.method_table(name)
    found = path.read_text(encoding="utf-8").partition(f"<!-- settings-{name}:begin -->\n")[2]
    assert found.partition(f"\n<!-- settings-{name}:end -->")[0] == made, f"{path.name} is stale: make docs"


def test_lists_become_tuples() -> None:
    method = SFP(ignore=["a"], widths=[["b", 3]])  # type: ignore[arg-type]
    assert (method.ignore, method.widths) == (("a",), (("b", 3),))
    assert method == SFP(ignore=("a",), widths=(("b", 3),))


WRONG: list[tuple[type, dict[str, Any], str]] = [
    (FSDP, {"rate_cs": "much"}, "`rate_cs` must be in [0, 1), got 'much'."),
    (FSDP, {"mask_norm": 1}, "`mask_norm` must be true or false, got 1."),
    (FSDP, {"tau": None}, "`tau` must be above 4/3, got None."),
    (SFP, {"ignore": "conv"}, "`ignore` must be patterns of names, got 'conv'."),
    (SFP, {"widths": {"a": 1}}, "`widths` must be (group, channels) pairs, with a whole number of at least 0, got {'a': 1}."),
    (SFP, {"widths": (("a", True),)}, "`widths` must be (group, channels) pairs, with a whole number of at least 0, got "),
    (DSD, {"phases": 3}, "`phases` must be d and s in turn with an s among them, such as 'dsd', got 3."),
    (DSD, {"lengths": "dsd"}, "`lengths` must be positive numbers, got 'dsd'."),
    (Augment, {"crop_padding": 1.0}, "`crop_padding` must be a whole number from 0 to 1024, got 1.0."),
    (Augment, {"flip": 1}, "`flip` must be true or false, got 1."),
    (Augment, {"rotate": 181}, "`rotate` must be from 0 to 180, got 181."),
    (Augment, {"scale": float("nan")}, "`scale` must be from 0 to 0.9, got nan."),
    (Augment, {"erase": "half"}, "`erase` must be from 0 to 1, got 'half'."),
    (PrecisionSettings, {"seed": -1}, "`seed` must be a whole number from 0 to 2^63 − 1, got -1."),
    (PrecisionSettings, {"names": "int8"}, "`names` must be names of precisions, got 'int8'."),
]


@pytest.mark.parametrize(("kind", "values", "message"), WRONG)
def test_a_wrong_value_is_named_and_shown(kind: type, values: dict[str, Any], message: str) -> None:
    with pytest.raises(ArgumentError) as error:
        kind(**values)
    assert str(error.value).startswith(message)


def test_the_family_is_as_the_cards_say() -> None:
    """The list in docs/methods/README.md."""
    page = (DOCS / "README.md").read_text(encoding="utf-8").partition("## Hyper-parameters of every soft filter method")[2]
    said = set(re.split(r", | and ", page.strip().removeprefix("Of ").partition(";")[0]))
    assert said == {kind.name for kind in KINDS if issubclass(kind, SoftMethod)}

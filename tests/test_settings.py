"""A setting is written once: its rule, its flag and its row of the documentation come from its line."""

from __future__ import annotations

import importlib
import subprocess
import sys
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import click
import pytest

from slimnet.errors import ArgumentError, nearest
from slimnet.fields import (
    REQUIRED,
    Rule,
    above,
    check,
    describe,
    documented,
    flag,
    one_of,
    optional,
    path,
    setting,
    texts,
    whole,
    within,
)
from slimnet.settings import Budget, TrainSettings
from slimnet.training import TrainConfig
from slimnet_cli import cli
from slimnet_cli._flags import Later, to_flag

ROOT = Path(__file__).parents[1]


@documented
@dataclass(frozen=True, kw_only=True)
class Toy:
    """A toy."""

    name: str = setting(REQUIRED, one_of("a", "b"), "Which.")
    share: float | None = setting(0.5, optional(within("[0, 1)")), "How much.", group="toys", shape="SHARE")
    layers: tuple[str, ...] = setting(tuple, texts("names", "LAYER"), "Where.", group="toys")
    is_on: bool = setting(False, flag(), "Whether.", group="toys")
    count: int = 3

    def __post_init__(self) -> None:
        check(self)


def test_settings_are_fields() -> None:
    assert Toy(name="a") == Toy(name="a", share=0.5, layers=(), is_on=False, count=3)
    with pytest.raises(TypeError, match="name"):
        Toy()
    rows = describe(Toy)
    assert [(row.name, row.default_text, row.words) for row in rows] == [
        ("name", "", "Which."),
        ("share", "0.5", "How much."),
        ("layers", "", "Where."),
        ("is_on", "false", "Whether."),
    ]
    assert (
        Toy.__doc__ == "A toy.\n\nAttributes:\n    name: Which.\n    share: How much.\n    layers: Where.\n    is_on: Whether.\n"
    )


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"name": "c"}, "`name` must be one of a, b, got 'c'."),
    ({"share": 1}, "`share` must be in [0, 1), got 1."),
    ({"share": float("nan")}, "`share` must be in [0, 1), got nan."),
    ({"share": True}, "`share` must be in [0, 1), got True."),
    ({"layers": "conv"}, "`layers` must be names, got 'conv'."),
    ({"is_on": 1}, "`is_on` must be true or false, got 1."),
]


@pytest.mark.parametrize(("values", "message"), WRONG)
def test_a_wrong_value_is_named_and_shown(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ArgumentError) as error:
        Toy(**{"name": "a"} | values)
    assert str(error.value) == message


RULES: list[tuple[Rule, list[Any], list[Any]]] = [
    (within("(0, 1]"), [1, 0.5], [0, 1.1, -1, "1", None, True, float("inf")]),
    (within("[0, 1)"), [0, 0.5], [1, -0.1]),
    (above(0), [1e-9, 3], [0, -1, float("nan"), 10**400, [1]]),
    (above(1, 10), [1.5, 10], [1, 11]),
    (whole(1, 9), [1, 9], [0, 10, 1.0, True, "1", 10**400]),
    (optional(whole(1, 9)), [None, 1], [0, 10]),
    (one_of("a", "b"), ["a"], ["c", None, ["a"], 1]),
    (path(), [None, "a", Path("a")], ["", "a\0b", 3, [], Path("a\0b")]),
]


@pytest.mark.parametrize(("rule", "right", "wrong"), RULES)
def test_rules(rule: Rule, right: list[Any], wrong: list[Any]) -> None:
    for value in right:
        rule.check("`x`", value)
    for value in wrong:
        with pytest.raises(ArgumentError, match=r"^`x` must be "):
            rule.check("`x`", value)


def test_a_slip_is_told_what_is_the_most() -> None:
    with pytest.raises(ArgumentError, match=r"^`epochs` must be at most 1,000,000, got 10000000\.$"):
        TrainConfig(model="resnet8", epochs=10**7)


def test_a_path_is_kept_as_text_and_no_name_is_a_path() -> None:
    assert TrainConfig(model="resnet8", data_dir=Path("a") / "b").data_dir == str(Path("a") / "b")  # type: ignore[arg-type]
    with pytest.raises(ArgumentError, match=r"^`model` must be a name, got .*Path\('resnet8'\)\.$"):
        TrainConfig(model=Path("resnet8"))  # type: ignore[arg-type]


def test_flags_of_settings() -> None:
    share, layers, is_on = (to_flag(row) for row in describe(Toy) if row.group == "toys")
    assert (share.opts, share.type, share.metavar, share.help) == (["--share"], click.FLOAT, "SHARE", "How much.  [default: 0.5]")
    assert (layers.opts, layers.multiple, layers.metavar) == (["--layers"], True, "LAYER")
    assert (is_on.opts, is_on.is_flag, is_on.default) == (["--is-on"], True, None)


def test_every_setting_of_a_group_is_a_flag_of_train() -> None:
    options = {option.name: option for option in cli.commands["train"].params}
    wanted = [row.name for row in describe(TrainSettings) if row.group] + [f"target_{row.name}" for row in describe(Budget)]
    assert [name for name in wanted if name not in options] == []
    assert not any(isinstance(option, Later) for option in options.values())


def test_every_setting_is_described_and_the_run_adds_none() -> None:
    assert [row.name for row in describe(TrainConfig)] == [item.name for item in fields(TrainConfig)]
    assert [item.name for item in fields(TrainConfig)] == [item.name for item in fields(TrainSettings)]
    assert all(row.words.endswith((".", "…")) for row in describe(TrainConfig))


def test_the_defaults_keep_their_rules() -> None:
    TrainSettings(model="resnet8")
    Budget(speedup=2)


LIGHT = """
import sys
import slimnet.fields, slimnet.names, slimnet.settings
print(*sorted({name.partition(".")[0] for name in sys.modules} - sys.stdlib_module_names - {"slimnet", "__main__"}))
print(*sorted(name for name in sys.modules if name.startswith("slimnet.")))
"""


LIGHT_MODULES = (
    "slimnet._clean slimnet.errors slimnet.fields slimnet.names slimnet.schedules slimnet.settings slimnet.settings.augment "
    "slimnet.settings.budget slimnet.settings.finetune slimnet.settings.methods slimnet.settings.precisions "
    "slimnet.settings.train slimnet.settings.unused"
)


def test_settings_need_the_standard_library_alone() -> None:
    done = subprocess.run([sys.executable, "-S", "-c", LIGHT], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.splitlines() == ["", LIGHT_MODULES]


def test_the_table_of_settings_is_not_stale(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    page = (ROOT / "docs" / "training.md").read_text(encoding="utf-8")
    found = page.partition("<!-- settings:begin -->\n")[2].partition("\n<!-- settings:end -->")[0]
    assert found == importlib.import_module("settings_tables").settings_table(), "docs/training.md is stale: make docs"


@pytest.mark.parametrize(
    ("name", "known", "expected"), [("epoch", ["lr", "epochs"], "epochs"), ("EPOCH", ["epochs"], "epochs"), ("zzz", ["lr"], "")]
)
def test_nearest(name: str, known: list[str], expected: str) -> None:
    assert nearest(name, known) == expected

"""The tables of settings in docs/training.md and docs/methods/: from the settings themselves, nothing is measured."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from _tables import table

from slimnet.fields import REQUIRED, Setting, describe
from slimnet.methods import SoftMethod, get_method
from slimnet.names import METHODS
from slimnet.settings import Budget, MethodSettings, TrainSettings

HEAD = ("flag", "default", "may be", "what it is")
FLAGS = {row.name for row in describe(MethodSettings)}
"""Of methods."""
ELSEWHERE = "At another default than in [the family](README.md#hyper-parameters-of-every-soft-filter-method)."


def settings_table() -> str:
    """Every setting of a training run; those of a target stand behind it."""
    rows = []
    for row in describe(TrainSettings):
        rows.append(_row(row, _flag(row.name) if row.group else f"`--set {row.name}=…`"))
        if row.name == "target":
            rows += [_row(each, _flag(f"target_{each.name}")) for each in describe(Budget)]
    return table(("setting", *HEAD), rows)


def soft_table() -> str:
    """What every soft filter method has."""
    return _hyper_parameters(SoftMethod)


def method_table(name: str) -> str:
    """What a method has of its own, or at another default than the others of its family."""
    return _hyper_parameters(get_method(name), SoftMethod)


def _hyper_parameters(kind: type, base: type | None = None) -> str:
    shared = {row.name: row for row in describe(base)} if base and issubclass(kind, base) else {}
    rows = []
    for row in describe(kind):
        flag = _flag(row.name) if row.name in FLAGS else f"`--set {row.name}=…`"
        if row.name not in shared:
            rows.append(_row(row, flag))
        elif row.default != shared[row.name].default:
            rows.append(_row(replace(row, words=ELSEWHERE), flag))
    return table(("hyper-parameter", *HEAD), rows)


def _row(row: Setting, flag: str) -> tuple[str, ...]:
    most = f", at most {row.rule.most:,}" if row.rule.most else ""
    default = f"`{row.default_text}`" if row.default_text else "(must be given)" if row.default is REQUIRED else ""
    return (f"`{row.name}`", flag, default, f"{row.rule.wanted}{most}", row.words.replace("|", "\\|"))


def _flag(name: str) -> str:
    return f"`--{name.replace('_', '-')}`"


TABLES = {
    "settings": settings_table,
    "settings-soft": soft_table,
    **{f"settings-{name}": partial(method_table, name) for name in METHODS if name != "dense"},
}

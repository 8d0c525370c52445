"""The table of settings in docs/training.md: from the settings themselves, nothing is measured."""

from __future__ import annotations

from _tables import table

from slimnet.fields import REQUIRED, Setting, describe
from slimnet.settings import Budget, TrainSettings


def settings_table() -> str:
    """Every setting of a training run; those of a target stand behind it."""
    rows = []
    for row in describe(TrainSettings):
        rows.append(_row(row, _flag(row.name) if row.group else f"`--set {row.name}=…`"))
        if row.name == "target":
            rows += [_row(each, _flag(f"target_{each.name}")) for each in describe(Budget)]
    return table(("setting", "flag", "default", "may be", "what it is"), rows)


def _row(row: Setting, flag: str) -> tuple[str, ...]:
    most = f", at most {row.rule.most:,}" if row.rule.most else ""
    default = f"`{row.default_text}`" if row.default_text else "(must be given)" if row.default is REQUIRED else ""
    return (f"`{row.name}`", flag, default, f"{row.rule.wanted}{most}", row.words)


def _flag(name: str) -> str:
    return f"`--{name.replace('_', '-')}`"


TABLES = {"settings": settings_table}

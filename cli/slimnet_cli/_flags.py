"""Flags that are made from what the library says of its settings and names.

Nothing of the library is imported when a command is named, only when its options are asked for: ``slimnet --help`` needs none.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from slimnet.fields import Setting

    Choice = click.Choice[str]
else:
    Choice = click.Choice  # generic from click 8.4 on

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]
Make = Callable[[], Iterable[click.Option]]
_SECTION = "section"


class Later(click.Option):
    """Stands among a command's options for those that are made when they are asked for."""

    def __init__(self, declarations: Iterable[str], make: Make) -> None:
        super().__init__(list(declarations))
        self.make = make


class Command(click.Command):
    """A command that makes its late options when it is asked for its options."""

    _params: list[click.Parameter]

    @property
    def params(self) -> list[click.Parameter]:
        """The options and arguments, in order."""
        if any(isinstance(one, Later) for one in self._params):
            self._params = [made for one in self._params for made in (_made(one) if isinstance(one, Later) else [one])]
        return self._params

    @params.setter
    def params(self, given: list[click.Parameter]) -> None:
        self._params = given

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """A list of options under each heading; those without one come last."""
        sections: dict[str, list[tuple[str, str]]] = {}
        for one in self.get_params(ctx):
            if isinstance(one, click.Option) and (row := one.get_help_record(ctx)):
                sections.setdefault(vars(one).get(_SECTION, "Options"), []).append(row)
        for title in sorted(sections, key="Options".__eq__):
            with formatter.section(title):
                formatter.write_dl(sections[title])


def section(title: str, *options: Decorator) -> Decorator:
    """Options, in the order given, that stand under a heading of their own in ``--help``."""

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        before = len(vars(function).get("__click_params__", ()))
        for option in reversed(options):
            function = option(function)
        for one in vars(function)["__click_params__"][before:]:
            vars(one)[_SECTION] = title
        return function

    return decorate


def _made(stand_in: Later) -> list[click.Option]:
    """The options that it stands for, under its heading."""
    made = list(stand_in.make())
    for one in made:
        vars(one).update({_SECTION: vars(stand_in)[_SECTION]} if _SECTION in vars(stand_in) else {})
    return made


class Named(Choice):
    """One of the names in a table of `slimnet.names`."""

    def __init__(self, table: str) -> None:
        self.table, self.case_sensitive = table, True

    @cached_property
    def choices(self) -> tuple[str, ...]:  # type: ignore[override]  # click sets it at once
        """The names."""
        from slimnet import names

        return tuple(getattr(names, self.table))


def later(name: str, make: Make) -> Decorator:
    """Options that are made when they are asked for; ``name`` tells them from others."""
    return click.option(f"--{name}-later", cls=Later, make=make)


def settings(group: str, *, without: Container[str] = (), finetuning: bool = False) -> Decorator:
    """A flag for each setting of training in a group, but for some; with the defaults of fine-tuning, if it is that."""

    def make() -> list[click.Option]:
        from slimnet.fields import describe
        from slimnet.settings import FINETUNING, TrainSettings

        rows = [row for row in describe(TrainSettings) if row.group == group and row.name not in without]
        own = FINETUNING if finetuning else {}
        return [to_flag(replace(row, default=own.get(row.name, row.default))) for row in rows]

    return later(f"{group}-settings" if without else group, make)


def all_of(kind: str, prefix: str = "") -> Decorator:
    """A flag for each setting of a class in `slimnet.settings`."""

    def make() -> list[click.Option]:
        from slimnet import settings
        from slimnet.fields import describe

        return [to_flag(row, prefix) for row in describe(getattr(settings, kind))]

    return later(kind.lower(), make)


def data_switches(without: Container[str] = ()) -> list[click.Option]:
    """A flag for each option that a data set has of its own, but for some."""
    from slimnet.names import DATA_OPTIONS

    names = {name: words for name, words in DATA_OPTIONS.items() if name not in without}
    return [click.Option([to_name(name)], is_flag=True, default=None, help=words) for name, words in names.items()]


def take_switches(chosen: dict[str, Any]) -> dict[str, bool]:
    """Take the options that a data set has of its own out of ``chosen``: those that were given."""
    from slimnet.names import DATA_OPTIONS

    return {name: value for name in DATA_OPTIONS if (value := chosen.pop(name, None)) is not None}


def to_flag(row: Setting, prefix: str = "") -> click.Option:
    """The flag of a setting: a value that is not given is None, so that a recipe's or the default holds."""
    if row.rule.kind is bool:
        return click.Option([to_name(prefix + row.name)], is_flag=True, default=None, help=row.words)
    words = f"{row.words}  [default: {row.default_text}]" if row.default_text else row.words
    names, rule = [to_name(prefix + row.name)], row.rule
    return click.Option(names, type=rule.kind, multiple=rule.is_list, metavar=row.shape or None, help=words)


def to_name(setting: str) -> str:
    """``weight_decay`` → ``--weight-decay``."""
    return f"--{setting.replace('_', '-')}"

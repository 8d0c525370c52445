"""A setting is written once: a field of a dataclass, the rule for its value, and the words for it.

``check`` holds an instance against its rules, and ``describe`` gives what documentation and flags are made of::

    @dataclass(frozen=True, kw_only=True)
    class Settings:
        lr: float = setting(0.1, above(0), "Learning rate after warm-up.")

        def __post_init__(self) -> None:
            check(self)  # ArgumentError: `lr` must be a positive number, got -1.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import MISSING, dataclass, field, fields, replace
from typing import Any, TypeVar

from slimnet.errors import ArgumentError

LARGEST = 1e300
SHOWN = 120  # characters of a value in an error
Kind = TypeVar("Kind")
REQUIRED: Any = MISSING
"""The default of a setting that must be given."""


@dataclass(frozen=True)
class Rule:
    """What a value may be.

    Attributes:
        wanted: what is wanted, as it follows on "must be".
        is_right: whether a value is that; it takes anything, and raises nothing.
        most: what a number may be at most: more is a slip, and would be memory or time without end.
        kind: of the value on the command line.
        shape: what stands for the value in ``--help``; empty: the name of its kind.
        is_list: whether the flag may be given several times.
    """

    wanted: str
    is_right: Callable[[Any], bool]
    most: int | None = None
    kind: type = str
    shape: str = ""
    is_list: bool = False

    def check(self, name: str, value: Any) -> None:
        """Refuse a value that breaks the rule.

        Args:
            name: what an error calls it.
            value: anything.

        Raises:
            ArgumentError: if it does.
        """
        if not self.is_right(value):
            raise ArgumentError(f"{name} must be {self.wanted}, got {shown(value)}.")
        if self.most is not None and value is not None and value > self.most:
            raise ArgumentError(f"{name} must be at most {self.most:,}, got {shown(value)}.")


@dataclass(frozen=True)
class Setting:
    """One row of :func:`describe`.

    Attributes:
        name: of the field.
        default: its value if nothing is said; :data:`REQUIRED` where something must be.
        rule: what it may be.
        words: what it is.
        group: the group of flags that it has one in; None where it has none.
        shape: what stands for its value.
    """

    name: str
    default: Any
    rule: Rule
    words: str
    group: str | None
    shape: str

    @property
    def default_text(self) -> str:
        """The default as JSON would have it, short: ``0.0005``, ``true``, ``sgd``, ``["*"]``; empty where there is none."""
        if isinstance(self.default, bool):
            return str(self.default).lower()
        if isinstance(self.default, int | float):
            return f"{self.default:g}"
        if isinstance(self.default, tuple) and self.default:
            return json.dumps(self.default)
        return self.default if isinstance(self.default, str) else ""


def setting(default: Any, rule: Rule, words: str, *, group: str | None = None, shape: str = "") -> Any:
    """A field of a dataclass, with its rule and its words.

    Args:
        default: a value, a class or function that makes one, or :data:`REQUIRED`.
        rule: what the value may be.
        words: what it is, in sentences: for ``--help``, and for the documentation.
        group: the group of flags that it has one in; without it there is none.
        shape: what stands for its value in ``--help``, where the rule does not say it.
    """
    row = Setting("", default, rule, words, group, shape or rule.shape)
    return field(metadata={"setting": row}, **{"default_factory" if callable(default) else "default": default})


def again(kind: type, name: str, default: Any, *, rule: Rule | None = None, words: str = "") -> Any:
    """The setting of another dataclass once more, with a default of its own, and where they are given its own rule and words."""
    (row,) = (row for row in describe(kind) if row.name == name)
    return setting(default, rule or row.rule, words or row.words, group=row.group, shape=row.shape)


def describe(kind: type) -> tuple[Setting, ...]:
    """Every setting of a dataclass, in order."""
    return tuple(replace(item.metadata["setting"], name=item.name) for item in fields(kind) if "setting" in item.metadata)


def check(instance: Any, whose: str = "") -> None:
    """Hold every setting of an instance against its rule.

    Args:
        instance: of a dataclass with settings.
        whose: goes before each name in an error.

    Raises:
        ArgumentError: for the first one that breaks its rule.
    """
    for row in describe(type(instance)):
        row.rule.check(f"{whose}`{row.name}`", getattr(instance, row.name))


def documented(kind: type[Kind]) -> type[Kind]:
    """The class, with what its settings are in its docstring."""
    rows = "\n".join(f"    {row.name}: {row.words}" for row in describe(kind))
    kind.__doc__ = f"{kind.__doc__}\n\nAttributes:\n{rows}\n"
    return kind


# --- rules ----------------------------------------------------------------------------------------------------------------


def whole(least: int, most: int | None = None) -> Rule:
    """A whole number of at least ``least``."""
    return Rule(f"a whole number of at least {least}", lambda value: is_whole(value) and value >= least, most, int)


def above(limit: float, most: int | None = None) -> Rule:
    """A number that is more than ``limit``."""
    wanted = f"above {limit}" if limit else "a positive number"
    return Rule(wanted, lambda value: is_number(value) and value > limit, most, float)


def not_negative(most: int | None = None) -> Rule:
    """Zero or more."""
    return Rule("0 or a positive number", lambda value: is_number(value) and value >= 0, most, float)


def within(interval: str) -> Rule:
    """A number in an interval, which is given as it is written: ``within("(0, 1]")`` leaves 0 out, and takes 1."""
    low, high = map(float, interval[1:-1].split(","))
    has_low, has_high = interval[0] == "[", interval[-1] == "]"

    def is_right(value: Any) -> bool:
        return is_number(value) and (low < value < high or (has_low and value == low) or (has_high and value == high))

    return Rule(f"in {interval}", is_right, kind=float)


def between(low: float, high: float) -> Rule:
    """A number from ``low`` to ``high``, both among them."""
    return Rule(f"from {low} to {high}", lambda value: is_number(value) and low <= value <= high, kind=float)


def whole_between(low: int, high: int) -> Rule:
    """A whole number from ``low`` to ``high``, both among them."""
    return Rule(f"a whole number from {low} to {high}", lambda value: is_whole(value) and low <= value <= high, kind=int)


def flag() -> Rule:
    """True or false."""
    return Rule("true or false", lambda value: isinstance(value, bool), kind=bool)


def one_of(*known: str) -> Rule:
    """One of some texts."""
    return Rule(f"one of {', '.join(known)}", lambda value: isinstance(value, str) and value in known, shape="|".join(known))


def text(wanted: str = "a name", shape: str = "NAME") -> Rule:
    """A text that is not empty."""
    return Rule(wanted, is_text, shape=shape)


def path(shape: str = "PATH") -> Rule:
    """A path, as a text or an ``os.PathLike``, or nothing."""
    return Rule("a path", lambda value: value is None or is_path(value), shape=shape)


def texts(wanted: str, shape: str) -> Rule:
    """Several texts."""
    return Rule(wanted, lambda value: isinstance(value, list | tuple) and all(map(is_text, value)), shape=shape, is_list=True)


def mapping(wanted: str, is_right: Callable[[Any, Any], bool]) -> Rule:
    """A mapping, each of whose (name, value) is right."""
    return Rule(
        wanted,
        lambda value: isinstance(value, Mapping) and all(is_right(*pair) for pair in value.items()),
        shape="NAME=VALUE",
        is_list=True,
    )


def optional(rule: Rule) -> Rule:
    """What ``rule`` takes, or nothing."""
    return Rule(rule.wanted, lambda value: value is None or rule.is_right(value), rule.most, rule.kind, rule.shape, rule.is_list)


# --- values ---------------------------------------------------------------------------------------------------------------


def is_number(value: Any) -> bool:
    """Whether it is a number that a float holds; true and false are none, and neither is NaN."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= LARGEST


def is_whole(value: Any) -> bool:
    """Whether it is a whole number, and not true or false."""
    return isinstance(value, int) and is_number(value)


def is_text(value: Any) -> bool:
    """Whether it is a text that is not empty."""
    return isinstance(value, str) and bool(value)


def is_path(value: Any) -> bool:
    """Whether it names a file or a folder."""
    name = os.fspath(value) if isinstance(value, os.PathLike) else value
    return is_text(name) and "\0" not in name


def is_plain(value: Any, depth: int = 8) -> bool:
    """Whether it is what JSON can hold: nothing, true, false, a number, a text, or lists and mappings of such."""
    if isinstance(value, list | tuple):
        return depth > 0 and all(is_plain(item, depth - 1) for item in value)
    if isinstance(value, Mapping):
        return depth > 0 and all(isinstance(name, str) and is_plain(item, depth - 1) for name, item in value.items())
    return value is None or isinstance(value, bool | str) or is_number(value)


def as_lists(value: Any) -> Any:
    """A plain value as JSON gives it back: tuples are lists, mappings dictionaries."""
    if isinstance(value, Mapping):
        return {name: as_lists(item) for name, item in value.items()}
    return [as_lists(item) for item in value] if isinstance(value, list | tuple) else value


def is_rising(values: Iterable[Any]) -> bool:
    """Whether they are whole numbers of at least 1, each more than the one before."""
    values = list(values)
    return all(is_whole(value) and value >= 1 for value in values) and sorted(set(values)) == values


def shown(value: Any) -> str:
    """A value in an error: its beginning, where it is long."""
    if isinstance(value, int) and abs(value) > 1 << 256:
        return "a number of very many digits"
    try:
        written = repr(value)
    except (RecursionError, ValueError):
        return f"a {type(value).__name__}"
    return written if len(written) <= SHOWN else f"{written[:SHOWN]}…"

"""Values from JSON or a command line, held against the types of the fields that they are for."""

from __future__ import annotations

from collections.abc import Mapping
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from slimnet.errors import ArgumentError
from slimnet.fields import shown

_WORDS = {bool: "true or false", int: "a whole number", float: "a number", str: "a text", NoneType: "null"}

_MOST = 1 << 63


def convert_all(kind: type, values: Mapping[str, Any]) -> dict[str, Any]:
    """The values as the fields of a class want them: lists become tuples.

    Raises:
        ArgumentError: if a value is not of its field's type.
    """
    try:
        hints = get_type_hints(kind)
    except NameError:  # a class made inside a function may name types that only live there
        hints = {}
    return {name: convert(name, value, hints.get(name, Any)) for name, value in values.items()}


def convert(name: str, value: Any, hint: Any) -> Any:
    """A value as a field of the type ``hint`` wants it.

    Raises:
        ArgumentError: if it is not of that type.
    """
    if not _fits(value, hint):
        raise ArgumentError(f"`{name}` must be {_describe(hint)}, got {shown(value)}.")
    return tuple(value) if isinstance(value, list) else value


def _fits(value: Any, hint: Any) -> bool:
    origin, parts = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        return any(_fits(value, part) for part in parts)
    if origin is Literal:  # which of the values it may be, the class says itself
        return any(type(value) is type(part) for part in parts)
    if origin is tuple:  # what the pairs in a tuple must be, the class says itself too
        return isinstance(value, list | tuple) and all(get_origin(parts[0]) is tuple or _fits(item, parts[0]) for item in value)
    if isinstance(value, bool):
        return hint in (bool, Any)
    if isinstance(value, int) and hint in (int, float):
        return abs(value) <= _MOST
    return hint is Any or isinstance(value, hint)


def _describe(hint: Any) -> str:
    parts = get_args(hint)
    if get_origin(hint) in (Union, UnionType):
        return " or ".join(_describe(part) for part in parts)
    if get_origin(hint) is Literal:
        return " or ".join(map(repr, parts))
    if get_origin(hint) is tuple:
        return "a list of pairs" if get_origin(parts[0]) is tuple else f"a list ({_describe(parts[0])} each)"
    return _WORDS.get(hint, getattr(hint, "__name__", str(hint)))

"""Values held against a schema. The façade over jsonschema.

A schema is turned into nested functions once (:mod:`slimnet._json.fast`), which say in no time whether a value fits; only what
does not is given to jsonschema, which says where, and takes as long to import as a small network takes to run.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cache
from importlib.resources import files
from typing import Any

from slimnet._json import fast
from slimnet.errors import FileFormatError

_WORDS = {"object": "an object", "array": "a list", "string": "a text", "integer": "a whole number", "number": "a number"}
_WORDS |= {"boolean": "true or false", "null": "null"}
_SHOWN = 80


@cache
def schema(name: str, package: str = __name__.rpartition(".")[0]) -> dict[str, Any]:
    """A schema of slimnet's (draft 2020-12), by the name of its file: ``NAME.schema.json``."""
    value: dict[str, Any] = json.loads((files(package) / f"{name}.schema.json").read_text(encoding="utf-8"))
    return value


def check(value: Any, kind: str, name: str, *, package: str | None = None) -> None:
    """Refuse a value that is not as its schema says.

    Args:
        value: JSON values; tuples are lists as well.
        kind: name of the schema.
        name: what an error calls the value: a file.
        package: that holds the schema.

    Raises:
        FileFormatError: naming the place in the value, what is there, and what is wanted.
    """
    given = (kind,) if package is None else (kind, package)
    if not _fits(*given)(value):
        raise FileFormatError(f"{name}: {_explained(value, schema(*given))}.")


def faults(value: Any, kind: str, *, package: str | None = None, most: int = 10) -> list[str]:
    """Where a value is not as its schema says: the place and what is wrong there, a line each."""
    given = (kind,) if package is None else (kind, package)
    if _fits(*given)(value):
        return []
    errors = sorted(_errors(value, schema(*given)), key=lambda error: str(error.json_path))
    return [f"{error.json_path}: {_short(' '.join(error.message.split()), 2 * _SHOWN)}" for error in errors[:most]]


@cache
def _fits(kind: str, *package: str) -> fast.Test:
    return fast.compiled(schema(kind, *package))


def _errors(value: Any, wanted: dict[str, Any]) -> Iterator[Any]:
    """With the types as :mod:`slimnet._json.fast` has them: 1.0 is no whole number, NaN no number, a tuple a list."""
    from jsonschema import Draft202012Validator
    from jsonschema.validators import extend

    types = {name: lambda _, value, is_type=is_type: is_type(value) for name, is_type in fast.TYPES.items()}
    strict = extend(Draft202012Validator, type_checker=Draft202012Validator.TYPE_CHECKER.redefine_many(types))
    yield from strict(wanted).iter_errors(value)


def _explained(value: Any, wanted: dict[str, Any]) -> str:
    from jsonschema.exceptions import best_match

    error = best_match(_errors(value, wanted))
    return "it is not as its schema says" if error is None else _line(error)


def _line(error: Any) -> str:
    """``plan.cuts[3].kept must be a text, got 5``."""
    path = "".join(f"[{key}]" if isinstance(key, int) else f".{_short(key, 40)}" for key in error.absolute_path).lstrip(".")
    return f"{f'`{path}`' if path else 'the whole'} {_fault(error)}"


def _fault(error: Any) -> str:
    kind, wanted, found = error.validator, error.validator_value, _short(_shown(error.instance))
    if kind == "type":
        kinds = [wanted] if isinstance(wanted, str) else wanted
        return f"must be {' or '.join(_WORDS[each] for each in kinds)}, got {found}"
    if kind == "required":
        missing = next(name for name in wanted if name not in error.instance)
        return f"lacks `{missing}`"
    if kind in ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"):
        bound = {"minimum": "at least", "maximum": "at most", "exclusiveMinimum": "above", "exclusiveMaximum": "below"}[kind]
        return f"must be {bound} {wanted}, got {found}"
    if kind in ("const", "enum"):
        known = [wanted] if kind == "const" else wanted
        return f"must be {_short(' or '.join(map(_shown, known)))}, got {found}"
    return _short(" ".join(str(error.message).split()), 2 * _SHOWN)


def _shown(value: Any) -> str:
    if isinstance(value, int) and abs(value) > 1 << 128:
        return "a number of very many digits"
    try:
        return json.dumps(value, ensure_ascii=False)
    except (TypeError, ValueError, RecursionError):
        return type(value).__name__


def _short(text: str, most: int = _SHOWN) -> str:
    return text if len(text) <= most else f"{text[: most - 20]} … {text[-15:]}"

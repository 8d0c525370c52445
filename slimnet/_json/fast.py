"""A JSON schema as one function that says whether a value fits.

It knows the words that slimnet's schemas use, and refuses others when a schema is read. What is wrong, and where, jsonschema
says.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

Test = Callable[[Any], bool]
Schema = bool | Mapping[str, Any]
LARGEST = 1e300
_SAID = {"$schema", "$id", "$defs", "title", "description"}


def _is_list(value: Any) -> bool:
    return isinstance(value, list | tuple)


def _is_object(value: Any) -> bool:
    return isinstance(value, Mapping)


def _is_integer(value: Any) -> bool:
    return isinstance(value, int) and _is_number(value)  # a larger one would pass every bound


def _is_number(value: Any) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return abs(value) <= LARGEST  # False for NaN too


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_flag(value: Any) -> bool:
    return isinstance(value, bool)


def _is_null(value: Any) -> bool:
    return value is None


TYPES: dict[str, Test] = {
    "object": _is_object,
    "array": _is_list,
    "string": _is_text,
    "integer": _is_integer,
    "number": _is_number,
    "boolean": _is_flag,
    "null": _is_null,
}


def compiled(schema: Mapping[str, Any]) -> Test:
    """Whether a value fits, as a function.

    Raises:
        ValueError: for a word that is not known here.
    """
    made: dict[str, Test] = {}

    def resolve(name: str) -> Test:
        if name not in made:
            made[name] = lambda value: made[name](value)  # noqa: PLW0108  # what refers to itself
            made[name] = _compiled(schema["$defs"][name.removeprefix("#/$defs/")], resolve)
        return made[name]

    return _compiled(schema, resolve)


def _compiled(schema: Schema, resolve: Callable[[str], Test]) -> Test:
    if isinstance(schema, bool):
        return lambda _: schema
    unknown = schema.keys() - _SAID - _WORDS.keys() - _PARTNERS
    if unknown:
        raise ValueError(f"unknown word in a schema: {', '.join(sorted(unknown))}")
    makers = dict.fromkeys(make for word, make in _WORDS.items() if word in schema)  # the type first, each once
    tests = [make(schema, resolve) for make in makers]
    if len(tests) == 1:
        return tests[0]
    return lambda value: all(test(value) for test in tests)


Make = Callable[[Mapping[str, Any], Callable[[str], Test]], Test]


def _type(schema: Mapping[str, Any], _: Any) -> Test:
    wanted = schema["type"]
    kinds = [TYPES[wanted]] if isinstance(wanted, str) else [TYPES[name] for name in wanted]
    return kinds[0] if len(kinds) == 1 else lambda value: any(kind(value) for kind in kinds)


def _one_of_values(schema: Mapping[str, Any], _: Any) -> Test:
    known = schema["enum"] if "enum" in schema else [schema["const"]]
    return lambda value: any(_same(value, each) for each in known)


def _same(one: Any, other: Any) -> bool:
    """Equal as JSON: true is not 1."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if _is_list(one) and _is_list(other):
        return len(one) == len(other) and all(map(_same, one, other))
    if _is_object(one) and _is_object(other):
        return one.keys() == other.keys() and all(_same(one[key], other[key]) for key in one)
    return bool(one == other)


def _range(schema: Mapping[str, Any], _: Any) -> Test:
    least, most = schema.get("minimum", -math.inf), schema.get("maximum", math.inf)
    above, below = schema.get("exclusiveMinimum", -math.inf), schema.get("exclusiveMaximum", math.inf)
    return lambda value: not _is_number(value) or (least <= value <= most and above < value < below)


def _length(schema: Mapping[str, Any], _: Any) -> Test:
    least, most = schema.get("minLength", 0), schema.get("maxLength", math.inf)
    return lambda value: not isinstance(value, str) or least <= len(value) <= most


def _pattern(schema: Mapping[str, Any], _: Any) -> Test:
    search = re.compile(schema["pattern"]).search
    return lambda value: not isinstance(value, str) or search(value) is not None


def _items(schema: Mapping[str, Any], resolve: Callable[[str], Test]) -> Test:
    least, most = schema.get("minItems", 0), schema.get("maxItems", math.inf)
    each = _compiled(schema.get("items", True), resolve)
    return lambda value: not _is_list(value) or (least <= len(value) <= most and all(map(each, value)))


def _properties(schema: Mapping[str, Any], resolve: Callable[[str], Test]) -> Test:
    required: Sequence[str] = schema.get("required", ())
    least, most = schema.get("minProperties", 0), schema.get("maxProperties", math.inf)
    known = {name: _compiled(part, resolve) for name, part in schema.get("properties", {}).items()}
    rest = _compiled(schema.get("additionalProperties", True), resolve)
    name_fits = _compiled(schema.get("propertyNames", True), resolve)

    def fits(value: Any) -> bool:
        if not _is_object(value):
            return True
        if not least <= len(value) <= most or any(name not in value for name in required):
            return False
        return all(name_fits(name) and known.get(name, rest)(item) for name, item in value.items())

    return fits


def _reference(schema: Mapping[str, Any], resolve: Callable[[str], Test]) -> Test:
    return resolve(schema["$ref"])


def _alternatives(schema: Mapping[str, Any], resolve: Callable[[str], Test]) -> Test:
    tests = [_compiled(part, resolve) for part in schema["oneOf"]]
    return lambda value: sum(test(value) for test in tests) == 1


def _condition(schema: Mapping[str, Any], resolve: Callable[[str], Test]) -> Test:
    when, then, other = (_compiled(schema.get(word, True), resolve) for word in ("if", "then", "else"))
    return lambda value: then(value) if when(value) else other(value)


_RANGE = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum")
_LENGTH, _ITEMS = ("minLength", "maxLength"), ("items", "minItems", "maxItems")
_PROPERTIES = ("properties", "required", "additionalProperties", "propertyNames", "minProperties", "maxProperties")
_WORDS: dict[str, Make] = {
    "type": _type,
    "enum": _one_of_values,
    "const": _one_of_values,
    "$ref": _reference,
    "pattern": _pattern,
    **dict.fromkeys(_RANGE, _range),
    **dict.fromkeys(_LENGTH, _length),
    **dict.fromkeys(_ITEMS, _items),
    **dict.fromkeys(_PROPERTIES, _properties),
    "oneOf": _alternatives,
    "if": _condition,
}
_PARTNERS = {"then", "else"}

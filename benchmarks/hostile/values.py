"""A grammar of changes to JSON: every place of a document, and what may stand there instead."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from typing import Any

Place = tuple[str | int, ...]

_MARK = "here"
ESCAPES = (
    "\\u001b]0;title\\u0007\\u001b[2J",
    "\\u009b31m",
    "a\\nFORGED line 99.99 %",
    "a\\rFORGED",
    "\\u202egnp.exe",
    "\\u0000",
    "\\ud800",
)
"""Text, as JSON writes it, that a terminal must never see as it is."""

NUMBERS = (
    "-1",
    "0",
    "1e400",
    "-1e400",
    "NaN",
    "Infinity",
    "0.5",
    "1e-320",
    "1000000",
    "1000000000000000",
    "1" + "0" * 30,
    "9" * 5000,
)
_OTHERS = (
    "null",
    "true",
    "false",
    '""',
    '"x"',
    "[]",
    "{}",
    "[null]",
    "[[[[]]]]",
    '{"a": {}}',
    '"0-99999999999"',
    '"99999999999-0"',
)
_PATHS = (
    '"../../outside/secret.txt"',
    '"../outside/folder"',
    '"/etc/passwd"',
    '"~"',
    '"file:///etc/passwd"',
    '"a\\u0000b"',
    f'"{"n" * 5000}"',
)
DEEP = ("[" * 100_000 + "]" * 100_000, '{"a":' * 50_000 + "1" + "}" * 50_000, f'"{"long" * 500_000}"')
VALUES = (*NUMBERS, *_OTHERS, *_PATHS, *(f'"{text}"' for text in ESCAPES), *DEEP)
"""What is put in the place of a value, as it stands in the file."""

ACTS = (
    *(("value", value) for value in VALUES),
    ("delete", ""),
    ("rename", ""),
    ("twice", ""),
    ("more", ""),
    ("wrap", ""),
    ("repeat", ""),
)
"""What is done at a place: another value; the key taken out, renamed, given twice, another one beside it; a list around the
value, or one 10,000 times as long."""


def places(value: Any, at: Place = ()) -> Iterator[Place]:
    """Every place of a document, the whole of it first."""
    yield at
    if isinstance(value, dict):
        for key, item in value.items():
            yield from places(item, (*at, key))
    elif isinstance(value, list):
        for number, item in enumerate(value):
            yield from places(item, (*at, number))


def shapes(value: Any) -> list[list[Place]]:
    """The places, those together that differ by their number in a list only."""
    found: dict[tuple[str, ...], list[Place]] = {}
    for place in places(value):
        found.setdefault(tuple("#" if isinstance(part, int) else part for part in place), []).append(place)
    return list(found.values())


def changes(value: Any, count: int, rng: random.Random) -> Iterator[tuple[str, str]]:
    """``count`` changed documents, each with what was done to it: all shapes of places come in turn, all acts come in turn."""
    groups = shapes(value)
    rng.shuffle(groups)
    acts = list(ACTS)
    rng.shuffle(acts)
    for number in range(count):
        place = rng.choice(groups[number % len(groups)])
        act = acts[number % len(acts)] if number < len(acts) else rng.choice(acts)
        yield f"{_shown(place)} {act[0]} {act[1][:40]}".strip(), changed(value, place, *act)


def changed(value: Any, place: Place, act: str, raw: str = "") -> str:
    """The text of the document with one thing done to it."""
    copy = json.loads(json.dumps(value))
    if not place:
        return raw if act == "value" else json.dumps([copy])
    holder = copy
    for part in place[:-1]:
        holder = holder[part]
    last, item = place[-1], holder[place[-1]]
    if act == "value":
        holder[last] = _MARK
        return json.dumps(copy, indent=2).replace(f'"{_MARK}"', raw)
    if act == "delete":
        del holder[last]
    elif act == "wrap":
        holder[last] = [item]
    elif act == "repeat":
        holder[last] = (item or [0]) * (10_000 // max(1, len(item))) if isinstance(item, list) else [item] * 10_000
    elif isinstance(holder, list):
        holder.append(item)
    elif act == "rename":
        holder[f"{last}\u001b[2J"] = holder.pop(last)
    elif act == "twice":
        holder[_MARK] = None
        return json.dumps(copy, indent=2).replace(f'"{_MARK}"', json.dumps(last))
    else:
        holder["more"] = {"x": [item]}
    return json.dumps(copy, indent=2)


def _shown(place: Place) -> str:
    return ".".join(map(str, place)) or "all"

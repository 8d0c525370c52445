"""The JSON Schema of ``model.json``. The façade over jsonschema."""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib.resources import files
from typing import Any

MOST = 10


def bundle_schema() -> dict[str, Any]:
    """The published schema (draft 2020-12), as ``bundle.schema.json`` has it."""
    text = (files(__package__) / "bundle.schema.json").read_text(encoding="utf-8")
    schema: dict[str, Any] = json.loads(text)
    return schema


def schema_faults(model: Mapping[str, Any]) -> list[str]:
    """Where ``model.json`` is not as the schema says: the place and what is wrong there, a line each, at most ten."""
    from jsonschema import Draft202012Validator

    errors = sorted(Draft202012Validator(bundle_schema()).iter_errors(model), key=lambda error: error.json_path)
    return [f"{error.json_path}: {_short(error.message)}" for error in errors[:MOST]]


def _short(message: str) -> str:
    line = " ".join(message.split())
    return line if len(line) <= 160 else line[:120] + " … " + line[-35:]

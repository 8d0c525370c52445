"""The JSON Schema of ``model.json``."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from slimnet._json import faults, schema

SCHEMA = "bundle"


def bundle_schema() -> dict[str, Any]:
    """The published schema (draft 2020-12), as ``bundle.schema.json`` has it."""
    return copy.deepcopy(schema(SCHEMA, __package__))


def schema_faults(model: Mapping[str, Any]) -> list[str]:
    """Where ``model.json`` is not as the schema says: the place and what is wrong there, a line each, at most ten."""
    return faults(model, SCHEMA, package=__package__)

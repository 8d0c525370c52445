"""What is said of settings that do nothing beside others."""

from __future__ import annotations

from collections.abc import Iterator

from slimnet.fields import describe
from slimnet.settings.precisions import PrecisionSettings

_OF_INT8 = ("calibration", "seed", "reduce_range", "placing")


def does_nothing(name: str, why: str) -> str:
    """What is said of a setting that has no effect: it is not refused, since runs, recipes and scripts hold such ones."""
    return f"`{name}` does nothing here: {why}"


def unused_precision_settings(settings: PrecisionSettings) -> Iterator[str]:
    """A line for each setting that is not what it is by default, and that no precision asked for has a use for."""
    unused = {name: "it is for int8; --precision int8 asks for it" for name in _OF_INT8 if "int8" not in settings.further}
    if not settings.further:
        unused["max_drop"] = "it is for int8 and fp16; --precision int8,fp16 asks for them"
    for row in describe(PrecisionSettings):
        if row.name in unused and getattr(settings, row.name) != row.default:
            yield does_nothing(row.name, unused[row.name])

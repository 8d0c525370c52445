"""The precisions of a bundle."""

from __future__ import annotations

from dataclasses import dataclass

from slimnet.errors import ArgumentError
from slimnet.fields import Rule, between, check, documented, flag, is_whole, one_of, optional, setting, texts
from slimnet.names import PLACEMENTS, PRECISIONS, Placing
from slimnet.settings.train import SEED

IMAGES = Rule("at least 1 image", lambda value: is_whole(value) and value >= 1, kind=int)


@documented
@dataclass(frozen=True)
class PrecisionSettings:
    """Which precisions a bundle is to hold beside fp32, and how they are made.

    Raises:
        ArgumentError: if one is out of its range.
    """

    names: tuple[str, ...] = setting(
        (),
        texts("names of precisions", ",".join(PRECISIONS)),
        "Precisions of the slim network; fp32 is always there, another one only where it pays.",
    )
    max_drop: float = setting(0.005, between(0, 1), "Most validation accuracy that a precision may lose.")
    calibration: int = setting(256, IMAGES, "Training images to calibrate int8 with; all where there are fewer.")
    seed: int = setting(0, SEED, "Of the choice of these images.")
    reduce_range: bool | None = setting(
        None, optional(flag()), "int8 weights of 7 or 8 bits; without it 7 where this processor lacks VNNI."
    )
    placing: Placing = setting(
        "all", one_of(*PLACEMENTS), "What int8 is for: all layers, or but those that are measured to be faster in fp32 here."
    )

    def __post_init__(self) -> None:
        check(self)
        for name in self.names:
            if name not in PRECISIONS:
                raise ArgumentError(f"unknown precision {name!r}; known: {', '.join(PRECISIONS)}.")

    @property
    def further(self) -> tuple[str, ...]:
        """What is to be made: fp32 left out, each once."""
        return tuple(name for name in dict.fromkeys(self.names) if name != "fp32")

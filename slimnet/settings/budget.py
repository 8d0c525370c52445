"""What a network is to cost once it is cut."""

from __future__ import annotations

from dataclasses import dataclass, fields

from slimnet.errors import ArgumentError
from slimnet.fields import above, check, documented, optional, setting, within


@documented
@dataclass(frozen=True, kw_only=True)
class Budget:
    """One target for a network once it is cut; exactly one is set.

    Raises:
        ArgumentError: if none or several are set, or a value is out of its range.
    """

    speedup: float | None = setting(
        None, optional(above(1, 10**6)), "Choose widths so that it runs X times as fast here.", group="target", shape="X"
    )
    ms: float | None = setting(
        None, optional(above(0, 10**9)), "… so that a run takes so many milliseconds.", group="target", shape="MS"
    )
    flops: float | None = setting(
        None, optional(within("(0, 1)")), "… so that this share of the FLOPs is left.", group="target", shape="SHARE"
    )
    params: float | None = setting(
        None, optional(within("(0, 1)")), "… so that this share of the weights is left.", group="target", shape="SHARE"
    )

    def __post_init__(self) -> None:
        given = self.as_dict()
        if len(given) != 1:
            known = ", ".join(item.name for item in fields(self))
            raise ArgumentError(f"a target must be exactly one of {known}, got {' and '.join(given) or 'none'}.")
        check(self, "the target ")

    @property
    def name(self) -> str:
        """Which one is set."""
        return next(iter(self.as_dict()))

    @property
    def value(self) -> float:
        """What it is set to."""
        return next(iter(self.as_dict().values()))

    def eased(self, part: float, dense_ms: float) -> Budget:
        """A target on the way to this one: after ``part`` of the way each part has shrunk by the same factor.

        Args:
            part: in (0, 1]; 1 is the target itself.
            dense_ms: milliseconds of the dense network.
        """
        if part == 1:
            return self
        whole = dense_ms if self.name == "ms" else 1.0
        return Budget(**{self.name: whole * (self.value / whole) ** part})

    def factor(self, dense_ms: float) -> float:
        """How many times less it asks for than the dense network takes: at most 1 where that meets it.

        Args:
            dense_ms: milliseconds of the dense network.
        """
        whole = dense_ms if self.name == "ms" else 1.0
        return self.value if self.name == "speedup" else whole / self.value

    def as_dict(self) -> dict[str, float]:
        """What is set, as a JSON value."""
        values = {item.name: getattr(self, item.name) for item in fields(self)}
        return {name: value for name, value in values.items() if value is not None}


BUDGETS = tuple(item.name for item in fields(Budget))

"""What is asked for: a share, a speed-up or a time."""

from __future__ import annotations

from dataclasses import dataclass, fields

from slimnet.errors import ArgumentError


@dataclass(frozen=True, kw_only=True)
class Budget:
    """One target for a network once it is cut; exactly one is set.

    Attributes:
        speedup: at least so many times as fast as the dense network, above 1.
        ms: at most so many milliseconds for a batch.
        flops: at most this share of the dense network's multiply-adds, in (0, 1).
        params: at most this share of its weights, in (0, 1).

    Raises:
        ArgumentError: if none or several are set, or a value is out of its range.
    """

    speedup: float | None = None
    ms: float | None = None
    flops: float | None = None
    params: float | None = None

    def __post_init__(self) -> None:
        if len(self._given()) != 1:
            names = ", ".join(item.name for item in fields(self))
            raise ArgumentError(f"a target must be exactly one of {names}, got {' and '.join(self._given()) or 'none'}.")
        if self.speedup is not None and not 1 < self.speedup < 1e6:
            raise ArgumentError(f"the target `speedup` must be above 1, got {self.speedup}.")
        if self.ms is not None and not 0 < self.ms < 1e9:
            raise ArgumentError(f"the target `ms` must be a positive number, got {self.ms}.")
        for name in ("flops", "params"):
            value = getattr(self, name)
            if value is not None and not 0 < value < 1:
                raise ArgumentError(f"the target `{name}` must be in (0, 1), got {value}.")

    @property
    def name(self) -> str:
        """Which one is set."""
        return next(iter(self._given()))

    @property
    def value(self) -> float:
        """What it is set to."""
        return next(iter(self._given().values()))

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
        return self._given()

    def _given(self) -> dict[str, float]:
        values = {item.name: getattr(self, item.name) for item in fields(self)}
        return {name: value for name, value in values.items() if value is not None}

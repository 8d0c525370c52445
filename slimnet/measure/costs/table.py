"""The cost table of a target: measured where it has to be, kept for the next time, interpolated in between."""

from __future__ import annotations

import time
import warnings
from collections import defaultdict
from collections.abc import Iterable, Sequence
from operator import attrgetter
from pathlib import Path

from slimnet.errors import MeasureError, SlimnetWarning
from slimnet.measure.costs.grid import PROBED, Layout, Point, Span, interpolated, layout_of, points
from slimnet.measure.costs.site import Site
from slimnet.measure.costs.store import Target, default_folder, read_entries, write_entries
from slimnet.measure.costs.timer import OnnxRuntimeTimer, Timer
from slimnet.progress import Task

REFERENCE = Site("conv", size=(16, 16), kernel=(3, 3), padding=(1, 1))
SAVE_EVERY = 10.0  # seconds
LAYOUT_TURNS = 5
PORTION, TRIES, BUSY = 48, 5, 1.1
"""So many times are measured in turns, each until its least two agree within the third; at most so often."""
WIDTH = attrgetter("most")
Place = tuple[Site, Span, Span]
"""Where a layer stands, and the widths that it may read and make."""
Ends = tuple[int | None, int | None]
"""Channels read and made, each where it is fixed."""


class CostTable:
    """Times of layers on one target.

    Args:
        target: how networks will run; default: one thread, one image, float32, on this machine.
        folder: where measured times are kept; default: the user's cache folder. None keeps nothing.
        timer: what times layers and networks on the target; default: ONNX Runtime.

    Attributes:
        damaged: entries of the file that did not match their checksum, or were of another target: they are measured again.
        unconfirmed: keys of times whose repetitions never agreed, on a machine that was never quiet: used now, but not kept.

    Example:
        >>> table = CostTable(Target(threads=1))                                        # doctest: +SKIP
        >>> table.measure([(site, Span(64), Span(64))])                                 # doctest: +SKIP
        >>> table.microseconds(site, 31, 48)                                            # doctest: +SKIP
    """

    def __init__(
        self, target: Target | None = None, *, folder: Path | str | None = "default", timer: Timer | None = None
    ) -> None:
        self.target = target if target is not None else Target()
        self.timer = timer if timer is not None else OnnxRuntimeTimer(self.target)
        home = default_folder() if folder == "default" else folder
        self.path = None if home is None else Path(home) / self.target.name
        found, self.damaged = read_entries(self.path, self.target) if self.path else ({}, 0)
        self._times = {key: float(value) for key, value in found.items() if isinstance(value, int | float)}
        self.unconfirmed: set[str] = set()
        self._saved = time.monotonic()
        self._spans: dict[tuple[Site, Ends], tuple[Span, Span]] = {}
        self._grids: dict[Site, dict[Ends, dict[Point, float]]] = {}
        self._layout: Layout | None = None

    @property
    def layout(self) -> Layout:
        """How the runtime takes channels, from six times that are measured first.

        All else depends on it, so the six are measured in turns and the least of each counts: a disturbance only ever adds time.
        """
        if self._layout is None:
            if any(self._key(REFERENCE, (width, width)) not in self._times for width in PROBED):
                turns = [{width: self._measured(REFERENCE, (width, width)) for width in PROBED} for _ in range(LAYOUT_TURNS)]
                for width in PROBED:
                    self._times[self._key(REFERENCE, (width, width))] = min(turn[width] for turn in turns)
            self._layout = layout_of({width: self._time(REFERENCE, (width, width)) for width in PROBED})
        return self._layout

    def missing(self, places: Iterable[Place]) -> int:
        """How many times are still to be measured for these layers."""
        return sum(self._key(site, point) not in self._times for site, _, point in self._wanted(places))

    def measure(self, places: Iterable[Place]) -> None:
        """Measure what is missing; it can be stopped at any time and goes on from there.

        Args:
            places: where layers stand, and which widths they may have: read and made.

        Raises:
            MeasureError: if a layer does not run on the target.
        """
        wanted = self._wanted(places)
        missing = [(site, point) for site, _, point in wanted if self._key(site, point) not in self._times]
        missing = list(dict.fromkeys(missing))
        try:
            with Task("measuring what layers cost on this machine", len(missing)) as task:
                for done in range(0, len(missing), PORTION):
                    self._measure(missing[done : done + PORTION])
                    task.reach(min(done + PORTION, len(missing)))
        finally:
            if missing:
                self.save()
        for site, ends, _ in wanted:
            self._grids.setdefault(site, {})[ends] = {}
        for site, ends, point in wanted:
            self._grids[site][ends][point] = self._times[self._key(site, point)]

    def microseconds(self, site: Site, reads: int, makes: int) -> float:
        """The time of a layer, for the whole batch; 0 for a layer without channels.

        Raises:
            MeasureError: if nothing was measured for this place.
        """
        if not (reads and makes):
            return 0.0
        grids = {ends: grid for ends, grid in self._grids.get(site, {}).items() if _fits(ends, (reads, makes))}
        if not grids:
            raise MeasureError(f"no times were measured for a layer of this kind: {site.key}.")
        closest = min(grids, key=lambda ends: ends.count(None))
        return interpolated(site, (reads, makes), grids[closest], self.layout)

    def save(self) -> None:
        """Write all confirmed times, in one piece; where that cannot be done, they are kept in memory only, with a warning."""
        try:
            if self.path is not None:
                kept = {key: value for key, value in self._times.items() if key not in self.unconfirmed}
                write_entries(self.path, self.target, kept)
        except OSError as error:
            self.path = None
            said = f"measured times are not kept: {error} They are measured again next time."
            warnings.warn(said, SlimnetWarning, stacklevel=2)
        self._saved = time.monotonic()

    def _measure(self, portion: Sequence[tuple[Site, Point]]) -> None:
        """Measure in turns until each time is confirmed, between two of the reference layer that tell whether it is quiet.

        The least of each counts: a disturbance only ever adds time.
        """
        widest = (PROBED[0], PROBED[0])
        quiet = self._time(REFERENCE, widest)
        found: dict[str, list[float]] = defaultdict(list)
        before, pending = self._measured(REFERENCE, widest), portion
        for _ in range(TRIES):
            for site, point in pending:
                found[self._key(site, point)].append(self._measured(site, point))
            after = self._measured(REFERENCE, widest)
            quiet = min(quiet, before, after)
            if max(before, after) <= BUSY * quiet:
                pending = [(site, point) for site, point in portion if not self._confirmed(found[self._key(site, point)])]
            before = after
            if not pending:
                break
        self.unconfirmed |= {self._key(site, point) for site, point in pending}
        self._times |= {key: min(times) for key, times in found.items()}
        if time.monotonic() - self._saved > SAVE_EVERY:
            self.save()

    def _wanted(self, places: Iterable[Place]) -> list[tuple[Site, Ends, Point]]:
        wanted: list[tuple[Site, Ends, Point]] = []
        for site, reads, makes in places:
            ends = (reads.most if reads.fixed else None, makes.most if makes.fixed else None)
            before = self._spans.get((site, ends), (reads, makes))
            widest = max(before[0], reads, key=WIDTH), max(before[1], makes, key=WIDTH)
            self._spans[site, ends] = widest
            wanted += [(site, ends, point) for point in points(site, *widest, self.layout)]
        return wanted

    def _time(self, site: Site, point: Point) -> float:
        """A time from the table, or else measured and put there."""
        key = self._key(site, point)
        if key not in self._times:
            self._times[key] = self._measured(site, point)
        return self._times[key]

    def _measured(self, site: Site, point: Point) -> float:
        return round(self.timer.layer(site, *point), 3)

    def _confirmed(self, times: Sequence[float]) -> bool:
        """Whether the least two agree."""
        least = sorted(times)[:2]
        return len(least) == 2 and least[1] <= BUSY * least[0] + self.timer.resolution

    @staticmethod
    def _key(site: Site, point: Point) -> str:
        return f"{site.key}: {point[0]} to {point[1]}"


def _fits(ends: Ends, point: Point) -> bool:
    return all(end in (None, width) for end, width in zip(ends, point, strict=True))

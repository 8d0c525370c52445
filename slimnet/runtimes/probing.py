"""In a process of its own: what layers and networks cost in a runtime that tells no times of its parts.

They are differences of whole networks, timed in turns.
"""

from __future__ import annotations

import statistics
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from slimnet.files import scratch_folder
from slimnet.measure.costs import Site
from slimnet.measure.costs.probe import PLANES, repeated_model
from slimnet.measure.costs.profile import faster_half
from slimnet.runtimes.apart import Job, serve
from slimnet.runtimes.base import runtime
from slimnet.runtimes.formats import of_runtime

LEAST = 0.05
"""Microseconds of a layer, where the difference is lost in noise."""
WORK, MOST_COPIES = 4e6, 8
"""A layer of fewer multiply-adds is timed several times side by side, until there are so many; and the most copies."""
WARM_UP, LAYER_ROUNDS, NETWORK_ROUNDS = 3, 15, 60
NETWORK_COPIES = 3
"""As many as `slimnet bench` has open for two networks: the control is one more."""
LEAST_ROUNDS, ENOUGH = 5, 5.0
"""No more than so many rounds after so many seconds."""
KEPT_OPEN, KEPT_BYTES = 200, 1 << 28
"""Probes that stay open between their turns, and bytes of their weights."""
Run = Callable[[], object]


class Prober:
    """Times layers and networks in a runtime.

    A layer: a network in which it stands n times side by side, less one without it, over n. The mean behind each copy counts with
    it, in the place of what a network has between its layers.

    Args:
        name: one of `slimnet.names.DEPLOYED`.
        threads, batch: that networks will run with.
    """

    def __init__(self, name: str, *, threads: int, batch: int) -> None:
        self._library, self._form, self._threads, self._batch = runtime(name), of_runtime(name), threads, batch
        self._open: OrderedDict[tuple[Site, int, int, int], tuple[Run, int]] = OrderedDict()

    def layer(self, site: Site, reads: int, makes: int) -> float:
        """Microseconds, for the whole batch."""
        copies = copies_of(site, reads, makes, self._batch)
        several, none = self._probe(site, reads, makes, copies), self._probe(site, reads, reads, 0)
        with_it, without = in_turns([several, none], LAYER_ROUNDS)
        return max((with_it - without) / copies, LEAST)

    def network(self, files: Sequence[Path], shape: Sequence[int]) -> tuple[float, float]:
        """Microseconds of the network in a runtime's files; and of the mean of its images alone: what a run costs beside.

        It is open several times over, in turns, as when it is compared with another: its weights come from where they are then.

        Args:
            files: a path for each suffix of the format.
            shape: (C, H, W) of its images.
        """
        images = np.random.default_rng(0).standard_normal((self._batch, *shape), np.float32)
        opened = [self._library.open(files, threads=self._threads, batch=self._batch) for _ in range(NETWORK_COPIES)]
        empty = self._probe(Site("conv", (shape[1], shape[2])), PLANES, PLANES, 0)
        *wholes, beside = in_turns([*(each.ready(images) for each in opened), empty], NETWORK_ROUNDS)
        return statistics.median(wholes), beside

    def _probe(self, site: Site, reads: int, makes: int, copies: int) -> Run:
        """A network of layers side by side, converted and opened once, ready to be run."""
        key = (site, reads, makes, copies)
        if key not in self._open:
            data = repeated_model(site, reads, makes, copies)
            self._open[key] = (self._opened(site, data), len(data))
        self._open.move_to_end(key)
        while len(self._open) > 2 and (len(self._open) > KEPT_OPEN or sum(size for _, size in self._open.values()) > KEPT_BYTES):
            self._open.popitem(last=False)
        return self._open[key][0]

    def _opened(self, site: Site, data: bytes) -> Run:
        images = np.random.default_rng(0).standard_normal((self._batch, PLANES, *site.size), np.float32)
        with scratch_folder("probe") as folder:
            onnx, out = folder / "probe.onnx", folder / "out"
            out.mkdir()
            onnx.write_bytes(data)
            files = [out / name for name in self._form.files("fp32")]
            self._library.convert(onnx, files, "fp32", None)
            run = self._library.open(files, threads=self._threads, batch=self._batch).ready(images)
            run()
        return run


def copies_of(site: Site, reads: int, makes: int, batch: int) -> int:
    """How many times a layer stands in its probe."""
    positions = site.output_size[0] * site.output_size[1] * batch
    work = positions * site.kernel[0] * site.kernel[1] * makes * (1 if site.kind == "depthwise" else reads)
    return int(min(max(WORK // (work + 16 * positions * makes), 1), MOST_COPIES))


def in_turns(runs: Sequence[Run], rounds: int) -> list[float]:
    """Microseconds of each: the mean of the faster half of its runs, after a few that warm up."""
    times: list[list[int]] = [[] for _ in runs]
    begun = time.monotonic()
    for number in range(WARM_UP + rounds):
        if number >= WARM_UP + LEAST_ROUNDS and time.monotonic() - begun > ENOUGH:
            break
        for run, found in zip(runs, times, strict=True):
            start = time.perf_counter_ns()
            run()
            found.append(time.perf_counter_ns() - start)
    return [faster_half(found[WARM_UP:]) / 1e3 for found in times]


def main() -> None:
    """In a process of its own, see :class:`slimnet.runtimes.costs.ApartTimer`."""
    made: dict[tuple[str, int, int], Prober] = {}

    def prober(job: Job) -> Prober:
        key = (job["runtime"], job["threads"], job["batch"])
        if key not in made:
            made[key] = Prober(key[0], threads=key[1], batch=key[2])
        return made[key]

    def layer(job: Job) -> float:
        kind, *pairs = job["site"]
        return prober(job).layer(Site(kind, *map(tuple, pairs)), job["reads"], job["makes"])

    def network(job: Job) -> tuple[float, float]:
        return prober(job).network([Path(name) for name in job["files"]], job["shape"])

    serve({"layer": layer, "network": network})

"""What layers and networks cost in a runtime that tells no times of its parts: differences of whole networks, timed in turns."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from slimnet import names
from slimnet.errors import ExportError, MeasureError, SlimnetError, one_line
from slimnet.files import scratch_folder
from slimnet.measure.costs import CostTable, NodeTimes, Site, Target
from slimnet.measure.costs.probe import PLANES, repeated_model
from slimnet.measure.costs.profile import Node, faster_half
from slimnet.measure.costs.store import machine_with
from slimnet.measure.timed import Setting
from slimnet.onnx.metadata import interface, parse
from slimnet.runtimes.base import runtime
from slimnet.runtimes.files import RuntimeFile, convert
from slimnet.runtimes.formats import check_installed, of_runtime

RESOLUTION = 0.3
"""Microseconds."""
LEAST = 0.05
"""Microseconds of a layer, where the difference is lost in noise."""
WORK, MOST_COPIES = 4e6, 8
"""A layer of fewer multiply-adds is timed several times side by side, until there are so many; and the most copies."""
WARM_UP, LAYER_ROUNDS, NETWORK_ROUNDS = 3, 15, 60
LEAST_ROUNDS, ENOUGH = 5, 5.0
"""No more than so many rounds after so many seconds."""
KEPT_OPEN, KEPT_BYTES = 200, 1 << 28
"""Probes that stay open between their turns, and bytes of their weights."""
Run = Callable[[], object]


def cost_table(
    name: str = "onnxruntime", *, threads: int = 1, batch: int = 1, folder: Path | str | None = "default"
) -> CostTable:
    """The cost table of a runtime on this machine.

    Args:
        name: ``"onnxruntime"``, or one of `slimnet.names.DEPLOYED`.
        threads, batch: that networks will run with.
        folder: where measured times are kept; default: the user's cache folder. None keeps nothing.

    Raises:
        ArgumentError: if a number is below 1.
        SlimnetError: if the runtime is not installed: naming the extra.
    """
    if name not in names.DEPLOYED:
        return CostTable(Target(threads, batch), folder=folder)
    check_installed([of_runtime(name).name])
    target = Target(threads, batch, machine=machine_with(name, runtime(name).version()), runtime=name)
    return CostTable(target, folder=folder, timer=RuntimeTimer(target))


class RuntimeTimer:
    """Times layers and networks in a runtime, as :class:`slimnet.measure.costs.Timer`.

    A layer: a network in which it stands n times side by side, less one without it, over n. The mean behind each copy counts with
    it, in the place of what a network has between its layers. A network: all that it takes beyond an empty one is laid to its
    layers, so that the sum of the table over them is scaled to it.

    Args:
        target: how networks will run, and where.
    """

    resolution = RESOLUTION

    def __init__(self, target: Target) -> None:
        self._target, self._form = target, of_runtime(target.runtime)
        self._open: OrderedDict[tuple[Site, int, int, int], tuple[Run, int]] = OrderedDict()

    def layer(self, site: Site, reads: int, makes: int) -> float:
        """Microseconds, for the whole batch.

        Raises:
            MeasureError: if it does not run.
        """
        copies = copies_of(site, reads, makes, self._target.batch)
        several, none = self._probe(site, reads, makes, copies), self._probe(site, reads, reads, 0)
        with_it, without = in_turns([several, none], LAYER_ROUNDS)
        return max((with_it - without) / copies, LEAST)

    def network(self, path: Path) -> tuple[NodeTimes, float]:
        """All its layers as one part; and microseconds that the mean of its images alone takes, which is what a run costs beside.

        Raises:
            ExportError: if it cannot be converted.
            MeasureError: if it does not run.
            FileFormatError: if the runtime cannot open it.
        """
        data = path.read_bytes()
        (taken,) = interface(parse(data, str(path)))["inputs"]
        shape = tuple(int(size) for size in taken["shape"][1:])
        try:
            files = convert(self._form, data, "fp32")
        except ExportError as error:
            raise ExportError(f"the network cannot be converted for {self._target.runtime}: {error}") from None
        with scratch_folder("cost") as folder:
            for name, content in files.items():
                (folder / name).write_bytes(content)
            file = RuntimeFile(self._target.runtime, tuple(folder / name for name in files), shape)
            timed = file.open("dense", Setting(self._target.threads, self._target.batch))
            empty = self._probe(Site("conv", (shape[1], shape[2])), PLANES, PLANES, 0)
            whole, beside = in_turns([timed.time, empty], NETWORK_ROUNDS)
        return NodeTimes((Node("layers", "Conv", (), max(whole - beside, LEAST)),)), beside

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
        """Here, since the network is slimnet's own: a process for each would take most of the time."""
        images = np.random.default_rng(0).standard_normal((self._target.batch, PLANES, *site.size), np.float32)
        library = runtime(self._target.runtime)
        with scratch_folder("probe") as folder:
            onnx, out = folder / "probe.onnx", folder / "out"
            out.mkdir()
            onnx.write_bytes(data)
            files = [out / name for name in self._form.files("fp32")]
            try:
                library.convert(onnx, files, "fp32", None)
                run = library.open(files, threads=self._target.threads, batch=self._target.batch).ready(images)
                run()
            except SlimnetError:
                raise
            except Exception as error:  # of any library
                said = f"a layer does not run in {self._target.runtime} ({site.key}): {one_line(error)}"
                raise MeasureError(said) from None
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

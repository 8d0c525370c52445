"""Cost tables of the runtimes: ONNX Runtime tells the times of its parts, the others are probed in a process of their own."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from slimnet import names
from slimnet.errors import ExportError, MeasureError
from slimnet.files import scratch_folder
from slimnet.measure.costs import CostTable, NodeTimes, Site, Target
from slimnet.measure.costs.profile import Node
from slimnet.measure.costs.store import machine_with
from slimnet.onnx.metadata import of_size, parse
from slimnet.runtimes import probing
from slimnet.runtimes.apart import ApartError, Worker
from slimnet.runtimes.base import runtime
from slimnet.runtimes.files import convert
from slimnet.runtimes.formats import check_installed, of_runtime

RESOLUTION = 0.3
"""Microseconds."""


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
    return CostTable(target, folder=folder, timer=ApartTimer(target))


class ApartTimer:
    """Times layers and networks in a process of its own, which a runtime may take with it; as `slimnet.measure.costs.Timer`.

    A network: all that it takes beyond an empty one is laid to its layers: the sum of the table over them is scaled to it.

    Args:
        target: how networks will run, and where.
    """

    resolution = RESOLUTION

    def __init__(self, target: Target) -> None:
        self._target = target
        self._worker: Worker | None = None

    def layer(self, site: Site, reads: int, makes: int) -> float:
        """Microseconds, for the whole batch.

        Raises:
            MeasureError: if it does not run.
            TimeLimitError: if it takes too long.
        """
        pairs = (site.size, site.kernel, site.stride, site.padding, site.dilation)
        asked = {"do": "layer", "site": [site.kind, *pairs], "reads": reads, "makes": makes}
        return float(self._asked(f"a layer ({site.key})", asked))

    def network(self, path: Path, shapes: Sequence[Sequence[int]]) -> tuple[NodeTimes, float]:
        """All its layers as one part; and microseconds that the mean of its images alone takes, which is what a run costs beside.

        Args:
            path: the file.
            shapes: of its inputs, without the batch.

        Raises:
            ExportError: if it cannot be converted.
            MeasureError: if it does not run.
            TimeLimitError: if it takes too long.
        """
        if len(shapes) != 1:
            raise MeasureError(
                f"a target for {self._target.runtime} is for what takes one input, not {len(shapes)}: "
                "name a part that begins earlier, or leave `runtime` out."
            )
        (shape,) = shapes
        data = of_size(parse(path.read_bytes(), str(path)), shape)
        try:
            files = convert(of_runtime(self._target.runtime), data, "fp32")
        except ExportError as error:
            raise ExportError(f"the network cannot be converted for {self._target.runtime}: {error}") from None
        with scratch_folder("cost") as folder:
            for name, content in files.items():
                (folder / name).write_bytes(content)
            asked = {"files": [str(folder / name) for name in files], "shape": list(shape)}
            whole, beside = self._asked("the network", {"do": "network", **asked})
        return NodeTimes((Node("layers", "Conv", (), max(whole - beside, probing.LEAST)),)), beside

    def _asked(self, what: str, job: dict[str, Any]) -> Any:
        if self._worker is not None and not self._worker.is_alive():
            self._worker.close()
            self._worker = None
        if self._worker is None:
            self._worker = Worker(probing.__name__)
        how = {"runtime": self._target.runtime, "threads": self._target.threads, "batch": self._target.batch}
        try:
            return self._worker.ask(f"timing {what} in {self._target.runtime}", **how, **job)
        except ApartError as error:
            raise MeasureError(f"{what} does not run in {self._target.runtime}: {error}") from None

    def __del__(self) -> None:
        if self._worker is not None:
            self._worker.close()

"""The bundle: a folder with all that it takes to use a slim network, and to check what is claimed of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slimnet._json import check
from slimnet.bundle import manifest, seal
from slimnet.bundle.check import read_manifest, read_report
from slimnet.bundle.schema import SCHEMA
from slimnet.errors import FileFormatError
from slimnet.export.parity import ParityReport
from slimnet.measure.cost import Cost

if TYPE_CHECKING:
    from slimnet.export.precision import Precisions


@dataclass(frozen=True)
class PrecisionFile:
    """The slim network in another precision than fp32.

    Attributes:
        data: the ONNX file, with the inputs and outputs of ``model.onnx``.
        about: what ``model.json`` is to say of it, in JSON values: ``accuracy`` (``split``, ``count``, ``value``), ``agreement``
            with fp32, how it was made.
    """

    data: bytes
    about: Mapping[str, Any]


@dataclass(frozen=True)
class Bundle:
    """A bundle that was written or read.

    Attributes:
        path: its folder.
        model: contents of ``model.json``.
        report: contents of ``report.json``.
        parity: of ``model.onnx`` with the slim and the masked network.
        cost_dense: of the network before pruning.
        cost_slim: realised, of the network in ``model.onnx``.
        choice: why its precisions are the ones they are, where it was just exported with further ones. Not among its files:
            timings differ from one export to the next.
    """

    path: Path
    model: dict[str, Any]
    report: dict[str, Any]
    parity: ParityReport
    cost_dense: Cost
    cost_slim: Cost
    choice: Precisions | None = None

    @property
    def onnx(self) -> Path:
        """The slim network: in fp32, or as a compact bundle holds it."""
        return next(iter(self.precision_files.values()))

    @property
    def precision_files(self) -> dict[str, Path]:
        """Name of each precision → its ONNX file, fp32 first."""
        return {name: self.path / file for name, file in manifest.PRECISIONS.items() if name in self.model["precisions"]}

    @property
    def is_compact(self) -> bool:
        """Whether it holds a single network, and nothing to build it from or compare it with."""
        return manifest.is_compact(self.model)

    @property
    def dense_onnx(self) -> Path | None:
        """The baseline; a compact bundle has none."""
        return None if self.is_compact else self.path / "dense.onnx"

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        choice = {"precisions": self.choice.as_dict()} if self.choice else {}
        return {"path": str(self.path), "model": self.model, "report": self.report, **choice}


def read_bundle(path: Path | str) -> Bundle:
    """Read a bundle's description, and check that its files are the ones it describes. Needs no torch.

    Raises:
        FileFormatError: if the folder is not a bundle, lacks a file, or holds one that was changed or cut
            short.
    """
    path = Path(path)
    model = read_manifest(path)
    for fault in seal.faults(path, model):
        raise FileFormatError(fault)
    check(model, SCHEMA, str(path / seal.MANIFEST), package=__package__)
    report, parity, costs = read_report(path)
    return Bundle(path, model, report, parity, costs["dense"], costs["slim"])

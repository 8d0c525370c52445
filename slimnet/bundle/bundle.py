"""The bundle: a folder with all that it takes to use a slim network, and to check what is claimed of it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slimnet._json import check
from slimnet.bundle import hub, manifest, seal
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
class FormatFiles:
    """The slim network in the files of another runtime.

    Attributes:
        files: name in the bundle → content.
        about: what ``model.json`` is to say of it, in JSON values: ``runtime``, ``accuracy``, ``agreement``, ``parity``.
    """

    files: Mapping[str, bytes]
    about: Mapping[str, Any]


@dataclass(frozen=True)
class Formats:
    """The slim network for other runtimes.

    Attributes:
        made: format → precision → its files, of what is to be written.
        report: format → precision → what was found, also of what is not written: ``written``, ``reason``, ``parity`` …
    """

    made: Mapping[str, Mapping[str, FormatFiles]]
    report: Mapping[str, Mapping[str, Mapping[str, Any]]]


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
    def format_files(self) -> dict[tuple[str, str], tuple[Path, ...]]:
        """(format, precision) → what another runtime reads, as ``("openvino", "int8")``."""
        return {key: tuple(self.path / file for file in files) for key, files in manifest.format_files(self.model).items()}

    def temperature(self, precision: str) -> float:
        """What the logits of a precision are divided by before softmax; 1 in a bundle that was not calibrated."""
        return manifest.temperature(self.model, precision)

    @property
    def unsure_below(self) -> float:
        """The probability below which an answer counts as unsure, unless the user says otherwise; 0 where none is stored."""
        return float(self.model.get("unsure_below", 0.0))

    @property
    def is_compact(self) -> bool:
        """Whether it holds a single network, and nothing to build it from or compare it with."""
        return manifest.is_compact(self.model)

    @property
    def dense_onnx(self) -> Path | None:
        """The baseline; a compact bundle has none."""
        return None if self.is_compact else self.path / "dense.onnx"

    @classmethod
    def from_pretrained(
        cls,
        source: str | Path,
        *,
        folder: Path | str | None = None,
        revision: str | None = None,
        token: str | None = None,
        cache_dir: Path | str | None = None,
        local_files_only: bool = False,
        endpoint: str | None = None,
    ) -> Bundle:
        """Read a bundle from a folder, or from the Hugging Face Hub (extra ``slimnet[hub]``). None of its code is run.

        What is downloaded is checked before it gets its place: every file is the one that ``model.json`` lists, by its SHA-256.
        That tells of files that were damaged or exchanged one by one, not of who made the bundle.

        Args:
            source: folder of a bundle, or ``"owner/name"`` of a repository.
            folder: where to put it; default: a folder of slimnet's beside the cache of the Hub, one for each commit.
            revision: branch, tag or commit; a commit is the only one that stays what it is.
            token: of the Hub; default: the one that you logged in with.
            cache_dir: the cache of the Hub.
            local_files_only: take what was downloaded before, and use no network.
            endpoint: another Hub.

        Raises:
            FileFormatError: if it is no bundle, lacks a file, or holds one that was changed.
            ArgumentError: if ``folder`` holds something.
            SlimnetError: if it cannot be fetched, or huggingface_hub is not installed.
        """
        if os.path.isdir(source):  # noqa: PTH112  # of a name that no path can have too
            return read_bundle(source)
        access = {"token": token, "cache_dir": cache_dir, "endpoint": endpoint}
        place = None if folder is None else Path(folder)
        given = hub.fetched(str(source), place, revision=revision, local_files_only=local_files_only, **access)
        with given as (held, becomes):
            bundle = read_bundle(held)
        return bundle if becomes is None else replace(bundle, path=becomes)

    def push_to_hub(
        self,
        repo_id: str,
        *,
        licence: str | None = None,
        private: bool | None = None,
        revision: str | None = None,
        message: str = "A bundle of slimnet",
        token: str | None = None,
        endpoint: str | None = None,
    ) -> str:
        """Upload the bundle to the Hugging Face Hub (extra ``slimnet[hub]``); its card becomes the page of the repository.

        Args:
            repo_id: ``"owner/name"``; it is created where there is none.
            licence: of the network, as the Hub calls it (``"apache-2.0"``), for the page.
            private: whether a new repository is; default: as your account has it.
            revision: branch; default: ``main``.
            message: of the commit.
            token: of the Hub; default: the one that you logged in with.
            endpoint: another Hub.

        Returns:
            The address of the commit.

        Raises:
            FileFormatError: if a file is not the one that was exported. Nothing is sent.
            SlimnetError: if the Hub refuses, or huggingface_hub is not installed.
        """
        more: dict[str, Any] = {"licence": licence, "private": private, "revision": revision, "message": message}
        return hub.push(self.path, self.model, self.report, repo_id, **more, token=token, endpoint=endpoint)

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

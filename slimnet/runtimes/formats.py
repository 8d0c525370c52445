"""What each runtime reads: names of files, precisions, and what must be installed. No runtime is imported here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, distribution
from importlib.util import find_spec
from pathlib import Path

from slimnet import names
from slimnet.errors import SlimnetError


@dataclass(frozen=True)
class Format:
    """The files that a runtime reads.

    Attributes:
        name: as ``--formats`` has it.
        runtime: that runs them.
        stem: of the names of the files.
        suffixes: an ending for each file.
        modules: what is imported to run them.
        makers: precision → what is imported to make it.
        packages: what is installed to run them: names on PyPI.
        rewards: what it is good at, in words.
    """

    name: str
    runtime: str
    stem: str
    suffixes: tuple[str, ...]
    modules: tuple[str, ...]
    makers: Mapping[str, tuple[str, ...]]
    packages: tuple[str, ...]
    rewards: str = field(compare=False)

    @property
    def precisions(self) -> tuple[str, ...]:
        """What it can be made in."""
        return tuple(self.makers)

    def files(self, precision: str) -> tuple[str, ...]:
        """Their names in a bundle: ``model.tflite``, ``model.int8.tflite``."""
        middle = "" if precision == "fp32" else f".{precision}"
        return tuple(f"{self.stem}{middle}{suffix}" for suffix in self.suffixes)


FORMATS: dict[str, Format] = {
    each.name: each
    for each in (
        Format(
            "openvino",
            "openvino",
            "model.openvino",
            (".xml", ".bin"),
            ("openvino",),
            {"fp32": ("openvino",), "int8": ("openvino", "nncf"), "fp16": ("openvino",)},
            ("openvino", "openvino-telemetry"),
            "x86 processors, int8 with VNNI or AMX",
        ),
        Format(
            "tflite",
            "litert",
            "model",
            (".tflite",),
            ("ai_edge_litert",),
            {"fp32": ("ai_edge_litert",), "int8": ("ai_edge_litert", "ai_edge_quantizer"), "fp16": ("ai_edge_litert",)},
            ("ai-edge-litert", "backports.strenum", "flatbuffers"),
            "small networks and phones (XNNPACK), depthwise convolutions",
        ),
        Format(
            "ncnn",
            "ncnn",
            "model.ncnn",
            (".param", ".bin"),
            ("ncnn",),
            {"fp32": ("ncnn", "pnnx"), "fp16": ("ncnn", "pnnx")},
            ("ncnn",),
            "phones; one image at a time, 3×3 convolutions (Winograd)",
        ),
    )
}
"""Beside ONNX, in the order of `slimnet.names.FORMATS`."""


def of_runtime(name: str) -> Format:
    """The format that a runtime reads; the runtime is one of `slimnet.names.DEPLOYED`."""
    return next(each for each in FORMATS.values() if each.runtime == name)


def missing(form: Format, precisions: Iterable[str] = ()) -> str | None:
    """The one line that says what to install to run a format, or to make it in these precisions; None where all is there."""
    needed = dict.fromkeys((*form.modules, *(module for name in precisions for module in form.makers.get(name, ()))))
    lacking = [module for module in needed if find_spec(module) is None]
    if not lacking:
        return None
    return f"{form.name} needs {' and '.join(lacking)}: pip install 'slimnet[{form.runtime}]'."


def check_installed(formats: Iterable[str], precisions: Iterable[str] = ("fp32",)) -> None:
    """Refuse formats whose converter is not installed; nothing of it is imported.

    Raises:
        SlimnetError: naming the extra.
    """
    precisions = tuple(precisions)
    for name in formats:
        if name != names.FORMATS[0] and (line := missing(FORMATS[name], precisions)):
            raise SlimnetError(line)


def check_runs(runtime: str) -> None:
    """Refuse a runtime that is not installed.

    Raises:
        SlimnetError: naming the extra.
    """
    if runtime in names.DEPLOYED and (line := missing(of_runtime(runtime))):
        raise SlimnetError(line)


def installed_bytes(packages: Iterable[str]) -> int | None:
    """What packages take on the disk; None where one is not installed, or does not list its files."""
    total = 0
    for name in packages:
        try:
            files = distribution(name).files
        except PackageNotFoundError:
            return None
        if files is None:
            return None
        paths = [Path(str(file.locate())) for file in files]
        total += sum(path.stat().st_size for path in paths if path.is_file())
    return total

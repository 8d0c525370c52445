"""What the machine is and how busy: recorded beside every timing."""

from __future__ import annotations

import datetime
import os
import platform
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from slimnet.onnx.providers import runtime_version

CPUINFO = Path("/proc/cpuinfo")
_LEVELS = {
    "amx_int8": "amx_int8",
    "avx512_vnni": "avx512_vnni",
    "avx512": "avx512f",
    "avx_vnni": "avx_vnni",
    "avx2": "avx2",
    "avx": "avx",
    "i8mm": "i8mm",
    "asimddp": "asimddp",
    "asimd": "asimd",
}
"""Instruction set, the widest first, and the flag of a processor that has it."""


def processors() -> int:
    """Processors that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def load() -> float | None:
    """Load average of the last minute; None where the system has none."""
    try:
        return round(os.getloadavg()[0], 2)
    except (AttributeError, OSError):
        return None


@dataclass(frozen=True)
class Activity:
    """How busy the machine was while something was timed.

    Attributes:
        seconds: how long it took.
        load: load average of the minute before.
        stolen: share of processor time that a hypervisor gave to other machines.
        on_processor: share of the time that the timing thread had a processor; less than 1 where it had to
            wait.
    """

    seconds: float
    load: float | None
    stolen: float
    on_processor: float


class Watch:
    """Observes the machine from its creation to ``stop``."""

    def __init__(self) -> None:
        self._load = load()
        self._ticks = _steal_ticks()
        self._thread = time.thread_time()
        self._start = time.perf_counter()

    def stop(self) -> Activity:
        """What was seen since the start."""
        seconds = time.perf_counter() - self._start
        share = (time.thread_time() - self._thread) / seconds
        steal, total = (now - then for now, then in zip(_steal_ticks(), self._ticks, strict=True))
        return Activity(seconds, self._load, steal / total if total > 0 else 0.0, share)


def environment() -> dict[str, Any]:
    """Processor, system, versions, load and date, ready for JSON."""
    return {
        "cpu": cpu_model(),
        "instructions": instructions(),
        "processors": processors(),
        "governor": _first_line(Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")) or None,
        "system": platform.platform(),
        "python": platform.python_version(),
        "onnxruntime": runtime_version(),
        "numpy": np.__version__,
        "load_average": load(),
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }


def cpu_model() -> str:
    """The processor, by its name."""
    return _cpuinfo("model name", CPUINFO) or platform.processor() or platform.machine()


def processor_flags(path: Path | None = None) -> frozenset[str]:
    """The flags of the first processor; empty where the system does not tell.

    Args:
        path: what Linux says of the processors; default: /proc/cpuinfo.
    """
    path = path or CPUINFO
    return frozenset((_cpuinfo("flags", path) or _cpuinfo("Features", path)).split())


def instructions(flags: frozenset[str] | None = None) -> str:
    """The widest set of vector instructions that the processor has: a speed is one of that set, not of the name alone.

    Args:
        flags: of the processor; default: :func:`processor_flags`.

    Returns:
        ``"amx_int8"``, ``"avx512_vnni"``, ``"avx512"``, ``"avx_vnni"``, ``"avx2"`` … (each includes those after it); where the
        flags tell nothing, the architecture.
    """
    flags = processor_flags() if flags is None else flags
    return next((name for name, flag in _LEVELS.items() if flag in flags), platform.machine())


def _cpuinfo(field: str, path: Path) -> str:
    """The first value of a field; empty where there is none."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError:
        return ""
    return next((value.strip() for name, _, value in (line.partition(":") for line in lines) if name.strip() == field), "")


def _first_line(path: Path) -> str:
    try:
        with path.open(encoding="utf-8") as file:
            return file.readline().strip()
    except OSError:
        return ""


def _steal_ticks() -> tuple[int, int]:
    """Ticks since boot that a hypervisor gave to others, and all ticks; (0, 0) where unknown."""
    fields = _first_line(Path("/proc/stat")).split()[1:9]
    if len(fields) < 8 or not all(field.isdigit() for field in fields):
        return 0, 0
    ticks = [int(field) for field in fields]
    return ticks[7], sum(ticks)

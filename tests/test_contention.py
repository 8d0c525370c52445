"""The warning of contention, with a competing load that is started on purpose."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from chain import matmuls
from skips import reason
from slimnet.measure import compare_latency

PINNED = hasattr(os, "sched_setaffinity")
LOAD = "import os\nos.sched_setaffinity(0, {%d})\nprint('busy', flush=True)\nwhile True: pass"


@pytest.fixture
def processor() -> Iterator[int]:
    """A processor that this thread is kept on."""
    before = os.sched_getaffinity(0)
    chosen = min(before)
    os.sched_setaffinity(0, {chosen})
    try:
        yield chosen
    finally:
        os.sched_setaffinity(0, before)


@pytest.fixture
def load(processor: int) -> Iterator[None]:
    """Two processes that keep that processor busy."""
    running = [subprocess.Popen([sys.executable, "-c", LOAD % processor], stdout=subprocess.PIPE) for _ in range(2)]
    try:
        for process in running:
            assert process.stdout is not None and process.stdout.readline() == b"busy\n"
        yield
    finally:
        for process in running:
            process.kill()
            process.communicate()


@pytest.mark.skipif(not PINNED, reason=reason("affinity"))
def test_a_competing_load_is_noticed(tmp_path: Path, load: None) -> None:
    """Three that compete get a third each: this thread has the processor for less than 95 % of the time, whatever else runs."""
    network = matmuls(tmp_path / "net.onnx", 32)
    report = compare_latency({"net": network}, rounds=1, seconds=1.0, warmup=0.1)
    assert "the timing thread had a processor only" in report.flags["contended"]
    share = float(report.flags["contended"].partition("only ")[2].partition("%")[0])
    assert share < 75

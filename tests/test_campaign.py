"""benchmarks/campaign.py: rows end with the script that started them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
ROW = """
import os, sys, time
from pathlib import Path
Path({mark!r}).write_text(str(os.getpid()))
time.sleep(120)
"""
SCRIPT = """
import argparse, sys
sys.path.insert(0, {benchmarks!r})
import campaign
campaign.__file__ = {row!r}
campaign.is_finished = lambda row: False
campaign.run_rows([campaign.ROWS[0]], argparse.Namespace(minutes=2, jobs=1, device="cpu", work="work"))
"""

WIDTHS = """
import sys
sys.path.insert(0, {benchmarks!r})
import campaign
rows = [{{"name": "a-0", "widths": []}}, {{"name": "b-0", "widths": [["conv1", 4], ["conv2", 8]]}}]
campaign.read_runs = lambda name: [{{"networks": rows}}]
print(campaign.widths_of("b-0"))
"""


def is_there(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def wait_until(holds: object, seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not holds():  # type: ignore[operator]
        assert time.monotonic() < end
        time.sleep(0.05)


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_row_ends_with_the_script(tmp_path: Path, number: signal.Signals) -> None:
    """No row trains on unseen when the script is stopped."""
    mark, row = tmp_path / "pid", tmp_path / "row.py"
    row.write_text(ROW.format(mark=str(mark)))
    script = SCRIPT.format(benchmarks=str(BENCHMARKS), row=str(row))
    with subprocess.Popen([sys.executable, "-c", script], stderr=subprocess.DEVNULL) as process:
        wait_until(lambda: mark.is_file() and mark.read_text())
        pid = int(mark.read_text())
        process.send_signal(number)
        assert process.wait(60) != 0
    wait_until(lambda: not is_there(pid), 10)


def test_a_row_takes_the_widths_of_a_finished_one() -> None:
    """They come from the results: the run of that row need not lie on this machine."""
    found = subprocess.run(
        [sys.executable, "-c", WIDTHS.format(benchmarks=str(BENCHMARKS))], check=True, capture_output=True, text=True
    )
    assert found.stdout == "(('conv1', 4), ('conv2', 8))\n"


def test_a_row_says_which_one_it_waits_for() -> None:
    script = WIDTHS.format(benchmarks=str(BENCHMARKS)).replace("b-0", "a-0")
    found = subprocess.run([sys.executable, "-c", script], check=False, capture_output=True, text=True)
    assert found.returncode == 1
    assert found.stderr == "the row 'a-0' is not finished, and another has its widths: train it first.\n"

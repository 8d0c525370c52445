"""slimnet report: what is printed, and what bad input gets."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from report_run import drop_confusion, make_run, read_lines, write_lines, write_report
from slimnet.errors import FileFormatError, SlimnetError
from slimnet_cli import _run


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A fresh finished run, to be changed."""
    return make_run(tmp_path / "run")


# --- bad input ------------------------------------------------------------------------------------------------------------


def edited(number: int, **values: Any) -> Callable[[Path], None]:
    """Change a line of the metrics."""

    def change(run: Path) -> None:
        lines = read_lines(run / "metrics.jsonl")
        lines[number].update(values)
        write_lines(run / "metrics.jsonl", lines)

    return change


def edit_config(run: Path, **values: Any) -> None:
    record = json.loads((run / "config.json").read_text())
    (run / "config.json").write_text(json.dumps(record | values))


def unfinished(change: Callable[[Path], object]) -> Callable[[Path], None]:
    def both(run: Path) -> None:
        (run / "model.safetensors").unlink()
        change(run)

    return both


SQUARE = r"metrics.jsonl: `test_confusion` must be 3 rows of 3 counts"
BAD: list[tuple[str, Callable[[Path], object], str]] = [
    ("not JSON", lambda run: (run / "metrics.jsonl").write_text("{"), r"metrics.jsonl, line 1, is not readable JSON"),
    ("a word", edited(1, val_loss="low"), r"metrics.jsonl, line 2: `val_loss` must be a number, got 'low'"),
    ("missing", edited(2, lr=None), r"metrics.jsonl, line 3: `lr` must be a number, got None"),
    ("a truth value", edited(0, rate=True), r"metrics.jsonl, line 1: `rate` must be a number, got True"),
    ("not finite", edited(0, zeta=math.inf), r"metrics.jsonl, line 1, is not readable JSON \(.*Infinity"),
    ("no accuracy", edited(-1, test_accuracy="high"), r'line 6: `test_accuracy` must be a number or null, got "high"'),
    ("no such epoch", edited(-1, best_epoch=5), r"last line: `best_epoch` must be one of the 5 epochs from 0, got 5"),
    ("no data", unfinished(lambda run: edit_config(run, data={})), "config.json: `data` lacks `classes`"),
    ("not square", edited(-1, test_confusion=[[1, 2], [3, 4]]), SQUARE),
    ("ragged", edited(-1, test_confusion=[[1, 2, 3], [3, 4], [1, 1, 1]]), SQUARE),
    ("no matrix", edited(-1, test_confusion="none"), "`test_confusion` must be a list"),
    ("negative", edited(-1, test_confusion=[[1, 1, 1], [1, -1, 1], [1, 1, 1]]), r"`test_confusion\[1\]\[1\]` must be at least 0"),
    ("no image", edited(-1, test_confusion=[[0] * 3] * 3), SQUARE),
    ("no epoch", unfinished(lambda run: (run / "metrics.jsonl").unlink()), "holds no epoch yet"),
    ("no config", lambda run: (run / "config.json").unlink(), "is not a run: it holds no config.json"),
    ("another size", lambda run: write_lines(run / "selection.jsonl", [{"epoch": 0, "selected": {"first": "ffff"}}]),
     r"selection.jsonl, line 1, does not fit"),
    ("another epoch", lambda run: write_lines(run / "selection.jsonl", [{"epoch": [], "selected": {"first": "ff"}}]),
     r"selection.jsonl, line 1: `epoch` must be a whole number, got \[\]"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "said"), [case[1:] for case in BAD], ids=[case[0] for case in BAD])
def test_bad_input_gets_one_line(
    run: Path, change: Callable[[Path], object], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    change(run)
    with pytest.raises(FileFormatError, match=said):
        write_report(run)
    assert _run(["report", "--trust-code", str(run)]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert not (run / "report").exists()
    assert [path.name for path in run.iterdir() if path.name.startswith(".")] == []


def test_missing_matplotlib_is_said(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(SlimnetError, match=r"pip install 'slimnet\[plots\]'"):
        write_report(run)
    assert not (run / "report").exists()


# --- the command ----------------------------------------------------------------------------------------------------------


def test_command_prints_figures_and_the_path(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    drop_confusion(run)
    assert _run(["report", "--trust-code", str(run), "--out", str(tmp_path / "out")]) == 0
    out, err = capsys.readouterr()
    head, _, row, path = out.splitlines()
    assert head.split()[:3] == ["epochs", "val", "accuracy"]
    assert "5 of 5" in row
    assert "76.00 %" in row
    assert path == str(tmp_path / "out" / "report.html")
    assert err.startswith("left out: Confusion matrix and F1")
    assert not (run / "report").exists()


def test_command_names_the_split_of_its_figures(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _run(["report", "--trust-code", str(run)]) == 0
    assert "test accuracy  test macro-F1" in capsys.readouterr().out
    config = json.loads((run / "config.json").read_text())
    config["data"]["tested_on"] = "val"
    (run / "config.json").write_text(json.dumps(config))
    assert _run(["report", "--trust-code", str(run)]) == 0
    out = capsys.readouterr().out
    assert "val accuracy  val macro-F1" in out and "test" not in out.splitlines()[0] and "80.00 %" in out


def test_command_prints_json(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _run(["report", "--trust-code", str(run), "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed.keys() == {"path", "files", "headline", "left_out"}
    assert printed["path"] == str(run / "report" / "report.html")
    assert all(Path(file).is_file() for file in printed["files"])
    assert printed["headline"]["test_accuracy"] == 0.76

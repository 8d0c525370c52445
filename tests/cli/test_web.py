"""slimnet web: what is printed, and what bad input gets."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from slimnet.export import Bundle
from slimnet_cli import _run
from web_runtime import given_runtime


@pytest.fixture
def runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return given_runtime(tmp_path, monkeypatch)


def test_command(tmp_path: Path, bundle: Bundle, runtime: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "site"
    given = ["web", str(bundle.path), "--out", str(out), "--runtime", str(runtime)]
    assert _run([*given, "--title", "Faces"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == str(out)
    assert _run(given) == 1
    assert "exists already" in capsys.readouterr().err
    assert _run([*given, "--force", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["networks"][0]["name"] == "dense"
    assert _run(["web", str(tmp_path / "none"), "--out", str(tmp_path / "x")]) == 1
    assert capsys.readouterr().err.startswith("slimnet: error: ")

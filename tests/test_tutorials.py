"""The tutorials are what they say: all their blocks run, in order, from nothing to a bundle that passes the gate."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from slimnet.export import read_bundle
from test_docs import ROOT
from tutorial_data import PREPARE

PAGES = sorted(path for path in (ROOT / "docs" / "tutorials").glob("*.md") if path.name != "index.md")
BLOCK = re.compile(r"(<!-- no-run -->\n)?```(sh|python)\n(.*?)```", re.DOTALL)
SECONDS = 600  # of a block that hangs


def steps(page: Path) -> list[tuple[str, str]]:
    """(language, text) of each block that is to be run, in order."""
    return [(kind, body) for left_out, kind, body in BLOCK.findall(page.read_text(encoding="utf-8")) if not left_out]


def environment() -> dict[str, str]:
    """With this tree's slimnet, its command and this Python first."""
    paths = [str(ROOT), str(ROOT / "cli"), os.environ.get("PYTHONPATH", "")]
    found = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))
    return {
        **os.environ,
        "PATH": found,
        "PYTHONPATH": os.pathsep.join(filter(None, paths)),
        "NO_COLOR": "1",
        "OMP_NUM_THREADS": "1",
    }


def run_blocks(page: Path, folder: Path) -> None:
    for number, (kind, body) in enumerate(steps(page), 1):
        command = ["bash", "-euo", "pipefail", "-c", body] if kind == "sh" else [sys.executable, "-c", body]
        done = subprocess.run(
            command, cwd=folder, env=environment(), capture_output=True, text=True, check=False, timeout=SECONDS
        )
        assert done.returncode == 0, f"{page.name}, block {number}:\n{body}\n{done.stdout}\n{done.stderr}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_tutorial(page: Path, tmp_path: Path) -> None:
    PREPARE.get(page.stem, lambda _: None)(tmp_path)
    run_blocks(page, tmp_path)
    bundles = [read_bundle(path.parent) for path in tmp_path.rglob("model.json")]
    written = list(tmp_path.rglob("*.onnx"))
    assert written
    assert all(bundle.parity.passed for bundle in bundles)


def test_a_block_that_fails_is_shown(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "```sh\necho one > f\n```\n\n<!-- no-run -->\n```sh\nfalse\n```\n\n```python\nassert open('f').read() == 'two'\n```\n"
    )
    with pytest.raises(AssertionError, match=r"page\.md, block 2:\s+assert open"):
        run_blocks(page, tmp_path)
    assert [kind for kind, _ in steps(page)] == ["sh", "python"]


def test_every_tutorial_is_on_the_list() -> None:
    index = (ROOT / "docs" / "tutorials" / "index.md").read_text(encoding="utf-8")
    assert PAGES
    assert [page.name for page in PAGES if f"({page.name})" not in index] == []
    assert PREPARE.keys() <= {page.stem for page in PAGES}

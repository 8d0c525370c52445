"""What the documents say is so: Python examples run, commands and flags exist, links lead somewhere."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest

from slimnet_cli import cli

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCK = re.compile(r"```(\w+)\n(.*?)```", re.DOTALL)


def blocks(path: Path, language: str) -> list[str]:
    return [body for kind, body in BLOCK.findall(path.read_text(encoding="utf-8")) if kind == language]


def commands() -> list[tuple[str, str]]:
    """(page, line) of every ``slimnet …`` command in a shell block."""
    lines = [
        (path.name, line) for path in PAGES for body in blocks(path, "sh") for line in body.replace("\\\n", " ").splitlines()
    ]
    return [(page, line.partition("#")[0].strip()) for page, line in lines if line.strip().startswith("slimnet ")]


def test_readme_example_runs(capsys: pytest.CaptureFixture[str]) -> None:
    """A ResNet-56, half of all channels closed: at least 70 % fewer multiply-adds, verified; and a loop of one's own."""
    example, loop = blocks(ROOT / "README.md", "python")
    found: dict[str, Any] = {}
    exec(compile(loop, "README.md", "exec"), found)
    assert found["result"].model.layer1[0].conv1.out_channels < 16
    exec(compile(example, "README.md", "exec"), {})
    ratio, error = map(float, capsys.readouterr().out.split())
    assert ratio >= 1 / 0.3
    assert error <= 1e-9


@pytest.mark.parametrize(("page", "line"), commands())
def test_commands_and_flags_exist(page: str, line: str) -> None:
    words = shlex.split(line)
    command = cli.commands[words[1]]
    known = {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}
    assert {word.partition("=")[0] for word in words[2:] if word.startswith("--")} <= known | {"--help"}, page


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_links_lead_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", path.read_text(encoding="utf-8")):
        if "://" not in target:
            assert (path.parent / target).exists(), target


@pytest.mark.filterwarnings("ignore::UserWarning:lightning", "ignore::FutureWarning:lightning", "ignore::DeprecationWarning")
@pytest.mark.filterwarnings("ignore:.*isinstance.treespec, LeafSpec.*:")
def test_own_loop_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All its blocks, one after another: each ends with a network of narrower layers."""
    monkeypatch.chdir(tmp_path)
    found, widths = {}, []
    for block in blocks(ROOT / "docs" / "own-loop.md", "python"):
        exec(compile(block, "own-loop.md", "exec"), found)
        if "result = " in block and "# result" not in block:
            widths.append(sum(each.numel() for each in found["result"].model.parameters()))
    full = sum(each.numel() for each in found["network"].parameters())
    assert len(widths) == 3
    assert max(widths) < 0.7 * full
    assert (tmp_path / "slim.onnx").exists()


def test_links_of_the_readme_are_absolute() -> None:
    """PyPI shows it without the repository around it. What links to this repository is there."""
    ours = re.compile(
        r"https://(?:github\.com/slimnet/slimnet/(?:blob|tree)|raw\.githubusercontent\.com/slimnet/slimnet)/main/(.+)"
    )
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", (ROOT / "README.md").read_text(encoding="utf-8")):
        assert target.startswith("https://"), target
        if found := ours.fullmatch(target):
            assert (ROOT / found[1]).exists(), target

"""A toy of each kind of addition: it takes the files that CONTRIBUTING.md lists, no other, and works then.

A toy is a folder in ``tests/toys/``: ``new/`` holds its new files, each at its path; ``changes.toml`` what it puts into files
that are there, before or after a text that stands in them once, and the tests that are to pass then; ``use.py`` uses it as a user
would.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any, NamedTuple

import pytest

ROOT = Path(__file__).parents[1]
TOYS = Path(__file__).with_name("toys")
COPIED = ("slimnet", "cli", "tests", "docs", "README.md", "CONTRIBUTING.md", "pyproject.toml")

RUN = """
import runpy, sys, pytest
runpy.run_path("use.py", run_name="use")
sys.exit(pytest.main(["-q", "-p", "no:cacheprovider", *sys.argv[1:]]))
"""


class Row(NamedTuple):
    """What CONTRIBUTING.md says of a kind: how many files it took, and which it takes."""

    before: int
    after: int
    files: list[str]


def rows(text: str) -> dict[str, Row]:
    """Kind → its row in the table between the marks."""
    table = text.partition("<!-- additions:begin -->\n")[2].partition("<!-- additions:end -->")[0].splitlines()[2:]
    cells = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in table]
    return {kind: Row(int(before), int(after), re.findall(r"`([^`]+)`", files)) for kind, before, after, files in cells}


ROWS = rows((ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"))


def folder_of(kind: str) -> Path:
    return TOYS / kind.replace(" ", "-")


def apply(toy: Path, tree: Path) -> set[str]:
    """Put a toy into a tree; the files that it touched.

    Raises:
        ValueError: if a file is not there or is not new, or what text is put next to does not stand in it once.
    """
    changes, new = tomllib.loads((toy / "changes.toml").read_text(encoding="utf-8")), toy / "new"
    made = [path.relative_to(new) for path in sorted(new.rglob("*")) if path.is_file() and "__pycache__" not in path.parts]
    for path in made:
        if (tree / path).exists():
            raise ValueError(f"{toy.name}: {path} is not new: the tree has one.")
        (tree / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(new / path, tree / path)
    for change in changes["insert"]:
        insert(toy.name, tree / change["file"], change)
    return {path.as_posix() for path in made} | {change["file"] for change in changes["insert"]}


def insert(toy: str, file: Path, change: dict[str, str]) -> None:
    """Put the text of one change into a file, in place."""
    text = file.read_text(encoding="utf-8") if file.is_file() else ""
    place = change.get("after") or change["before"]
    if text.count(place) != 1:
        raise ValueError(f"{toy}: {place.strip()!r} stands {text.count(place)} times in {change['file']}: mend changes.toml.")
    both = place + change["text"] if "after" in change else change["text"] + place
    file.write_text(text.replace(place, both), encoding="utf-8")


def tree_in(folder: Path) -> Path:
    """A copy of what toys change and use."""
    for name in COPIED:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("toys", "images"))
        else:
            shutil.copy(ROOT / name, folder / name)
    return folder


def matches(touched: set[str], files: list[str]) -> dict[str, list[str]]:
    """Listed file → the touched ones that it stands for: itself, or with NAME those that are not listed themselves."""
    found = {}
    for listed in files:
        pattern = re.escape(listed).replace("NAME", "[a-z0-9_-]+")
        found[listed] = [file for file in sorted(touched - set(files)) if re.fullmatch(pattern, file)]
    return found | {listed: [listed] for listed in touched & set(files)}


def test_every_kind_has_its_toy() -> None:
    assert {folder_of(kind).name for kind in ROWS} == {path.name for path in TOYS.iterdir() if path.is_dir()} - {"__pycache__"}
    assert [kind for kind, row in ROWS.items() if row.after != len(row.files)] == []


@pytest.mark.parametrize("kind", ROWS)
def test_a_toy_works_and_touches_what_is_listed(kind: str, tmp_path: Path) -> None:
    toy, tree = folder_of(kind), tree_in(tmp_path)
    touched = apply(toy, tree)
    found = matches(touched, ROWS[kind].files)
    assert sorted(touched - {file for files in found.values() for file in files}) == [], "not in CONTRIBUTING.md"
    assert [listed for listed, files in found.items() if len(files) != 1] == [], "in CONTRIBUTING.md, but not touched"
    shutil.copy(toy / "use.py", tree)
    paths = [str(tree / name) for name in ("", "cli", "tests")] + [str(TOYS)]
    tests = tomllib.loads((toy / "changes.toml").read_text(encoding="utf-8"))["tests"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", RUN, *tests], cwd=tree, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]


def test_a_name_stands_for_one_new_file() -> None:
    files = ["a/NAME.py", "a/list.py", "b/NAME.md"]
    found = matches({"a/toy.py", "a/list.py", "c.py"}, files)
    assert found == {"a/NAME.py": ["a/toy.py"], "a/list.py": ["a/list.py"], "b/NAME.md": []}


CHANGE = {"file": "a.py", "after": "x = 1\n", "text": "y = 2\n"}
STALE: list[tuple[str, dict[str, Any], str]] = [
    ("x = 1\nx = 1\n", {}, r"toy: 'x = 1' stands 2 times in a.py: mend changes.toml\."),
    ("x = 2\n", {}, r"toy: 'x = 1' stands 0 times in a.py"),
    ("x = 1\n", {"file": "b.py"}, r"toy: 'x = 1' stands 0 times in b.py"),
]


@pytest.mark.parametrize(("text", "other", "message"), STALE)
def test_a_stale_anchor_is_named(text: str, other: dict[str, Any], message: str, tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text(text)
    change = CHANGE | other
    with pytest.raises(ValueError, match=message):
        insert("toy", tmp_path / change["file"], change)


def test_text_is_put_where_it_belongs(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("w = 0\nx = 1\nz = 3\n")
    insert("toy", tmp_path / "a.py", CHANGE)
    insert("toy", tmp_path / "a.py", {"file": "a.py", "before": "w = 0\n", "text": "v = 4\n"})
    assert (tmp_path / "a.py").read_text() == "v = 4\nw = 0\nx = 1\ny = 2\nz = 3\n"

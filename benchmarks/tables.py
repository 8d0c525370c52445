"""Write what is generated in README.md and docs/: tables, from benchmarks/results/*.json and from slimnet itself, and pictures.

    python benchmarks/tables.py            # or: make docs

A script declares ``TABLES``: a function for what stands between ``<!-- name:begin -->`` and ``<!-- name:end -->``, by that name;
and perhaps ``PICTURES``. What claims a speed has a row for each instruction set that it was measured on; the rest is of the
newest run.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable
from pathlib import Path

from _tables import ROOT, Picture

PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")))
PART = re.compile(r"(<!-- ([\w-]+):begin -->\n)(.*?)(<!-- \2:end -->)", re.DOTALL)
READ = {"layers", "rooms"}
"""Parts of docs/architecture.md that a test reads; nobody writes them."""
NOT_SHOWN = {
    "cs_subset": "settled that class statistics may come from a subset",
    "surgery_cost": "limits of time and memory, held against what the script expects",
}
"""Results without a table, and why."""


def find_tables() -> tuple[dict[str, Callable[[], str]], list[Picture]]:
    """What the scripts in this folder declare."""
    made: dict[str, Callable[[], str]] = {}
    pictures: list[Picture] = []
    for path in sorted(Path(__file__).parent.glob("*.py")):
        if re.search(r"^TABLES = ", path.read_text(encoding="utf-8"), re.MULTILINE):
            script = importlib.import_module(path.stem)
            twice = made.keys() & script.TABLES.keys()
            if twice:
                raise ValueError(f"{path.name} declares the table {twice.pop()!r}, which another script has.")
            made |= script.TABLES
            pictures += getattr(script, "PICTURES", ())
    return made, pictures


def fill(text: str, tables: dict[str, Callable[[], str]]) -> str:
    """A page with its tables made anew."""
    return PART.sub(lambda found: f"{found[1]}{tables[found[2]]()}\n{found[4]}" if found[2] in tables else found[0], text)


def main() -> None:
    tables, pictures = find_tables()
    for page in PAGES:
        before = page.read_text(encoding="utf-8")
        after = fill(before, tables)
        if after != before:
            page.write_text(after, encoding="utf-8")
            print(page)
    for picture in pictures:
        if picture.is_stale():
            picture.make()


if __name__ == "__main__":
    main()

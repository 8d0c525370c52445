"""What `make docs` writes is written: no table and no picture is stale, unknown, or read by nobody."""

from __future__ import annotations

import importlib
import os
import re
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[1]
BENCHMARKS = ROOT / "benchmarks"


def taken_out() -> dict[str, ModuleType]:
    """The scripts that are imported, which then are no longer."""
    names = [name for name, module in sys.modules.items() if str(getattr(module, "__file__", "")).startswith(str(BENCHMARKS))]
    return {name: sys.modules.pop(name) for name in names}


@pytest.fixture(scope="module")
def generator() -> Iterator[ModuleType]:
    """benchmarks/tables.py, imported afresh. What importing the scripts changes is put back: one of them is called coverage."""
    path, environment, before = list(sys.path), dict(os.environ), taken_out()
    sys.path.insert(0, str(BENCHMARKS))
    yield importlib.import_module("tables")
    taken_out()
    sys.modules.update(before)
    sys.path[:] = path
    os.environ.clear()
    os.environ.update(environment)


@pytest.fixture(scope="module")
def declared(generator: ModuleType) -> tuple[dict[str, str], list, set[str]]:
    """Every table by its name, every picture, and which results were read for them."""
    read, results = set(), importlib.import_module("_results")
    with pytest.MonkeyPatch.context() as patch:

        class Json:
            """Notes the name of a file that is read."""

            def __truediv__(self, name: str) -> Path:
                read.add(name)
                return BENCHMARKS / "results" / name

        patch.setattr(results, "RESULTS", Json())
        tables, pictures = generator.find_tables()
        return {name: make() for name, make in tables.items()}, pictures, read


def test_no_page_is_stale(generator: ModuleType, declared: tuple) -> None:
    tables = {name: lambda text=text: text for name, text in declared[0].items()}
    pages = {page.relative_to(ROOT): page.read_text(encoding="utf-8") for page in generator.PAGES}
    assert not [str(page) for page, text in pages.items() if generator.fill(text, tables) != text], "stale: make docs"


def test_no_picture_is_stale(declared: tuple, tmp_path: Path) -> None:
    for picture in declared[1]:
        assert not picture.is_stale(), f"{picture.path} is stale: make docs"
        assert replace(picture, rows=lambda: [{"name": "another"}]).is_stale()
        assert replace(picture, path=tmp_path / "none.svg").is_stale()


def test_pages_name_known_tables_and_every_table_stands_somewhere(generator: ModuleType, declared: tuple) -> None:
    pages = "".join(page.read_text(encoding="utf-8") for page in generator.PAGES)
    named = re.findall(r"<!-- ([\w-]+):(?:begin|end) -->", pages)
    assert set(named) == declared[0].keys() | generator.READ
    assert pages.count(":begin -->") == pages.count(":end -->") == len(generator.PART.findall(pages))


def test_results_are_shown_or_it_is_said_why_not(generator: ModuleType, declared: tuple) -> None:
    files = {path.stem for path in (BENCHMARKS / "results").glob("*.json")}
    shown = {name.removesuffix(".json") for name in declared[2]}
    assert files - shown == generator.NOT_SHOWN.keys()


def test_a_table_names_the_instruction_set_beside_the_processor(declared: tuple) -> None:
    results = importlib.import_module("_results")
    runs = [run for path in (BENCHMARKS / "results").glob("*.json") for run in results.read_runs(path.stem)]
    devices = {(run["device"], run.get("instructions", "not recorded")) for run in runs}
    for name, text in declared[0].items():
        said = text.replace("instruction set not recorded", "not recorded")
        assert "| --- |" in said or said.startswith("(Not "), name
        for device in {device for device, _ in devices}:  # never without its instruction set
            named = sum(said.count(f"{device}, {found}") for of, found in devices if of == device)
            assert said.count(device) == named, name


def test_a_stale_table_is_seen(generator: ModuleType) -> None:
    page = "before\n<!-- a-b:begin -->\n| old |\n<!-- a-b:end -->\n<!-- rooms:begin -->\nkept\n<!-- rooms:end -->\n"
    assert generator.fill(page, {"a-b": lambda: "| new |"}) == page.replace("old", "new")

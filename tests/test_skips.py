"""A skip is told in one line, and where all is to be run, one that nothing explains is a failure."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from skips import ALLOWED, NEEDS, STRICT, reason, unexplained

MODULES = {
    "test_one": f"import pytest\n\ndef test_it(): pytest.skip({reason('chromium')!r})\n\ndef test_passes(): pass\n",
    "test_two": f"import pytest\n@pytest.mark.skipif(True, reason={reason('chromium')!r})\ndef test_it(): pass\n",
    "test_three": "import pytest\npytest.importorskip('no_such_module')\n",
    "test_four": f"import pytest\n@pytest.fixture\ndef it(): pytest.skip({reason('data')!r})\n\ndef test_it(it): pass\n",
    "test_five": "import pytest\n@pytest.mark.xfail\ndef test_it(): assert False\n",
}


def run(folder: Path, *modules: str, processes: int = 0, **environment: str) -> tuple[int, str]:
    """Status and output of pytest over these modules, in a process of its own."""
    for name in modules:
        (folder / f"{name}.py").write_text(MODULES[name], encoding="utf-8")
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST_", "SLIMNET_"))}
    many = ["-n", str(processes)] if processes else []
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "skips", "-p", "no:cacheprovider", "--rootdir", folder, *many, folder],
        env=inherited | {"PYTHONPATH": str(Path(__file__).parent)} | environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    return done.returncode, done.stdout


def test_one_line_says_what_was_skipped_and_how_to_have_it(tmp_path: Path) -> None:
    status, out = run(tmp_path, "test_one", "test_two", "test_four", processes=2)
    assert status == 0
    (line,) = [line for line in out.splitlines() if line.startswith("skipped: ")]
    assert line.startswith(f"skipped: 2 {reason('chromium')}; 1 {reason('data')}. ")


def test_nothing_is_said_where_nothing_was_skipped(tmp_path: Path) -> None:
    assert "skipped: " not in run(tmp_path, "test_five")[1]


@pytest.mark.parametrize(
    ("module", "settings", "status"),
    [
        ("test_one", {}, 1),  # in the test itself
        ("test_two", {}, 1),  # by a mark
        ("test_three", {}, 2),  # a whole module
        ("test_four", {}, 0),  # in a fixture, and in the list
        ("test_four", {"SLIMNET_DATA": "/data"}, 1),  # in the list for where this is not set
        ("test_five", {}, 0),  # no skip
    ],
)
def test_a_skip_that_nothing_explains_is_a_failure(module: str, settings: dict[str, str], status: int, tmp_path: Path) -> None:
    found, out = run(tmp_path, module, **{STRICT: "1"}, **settings)
    assert found == status, out
    assert (ALLOWED.name in out) == bool(status)


def test_and_in_other_processes(tmp_path: Path) -> None:
    assert run(tmp_path, "test_two", "test_five", processes=2, **{STRICT: "1"})[0] == 1


def test_every_entry_of_the_list_names_a_need_and_why() -> None:
    for entry in tomllib.loads(ALLOWED.read_text(encoding="utf-8"))["allowed"]:
        assert entry.keys() <= {"needs", "why", "unless_set"} and entry["needs"] in NEEDS and len(entry["why"]) > 20
        assert not unexplained(reason(entry["needs"]), {})

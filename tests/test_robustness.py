"""`benchmarks/robustness.py` finds every kind of fault, and none in what is well."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import planted
from planted import judge, values
from slimnet.export import Bundle

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the harness needs fork, pidfd and inotify")
ROOT = Path(__file__).parents[1]


def test_instants_between_writes_are_looked_for_where_files_are_written() -> None:
    from hostile.kills import WRITERS

    modules = ["/" + path.relative_to(ROOT).as_posix() for path in (ROOT / "slimnet").rglob("*.py")]
    assert [place for place in WRITERS if not any(place in module for module in modules)] == []


@pytest.fixture(scope="module")
def seen(bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """What the harness says of the planted faults, and of a few cases."""
    folder = tmp_path_factory.mktemp("harness")
    shutil.copytree(bundle.path, folder / "given" / "bundle")
    Image.fromarray(np.full((16, 16), 9, np.uint8)).save(folder / "given" / "good.png")
    (folder / "given" / "onnxruntime-web.tgz").write_bytes(b"")
    command = [
        sys.executable,
        "-W",
        "error",
        str(ROOT / "tests" / "planted.py"),
        str(folder / "s"),
        str(folder / "given" / "bundle"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_every_kind_is_planted() -> None:
    assert {each.kind for each in planted.PLANTED.values()} == judge.KINDS.keys()


@pytest.mark.parametrize("name", planted.PLANTED)
def test_planted_fault_is_found(name: str, seen: Any) -> None:
    assert planted.PLANTED[name].kind in seen["planted"][name]


@pytest.mark.parametrize("name", planted.HONEST)
def test_what_is_well_has_no_fault(name: str, seen: Any) -> None:
    assert seen["planted"][name] == []


def test_a_command_is_killed_before_a_line(seen: Any) -> None:
    *killed, whole = seen["killed"]
    assert whole == [0, ["a", "b"]]
    assert {status for status, _ in killed} == {-9}
    files = [files for _, files in killed]
    assert files == sorted(files)
    assert files[0] == []
    assert files[-1] == ["a"], "the last line but one comes between the two files"


def test_a_few_real_cases(seen: Any) -> None:
    status = {name: [status for status, _ in found] for name, found in seen["cases"].items()}
    assert status == {"good": [0, 0, 0], "cut": [1, 1, 1], "without a network": [1, 1, 1], "text": [1, 1]}
    assert [faults for found in seen["cases"].values() for _, faults in found if faults] == []


def test_changes_to_json_reach_every_place_and_are_the_same_for_a_seed() -> None:
    value = {"a": {"b": [1, 2, 3], "c": None}, "d": "x"}
    shapes = [
        {tuple("#" if isinstance(part, int) else part for part in place) for place in group} for group in values.shapes(value)
    ]
    assert shapes == [{()}, {("a",)}, {("a", "b")}, {("a", "b", "#")}, {("a", "c")}, {("d",)}]
    one, same, other = (list(values.changes(value, 200, random.Random(seed))) for seed in (0, 0, 1))
    assert one == same != other
    for number, (_, text) in enumerate(one):
        assert text != json.dumps(value, indent=2), number
    acts = {what.split(" ")[1] for what, _ in one}
    assert acts == {"value", "delete", "rename", "twice", "more", "wrap", "repeat"}
    assert values.changed(value, ("d",), "value", "1e400") == json.dumps(value, indent=2).replace('"x"', "1e400")
    assert json.loads(values.changed(value, ("a", "b", 1), "delete")) == {"a": {"b": [1, 3], "c": None}, "d": "x"}
    assert values.changed(value, ("d",), "twice").count('"d"') == 2


@pytest.mark.slow
def test_one_case_of_each_part(tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "benchmarks" / "robustness.py"), "--limit", "1", "--folder", str(tmp_path / "w")]
    done = subprocess.run([*command, "--summary", str(tmp_path / "s.json")], capture_output=True, text=True, check=False)
    assert done.returncode in (0, 1), done.stderr
    parts = json.loads((tmp_path / "s.json").read_text())["parts"]
    assert len(parts) == 9
    assert sum(part["faults"]["case"] for part in parts.values()) == 0


def test_a_part_begins_anew_with_what_makes_its_own_cases() -> None:
    script = "import json, robustness as r; print(json.dumps({part: sorted(r.makers(part)) for part in r.PARTS}))"
    path = os.pathsep.join([str(ROOT / "benchmarks"), str(ROOT), str(ROOT / "cli")])
    env = {**os.environ, "PYTHONPATH": path}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, env=env)
    makers = {part: set(names) for part, names in json.loads(done.stdout).items()}
    assert all({"sandbox", "judge", "watch", "given", "cases"} <= names for names in makers.values())
    assert "onnx_files" in makers["bundles"] and not makers["weights"] & {"onnx_files", "pictures", "bundles"}

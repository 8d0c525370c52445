"""The comparison with other people's expression classifiers: labels, scores, answers, and the process that gives them.

None of the packages is needed.
"""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import f1_score

from slimnet.data.sets.fer2013 import CLASSES
from slimnet.errors import FileFormatError, MeasureError, TimeLimitError
from slimnet.ready import ready_names

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"


@pytest.fixture(scope="module")
def script() -> Iterator[ModuleType]:
    """benchmarks/expression_peers.py; what importing it changes is put back."""
    modules, path = set(sys.modules), list(sys.path)
    sys.path.insert(0, str(BENCHMARKS))
    yield importlib.import_module("expression_peers")
    for name in set(sys.modules) - modules:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(BENCHMARKS)):
            del sys.modules[name]
    sys.path[:] = path


@pytest.fixture(scope="module")
def peers(script: ModuleType) -> ModuleType:
    return sys.modules["_peers"]


def test_rows_have_a_script_pinned_packages_and_words_for_classes(script: ModuleType) -> None:
    every = script.all_peers()
    own = {f"slimnet {name}" for name in ready_names()}
    assert own == {name for name in every if name.startswith("slimnet ")} and next(iter(every)) == script.BASELINE
    for name, peer in every.items():
        assert (script.SCRIPTS / peer.script[0]).is_file(), name
        assert set(peer.words.values()) <= {*CLASSES, None}, name
        assert peer.lacks() == [], name  # one that lacks a class is named in the table
        if name not in own:
            first = peer.packages.split()[0]
            assert first.count("==") == 1 or first.rpartition("@")[2].count(".") == 2, name
            assert peer.weights and all(not path.startswith(("/", ".")) for path in peer.weights), name


def test_a_class_that_is_lacking_is_named(script: ModuleType) -> None:
    peer = script.PEERS[0]
    words = {"happy": "happy", "sad": "sad", "contempt": None}
    assert type(peer)(**vars(peer) | {"words": words}).lacks() == ["angry", "disgust", "fear", "surprise", "neutral"]


WORDS = {"joy": "a", "grief": "b", "contempt": None}


def test_answers_become_numbers_of_classes(peers: ModuleType, tmp_path: Path) -> None:
    path = tmp_path / "answers.json"
    path.write_text(json.dumps(["joy", "grief", None, "contempt", "joy"]))
    assert peers.read_answers(path, 5, WORDS, ("a", "b")).tolist() == [0, 1, 2, 2, 0]


BAD: list[tuple[str, str]] = [
    ('["joy"]', "must hold a list of 2 labels"),
    ('{"joy": 1, "grief": 2}', "must hold a list of 2 labels"),
    ('["joy", "greif"]', "unknown label 'greif'. Did you mean grief"),
    ('["joy", "a"]', "unknown label 'a'"),
    ('["joy", 1]', "must hold labels, it has 1"),
    ('["joy", NaN]', "NaN"),
    ('["joy"', "not readable JSON"),
]


@pytest.mark.parametrize(("text", "said"), BAD, ids=[text for text, _ in BAD])
def test_bad_answers_are_refused(peers: ModuleType, tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "answers.json"
    path.write_text(text)
    with pytest.raises(FileFormatError, match=said) as error:
        peers.read_answers(path, 2, WORDS, ("a", "b"))
    assert "\n" not in str(error.value)


def test_scores_count_no_answer_as_wrong(peers: ModuleType) -> None:
    true = np.array([0, 0, 0, 1, 1, 2, 2, 2])
    found = np.array([0, 0, 3, 1, 0, 2, 3, 1])
    again = np.array([1, 0, 0, 0, 1, 0, 0, 0], np.bool_)
    scores = peers.score(true, found, again, ("a", "b", "c"))
    assert scores["accuracy"] == 4 / 8 and scores["accuracy_without_duplicates"] == 3 / 6 and scores["no_class"] == 2
    assert scores["confusion"] == [[2, 0, 0, 1], [1, 1, 0, 0], [0, 1, 1, 1]]
    assert scores["macro_f1"] == pytest.approx(f1_score(true, found, labels=[0, 1, 2], average="macro"))
    assert scores["f1"] == pytest.approx({"a": 2 / 3, "b": 1 / 2, "c": 1 / 2})


def test_a_class_that_is_never_answered_counts_in_the_mean(peers: ModuleType) -> None:
    true, found = np.array([0, 1, 2]), np.array([0, 1, 1])
    assert peers.score(true, found, np.zeros(3, np.bool_), ("a", "b", "c"))["macro_f1"] == pytest.approx((1 + 2 / 3 + 0) / 3)


SERVED = """
import os, sys
sys.path.insert(0, {folder!r})
from _serve import serve
print("a package that talks")
os.system("echo and its libraries")
def name(face):
    print("and talks")
    if face[0, 0] == 9:
        raise ValueError("no such face")
    return "dark" if face.mean() < 2 else None
serve({{"first": name, "second": lambda face: "light"}}, ("numpy",))
"""


@pytest.fixture
def served(peers: ModuleType, tmp_path: Path) -> Iterator[Any]:
    code = tmp_path / "faces_script.py"
    code.write_text(SERVED.format(folder=str(BENCHMARKS / "expression_peers")))
    with peers.running([sys.executable, str(code)], tmp_path / "log") as process:
        yield process


def save(path: Path, *values: int) -> str:
    np.save(path, np.stack([np.full((4, 4), value, np.uint8) for value in values]))
    return str(path)


def test_a_process_answers_and_is_timed(peers: ModuleType, served: Any, tmp_path: Path) -> None:
    faces, out = save(tmp_path / "faces.npy", 1, 5, 0), tmp_path / "out.json"
    assert served.about["ways"] == ["first", "second"] and served.about["versions"]["numpy"] == np.__version__
    assert served.ask(do="answer", way="first", faces=faces, out=str(out)) == {"faces": 3}
    assert json.loads(out.read_text()) == ["dark", None, "dark"]
    served.ask(do="answer", way="second", faces=faces, out=str(out))
    assert json.loads(out.read_text()) == ["light"] * 3
    told = served.ask(do="time", faces=faces, seconds=0)
    assert len(told["ns"]) == 3 and all(time > 0 for time in told["ns"]) and told["busy"] > 0
    assert "and its libraries" in (tmp_path / "log").read_text()


def test_a_process_that_ends_says_why(served: Any, tmp_path: Path) -> None:
    faces = save(tmp_path / "faces.npy", 9)
    with pytest.raises(MeasureError, match="ended with status 1: ValueError: no such face"):
        served.ask(do="answer", way="first", faces=faces, out=str(tmp_path / "out.json"))
    with pytest.raises(MeasureError, match="ended with status 1"):
        served.ask(do="time", faces=faces, seconds=0)


def test_faces_are_no_pickle(served: Any, tmp_path: Path) -> None:
    np.save(tmp_path / "faces.npy", np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(MeasureError, match="allow_pickle=False"):
        served.ask(do="time", faces=str(tmp_path / "faces.npy"), seconds=0)


def test_a_process_that_hangs_is_ended(peers: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peers, "LIMIT", 0.2)
    with (
        pytest.raises(TimeLimitError, match=r"starting took longer than 0.2 s"),
        peers.running([sys.executable, "-c", "import time; time.sleep(60)"], tmp_path / "log"),
    ):
        pass


@pytest.mark.parametrize("make", ["pip_environment", "npm_environment"])
def test_an_environment_is_kept_until_its_packages_change(
    peers: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make: str
) -> None:
    folder, made = tmp_path / "some", []

    def install(command: list[Any], **_: Any) -> None:
        made.append(command)
        (folder / "lib" / "python3" / "site-packages").mkdir(parents=True, exist_ok=True)

    monkeypatch.setattr(peers.subprocess, "run", install)
    for packages, times in (("a==1", 1), ("a==1", 1), ("a==2", 2), ("a==2", 2)):
        getattr(peers, make)(folder, packages)
        assert len([command for command in made if "install" in command]) == times
        assert packages in made[-1]


def test_what_a_package_takes_is_its_files_and_those_of_what_it_needs(peers: ModuleType) -> None:
    alone, both = peers.closure_bytes("mdurl"), peers.closure_bytes("markdown-it-py")
    assert 0 < alone < both
    assert peers.closure_bytes("no-such-package-here") == 0


def row(name: str, **values: Any) -> dict[str, Any]:
    scores = {"accuracy": 0.6, "macro_f1": 0.5, "accuracy_without_duplicates": 0.59, "accuracy_on_trained": 0.7, "no_class": 0}
    rest = {"weights_bytes": 1000, "installed_bytes": 10**6, "versions": {}, "lacks": [], "others": []}
    return {"name": name, **scores, **rest, **values}


def test_a_table_says_what_cannot_be_and_what_is_missing(script: ModuleType) -> None:
    good = row("facemood", accuracy=0.9)
    run = {"again": 2, "trained": 3, "networks": [row("facex"), good, {"name": "fer, Keras", "error": "does not install"}]}
    lines = {line.split(" | ")[0][2:]: line for line in script.answers_table(run).splitlines()}
    assert "very likely yes" in lines["facemood"] and "very likely" not in lines["facex"]
    assert "does not install" in lines["fer, Keras"]
    assert len({line.count("|") for line in lines.values()}) == 1
    lacking = row("facex", no_class=4, lacks=["fear"], others=[{"way": "by its detector", "accuracy": 0.3, "no_class": 1500}])
    said = script.notes({"networks": [lacking]})
    assert "facex by its detector: 30.0 %, 1,500 faces without an answer" in said
    assert "facex: 4 faces without an answer" in said and "facex has no fear" in said


def test_times_are_shown_where_the_control_is_steady(script: ModuleType) -> None:
    time = {"ms": 2.0, "interval": [1.9, 2.1], "ratio": 4.0, "ratio_interval": [3.9, 4.1], "busy": 1.0}
    steady: dict[str, Any] = {
        "device": "A",
        "instructions": "avx2",
        "time": {"control_interval": [0.95, 1.05]},
        "networks": [row("facex", time=time)],
    }
    shaky = steady | {"device": "B", "time": {"control_interval": [0.95, 1.2]}}
    never = steady | {"device": "C", "networks": [row("facex"), {"name": "facemood", "error": "does not install"}]}
    cells = [line.split(" | ")[2:4] for line in script.times_table([steady, shaky, never]).splitlines()[2:]]
    assert cells == [["2.00 (1.90–2.10)", "4.00× (3.90–4.10)"], ["the machine was too busy", ""], ["not timed", ""]]
    assert script.notes({"networks": [row("facex", time=time | {"busy": 1.9})]}).startswith(
        "To note: facex: 1.9 processors busy."
    )

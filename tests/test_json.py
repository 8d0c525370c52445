"""JSON from anybody: within bounds, held against a schema, and one line where it is not."""

from __future__ import annotations

import json
import os
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

import slimnet_cli.predict
from slimnet._json import check, decode, fast, faults, read_text, schema
from slimnet.errors import ArgumentError, FileFormatError, MeasureError, SlimnetError
from slimnet.files import read_json, write_json
from slimnet.methods import Method
from slimnet.surgery import Plan
from slimnet.training import TrainConfig
from slimnet_cli._emit import emit_json

UNREADABLE = {
    "nested 10^5 deep": ("[" * 100_000, "nested more than 64 deep"),
    "nested, with brackets in texts": ('{"[[[": ' * 65, "nested more than 64 deep"),
    "objects, 65 deep": ('{"a": ' * 65, "nested more than 64 deep"),
    "65 deep, with the end": ("[" * 65 + "]" * 65, "nested more than 64 deep"),
    "deep behind a backslash": (r'["\\",' + "[" * 70, "nested more than 64 deep"),
    "41 digits": ("1" * 41, "a number has 41 characters, at most 40 are read"),
    "41 decimals": ("0." + "1" * 39, "a number has 41 characters, at most 40 are read"),
    "5,000 digits": (f'{{"a": {"9" * 5000}}}', "a number has 5,000 characters, at most 40 are read"),
    "5,000 decimals": (f'{{"a": 0.{"9" * 5000}}}', "a number has 5,002 characters"),
    "1e400": ('{"a": 1e400}', "the number 1e400 is out of range"),
    "NaN": ('{"a": NaN}', "NaN is no number of JSON"),
    "-Infinity": ('{"a": -Infinity}', "-Infinity is no number of JSON"),
    "a key twice": ('{"a": {"b": 1, "b": 2}}', "gives the key 'b' twice"),
    "not UTF-8": (b'{"a": "\xff"}', "is not readable JSON"),
    "half a character": (r'{"a": "\ud800"}', "is not readable JSON"),
    "empty": ("", "is not readable JSON"),
    "cut short": ('{"a": [1,', "is not readable JSON"),
}


@pytest.mark.parametrize("case", UNREADABLE)
def test_what_cannot_be_read_gets_one_line(case: str, tmp_path: Path) -> None:
    text, wanted = UNREADABLE[case]
    path = tmp_path / "x.json"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(FileFormatError, match=wanted) as caught:
        read_json(path)
    assert str(caught.value).startswith(str(path)) and "\n" not in str(caught.value)


def test_what_is_within_bounds_is_read(tmp_path: Path) -> None:
    deep: Any = {"a": "[" * 1000, "b": '\\"[', "é": "\U0001f600", "n": 1.5, "i": 10**39}
    for _ in range(60):
        deep = {"x": [1], "y": deep} if isinstance(deep, dict) else [deep]
    write_json(tmp_path / "x.json", deep)
    assert read_json(tmp_path / "x.json") == deep
    assert decode(json.dumps(deep), "x") == deep
    assert decode("[" * 64 + "]" * 64, "x")[0][0] != []
    assert decode("[[]," + "[" * 63 + "]" * 64, "x")[0] == []
    quoted = {"a": '"' + 100 * "[", "b": "\\" + 100 * "{"}
    assert decode(json.dumps(quoted), "x") == quoted
    assert decode(f"[{'1' * 40}, 0.{'1' * 38}]", "x") == [int("1" * 40), float(f"0.{'1' * 38}")]


def test_no_file_and_no_plain_file(tmp_path: Path) -> None:
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    for path in (loop, tmp_path, tmp_path / "none", Path("/dev/zero")):
        with pytest.raises(FileFormatError, match=str(path)):
            read_json(path)
    with pytest.raises(FileFormatError, match="/dev/zero is not readable JSON: it is no plain file"):
        read_json(Path("/dev/zero"))
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(FileFormatError, match="pipe is not readable JSON: it is no plain file"):
        read_json(tmp_path / "pipe")
    with pytest.raises(FileFormatError, match="embedded null byte"):
        read_json(tmp_path / "a\0b")


def test_a_long_file_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "x.json").open("wb") as file:
        file.truncate((1 << 26) + 1)
    for read in (read_json, read_text):
        with pytest.raises(FileFormatError, match=r"x.json is longer than 67,108,864 bytes"):
            read(tmp_path / "x.json")
    with pytest.raises(FileFormatError, match="longer than 67,108,864 bytes"):
        decode(b" " * ((1 << 26) + 1), "x")


def test_not_more_of_a_file_is_read_than_is_taken(tmp_path: Path) -> None:
    (tmp_path / "x.json").touch()
    os.truncate(tmp_path / "x.json", 1 << 42)  # no memory would do
    with pytest.raises(FileFormatError, match="longer than 67,108,864 bytes"):
        read_json(tmp_path / "x.json")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_no_command_prints_nan(value: float) -> None:
    with pytest.raises(MeasureError, match="the result holds a number that JSON does not have, NaN or an infinity"):
        emit_json({"a": [value]})
    with pytest.raises(ValueError, match="JSON compliant"):
        slimnet_cli.predict._emit_json({"a": [value]})


def test_nan_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON compliant"):
        write_json(tmp_path / "x.json", {"a": float("nan")})
    assert list(tmp_path.iterdir()) == []


PLAN: dict[str, Any] = {
    "version": 1,
    "groups": [{"name": "a", "size": 8, "kept": "0-3,6", "members": ["conv"], "closed": 3, "partly": 0, "reasons": {"why": 1}}],
    "cuts": [{"name": "conv.weight", "dim": 0, "size": 8, "kept": "0-3,6"}],
    "folds": [{"weight": "w", "bias": "b", "in_dim": 1, "columns": [1], "constants": [0.5], "carrier": -1, "carrier_value": 0}],
    "moves": [{"module": "m", "in_size": 4, "inputs": "0", "out_size": 4, "outputs": "1"}],
    "shuts": [{"module": "m", "values": [0.0], "dims": 4, "full": False, "others": ["n"]}],
    "expansions": [{"module": "m", "live": "0", "values": [0.0, 1.0], "dims": 4}],
}
WRONG_PLANS: list[tuple[str, Any, str]] = [
    ("cuts.0.name", 5, r"`cuts\[0\].name` must be a text, got 5"),
    ("cuts.0.kept", "0-99999999999", r"`cuts\[0\].kept`"),
    ("cuts.0.kept", "0-9999999", "0-9999999 is no rising range within 8 entries"),
    ("cuts.0.kept", "3,2", "2 is no rising range within 8 entries"),
    ("cuts.0.kept", ",".join(["0-7"] * 1000), "0-7 is no rising range within 8 entries"),
    ("cuts.0.kept", "x", r"`cuts\[0\].kept`"),
    ("cuts.0.dim", True, r"`cuts\[0\].dim` must be a whole number, got true"),
    ("cuts.0.dim", -1, r"`cuts\[0\].dim` must be at least 0, got -1"),
    ("cuts.0.size", 10**12, r"`cuts\[0\].size` must be at most 1048576"),
    ("cuts.0.size", 8.0, r"`cuts\[0\].size` must be a whole number, got 8.0"),
    ("cuts", {}, "`cuts` must be a list"),
    ("groups.0.members", "conv", r"`groups\[0\].members` must be a list"),
    ("groups.0.reasons", {"why": "x"}, r"`groups\[0\].reasons.why` must be a whole number"),
    ("folds.0.constants", ["a"], r"`folds\[0\].constants\[0\]` must be a number"),
    ("folds.0.constants", [float("nan")], r"`folds\[0\].constants\[0\]` must be a number"),
    ("shuts.0.full", 1, r"`shuts\[0\].full` must be true or false, got 1"),
    ("shuts.0.dims", 10**9, r"`shuts\[0\].dims` must be at most 15"),
    ("expansions.0.live", "0-2", "0-2 is no rising range within 2 entries"),
    ("moves.0.inputs", 3, r"`moves\[0\].inputs` must be a text"),
    ("version", True, "plan version True is not known"),
    ("more", 1, "'more' was unexpected"),
]


def changed(value: Any, path: str, to: Any) -> Any:
    """A copy with another value at ``a.0.b``."""
    copied = json.loads(json.dumps(value))
    *parents, last = path.split(".")
    at = copied
    for key in parents:
        at = at[int(key) if isinstance(at, list) else key]
    at[last] = to
    return copied


def test_a_plan_is_read_back() -> None:
    plan = Plan.from_dict(PLAN)
    assert plan.cuts[0].kept == (0, 1, 2, 3, 6)
    assert Plan.from_dict(plan.as_dict()) == plan


@pytest.mark.parametrize(("path", "to", "wanted"), WRONG_PLANS)
def test_a_wrong_plan_gets_one_line(path: str, to: Any, wanted: str) -> None:
    with pytest.raises(FileFormatError, match=wanted) as caught:
        Plan.from_dict(changed(PLAN, path, to))
    assert len(str(caught.value)) < 400


JUNK: list[Any] = [None, True, -1, 10**400, 1.5, float("nan"), float("inf"), "x", "", "\0", [], [[]], {}, {"a": {}}, [None], b"x"]
FROM_DICT: dict[str, tuple[Any, dict[str, Any]]] = {
    "plan": (Plan.from_dict, PLAN),
    "settings": (TrainConfig.from_dict, TrainConfig(model="resnet8").as_dict()),
    "fsdp": (Method.from_dict, Method.from_dict({"name": "fsdp"}).as_dict()),
    "stages": (Method.from_dict, {"name": "stages", "stages": [["dense", 0.5], ["fsdp", 0.5]]}),
    "structured-dsd": (Method.from_dict, Method.from_dict({"name": "structured-dsd"}).as_dict()),
}


@pytest.mark.parametrize("kind", FROM_DICT)
@pytest.mark.parametrize("junk", JUNK, ids=lambda junk: f"{junk!s:.12}")
def test_a_wrong_type_is_never_a_traceback(kind: str, junk: Any) -> None:
    read, good = FROM_DICT[kind]
    read(good)
    for value in (junk, *({**good, key: junk} for key in good)):
        try:
            read(value)
        except (ArgumentError, FileFormatError, SlimnetError) as error:
            assert len(str(error)) < 2000  # some values are right: null, true …


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *[("epochs", value) for value in (True, 1.0, "3", 10**15)],
        *[("lr", value) for value in (True, "1", 10**400)],
        *[("image_size", value) for value in (True, 10**6)],
        *[("decay_norm", 1), ("optimizer", ["sgd"]), ("normalise", {}), ("num_workers", 10**9), ("target_threads", 10**20)],
        *[("milestones", 5), ("milestones", [True]), ("augment", {"flip": "x"}), ("model", 5), ("device", {}), ("init", [])],
    ],
)
def test_settings_of_a_wrong_type_are_refused(name: str, value: Any) -> None:
    with pytest.raises(ArgumentError, match=f"`{name}` must be"):
        TrainConfig.from_dict({"model": "resnet8", name: value})


# --- the schemas ----------------------------------------------------------------------------------------------------------

KINDS = sorted(entry.name.removesuffix(".schema.json") for entry in files("slimnet._json").iterdir() if "schema" in entry.name)


@pytest.mark.parametrize("kind", KINDS)
def test_schemas_are_valid_and_known_words(kind: str) -> None:
    from jsonschema import Draft202012Validator

    Draft202012Validator.check_schema(schema(kind))
    assert not fast.compiled(schema(kind))([])


@pytest.mark.parametrize(("path", "to", "wanted"), WRONG_PLANS)
def test_what_the_fast_check_refuses_is_explained(path: str, to: Any, wanted: str) -> None:
    """Both say the same of every value."""
    from slimnet._json.check import _errors

    value = changed(PLAN, path, to)
    assert fast.compiled(schema("plan"))(value) == (not list(_errors(value, schema("plan"))))
    assert (faults(value, "plan") == []) == fast.compiled(schema("plan"))(value)


NETWORK = {"model": "resnet8", "num_classes": 10, "in_channels": 3}
RUN = {
    "train": {"model": "resnet8"},
    "data": {"classes": ["a", "b"], "image_shape": [1, 8, 8], "mean": [0.5], "std": [0.5]},
    "environment": {},
}
CHECKPOINT: dict[str, Any] = {
    "format": "slimnet-checkpoint/1", "epoch": 1, "step": 0, "seconds": [0.0, 1], "best": None, "pruner": {}, "checksum": "0" * 8,
}  # fmt: skip
REFUSED: list[tuple[str, Any, str, Any, str]] = [
    ("network", NETWORK, "num_classes", True, "`num_classes` must be a whole number, got true"),
    ("network", NETWORK, "in_channels", 10**9, "`in_channels` must be at most 4096"),
    ("network", NETWORK, "mean", "x", "`mean` must be a list or null"),
    ("run", RUN, "data.classes", ["a", 1], r"`data.classes\[1\]` must be a text, got 1"),
    ("run", RUN, "data.image_shape", [1, 10**6, 8], r"`data.image_shape\[1\]` must be at most 16384"),
    ("run", RUN, "data.std", [0], r"`data.std\[0\]` must be above 0, got 0"),
    ("run", RUN, "data", [], "`data` must be an object"),
    ("checkpoint", CHECKPOINT, "step", -1, "`step` must be at least 0, got -1"),
    ("checkpoint", CHECKPOINT, "seconds", ["a"], "`seconds"),
    ("checkpoint", CHECKPOINT, "epoch", 1.0, "`epoch` must be a whole number, got 1.0"),
    ("checkpoint", CHECKPOINT, "pruner", {"epoch": "1"}, "`pruner.epoch` must be a whole number"),
    ("metrics", {"epoch": 0}, "val_accuracy", "high", "`val_accuracy` must be a number or null"),
    ("selection", {"epoch": 0, "selected": {}}, "selected", {"a": "xy"}, "`selected.a`"),
    ("cost_entry", {"value": 1.0, "crc": "0" * 8}, "value", "1", "`value` must be a number"),
    ("site", {"format": "slimnet-site", "files": []}, "files", "x", "`files` must be a list"),
    ("copy", {"key": "x"}, "bad", [1], r"`bad\[0\]` must be a text"),
]


@pytest.mark.parametrize(("kind", "good", "path", "to", "wanted"), REFUSED)
def test_a_schema_refuses(kind: str, good: Any, path: str, to: Any, wanted: str, tmp_path: Path) -> None:
    check(good, kind, "x.json")
    with pytest.raises(FileFormatError, match=f"^x.json: {wanted}"):
        check(changed(good, path, to), kind, "x.json")
    write_json(tmp_path / "x.json", changed(good, path, to))
    with pytest.raises(FileFormatError, match=f"x.json: {wanted}"):
        read_json(tmp_path / "x.json", kind)

"""Tampered runs, for what goes on with one or reads it."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from hostile import values
from hostile.bundles import FACTORIES, LABELS, UNSEEN, WHOLE, _edit, _replace, _sparse
from hostile.cases import Record, Task, attempt, flipped, must_end_well
from hostile.given import Given
from hostile.sandbox import Command, Sandbox

PART = "runs"
FILES = ("config.json", "metrics.jsonl", "selection.jsonl", "checkpoint.safetensors", "checkpoint.json", "model.safetensors")
Change = Callable[[Path, Path], object]

COMMANDS = (
    Command("train --resume", ("train", "--resume", "--out", "u", "--quiet")),
    Command("train --resume (finished)", ("train", "--resume", "--out", "x", "--quiet")),
    Command("export", ("export", "x", "--out", "new", "--optimise", "none"), output="new"),
    Command("report", ("report", "x", "--out", "page"), output="page"),
    Command("evaluate", ("evaluate", "x")),
)
"""``u`` is not finished, ``x`` is; both are changed in the same way."""


def case(name: str, change: Change, *, modules: frozenset[str] = frozenset(), good: bool = False) -> Task:
    """The two runs with one change."""

    def run(sandbox: Sandbox, given: Given) -> Iterator[Record]:
        work = sandbox.fresh()
        for copy, source in (("x", "run"), ("u", "unfinished")):
            given.copy(source, work / copy)
            given.copy(source, sandbox.outside / source)
            change(work / copy, sandbox.outside)
        for command in COMMANDS:
            asked = Command(command.name, command.argv, output=command.output, modules=modules)
            untouched = () if "--resume" in command.name else ("x",)
            yield attempt(sandbox, asked, untouched=untouched, more=must_end_well if good else lambda outcome: ())

    return Task(PART, name, run)


def _json(name: str, count: int, rng: random.Random, folder: Path) -> Iterator[tuple[str, Change]]:
    value = json.loads((folder / name).read_text())
    for number, (what, text) in enumerate(values.changes(value, count, rng)):
        yield f"{name} {number}: {what}", lambda run, o, t=text: (run / name).write_text(t)


def _lines(name: str, count: int, rng: random.Random, folder: Path) -> Iterator[tuple[str, Change]]:
    """One line of a file of lines is changed."""
    lines = (folder / name).read_text().splitlines()
    for number in range(count):
        place = rng.randrange(len(lines))
        (what, text), *_ = values.changes(json.loads(lines[place]), 1, rng)
        yield f"{name} line {place}, {number}: {what}", lambda run, o, p=place, t=text: _line(run / name, p, t)


def _line(path: Path, place: int, text: str) -> None:
    lines = path.read_text().splitlines() if path.is_file() else [""]
    lines[min(place, len(lines) - 1)] = " ".join(text.split("\n"))
    path.write_text("\n".join(lines) + "\n")


def _header(count: int, rng: random.Random, folder: Path) -> Iterator[tuple[str, Change]]:
    """The state in the header of the checkpoint is changed; its checksum is of the tensors alone."""
    from safetensors import safe_open

    with safe_open(str(folder / "checkpoint.safetensors"), framework="numpy") as file:
        state = json.loads(file.metadata()["state"])
    for number, (what, text) in enumerate(values.changes(state, count, rng)):
        yield f"state {number}: {what}", lambda run, o, t=text: _stated(run / "checkpoint.safetensors", t)


def _stated(path: Path, text: str) -> None:
    data = path.read_bytes()
    size = int.from_bytes(data[:8], "little")
    head = json.loads(data[8 : 8 + size])
    head["__metadata__"]["state"] = text
    new = json.dumps(head).encode()
    path.write_bytes(len(new).to_bytes(8, "little") + new + data[8 + size :])


def _tensors(name: str, what: str) -> Change:
    """Tensors of another kind under the same names; a checkpoint keeps its header."""

    def change(run: Path, outside: Path) -> None:
        import torch
        from safetensors import safe_open
        from safetensors.torch import load_file, save_file

        path = run / name
        if not path.is_file():
            return
        with safe_open(str(path), framework="pt") as file:
            about = file.metadata()
        made: dict[str, Callable[[Any], Any]] = {
            "NaN": lambda t: torch.full_like(t, float("nan")) if t.is_floating_point() else t,
            "float8": lambda t: t.to(torch.float8_e4m3fn) if t.is_floating_point() else t,
            "float64": lambda t: t.double() if t.is_floating_point() else t,
            "integer": lambda t: t.to(torch.int64),
            "bool": lambda t: t.to(torch.bool),
            "one number too many": lambda t: torch.cat([t.flatten(), t.flatten()[:1]]),
        }
        if what == "no":
            save_file({}, str(path), metadata=about)
            return
        if what == "other":
            save_file({f"\x1b[2J\nFORGED{i}": torch.zeros(2) for i in range(3)}, str(path), metadata=about)
            return
        found = {key: made[what](tensor).contiguous() for key, tensor in load_file(str(path)).items()}
        save_file(found, str(path), metadata=about)

    return change


def _bytes(rng: random.Random) -> Iterator[tuple[str, Change]]:
    for name in FILES:
        for what in ("truncated", "flipped", "flipped in its head"):
            place, bit = rng.randrange(1 << 30), rng.randrange(8)
            if what == "truncated":
                yield f"{name} truncated", lambda r, o, n=name, p=place: _truncate(r / n, p)
            else:
                yield (
                    f"{name} {what}",
                    lambda r, o, n=name, p=place if what == "flipped" else place % 64, k=bit: _flip(r / n, p, k),
                )
        for what, data in rng.sample(sorted(WHOLE.items()), 2):
            yield f"{name} is {what}", lambda r, o, n=name, d=data: (r / n).write_bytes(d)
        yield f"{name} is a link outside", lambda r, o, n=name: _linked(r, o, n)
        yield f"{name} is missing", lambda r, o, n=name: (r / n).unlink(missing_ok=True)
    for name in ("config.json", "metrics.jsonl", "checkpoint.safetensors"):
        yield f"{name} is a pipe", _replace(name, os.mkfifo)
        yield f"{name} is a folder", _replace(name, Path.mkdir)
        yield f"{name} has 3 GiB", _replace(name, _sparse)
    for name in ("model.safetensors", "checkpoint.safetensors"):
        for what in ("NaN", "float8", "float64", "integer", "bool", "one number too many", "no", "other"):
            yield f"{name}: {what}", _tensors(name, what)


def _truncate(path: Path, place: int) -> None:
    if path.is_file():
        os.truncate(path, place % max(1, path.stat().st_size))


def _flip(path: Path, place: int, bit: int) -> None:
    if path.is_file():
        flipped(path, place, bit)


def _linked(run: Path, outside: Path, name: str) -> None:
    source = outside / ("run" if run.name == "x" else "unfinished") / name
    (run / name).unlink(missing_ok=True)
    (run / name).symlink_to(source)


def _settings() -> Iterator[tuple[str, Change]]:
    """Values that pass as settings and lead elsewhere."""
    for field, value in {
        **{"data_dir": "../../outside/folder", "init": "../../outside/secret.bin", "teacher": "../../outside/folder"},
        **{
            "image_size": 10**6,
            "epochs": 10**15,
            "batch_size": 10**15,
            "num_workers": 10**6,
            "seed": 10**30,
            "device": "cuda:99",
        },
        **{"data": "folder", "download": True, "target_threads": 10**20, "train_fraction": 1e-300, "lr": 1e308, "compile": "x"},
    }.items():
        yield (
            f"{field} is {value!r}",
            lambda r, o, f=field, v=value: _edit(r / "config.json", lambda c: c["train"].update({f: v})),
        )
    for what, text in LABELS.items():
        yield (
            f"classes with {what}",
            lambda r, o, t=text: _edit(r / "config.json", lambda c: c["data"].update(classes=[t + str(i) for i in range(10)])),
        )


def _made_by(name: str) -> Change:
    def change(run: Path, outside: Path) -> None:
        canary = run.parents[1] / "CANARY"
        code = f"open({str(canary)!r}, 'w').write('x')\ndef make(*a, **k): raise SystemExit\n"
        for path in (run / "evil.py", run.parent / "evil.py"):
            path.write_text(code)
        _edit(run / "config.json", lambda config: config["train"].update(model=name))
        _edit(run / "config.json", lambda config: config["data"].update(image_shape=[3, 8, 8], mean=[0.5] * 3, std=[0.5] * 3))

    return change


def tasks(rng: random.Random, given: Given) -> Iterator[Task]:
    """All of them: about 200."""
    folder = given.folder / "run"
    yield case("honest", lambda r, o: None, good=True)
    for name in FACTORIES[:12]:
        yield case(f"made by {name}", _made_by(name), modules=UNSEEN)
    changes = (
        *_json("config.json", 50, rng, folder),
        *_json("checkpoint.json", 8, rng, folder),
        *_lines("metrics.jsonl", 15, rng, folder),
        *_lines("selection.jsonl", 8, rng, folder),
        *_header(18, rng, given.folder / "unfinished"),
        *_bytes(rng),
        *_settings(),
    )
    for name, change in changes:
        yield case(name, change)

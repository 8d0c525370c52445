"""SIGKILL at any instant of training and export: what is then there, and what the next start makes of it."""

from __future__ import annotations

import json
import os
import random
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from hostile.cases import Record, Task, record
from hostile.given import TRAIN, Given
from hostile.judge import Fault, contents, faults, output_faults, walk
from hostile.sandbox import Command, Outcome, Sandbox
from hostile.watch import LineCounter

WRITERS = (
    *("/slimnet/files/", "/training/checkpoint.py", "/training/metrics.py"),
    *("/bundle/compact.py", "/bundle/write.py", "/bundle/seal.py"),
)
"""Where files are written: the instants that matter most lie between two lines of these."""

LONG = ("write_bundle", "export_compact", "write_compact", "compacted")
"""Functions of these that do long work between two files."""

TRAINS = Command("train", ("train", *TRAIN, "--out", "u"), output="u")
RESUMES = Command("train --resume", ("train", "--resume", "--out", "u", "--quiet"), output="u")
STARTS = Command("train --force", ("train", *TRAIN, "--out", "u", "--force"), output="u")
TIMES = {"seconds", "data_share", "step_seconds"}


def _lines_of(at: int | None) -> LineCounter:
    return LineCounter(WRITERS, at, LONG)


def _at_second(when: float) -> Callable[[int, float], None]:
    def look(pid: int, passed: float) -> None:
        if passed >= when:
            os.kill(pid, signal.SIGKILL)

    return look


def _killed(sandbox: Sandbox, command: Command, where: tuple[str, float]) -> Outcome:
    """Run it and kill it: at a share of its time, or before a line of the writers."""
    kind, value = where
    if kind == "line":
        return sandbox.execute(command, counter=_lines_of(int(value)))
    return sandbox.execute(command, while_running=_at_second(value))


def _after_kill(sandbox: Sandbox, command: Command, outcome: Outcome) -> list[Fault]:
    """Nothing but having been killed, or having been quicker, is to be seen."""
    if outcome.status in (-signal.SIGKILL, 0):
        return [fault for fault in faults(sandbox, command, outcome, sandbox.limits) if fault.kind != "status"]
    return list(faults(sandbox, command, outcome, sandbox.limits))


def _train_case(where: tuple[str, float], name: str) -> Task:
    def run(sandbox: Sandbox, given: Given) -> Iterator[Record]:
        work = sandbox.fresh()
        outcome = _killed(sandbox, TRAINS, where)
        yield record(TRAINS, outcome, _after_kill(sandbox, TRAINS, outcome))
        known = (work / "u" / "config.json").is_file()
        command = RESUMES if known else STARTS
        outcome = sandbox.execute(command)
        found = [*faults(sandbox, command, outcome, sandbox.limits), *output_faults(sandbox, command, outcome, {})]
        if outcome.status != 0:
            found.append(Fault("wrong", f"killed, and then exit status {outcome.status}: {outcome.err.decode()[-200:]}"))
        else:
            found += different_runs(given.folder / "run", work / "u")
        yield record(command, outcome, found)

    return Task("kill train", name, run)


def different_runs(wanted: Path, got: Path) -> Iterator[Fault]:
    """Whether two runs ended in the same, bit for bit."""
    if (wanted / "model.safetensors").read_bytes() != (got / "model.safetensors").read_bytes():
        from safetensors.numpy import load_file

        one, other = (load_file(str(run / "model.safetensors")) for run in (wanted, got))
        same = one.keys() == other.keys() and all(one[key].tobytes() == other[key].tobytes() for key in one)
        what = "model.safetensors has the same tensors, in other bytes" if same else "the weights are not those of the whole run"
        yield Fault("wrong", what)
    if _lines(wanted) != _lines(got):
        yield Fault("wrong", "the lines of metrics.jsonl are not those of the whole run")
    names = {path.name for path in walk(wanted)} ^ {path.name for path in walk(got)}
    if names:
        yield Fault("half", f"not the same files: {', '.join(sorted(names))}")


def _lines(run: Path) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key not in TIMES} for line in lines]


def _export(force: bool) -> Command:
    return Command(
        "export --force" if force else "export", ("export", "run", "--out", "b", *(["--force"] if force else [])), output="b"
    )


def _export_case(where: tuple[str, float], name: str, *, force: bool) -> Task:
    def run(sandbox: Sandbox, given: Given) -> Iterator[Record]:
        work = sandbox.fresh()
        given.copy("run", work / "run")
        if force:
            given.copy("other", work / "b")
        old, new = contents(given.folder / "other"), contents(given.folder / "bundle")
        command = _export(force)
        outcome = _killed(sandbox, command, where)
        found = _after_kill(sandbox, command, outcome)
        there = contents(work / "b")
        if there not in ((old, new) if force else ({}, new)):
            found.append(Fault("half", f"killed, and b holds {len(there)} files, neither the old bundle nor the new one"))
        yield record(command, outcome, found)
        again = _export(True)
        outcome = sandbox.execute(again)
        found = [*faults(sandbox, again, outcome, sandbox.limits), *output_faults(sandbox, again, outcome, there)]
        if outcome.status != 0:
            found.append(Fault("wrong", f"killed, and then exit status {outcome.status}: {outcome.err.decode()[-200:]}"))
        elif contents(work / "b") != new:
            found.append(Fault("wrong", "the next export gives another bundle"))
        yield record(again, outcome, found)

    return Task("kill export", name, run)


def train_tasks(rng: random.Random, given: Given) -> Iterator[Task]:
    """60 instants by the clock, 60 by the line."""
    for number in range(60):
        share = (number + rng.random()) / 60
        yield _train_case(("second", share * given.seconds["train"]), f"after {share:.3f} of the time")
    lines = int(given.seconds["train lines"])
    others = rng.sample(range(10, lines - 10), 40)
    for line in (*range(10), *range(lines - 10, lines), *others):
        yield _train_case(("line", line), f"before line {line} of {lines}")


def export_tasks(rng: random.Random, given: Given) -> Iterator[Task]:
    """12 instants by the clock, 48 by the line: 30 of them among the last."""
    for number in range(12):
        share = (number + rng.random()) / 12
        where = ("second", share * given.seconds["export"])
        yield _export_case(where, f"after {share:.3f} of the time", force=number % 2 == 0)
    for force in (True, False):
        lines = int(given.seconds["export --force lines" if force else "export lines"])
        last = range(max(0, lines - (60 if force else 40)), lines, 2)
        for line in sorted({*last, *(rng.randrange(lines) for _ in range(6)), *range(0, 12, 3)}):
            yield _export_case(("line", line), f"{'--force, ' if force else ''}before line {line} of {lines}", force=force)


def count_lines(sandbox: Sandbox, folder: Path) -> dict[str, float]:
    """How many lines of the writers an undisturbed training and export run through."""
    given = Given(folder, (), {})
    found = {}
    work = sandbox.fresh()
    found["train lines"] = float(sandbox.execute(TRAINS, counter=_lines_of(None)).lines)
    given.copy("run", work / "run")
    given.copy("other", work / "b")
    found["export --force lines"] = float(sandbox.execute(_export(True), counter=_lines_of(None)).lines)
    work = sandbox.fresh()
    given.copy("run", work / "run")
    found["export lines"] = float(sandbox.execute(_export(False), counter=_lines_of(None)).lines)
    if min(found.values()) < 50:
        raise RuntimeError(f"training and export do not write where they are looked at: {found}")
    return found

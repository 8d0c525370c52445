"""Disks that fill up: a small file system in memory where that may be mounted, else a limit on the size of files."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from random import Random

from hostile.cases import Record, Task, record
from hostile.given import NETWORK, RUNTIME, TRAIN, Given, patch_runtime
from hostile.judge import Fault, contents, faults, output_faults
from hostile.kills import different_runs
from hostile.sandbox import Command, Sandbox, run_cli

PART = "full disks"


@contextmanager
def small_disk(folder: Path, size: int) -> Iterator[bool]:
    """Mount a file system of ``size`` bytes at ``folder``; whether that was allowed."""
    folder.mkdir(exist_ok=True)
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    mounted = subprocess.run(command, capture_output=True, check=False).returncode == 0
    try:
        yield mounted
    finally:
        if mounted:
            subprocess.run(["umount", "-l", str(folder)], check=True)


def _enlarge(folder: Path) -> None:
    subprocess.run(["mount", "-o", "remount,size=100m", str(folder)], check=True)


def _web() -> int:
    patch_runtime(Path(RUNTIME).read_bytes())
    return run_cli(["web", "bundle", "--out", "disk/site", "--runtime", RUNTIME])


COMMANDS = {
    "export": Command("export", ("export", "run", "--out", "disk/b"), output="disk/b"),
    "export --force": Command("export --force", ("export", "run", "--out", "disk/b", "--force"), output="disk/b"),
    "report": Command("report", ("report", "run", "--out", "disk/page"), output="disk/page"),
    "slim": Command("slim", ("slim", "run/model.safetensors", *NETWORK, "--out", "disk/slim"), output="disk/slim"),
    "prune": Command(
        "prune", ("prune", "run/model.safetensors", *NETWORK, "--rate", "0.3", "--out", "disk/pruned"), output="disk/pruned"
    ),
    "web": Command("web", status_of=_web, output="disk/site"),
}


def _case(what: str, size: int) -> Task:
    """A command whose output does not fit."""

    def run(sandbox: Sandbox, given: Given) -> Iterator[Record]:
        work = sandbox.fresh()
        for name in ("run", "bundle", RUNTIME):
            given.copy(name, work / name)
        command, kept = COMMANDS[what], None
        room = size + (sum(map(len, contents(given.folder / "other").values())) + (64 << 10) if what == "export --force" else 0)
        with small_disk(work / "disk", room) as mounted:
            if what == "export --force":
                given.copy("other", work / "disk" / "b")
                kept = contents(work / "disk" / "b")
            limits = sandbox.limits if mounted else replace(sandbox.limits, file=size)
            outcome = sandbox.execute(command, limits=limits)
            found = [*faults(sandbox, command, outcome, limits), *output_faults(sandbox, command, outcome, kept)]
            if outcome.status != 1:
                found.append(Fault("wrong", f"the disk was full, and exit status {outcome.status}"))
            yield record(command, outcome, found)

    return Task(PART, f"{what} with {size >> 10} KiB", run)


def _train_case(size: int) -> Task:
    """Training stops at a full disk, and goes on once there is room, to the same weights."""

    def run(sandbox: Sandbox, given: Given) -> Iterator[Record]:
        work = sandbox.fresh()
        with small_disk(work / "disk", size) as mounted:
            command = Command("train", ("train", *TRAIN, "--out", "disk/u"), output="disk/u")
            limits = sandbox.limits if mounted else replace(sandbox.limits, file=size)
            outcome = sandbox.execute(command, limits=limits)
            found = list(faults(sandbox, command, outcome, limits))
            if outcome.status != 1:
                found.append(Fault("wrong", f"the disk was full, and exit status {outcome.status}"))
            yield record(command, outcome, found)
            if mounted:
                _enlarge(work / "disk")
            known = (work / "disk" / "u" / "config.json").is_file()
            rest = ("--resume", "--quiet") if known else (*TRAIN, "--force")
            command = Command("train --resume", ("train", *rest, "--out", "disk/u"), output="disk/u")
            outcome = sandbox.execute(command)
            found = [*faults(sandbox, command, outcome, sandbox.limits), *output_faults(sandbox, command, outcome, {})]
            found += (
                different_runs(given.folder / "run", work / "disk" / "u")
                if outcome.status == 0
                else [Fault("wrong", f"there is room again, and exit status {outcome.status}")]
            )
            yield record(command, outcome, found)

    return Task(PART, f"train with {size >> 10} KiB", run)


def tasks(rng: Random, given: Given) -> Iterator[Task]:
    """20 of them; the sizes are those at which another file is the first that does not fit."""
    checkpoint = (given.folder / "unfinished" / "checkpoint.safetensors").stat().st_size
    for copies in (0.01, 0.3, 0.97, 1.2, 1.6, 1.98):  # the next is written beside the last, and takes its place
        yield _train_case(int(copies * checkpoint) & -4096)
    for what, sizes in {
        "export": (4, 50, 200, 400),
        "export --force": (4, 200, 400),
        "report": (4, 100),
        "slim": (4, 120),
        "prune": (4, 200),
        "web": (4, 100),
    }.items():
        for size in sizes:
            yield _case(what, size << 10)

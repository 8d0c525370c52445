"""Broken, hostile and interrupted input for every command: what may never happen, counted.

    python benchmarks/robustness.py                       # all parts; goes on where it was stopped
    python benchmarks/robustness.py --part bundles --limit 20
    python benchmarks/robustness.py --part weights --case "NaN (.pth)"      # one case again, with all that it said

Every case runs in a process forked from a warm one, in folders of its own, with limits on time, memory and file size.
Audit events tell of code that runs, programs and sockets, and of files that are opened elsewhere; inotify tells of native code.
 Expected: no fault of any kind; about 40 minutes on two hyperthreads. Linux only. Results go to FOLDER/results.jsonl and are
summed up in results/robustness.json (docs/security.md shows it); with other sources or another seed a part begins anew.
"""

from __future__ import annotations

import argparse
import fcntl
import fnmatch
import hashlib
import json
import os
import random
import re
import shutil
import sys
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

from hostile import alone

# isort: split
from _results import write_result
from _tables import Result, measured, of_runs, table
from hostile import ROOT, bundles, csvs, disks, drawn, kills, pictures, runs, weights
from hostile.cases import Record, Task
from hostile.given import Given, make
from hostile.judge import KINDS
from hostile.sandbox import Limits, Sandbox, warm, warm_exporters

from slimnet.files import write_json

Tasks = Callable[[random.Random, Given], Iterator[Task]]
PARTS: dict[str, Tasks] = {
    "bundles": bundles.tasks,
    "runs": runs.tasks,
    "weights": weights.tasks,
    "kill train": kills.train_tasks,
    "kill export": kills.export_tasks,
    "full disks": disks.tasks,
    "pictures": pictures.tasks,
    "csvs": csvs.tasks,
    "networks": drawn.tasks,
}
assert alone
WARM = ("torch", "torchvision", "onnx", "onnxruntime", "slimnet", "slimnet_cli", "numpy", "PIL.Image")


def fingerprint(*patterns: str) -> str:
    """Of those sources that match."""
    digest = hashlib.sha256()
    for path in sorted(path for pattern in patterns for path in ROOT.glob(pattern)):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


SLIMNET = ("slimnet/**/*.py", "slimnet/**/*.json", "cli/**/*.py")
CASES = (*SLIMNET, "benchmarks/hostile/*.py")


def makers(part: str) -> set[str]:
    """The modules of ``hostile`` that make and judge the cases of a part."""
    names, left = set[str](), {"sandbox", "judge", PARTS[part].__module__.rpartition(".")[2]}
    while left:
        name = left.pop()
        names.add(name)
        text = (ROOT / "benchmarks" / "hostile" / f"{name}.py").read_text(encoding="utf-8")
        found = re.findall(r"^from hostile(?:\.(\w+))? import (.+)$", text, re.MULTILINE)
        listed = [word for module, things in found for word in ([module] if module else re.findall(r"\w+", things))]
        left |= {word for word in listed if (ROOT / "benchmarks" / "hostile" / f"{word}.py").is_file()} - names
    return names


def sources(part: str) -> str:
    """Of slimnet, and of what makes and judges the cases of a part."""
    return fingerprint(*SLIMNET, *(f"benchmarks/hostile/{name}.py" for name in makers(part)))


def prepare(folder: Path, seed: int, parts: Sequence[str]) -> Given:
    """The honest files, and the warm process; what was found with other sources goes."""
    made = {"made": fingerprint(*SLIMNET, "benchmarks/hostile/given.py")}
    state, now = folder / "state.json", {"seed": seed, **{part: sources(part) for part in PARTS}}
    before = json.loads(state.read_text()) if state.is_file() else {}
    if {**before, **made} != before:
        shutil.rmtree(folder, ignore_errors=True)
    else:
        _forget(folder, {part for part in PARTS if before.get("seed") != seed or before.get(part) != now[part]})
    folder.mkdir(parents=True, exist_ok=True)
    warm(WARM)
    given = make(folder / "given", folder / "scratch")
    if {**before, **now} != before:
        given.forget_lines()
    state.write_text(json.dumps(made | now))
    warm(given.modules)
    warm_exporters()
    if any(part.startswith("kill") for part in parts) and "train lines" not in given.seconds:
        sandbox = Sandbox(folder / "scratch", Limits(seconds=1200.0))
        given.seconds.update(kills.count_lines(sandbox, given.folder))
        sandbox.close()
        given.write()
    return given


def _forget(folder: Path, parts: Collection[str]) -> None:
    """Drop what was found of parts that are made otherwise now."""
    kept = [each for each in read_results(folder) if each["part"] not in parts]
    (folder / "results.jsonl").write_text("".join(json.dumps(each) + "\n" for each in kept), encoding="utf-8")


def all_tasks(parts: Sequence[str], seed: int, given: Given, limit: int | None) -> list[Task]:
    """The cases, the same for the same seed; with ``limit`` about so many of each part, from all over it."""
    found: list[Task] = []
    for part in parts:
        tasks = list(PARTS[part](random.Random(f"{seed} {part}"), given))
        found += tasks[:: max(1, len(tasks) // limit)] if limit else tasks
    return found


def read_results(folder: Path) -> list[Record]:
    """What was found so far; a line that was cut short does not count."""
    found = []
    path = folder / "results.jsonl"
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else ():
        try:
            found.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return found


def work(task: Task, sandbox: Sandbox, given: Given) -> list[Record]:
    """Do one case. What goes wrong with the case itself is no fault of slimnet's, and is told apart."""
    try:
        return [{"part": task.part, "case": task.name, **found} for found in task.run(sandbox, given)]
    except Exception as error:
        broken = {"kind": "case", "detail": f"{type(error).__name__}: {error}"[:300]}
        return [
            {"part": task.part, "case": task.name, "command": "-", "status": None, "seconds": 0, "mib": 0, "faults": [broken]}
        ]


def run_all(tasks: Sequence[Task], folder: Path, given: Given, limits: Limits, *, jobs: int, minutes: float) -> None:
    """Do the cases in ``jobs`` processes, which draw their numbers from one pipe."""
    until = time.monotonic() + 60 * minutes
    reader, writer = os.pipe()
    children = []
    for number in range(jobs):
        pid = os.fork()
        if pid == 0:
            os.close(writer)
            _worker(reader, tasks, folder / f"worker{number}", given, limits, until)
        children.append(pid)
    os.close(reader)
    try:
        for number in range(len(tasks)):
            os.write(writer, number.to_bytes(4, "little"))
    except BrokenPipeError:
        pass
    os.close(writer)
    for pid in children:
        os.waitpid(pid, 0)


def _worker(reader: int, tasks: Sequence[Task], folder: Path, given: Given, limits: Limits, until: float) -> None:
    """Never returns."""
    sandbox = Sandbox(folder, limits)
    results = os.open(folder.parent / "results.jsonl", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    try:
        while time.monotonic() < until and (token := os.read(reader, 4)):
            task = tasks[int.from_bytes(token, "little")]
            found = work(task, sandbox, given)
            os.write(results, b"".join(json.dumps(each).encode() + b"\n" for each in found))
            faults = Counter(fault["kind"] for each in found for fault in each["faults"])
            if faults:
                print(f"{task.part}: {task.name!r}: {', '.join(faults)}", flush=True)
    except KeyboardInterrupt:
        pass
    finally:
        sandbox.close()
        os._exit(0)


def summary(found: Sequence[Record], seed: int, limits: Limits) -> dict[str, Any]:
    """Counts by part, and every case that failed."""
    parts = {}
    for part in PARTS:
        mine = [each for each in found if each["part"] == part]
        if not mine:
            continue
        faults = Counter(kind for each in mine for kind in {fault["kind"] for fault in each["faults"]})
        parts[part] = {
            "cases": sum(each.get("networks", 0) for each in mine)
            if part == "networks"
            else len({each["case"] for each in mine}),
            "commands": len(mine),
            "seconds": round(sum(each["seconds"] for each in mine), 1),
            "slowest": max(each["seconds"] for each in mine),
            "most_mib": max(each["mib"] for each in mine),
            "faults": {kind: faults.get(kind, 0) for kind in (*KINDS, "case")},
        }
    return {
        "seed": seed,
        "sources": fingerprint(*CASES),
        "limits": {"seconds": limits.seconds, "memory_mib": limits.memory >> 20},
        "kinds": KINDS,
        "parts": parts,
        "failing": failing(found),
    }


def failing(found: Sequence[Record]) -> list[dict[str, Any]]:
    """Every case that failed, those with the same fault of the same command together, and how to repeat the first."""
    groups: dict[tuple[str, str, str, str], list[str]] = {}
    for each in found:
        for fault in each["faults"]:
            groups.setdefault((each["part"], each["command"], fault["kind"], _signature(fault["detail"])), []).append(
                each["case"]
            )
    return [
        {
            **{"part": part, "command": command, "kind": kind, "detail": detail, "cases": sorted(set(names))},
            "repeat": f'python benchmarks/robustness.py --part "{part}" --case "{names[0]}"',
        }
        for (part, command, kind, detail), names in sorted(groups.items())
    ]


def _signature(detail: str) -> str:
    """What is the same in faults of one kind: the place where it was raised, else the words without numbers."""
    place = re.search(r"\(at ([^)]+)\)$", detail)
    kind = detail.split(":", 1)[0]
    return f"{kind} at {place[1]}" if place else re.sub(r"\d[\d,.]*", "N", detail)[:100]


def show(task: Task, folder: Path, given: Given, limits: Limits) -> None:
    """One case, with all that its commands said."""
    sandbox = Sandbox(folder / "single", limits)
    print(task.part, task.name, sep=": ")
    for found in work(task, sandbox, given):
        print(
            json.dumps({key: value for key, value in found.items() if key not in ("part", "case")}, indent=2, ensure_ascii=True)
        )
    sandbox.close()


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", action="append", choices=list(PARTS), help="one part; may be repeated (default: all)")
    parser.add_argument("--case", help="cases by their name or a pattern, with all that was said; nothing is kept")
    parser.add_argument("--limit", type=int, help="about so many cases of each part, from all over it")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--minutes", type=float, default=120.0, help="begin no case after that; the next call goes on")
    parser.add_argument(
        "--seconds", type=float, default=Limits.seconds, help="for each command (default: 60; a busy machine needs more)"
    )
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument(
        "--folder", type=Path, default=Path(f"/tmp/slimnet-robustness-{os.getuid()}"), help="for results and scratch"
    )
    parser.add_argument("--summary", type=Path, metavar="FILE", help="write the summary there (default: results/robustness.json)")
    options = parser.parse_args(arguments)
    parts, limits = options.part or list(PARTS), Limits(seconds=options.seconds)
    options.folder.parent.mkdir(parents=True, exist_ok=True)
    lock = options.folder.with_suffix(".lock").open("w")
    fcntl.flock(lock, fcntl.LOCK_EX)  # until this process ends
    given = prepare(options.folder, options.seed, parts)
    tasks = all_tasks(parts, options.seed, given, options.limit)
    if options.case is not None:
        for task in (task for task in tasks if options.case == task.name or fnmatch.fnmatchcase(task.name, options.case)):
            show(task, options.folder, given, limits)
        return 0
    done = {(each["part"], each["case"]) for each in read_results(options.folder)}
    left = [task for task in tasks if (task.part, task.name) not in done]
    print(f"{len(tasks):,} cases, {len(tasks) - len(left):,} done before; in {options.folder}", flush=True)
    run_all(left, options.folder, given, limits, jobs=options.jobs, minutes=options.minutes)
    found = read_results(options.folder)
    value = summary(found, options.seed, limits)
    if options.summary:
        write_json(options.summary, value)
    else:
        write_result("robustness", value)
    _print(value)
    return 1 if value["failing"] else 0


def _print(value: dict[str, Any]) -> None:
    for part, row in value["parts"].items():
        faults = ", ".join(f"{kind} {count}" for kind, count in row["faults"].items() if count) or "no fault"
        print(f"{part}: {row['cases']:,} cases, {row['commands']:,} commands, {row['seconds']:.0f} s: {faults}")


NAMES = {
    "bundles": "broken and hostile bundles",
    "runs": "tampered runs",
    "weights": "files of weights",
    "kill train": "SIGKILL in training, then `--resume`",
    "kill export": "SIGKILL in export, then export again",
    "full disks": "full disks",
    "pictures": "odd and damaged pictures",
    "csvs": "FER2013 CSV files, and their binary copies",
    "networks": "random networks, cut",
}


@of_runs("robustness")
def robustness_table(runs: list[Result]) -> str:
    """Cases and commands of each part, and how often each kind of fault was found."""
    r = runs[0]
    kinds = list(r["kinds"])
    rows = [_row(NAMES[name], part, kinds) for name, part in r["parts"].items()]
    meanings = "; ".join(f"*{kind}*: {meaning}" for kind, meaning in r["kinds"].items())
    limits = f"{r['limits']['seconds']:.0f} s and {r['limits']['memory_mib']:,} MiB a command"
    return table(("input", "cases", "commands", *kinds), rows) + f"\n\n{meanings}. {limits}; {measured(r)}."


def _row(name: str, part: Result, kinds: list[str]) -> tuple[str, ...]:
    return (name, f"{part['cases']:,}", f"{part['commands']:,}", *(f"{part['faults'][kind]:,}" for kind in kinds))


TABLES = {"robustness": robustness_table}


if __name__ == "__main__":
    sys.exit(main())

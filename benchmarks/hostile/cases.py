"""A case: what is laid before slimnet, the commands that meet it, and a record of each."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from hostile.given import Given
from hostile.judge import Fault, faults, forget, output_faults, state
from hostile.sandbox import MIB, Command, Limits, Outcome, Sandbox

Record = dict[str, Any]
Prepare = Callable[[Sandbox, Given], object]


@dataclass(frozen=True)
class Task:
    """One case of a part.

    Attributes:
        part: which.
        name: what is done; with the seed it says all.
        run: does it, and gives a record of each command.
    """

    part: str
    name: str
    run: Callable[[Sandbox, Given], Iterator[Record]]


def record(command: Command, outcome: Outcome, found: Iterable[Fault]) -> Record:
    """What is kept of a command."""
    unique = list({(fault.kind, fault.detail): fault for fault in found}.values())
    said = outcome.err.decode(errors="replace")[-2000:] if unique else ""
    return {
        "command": command.name,
        "status": outcome.status,
        "seconds": round(outcome.seconds, 3),
        "mib": outcome.memory // MIB,
        "faults": [asdict(fault) for fault in unique[:6]],
        **({"stderr": said} if unique else {}),
    }


def attempt(
    sandbox: Sandbox,
    command: Command,
    *,
    untouched: Sequence[str] = (),
    kept: dict[str, bytes] | None = None,
    limits: Limits | None = None,
    more: Callable[[Outcome], Iterable[Fault]] = lambda outcome: (),
    keep_output: bool = False,
) -> Record:
    """Run a command and judge it.

    Args:
        sandbox: where all is laid out.
        command: what to run.
        untouched: files and folders that it must leave as they are.
        kept: contents of an old output, which a failure must leave.
        limits: others than the sandbox's.
        more: faults that only this case can tell.
        keep_output: leave what it wrote for the next command.
    """
    before = {name: state(sandbox.work / name) for name in untouched}
    outcome = sandbox.execute(command, limits=limits)
    found = [
        *faults(sandbox, command, outcome, limits or sandbox.limits),
        *output_faults(sandbox, command, outcome, kept),
        *(Fault("half", f"{name} was changed") for name in untouched if state(sandbox.work / name) != before[name]),
        *more(outcome),
    ]
    if command.output is not None and not keep_output:
        forget(sandbox.work / command.output)
    return record(command, outcome, found)


def simple(part: str, name: str, prepare: Prepare, commands: Sequence[Command], *, untouched: Sequence[str] = ("x",)) -> Task:
    """A case that is laid out once, for several commands."""

    def run(sandbox: Sandbox, given: Given) -> Iterator[Record]:
        sandbox.fresh()
        prepare(sandbox, given)
        for command in commands:
            yield attempt(sandbox, command, untouched=untouched)

    return Task(part, name, run)


def honest(part: str, prepare: Prepare, commands: Sequence[Command]) -> Task:
    """The same with good input: every command must end well, or the cases prove nothing."""

    def run(sandbox: Sandbox, given: Given) -> Iterator[Record]:
        sandbox.fresh()
        prepare(sandbox, given)
        for command in commands:
            yield attempt(sandbox, command, untouched=("x",), more=must_end_well)

    return Task(part, "honest", run)


def must_end_well(outcome: Outcome) -> Iterator[Fault]:
    """A fault where a good command did not."""
    if outcome.status != 0:
        yield Fault("wrong", f"good input, and exit status {outcome.status}: {outcome.err.decode(errors='replace')[-300:]}")


def with_modules(commands: Sequence[Command], modules: frozenset[str]) -> tuple[Command, ...]:
    """The same, and these modules must not be imported."""
    return tuple(replace(command, modules=modules) for command in commands)


def flipped(path: Path, place: int, bit: int) -> None:
    """Change one bit of a file, in place."""
    data = bytearray(path.read_bytes())
    if data:
        data[place % len(data)] ^= 1 << bit
    path.write_bytes(data)

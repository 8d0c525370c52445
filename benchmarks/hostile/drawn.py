"""Networks drawn at random, of the property test of surgery: what is removed equals what is masked, to 1e-12 in float64."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from random import Random

from hostile import ROOT
from hostile.cases import Record, Task, record
from hostile.given import Given
from hostile.judge import Fault, faults
from hostile.sandbox import Command, Limits, Outcome, Sandbox

PART = "networks"
EACH = 25
COUNT = 1500
LIMITS = Limits(seconds=600.0, memory=2 << 30)


def _check(seed: int, count: int) -> None:
    """Draw ``count`` networks and cut each of them."""
    sys.path.insert(0, str(ROOT / "tests"))
    from hypothesis import HealthCheck, Phase, given, settings
    from hypothesis import seed as seeded

    import test_surgery_properties as properties

    done = 0

    @seeded(seed)
    @settings(max_examples=count, deadline=None, database=None, suppress_health_check=list(HealthCheck), phases=[Phase.generate])
    @given(**properties.drawn)
    def removed_equals_masked(**drawn: object) -> None:
        nonlocal done
        done += 1
        _, worst = properties.cut(**drawn)
        assert worst <= 1e-12, f"{worst} for {drawn}"

    removed_equals_masked()
    sys.stdout.write(f"{done} networks\n")


def _case(seed: int, count: int) -> Task:
    def run(sandbox: Sandbox, given: Given) -> Iterator[Record]:
        sandbox.fresh()
        command = Command(f"slim of {count} networks", call=lambda: _check(seed, count))
        outcome = sandbox.execute(command, limits=LIMITS)
        found = list(faults(sandbox, command, outcome, LIMITS))
        yield record(command, outcome, [*found, *_not_exact(outcome)]) | {"networks": _done(outcome)}

    return Task(PART, f"seed {seed}", run)


def _done(outcome: Outcome) -> int:
    words = outcome.out.decode().split()
    return int(words[0]) if words and words[0].isdigit() else 0


def _not_exact(outcome: Outcome) -> Iterator[Fault]:
    if outcome.status != 0:
        yield Fault("wrong", f"a network is not cut exactly: {outcome.err.decode(errors='replace')[-300:]}")


def tasks(rng: Random, given: Given) -> Iterator[Task]:
    """1,500 networks, 25 a case."""
    for _ in range(COUNT // EACH):
        yield _case(rng.randrange(1 << 30), EACH)

"""What an epoch costs when closed filters are cut out, against the same masked, and against the multiply-adds.

    SLIMNET_DATA=DATA OMP_NUM_THREADS=1 python benchmarks/cut_training.py [--rounds 3] [--fraction 0.02] [--case 0 2]

Networks on CIFAR-10, filters or branches closed before the first step: trained masked at full size (``--cut never``) and cut
(``--cut settled``), by turns, in the precision that is faster here. A time is an epoch's, with its validation, the first epoch
of each run left out; a ratio is of neighbouring turns. *Follows* is the ratio of times over the ratio of multiply-adds: the goal
is 0.8. Also: how far the final validation losses are apart.
Each case is written when it is done: about 7 minutes on one hyperthread with AVX-512 bf16.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from _results import write_networks
from _runs import dense_flops, slim_flops, train_cifar10
from _tables import PROCESSOR, Result, of_runs, processor, ranged, table, when

import slimnet

OUT = Path("build/cut_training")
EPOCHS = 3


@dataclass(frozen=True)
class Case:
    """A network, and what is closed of it."""

    network: str
    what: str
    method: slimnet.OneShot


def branches(network: str, keep: int) -> tuple[str, ...]:
    """All residual branches that keep the size of their stream, but the first ``keep`` of each stage."""
    blocks = {"resnet20": 3, "resnet56": 9}[network]
    return tuple(f"layer{stage}.{block}.bn2" for stage in (1, 2, 3) for block in range(keep, blocks))


CASES = (
    Case("resnet56", "30 % of every group", slimnet.OneShot(0.3)),
    Case("resnet56", "50 % of every group", slimnet.OneShot(0.5)),
    Case("resnet56", "18 of 27 branches", slimnet.OneShot(branches=branches("resnet56", 3))),
    Case("resnet20", "50 % of every group", slimnet.OneShot(0.5)),
)


def epochs(case: Case, cut: str, fraction: float) -> tuple[list[float], float, slimnet.Run]:
    """Seconds of the epochs behind the first, and the last validation loss."""
    out = OUT / f"{case.network}-{cut}"
    shutil.rmtree(out, ignore_errors=True)
    run = train_cifar10(
        case.network,
        out,
        method=case.method,
        cut=cut,
        epochs=EPOCHS,
        train_fraction=fraction,
        val_fraction=0.02,
        lr=0.01,
        progress=False,
    )
    return [line["seconds"] for line in run.metrics[1:]], run.metrics[-1]["val_loss"], run


def measured(case: Case, rounds: int, fraction: float) -> dict[str, Any]:
    seconds: dict[str, list[float]] = {"never": [], "settled": []}
    ratios, losses = [], {}
    for number in range(rounds):
        order = ("never", "settled") if number % 2 == 0 else ("settled", "never")
        for cut in order:
            found, losses[cut], run = epochs(case, cut, fraction)
            seconds[cut].append(statistics.median(found))
        ratios.append(seconds["never"][-1] / seconds["settled"][-1])
        print(case.network, case.what, seconds, flush=True)
    flops = {"masked": dense_flops(run), "cut": slim_flops(run)}
    times, saved = statistics.median(ratios), flops["masked"] / flops["cut"]
    return {
        "name": f"{case.network}, {case.what}",
        "flops": flops,
        "flops_ratio": saved,
        "seconds": {cut: statistics.median(values) for cut, values in seconds.items()},
        "ratio": times,
        "ratios": [min(ratios), max(ratios)],
        "follows": times / saved,
        "val_loss": losses,
        "precision": run.config.precision,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--fraction", type=float, default=0.02)
    parser.add_argument("--case", type=int, nargs="+", choices=range(len(CASES)), default=[*range(len(CASES))])
    args = parser.parse_args()
    how = {"epochs": EPOCHS, "fraction": args.fraction, "rounds": args.rounds}
    for number in args.case:
        write_networks("cut_training", how, [measured(CASES[number], args.rounds, args.fraction)])


@of_runs("cut_training")
def cut_table(runs: list[Result]) -> str:
    """An epoch masked and cut."""
    rows = [
        (
            *(row["name"], f"{row['flops_ratio']:.2f}"),
            ranged(row["ratio"], row["ratios"]),
            *(f"{row['follows']:.2f}", row["precision"], processor(run)),
        )
        for run in runs
        for row in run["networks"]
    ]
    head = ("network, what is closed", "multiply-adds ÷", "an epoch ÷", "follows", "precision", PROCESSOR)
    return table(head, rows) + f"\n\nMasked over cut, by turns; range of {runs[0]['rounds']} rounds. {when(runs)}."


TABLES = {"cut": cut_table}


if __name__ == "__main__":
    main()

"""Whether measured losses predict what a plan loses, and what choosing by them is worth before any training.

    SLIMNET_DATA=DATA python benchmarks/allocation.py [--images 256] [--plans 20] [--targets 1.8 3]

ResNet-56 on CIFAR-10, weights that others trained. Sensitivities are measured once, group by group, on training images; then so
many random plans are measured whole: rank correlation (Spearman) of the sum over the groups with what was measured, for two
losses: how far the answers move (temperature 4), and the cross-entropy of the labels. Then, for each target in time, plans by the
energy of the norms, by one round of measured losses with the greedy search and with the knapsack, and by several rounds.
Expected: correlations above 0.9; several rounds lose least. About 15 minutes on one hyperthread; writes results/allocation.json.
"""

from __future__ import annotations

import argparse
import contextlib
import random
import time
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import torch
from _results import write_result
from _runs import data_dir, l2_scores, trained_network
from _tables import Result, of_runs, table, when
from scipy.stats import spearmanr

from slimnet.allocation import (
    Allocation,
    Budget,
    LossByWidth,
    NetworkCost,
    Sensitivity,
    allocate,
    fit_widths,
    measure_sensitivity,
)
from slimnet.allocation.choose import width_ladders
from slimnet.criteria import LOSS_IMAGES, ClosedLoss
from slimnet.data import calibration_batches, load_data
from slimnet.graph import channel_groups, residual_branches
from slimnet.measure.costs import CostTable, Target
from slimnet.training.number_format import has_bf16

NETWORK = "resnet56"
SEED = 0


class Bench:
    """The network, what its layers cost, and its losses at given widths."""

    def __init__(self, images: int) -> None:
        data = load_data("cifar10", data_dir=str(data_dir()), normalise="imagenet")
        self.model = trained_network(NETWORK).eval()
        batches = list(calibration_batches(data, images, LOSS_IMAGES[1]))
        self.example = batches[0][0][:2]
        self.groups = channel_groups(self.model, self.example)
        self.scores = l2_scores(self.model, self.groups)
        self.table = CostTable(Target())
        self.cost = NetworkCost.measure(self.model, self.example, self.groups, self.table)
        self.model.to(memory_format=torch.channels_last)
        parts = [*self.groups, *residual_branches(self.model, self.example)]
        self.answers = ClosedLoss(self.model, batches, temperature=4.0, forward=self.forward)
        self.losses = {
            "answers": LossByWidth(self.answers, parts, self.scores),
            "labels": LossByWidth(ClosedLoss(self.model, batches, forward=self.forward), parts, self.scores),
        }
        self.ladders = width_ladders(self.cost, self.scores, self.table.layout, shut_branches=True)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """In bf16 where the processor has instructions for it."""
        with torch.autocast("cpu", dtype=torch.bfloat16) if has_bf16() else contextlib.nullcontext():
            return self.model(images.contiguous(memory_format=torch.channels_last))

    def measured(self, kept: Mapping[str, int]) -> dict[str, float]:
        """Each loss at given widths."""
        return {name: round(loss(kept), 5) for name, loss in self.losses.items()}


def random_plans(bench: Bench, count: int) -> list[dict[str, int]]:
    """From few groups narrowed to most of them; every other one leaves the streams whole."""
    rng = random.Random(SEED)
    streams = {group.name for group in bench.groups if len(group.weights) > 1}
    plans = []
    for number in range(count):
        share = rng.uniform(0.1, 0.7)
        plan = {name: rng.choice(ladder[1:]) if rng.random() < share else ladder[0] for name, ladder in bench.ladders.items()}
        plans.append({name: bench.ladders[name][0] if number % 2 and name in streams else width for name, width in plan.items()})
    return plans


def correlations(bench: Bench, found: Mapping[str, Sensitivity], plans: Sequence[Mapping[str, int]]) -> dict[str, Any]:
    """Spearman's ρ of what is predicted with what is measured, by loss."""
    base = bench.measured({})
    rows = []
    for plan in plans:
        after = bench.measured(plan)
        rows.append(
            {
                "predicted": {name: round(loss.total(plan), 5) for name, loss in found.items()},
                "measured": {name: round(value - base[name], 5) for name, value in after.items()},
            }
        )
        print(rows[-1], flush=True)
    return {"plans": rows, "rank_correlation": {
        f"{one} → {other}": round(float(spearmanr(
            [row["predicted"][one] for row in rows], [row["measured"][other] for row in rows]).statistic), 3)
        for one, other in (("answers", "answers"), ("labels", "labels"), ("answers", "labels"))
    }}  # fmt: skip


def chosen(bench: Bench, found: Sensitivity, target: float) -> list[dict[str, Any]]:
    """Plans for one target, and what they lose before any training."""
    budget = Budget(speedup=target)
    layout = bench.table.layout
    by_parts = partial(allocate, bench.cost, bench.scores, budget, layout, shut_branches=True)
    ways = {
        "energy of the norms": by_parts,
        "losses measured once, greedy search": partial(by_parts, sensitivity=found, solver="search"),
        "losses measured once, knapsack": partial(by_parts, sensitivity=found),
        "losses measured in rounds, knapsack": partial(
            fit_widths, bench.model, bench.example, bench.groups, bench.scores, budget, shut_branches=True, loss=bench.answers
        ),
    }
    rows = []
    for name, way in ways.items():
        start = time.perf_counter()
        plan = way()
        seconds = time.perf_counter() - start
        rows.append({"target": target, "way": name, **described(bench, plan, found), "seconds": round(seconds, 1)})
        print(rows[-1], flush=True)
    return rows


def described(bench: Bench, plan: Allocation, found: Sensitivity) -> dict[str, Any]:
    return {
        "speedup": round(plan.predicted_speedup, 3),
        "flops_left": round(plan.flops, 4),
        "shut": sum(width == 0 for width in plan.kept.values()),
        "predicted_once": round(found.total(plan.kept), 4),
        "measured": bench.measured(plan.kept),
        "narrowed": {name: width for name, width in plan.kept.items() if width < len(bench.scores[name])},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=256)
    parser.add_argument("--plans", type=int, default=20)
    parser.add_argument("--targets", type=float, nargs="+", default=[1.8, 3.0])
    args = parser.parse_args()
    bench = Bench(args.images)
    found = {name: measure_sensitivity(loss, bench.ladders) for name, loss in bench.losses.items()}
    values = correlations(bench, found, random_plans(bench, args.plans))
    print(values["rank_correlation"], flush=True)
    rows = [row for target in args.targets for row in chosen(bench, found["answers"], target)]
    write_result("allocation", {"network": NETWORK, "data": "cifar10", "images": args.images, **values, "targets": rows})


@of_runs("allocation")
def allocation_table(runs: list[Result]) -> str:
    """Rank correlations, and what plans lose before training, by the way they are chosen."""
    found = runs[0]
    ranks = found["rank_correlation"]
    names = {"answers": "how far the answers move", "labels": "cross-entropy of the labels"}
    pairs = [(*map(names.__getitem__, pair.split(" → ")), f"{value:.2f}") for pair, value in ranks.items()]
    rows = [
        (
            *(f"{row['target']:g}×", row["way"], f"{row['speedup']:.2f}×", str(row["shut"])),
            *(f"{row['measured'][name]:.2f}" for name in names),
            f"{row['seconds']:.0f} s",
        )
        for row in found["targets"]
    ]
    head = ("target", "groups valued by", "predicted", "branches shut", "answers moved", "cross-entropy", "chosen in")
    plans = f"{len(found['plans'])} random plans"
    note = (
        f"ResNet-56 on {found['images']} training images of CIFAR-10, before any training; the dense network's cross-entropy "
        f"there is near 0. The seconds hold the measuring in rounds, not the single one. {when([found])}."
    )
    ranking = table(("sum over the groups of", "measured of the whole plan", f"Spearman's ρ, {plans}"), pairs)
    return f"{ranking}\n\n{table(head, rows)}\n\n{note}"


TABLES = {"allocation": allocation_table}


if __name__ == "__main__":
    main()

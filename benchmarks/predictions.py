"""Predicted against measured latency: random widths, and a target speed-up, in one paired run a network.

    python benchmarks/predictions.py [resnet18] [resnet56]

For each network (ResNet-18 at 224×224, CIFAR's ResNet-56 at 32×32; random weights, one thread, batch 1): the cost table is built
from nothing, then read again; ten assignments of random widths (half of them multiples of 16, half any), and one chosen for three
times the speed, are cut, exported and timed against the dense network in interleaved rounds. Expected: a median error of at most
10 %, the target within 10 %, the table in less than 5 minutes and again in less than a second. About 5 minutes. Writes
results/predictions.json after each network; networks that are not asked for stay in it.
"""

from __future__ import annotations

import random
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from _results import write_networks
from _runs import l2_scores, random_network
from _tables import PROCESSOR, Result, of_runs, percent, processor, ranged, table, when

import slimnet
from slimnet.allocation import Budget, NetworkCost, allocate
from slimnet.export import export_onnx
from slimnet.graph import channel_groups, prunable
from slimnet.measure import compare_latency
from slimnet.measure.costs import CostTable

NETWORKS = ("resnet18", "resnet56")
ASSIGNMENTS, TARGET = 10, 3.0
SHUT = ("resnet56",)  # widths alone may not reach the target there


def at_widths(name: str, widths: dict[str, int], path: Path) -> Path:
    """The network cut down to these widths, as ONNX."""
    model, x = random_network(name)
    slimnet.prune(model, x, widths=widths)
    export_onnx(slimnet.slim(model, x).model, x, path)
    return path


def measured(name: str, folder: Path) -> dict[str, Any]:
    model, x = random_network(name)
    groups = channel_groups(model, x)
    start = time.perf_counter()
    table = CostTable(folder=folder / "costs")
    cost = NetworkCost.measure(model, x, groups, table)
    built = time.perf_counter() - start
    start = time.perf_counter()
    again = CostTable(folder=folder / "costs")
    again.measure([])
    read = time.perf_counter() - start
    rng = random.Random(0)
    sizes = {group.name: group.size for group in prunable(groups)}
    chosen: dict[str, dict[str, int]] = {}
    for number in range(ASSIGNMENTS):
        widths = {group: max(1, int(size * rng.uniform(0.3, 1))) for group, size in sizes.items()}
        friendly = {group: max(16, width - width % 16) if sizes[group] >= 16 else width for group, width in widths.items()}
        chosen[f"random {number}"] = friendly if number % 2 else widths
    target = allocate(cost, l2_scores(model, groups), Budget(speedup=TARGET), table.layout, shut_branches=name in SHUT)
    chosen["target"] = target.kept
    export_onnx(model, x, folder / f"{name}.onnx")
    files = {"dense": folder / f"{name}.onnx"}
    files |= {label: at_widths(name, widths, folder / f"{name}-{label}.onnx") for label, widths in chosen.items()}
    report = compare_latency(files, rounds=100, seconds=20.0, limit=60.0)
    rows = []
    for label, widths in chosen.items():
        predicted, found = cost.milliseconds(widths), report[label]
        speedup = cost.dense_ms / predicted
        rows.append(
            {
                "name": label,
                "friendly": label == "target" or int(label.split()[1]) % 2 == 1,
                "predicted_speedup": speedup,
                "measured_speedup": found.speedup,
                "interval": list(found.interval),
                "error": speedup / found.speedup - 1,
                "flops_left": cost.flops(widths) / cost.flops({}),
            }
        )
        print(name, rows[-1], flush=True)
    errors = [abs(row["error"]) for row in rows if row["name"] != "target"]
    return {
        "name": name,
        "layout": vars(table.layout),
        "factor": cost.factor,
        "table_seconds": built,
        "table_again_seconds": read,
        "median_error": statistics.median(errors),
        "assignments": rows,
        "control": report.control.speedup,
        "control_interval": list(report.control.interval),
        "flags": report.flags,
    }


def main() -> None:
    torch.set_num_threads(1)
    for name in sys.argv[1:] or NETWORKS:
        with tempfile.TemporaryDirectory() as folder:
            found = measured(name, Path(folder))
        print(name, f"median error {found['median_error']:.1%}, table {found['table_seconds']:.0f} s")
        write_networks("predictions", {"target_speedup": TARGET}, [found])


@of_runs("predictions")
def widths_table(runs: list[Result]) -> str:
    """Predicted against measured."""
    rows = []
    for n, where in [(n, r) for r in runs for n in r["networks"]]:
        target = next(row for row in n["assignments"] if row["name"] == "target")
        rows.append(
            (
                n["name"],
                percent(n["median_error"], 1),
                f"{where['target_speedup']:g}× → predicted {target['predicted_speedup']:.2f}×, "
                f"measured {ranged(target['measured_speedup'], target['interval'], '×')}",
                f"{n['control']:.3f}",
                f"{n['table_seconds']:.0f} s, again {n['table_again_seconds']:.2f} s",
                processor(where),
            )
        )
    error = "10 random assignments: median error of the predicted speed-up"
    head = ("network", error, "target", "A/A", "building the table", PROCESSOR)
    return table(head, rows) + f"\n\nOne thread, batch 1, ONNX Runtime, random weights; {when(runs)}."


TABLES = {"widths": widths_table}


if __name__ == "__main__":
    main()

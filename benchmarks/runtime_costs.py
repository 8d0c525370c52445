"""Cost tables of other runtimes: predicted against measured times in OpenVINO and LiteRT, widths they reward, a target in each.

    python benchmarks/runtime_costs.py [NETWORK/RUNTIME…]    # under 10 minutes for all four, on an idle machine

CIFAR's ResNet-56 at 32×32 and MobileNetV2 at 64×64 (random weights, one thread, one image). For each network and runtime the cost
table is built from nothing; then random widths, half of them multiples of 8, and those chosen for twice the speed (for 1.5× where
that is out of reach) are cut, exported, converted and timed against the dense network, each with it alone, as `bench` does.
And single layers are timed at widths between 8 and 64 in ONNX Runtime too. Expected: a median error of at most 10 %, the target
within 10 %. Writes results/runtime_costs.json after each network and runtime; those that are not named stay in it.

    RUNTIME_COSTS_CHOICES=1 RUNTIME_COSTS_SECONDS=1 python benchmarks/runtime_costs.py resnet56/litert    # to see that it works
"""

from __future__ import annotations

import functools
import os
import random
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from _results import ratio, write_networks
from _runs import l2_scores
from _tables import PROCESSOR, Result, of_runs, percent, processor, ranged, table, when

import slimnet
from slimnet.allocation import Allocation, Budget, NetworkCost, allocate
from slimnet.errors import ArgumentError
from slimnet.export import export_onnx
from slimnet.graph import ChannelGroup, channel_groups, prunable
from slimnet.measure import compare_latency
from slimnet.measure.costs import CostTable, Site
from slimnet.runtimes import of_runtime
from slimnet.runtimes.base import runtime
from slimnet.runtimes.costs import cost_table
from slimnet.runtimes.files import RuntimeFile, convert

NETWORKS = {"resnet56": 32, "mobilenet_v2": 64}
RUNTIMES = ("openvino", "litert")
CHOICES = int(os.environ.get("RUNTIME_COSTS_CHOICES", "12"))
SECONDS = float(os.environ.get("RUNTIME_COSTS_SECONDS", "2"))
TARGETS = (2.0, 1.5)
SHUT = ("resnet56",)  # widths alone may not reach the target there
WIDTHS = (8, 12, 15, 16, 17, 24, 31, 32, 48, 63, 64)
LAYERS = {
    "3×3": Site("conv", (16, 16), (3, 3), (1, 1), (1, 1)),
    "1×1": Site("conv", (16, 16)),
    "depthwise 3×3": Site("depthwise", (16, 16), (3, 3), (1, 1), (1, 1)),
}
TURNS = 5


def network(name: str) -> tuple[torch.nn.Module, torch.Tensor]:
    torch.manual_seed(0)
    return slimnet.build_model(name, num_classes=10).eval(), torch.randn(2, 3, NETWORKS[name], NETWORKS[name])


@functools.cache
def exported(name: str, widths: tuple[tuple[str, int], ...]) -> bytes:
    """The network cut down to these widths, as ONNX: once for all runtimes, since exporting takes longest."""
    model, x = network(name)
    if widths:
        slimnet.prune(model, x, widths=dict(widths))
        model = slimnet.slim(model, x).model
    with tempfile.TemporaryDirectory() as folder:
        export_onnx(model, x, Path(folder) / "net.onnx")
        return (Path(folder) / "net.onnx").read_bytes()


def at_widths(name: str, runs_in: str, widths: dict[str, int], folder: Path) -> RuntimeFile:
    """The network cut down to these widths, in the files of the runtime."""
    folder.mkdir()
    files = convert(of_runtime(runs_in), exported(name, tuple(widths.items())), "fp32")
    for file, content in files.items():
        (folder / file).write_bytes(content)
    return RuntimeFile(runs_in, tuple(folder / file for file in files), (3, NETWORKS[name], NETWORKS[name]))


def choices(groups: list[ChannelGroup]) -> dict[str, dict[str, int]]:
    """Random widths: any, and multiples of 8, in turns."""
    rng, found = random.Random(0), {}
    for number in range(CHOICES):
        widths = {group.name: max(1, int(group.size * rng.uniform(0.3, 1))) for group in prunable(groups)}
        eights = {name: max(8, width - width % 8) for name, width in widths.items()}
        found[f"random {number}"] = eights if number % 2 else widths
    return found


def for_target(name: str, cost: NetworkCost, costs: CostTable, groups: list[ChannelGroup]) -> tuple[Allocation | None, str]:
    """The highest target that can be met; and why a higher one cannot."""
    model, _ = network(name)
    reason = ""
    for speedup in TARGETS:
        try:
            scores = l2_scores(model, groups)
            return allocate(cost, scores, Budget(speedup=speedup), costs.layout, shut_branches=name in SHUT), reason
        except ArgumentError as error:
            reason = str(error)
    return None, reason


def measured(name: str, runs_in: str, folder: Path) -> dict[str, Any]:
    model, x = network(name)
    groups = channel_groups(model, x)
    start = time.perf_counter()
    costs = cost_table(runs_in, folder=folder / "costs")
    cost = NetworkCost.measure(model, x, groups, costs)
    built = time.perf_counter() - start
    chosen = choices(groups)
    target, reason = for_target(name, cost, costs, groups)
    chosen |= {} if target is None else {"target": dict(target.kept)}
    files = {"dense": at_widths(name, runs_in, {}, folder / "dense")}
    files |= {label: at_widths(name, runs_in, widths, folder / label) for label, widths in chosen.items()}
    rows, flags, dense_ms = [], {}, []
    for label, widths in chosen.items():  # two at a time: many together would push one another out of the caches
        report = compare_latency({"dense": files["dense"], label: files[label]}, rounds=100, seconds=SECONDS, limit=60.0)
        predicted, found = cost.milliseconds(widths), report[label]
        flags |= report.flags
        dense_ms.append(report["dense"].median_ms)
        row = {"name": label, "predicted_ms": predicted, "measured_ms": found.median_ms, **ratio(found)}
        row |= {"error": predicted / found.median_ms - 1, "predicted_speedup": cost.dense_ms / predicted}
        rows.append(row | {"speedup_error": row["predicted_speedup"] / found.speedup - 1})
        print(f"{name} in {runs_in}, {label}: {predicted:.3f} ms predicted, {found.median_ms:.3f} ms measured", flush=True)
    drawn = [row for row in rows if row["name"] != "target"]
    return {
        "name": f"{name}/{runs_in}",
        "version": runtime(runs_in).version(),
        "table_seconds": built,
        "unconfirmed": len(costs.unconfirmed),
        "layout": vars(costs.layout),
        "factor": cost.factor,
        "dense": {"predicted_ms": cost.dense_ms, "measured_ms": statistics.median(dense_ms)},
        "median_error": statistics.median(abs(row["error"]) for row in drawn),
        "median_speedup_error": statistics.median(abs(row["speedup_error"]) for row in drawn),
        "target": None if target is None else target.budget.value,
        "out_of_reach": reason,
        "rows": rows,
        "control": ratio(report.control),
        "flags": flags,
    }


def layers() -> dict[str, dict[str, list[float]]]:
    """Runtime → kind of layer → microseconds at each of the widths, the least of a few turns."""
    found: dict[str, dict[str, list[float]]] = {}
    for name in ("onnxruntime", *RUNTIMES):
        timer = cost_table(name, folder=None).timer
        for kind, site in LAYERS.items():
            turns = [[timer.layer(site, width, width) for width in WIDTHS] for _ in range(TURNS)]
            found.setdefault(name, {})[kind] = [round(min(times), 2) for times in zip(*turns, strict=True)]
            print(name, kind, found[name][kind], flush=True)
    return found


def main() -> None:
    torch.set_num_threads(1)
    everything = [f"{name}/{runs_in}" for name in NETWORKS for runs_in in RUNTIMES]
    asked = sys.argv[1:] or everything
    if not set(asked) <= set(everything):
        sys.exit(f"there are {', '.join(everything)}")
    begun, singles = time.perf_counter(), layers()
    for each in asked:
        with tempfile.TemporaryDirectory() as folder:
            found = measured(*each.split("/"), Path(folder))
        values = {"layers": singles, "widths": WIDTHS, "threads": 1, "batch": 1}
        write_networks("runtime_costs", values, [found])
        print(f"{each}: median error {found['median_error']:.1%}, of the speed-up {found['median_speedup_error']:.1%}; table "
              f"{found['table_seconds']:.0f} s; {time.perf_counter() - begun:.0f} s since the start", flush=True)  # fmt: skip


@of_runs("runtime_costs")
def predictions_table(runs: list[Result]) -> str:
    """Predicted against measured."""
    rows = [
        (
            each["name"].replace("/", " in ") + f" {each['version']}",
            f"{percent(each['median_error'], 1)}, {percent(each['median_speedup_error'], 1)}",
            _target(each),
            f"{each['control']['speedup']:.3f}",
            f"{each['table_seconds']:.0f} s",
            processor(run),
        )
        for run in runs
        for each in run["networks"]
    ]
    count = max(len([row for row in each["rows"] if row["name"] != "target"]) for run in runs for each in run["networks"])
    error = f"{count} random assignments: median error of the milliseconds, of the speed-up"
    flags = "; ".join(f"{each['name']}: {flag}" for run in runs for each in run["networks"] for flag in each["flags"].values())
    note = f"One thread, batch 1, random weights, ResNet-56 at 32×32, MobileNetV2 at 64×64; {when(runs)}."
    head = ("network", error, "target", "A/A", "building the table", PROCESSOR)
    return table(head, rows) + f"\n\n{note}" + (f"\n\nBeware: {flags}" if flags else "")


def _target(each: dict[str, Any]) -> str:
    row = next((row for row in each["rows"] if row["name"] == "target"), None)
    if row is None:
        return "out of reach"
    met = "met" if row["speedup"] >= each["target"] else "within 10 %" if row["speedup"] >= 0.9 * each["target"] else "missed"
    figures = f"predicted {row['predicted_speedup']:.2f}×, measured {ranged(row['speedup'], row['interval'], '×')}"
    return f"{each['target']:g}× → {figures}: {met}"


@of_runs("runtime_costs")
def rewards_table(runs: list[Result]) -> str:
    """Single layers at many widths."""
    rows = [
        (name, kind, *(f"{value:.1f}" for value in values), processor(run))
        for run in runs
        for name, kinds in run["layers"].items()
        for kind, values in kinds.items()
    ]
    head = ("runtime", "layer", *(str(width) for width in runs[0]["widths"]), PROCESSOR)
    note = "Microseconds of a layer on a 16×16 map that reads and makes so many channels; one thread, batch 1. In OpenVINO and "
    return table(head, rows) + f"\n\n{note}LiteRT the mean behind the layer counts with it. {when(runs)}."


TABLES = {"runtime-costs": predictions_table, "runtime-widths": rewards_table}


if __name__ == "__main__":
    main()

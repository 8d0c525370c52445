"""Does the clock follow the FLOPs? Ordinary pruning against widths for the machine, at the same FLOPs, in one paired run.

    python benchmarks/clock_follows_flops.py [NETWORK …]

torchvision's ResNet-18 and ResNet-50 at 224×224, VGG-16-BN at 48×48, CIFAR's ResNet-56 at 32×32, random weights, one thread,
batch 1 and 8. At filter rates of 30, 50 and 70 %: the same rate in every group, and the widths that `allocate` chooses for the
FLOPs which that leaves. Told: speed-up ÷ FLOPs reduction, 1 where the clock follows. Expected: at least 0.9 (ResNet-56: 0.7) with
chosen widths; for ResNet-56 also with residual branches shut. About 20 minutes. Writes results/clock_follows_flops.json after
each network; networks that are not asked for stay in it.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from _results import ratio, write_networks
from _runs import l2_scores, random_network
from _tables import PROCESSOR, Result, of_runs, processor, ranged, table, when

import slimnet
from slimnet.allocation import Budget, NetworkCost, allocate
from slimnet.export import export_onnx
from slimnet.graph import channel_groups
from slimnet.measure import compare_latency, count
from slimnet.measure.costs import CostTable, Target

NETWORKS = ("resnet18", "resnet50", "vgg16_bn", "resnet56")
KINDS = {"chosen": False, "branches shut": True}
SHUT = ("resnet56",)
RATES, BATCHES = (0.3, 0.5, 0.7), (1, 8)


def cut(name: str, path: Path, **how: Any) -> tuple[Path, int]:
    """The network pruned and cut, as ONNX, and its FLOPs."""
    model, x = random_network(name)
    slimnet.prune(model, x, **how)
    small = slimnet.slim(model, x).model
    export_onnx(small, x, path)
    return path, count(small, x[:1]).flops


def measured(name: str, batch: int, folder: Path) -> dict[str, Any]:
    model, x = random_network(name)
    groups, dense = channel_groups(model, x), count(model, x[:1]).flops
    scores = l2_scores(model, groups)
    table = CostTable(Target(batch=batch))
    cost = NetworkCost.measure(model, x, groups, table)
    export_onnx(model, x, folder / "dense.onnx")
    files, left = {"dense": folder / "dense.onnx"}, {"dense": dense}
    for rate in RATES:
        label = f"ordinary {rate:.0%}"
        files[label], left[label] = cut(name, folder / f"{label}.onnx", rate=rate)
        budget = Budget(flops=left[label] / dense)
        for kind, shut in KINDS.items():
            if shut and name not in SHUT:
                continue
            found = allocate(cost, scores, budget, table.layout, shut_branches=shut)
            chosen = f"{kind} {rate:.0%}"
            files[chosen], left[chosen] = cut(name, folder / f"{chosen}.onnx", widths=found.kept)
    report = compare_latency(files, batch=batch, rounds=30, seconds=15.0, limit=60.0)
    rows = {
        label: {
            "flops_reduction": dense / left[label],
            **ratio(report[label]),
            "follows": report[label].speedup / (dense / left[label]),
        }
        for label in files
        if label != "dense"
    }
    for label, row in rows.items():
        figures = f"{row['flops_reduction']:.2f}× FLOPs, {row['speedup']:.2f}×, {row['follows']:.2f}"
        print(f"{name} batch {batch} {label}: {figures}", flush=True)
    return {"name": name, "batch": batch, "variants": rows, "control": ratio(report.control), "flags": report.flags}


def main() -> None:
    torch.set_num_threads(1)
    for name in sys.argv[1:] or NETWORKS:
        found = []
        for batch in BATCHES:
            with tempfile.TemporaryDirectory() as folder:
                found.append(measured(name, batch, Path(folder)))
        write_networks("clock_follows_flops", {"threads": 1}, found)


@of_runs("clock_follows_flops")
def clock_table(runs: list[Result]) -> str:
    """Speed-up against FLOPs reduction, ordinary pruning and chosen widths."""
    networks = [(n, processor(r)) for r in runs for n in r["networks"]]
    kinds = [(n, kind, where) for n, where in networks for kind in ("chosen", "branches shut") if f"{kind} 50%" in n["variants"]]
    rows = [(*_clock_row(n, kind, rate), where) for n, kind, where in kinds for rate in ("30%", "50%", "70%")]
    head = ("network", "batch", "rate", "same rate everywhere: FLOPs ÷", "time ÷", "follows", "chosen widths: FLOPs ÷", "time ÷",
            "follows", "A/A", PROCESSOR)  # fmt: skip
    note = "One thread, ONNX Runtime, random weights, paired rounds; *follows* is time ÷ over FLOPs ÷: 1 where the clock follows."
    return table(head, rows) + f"\n\n{note} {when(runs)}."


def _clock_row(n: Result, kind: str, rate: str) -> tuple[str, ...]:
    cells: list[str] = [n["name"] + ("" if kind == "chosen" else f", {kind}"), str(n["batch"]), rate]
    for way in ("ordinary", kind):
        row = n["variants"][f"{way} {rate}"]
        cells += [f"{row['flops_reduction']:.2f}", ranged(row["speedup"], row["interval"]), f"{row['follows']:.2f}"]
    return *cells, f"{n['control']['speedup']:.3f}"


TABLES = {"clock": clock_table}


if __name__ == "__main__":
    main()

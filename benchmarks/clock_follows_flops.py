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
from _results import write_networks
from torch import Tensor, nn

import slimnet
from slimnet.allocation import Budget, NetworkCost, allocate
from slimnet.criteria import group_scores
from slimnet.export import export_onnx
from slimnet.graph import channel_groups, prunable
from slimnet.measure import compare_latency, count
from slimnet.measure.costs import CostTable, Target

NETWORKS = {"resnet18": (224, 1000), "resnet50": (224, 1000), "vgg16_bn": (48, 7), "resnet56": (32, 10)}
KINDS = {"chosen": False, "branches shut": True}
SHUT = ("resnet56",)
RATES, BATCHES = (0.3, 0.5, 0.7), (1, 8)


def build(name: str) -> tuple[nn.Module, Tensor]:
    """The same random network every time."""
    side, classes = NETWORKS[name]
    torch.manual_seed(0)
    return slimnet.build_model(name, num_classes=classes).eval(), torch.randn(2, 3, side, side)


def cut(name: str, path: Path, **how: Any) -> tuple[Path, int]:
    """The network pruned and cut, as ONNX, and its FLOPs."""
    model, x = build(name)
    slimnet.prune(model, x, **how)
    small = slimnet.slim(model, x).model
    export_onnx(small, x, path)
    return path, count(small, x[:1]).flops


def measured(name: str, batch: int, folder: Path) -> dict[str, Any]:
    model, x = build(name)
    groups, dense = channel_groups(model, x), count(model, x[:1]).flops
    scores = {group.name: group_scores(model, group, "l2") for group in prunable(groups)}
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
            "speedup": report[label].speedup,
            "interval": list(report[label].interval),
            "follows": report[label].speedup / (dense / left[label]),
        }
        for label in files
        if label != "dense"
    }
    for label, row in rows.items():
        figures = f"{row['flops_reduction']:.2f}× FLOPs, {row['speedup']:.2f}×, {row['follows']:.2f}"
        print(f"{name} batch {batch} {label}: {figures}", flush=True)
    control = {"speedup": report.control.speedup, "interval": list(report.control.interval)}
    return {"name": name, "batch": batch, "variants": rows, "control": control, "flags": report.flags}


def main() -> None:
    torch.set_num_threads(1)
    for name in sys.argv[1:] or NETWORKS:
        found = []
        for batch in BATCHES:
            with tempfile.TemporaryDirectory() as folder:
                found.append(measured(name, batch, Path(folder)))
        write_networks("clock_follows_flops", {"threads": 1}, found)


if __name__ == "__main__":
    main()

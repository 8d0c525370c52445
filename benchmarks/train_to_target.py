"""Training to a speed-up instead of a rate, on the real CIFAR-10: is it as fast as was asked for, and what does it cost?

    SLIMNET_DATA=DATA python benchmarks/train_to_target.py ["widths alone"] ["branches shut"]

ResNet-56 from trained weights, to run twice as fast on one thread: once with widths alone, once with residual branches shut as
well. 10 passes over a fixed quarter of the training images, the last 5 with the selection frozen, the dense network as teacher.
A short budget: it compares the two ways, and target with prediction and measurement; it is not the best that can be reached.
About 15 minutes a way on one processor core; an interrupted run is resumed. Writes results/train_to_target.json after each way;
the other stays in it.
"""

from __future__ import annotations

import sys
from typing import Any

from _results import write_networks
from _runs import RUNS, export_and_time, train_cifar10, weights
from _tables import PROCESSOR, Result, of_runs, percent, processor, table, when

import slimnet

MODEL, TARGET = "resnet56", 2.0
WAYS = {"widths alone": False, "branches shut": True}
SETTINGS: dict[str, Any] = {
    "method": slimnet.FPGM(finetune_epochs=5),
    "target": {"speedup": TARGET},
    "val_fraction": 0.04,
    "train_fraction": 0.25,
    "epochs": 10,
    "lr": 0.02,
    "weight_decay": 1e-4,
    "schedule": "cosine",
    "warmup_epochs": 1,
    "distill_weight": 0.5,
    "precision": "auto",
    "channels_last": True,
}


def measured(way: str) -> dict[str, Any]:
    name = f"target-{way.replace(' ', '-')}"
    run = train_cifar10(MODEL, RUNS / name, teacher=str(weights(MODEL)), shut_branches=WAYS[way], **SETTINGS)
    _, found = export_and_time(run, name)
    return {"name": way, "branches_shut": sum(width == 0 for _, width in run.config.method.widths), **found}


def main() -> None:
    settings = {**SETTINGS, "method": SETTINGS["method"].as_dict()}
    for way in sys.argv[1:] or WAYS:
        write_networks("train_to_target", {"model": MODEL, "settings": settings}, [measured(way)])


@of_runs("train_to_target")
def target_table(runs: list[Result]) -> str:
    """Trained to a target."""
    rows = []
    for way, where in [(way, processor(r)) for r in runs for way in r["networks"]]:
        target, accuracy = way["target"], way["accuracy"]
        low, high = target["measured"]["interval"]
        rows.append(
            (
                way["name"],
                str(way["branches_shut"]),
                f"{way['flops']['dense'] / way['flops']['realised']:.2f}",
                f"{target['target']['speedup']:g}×, {target['predicted']['speedup']:.2f}×",
                f"{target['measured']['speedup']:.2f}× ({low:.2f}–{high:.2f}; A/A {way['latency']['control']['speedup']:.3f})",
                f"{percent(accuracy['dense'])} → {percent(accuracy['slim'])}",
                where,
            )
        )
    head = ("ResNet-56, CIFAR-10", "branches shut", "FLOPs ÷", "target, predicted", "measured", "test accuracy, dense → slim",
            PROCESSOR)  # fmt: skip
    r = runs[0]
    images = f"{r['settings']['epochs']} passes over {percent(r['settings']['train_fraction'], 0)} of the training images"
    return table(head, rows) + f"\n\n{images}, FPGM, the dense network as teacher; {when(runs)}."


TABLES = {"target": target_table}


if __name__ == "__main__":
    main()

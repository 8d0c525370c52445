"""FSDP on the real CIFAR-10, from trained weights: train → export → bench, one JSON a network.

    SLIMNET_DATA=DATA python benchmarks/cifar10.py resnet20 [resnet56]

Expected: ResNet-20 within 1.5 points of its start at more than 50 % fewer realised FLOPs. On one processor core about an hour
for ResNet-20 (25 epochs, learning from the dense network), likewise for ResNet-56 (9 epochs); an interrupted run is resumed. The
weights to start from were trained by others (91.7 % and 93.4 %); they and the data stay outside the project.
"""

from __future__ import annotations

import sys

from _results import read_runs, write_result
from _runs import RUNS, export_and_time, train_cifar10, weights
from _tables import NETWORK, Result, network_row, table
from demo import demo_row
from fer2013 import fer_row

import slimnet

SETTINGS = {
    "resnet20": {"epochs": 25, "lr": 0.01, "weight_decay": 1e-4, "finetune": 12, "teacher": True},
    "resnet56": {"epochs": 9, "lr": 0.03, "weight_decay": 5e-4, "finetune": 3, "teacher": False},
}


def train(name: str) -> slimnet.Run:
    """Train, or go on with a run that was interrupted."""
    chosen = SETTINGS[name]
    return train_cifar10(
        name,
        RUNS / f"cifar10-{name}",
        method=slimnet.FSDP(rate_cs=0.1, rate_gm=0.22, tau=4.0, finetune_epochs=int(chosen["finetune"])),
        epochs=int(chosen["epochs"]),
        lr=chosen["lr"],
        weight_decay=chosen["weight_decay"],
        schedule="cosine",
        warmup_epochs=1,
        teacher=str(weights(name)) if chosen["teacher"] else None,
        distill_weight=0.5,
        precision="auto",
        channels_last=True,
        val_fraction=0.04,
    )


def main() -> None:
    for name in sys.argv[1:] or list(SETTINGS):
        run = train(name)
        bundle, found = export_and_time(run, f"cifar10-{name}")
        settings = run.config.as_dict()
        write_result(
            f"cifar10_{name}",
            {
                "model": name,
                "taught": SETTINGS[name]["teacher"],
                "settings": {k: v for k, v in settings.items() if k not in ("data_dir", "init", "teacher")},
                **found,
                "surgery": bundle.report["surgery"],
                "epoch_seconds": [line["seconds"] for line in run.metrics],
                "val_accuracy": [line["val_accuracy"] for line in run.metrics],
            },
        )


def cifar_row(r: Result, label: str) -> tuple[str, ...]:
    """ResNet on CIFAR-10."""
    taught = ", the dense network as teacher" if r.get("taught") else ""
    label = f"{label}, CIFAR-10, {r['settings']['epochs']} epochs from trained weights{taught}"
    return network_row(label, r, r["accuracy"], r["flops_saved"], r["params"], r["parity"])


def main_table() -> str:
    """Train, export, bench: the demo, these and the faces."""
    rows = [
        *map(demo_row, read_runs("demo")),
        *(cifar_row(r, f"ResNet-{depth}") for depth in (20, 56) for r in read_runs(f"cifar10_resnet{depth}")),
        *map(fer_row, read_runs("fer2013")),
    ]
    return table(NETWORK, rows)


TABLES = {"results": main_table}


if __name__ == "__main__":
    main()

"""SFP, ASFP, FPGM-mix and FSDP on the real CIFAR-10 under one budget: the same weights to start from, epochs, settings, seeds
and widths.

    SLIMNET_DATA=DATA python benchmarks/cifar10_methods.py [SEED …]

ResNet-20 from trained weights, 12 passes over a fixed quarter of the training images (the last 5 of them with the selection
frozen), coupled streams, 32 % of the filters of every group: the same realised FLOPs, which the script checks. Each run sees as
many images as in 3 epochs: this compares short fine-tuning, not the papers' 200 epochs from scratch. About 20 seconds a pass on
one processor core, so 50 minutes for 3 seeds; finished runs are kept, an interrupted one is resumed. Writes
results/cifar10_methods.json.
"""

from __future__ import annotations

import statistics
import sys

from _results import write_result
from _runs import RUNS, dense_flops, slim_flops, train_cifar10
from _tables import Result, measured, of_runs, percent, table

import slimnet

MODEL, EPOCHS, FINETUNE, RATE = "resnet20", 12, 5, 0.32
METHODS = {
    "SFP": slimnet.SFP(rate=RATE, finetune_epochs=FINETUNE),
    "ASFP": slimnet.ASFP(rate=RATE, tau=4.0, finetune_epochs=FINETUNE),
    "FPGM-mix": slimnet.FPGM(rate=RATE, rate_norm=0.08, finetune_epochs=FINETUNE),
    "FSDP": slimnet.FSDP(rate_cs=0.1, rate_gm=RATE - 0.1, tau=4.0, finetune_epochs=FINETUNE),
}
SETTINGS = {
    "val_fraction": 0.04,
    "train_fraction": 0.25,
    "epochs": EPOCHS,
    "lr": 0.01,
    "weight_decay": 1e-4,
    "schedule": "cosine",
    "warmup_epochs": 0,
}


def train(name: str, seed: int) -> slimnet.Run:
    """Train one method with one seed, or go on with it."""
    out = RUNS / f"methods-{name.lower()}-{seed}"
    return train_cifar10(MODEL, out, method=METHODS[name], seed=seed, precision="auto", channels_last=True, **SETTINGS)


def main() -> None:
    seeds = [int(seed) for seed in sys.argv[1:]] or [0, 1, 2]
    accuracies: dict[str, list[float]] = {name: [] for name in METHODS}
    flops: set[int] = set()
    for seed in seeds:
        for name in METHODS:
            run = train(name, seed)
            accuracies[name].append(run.result["test_accuracy"])
            flops.add(slim_flops(run))
            print(seed, name, run.result["test_accuracy"], sorted(flops), flush=True)
    if len(flops) > 1:
        sys.exit(f"the methods do not leave the same FLOPs: {sorted(flops)}")
    write_result(
        "cifar10_methods",
        {
            "model": MODEL,
            "settings": SETTINGS | {"finetune_epochs": FINETUNE, "rate": RATE, "seeds": seeds},
            "flops": {"dense": dense_flops(run), "realised": flops.pop()},
            "methods": {
                name: {
                    "settings": METHODS[name].as_dict(),
                    "test_accuracy": values,
                    "mean": statistics.mean(values),
                    "std": statistics.stdev(values),
                }
                for name, values in accuracies.items()
            },
        },
    )


@of_runs("cifar10_methods")
def methods_table(runs: list[Result]) -> str:
    """The family under one budget."""
    r = runs[0]
    settings, flops = r["settings"], r["flops"]
    rows = [
        (name, f"{100 * m['mean']:.2f} ± {100 * m['std']:.2f}", ", ".join(f"{100 * value:.2f}" for value in m["test_accuracy"]))
        for name, m in r["methods"].items()
    ]
    head = (
        f"ResNet-20, CIFAR-10, {settings['epochs']} passes over {settings['train_fraction']:.0%} of the training images from "
        f"trained weights, {settings['finetune_epochs']} of them fine-tuning, "
        f"{percent(1 - flops['realised'] / flops['dense'], 1)} fewer realised FLOPs",
        "test accuracy, mean ± std", "seeds",
    )  # fmt: skip
    return table(head, rows) + f"\n\n{measured(r)}."


TABLES = {"methods": methods_table}


if __name__ == "__main__":
    main()

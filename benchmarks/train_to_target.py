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
from pathlib import Path
from typing import Any

from _results import data_dir, without_paths, write_networks

import slimnet
from slimnet.commands import bench_bundle, export_run

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
    data, name = data_dir(), f"target-{way.replace(' ', '-')}"
    weights, out = str(data / "weights" / f"{MODEL}_cifar10.th"), Path("runs") / name
    run = slimnet.train(
        model=MODEL,
        data="cifar10",
        data_dir=str(data),
        init=weights,
        teacher=weights,
        shut_branches=WAYS[way],
        out=out,
        resume=(out / "config.json").is_file(),
        **SETTINGS,
    )
    bundle = export_run(run.path, Path("build") / name, force=True, say=print)
    bench = bench_bundle(bundle.path, seconds=20.0)
    return {
        "name": way,
        "accuracy": bundle.model["accuracy"],
        "flops": {"dense": bundle.cost_dense.flops, "realised": bundle.cost_slim.flops},
        "branches_shut": sum(width == 0 for _, width in run.config.method.widths),
        "target": bench.target,
        "latency": without_paths(bench.latency.as_dict()),
        "parity": bundle.model["parity"]["worst"],
    }


def main() -> None:
    settings = {**SETTINGS, "method": SETTINGS["method"].as_dict()}
    for way in sys.argv[1:] or WAYS:
        write_networks("train_to_target", {"model": MODEL, "settings": settings}, [measured(way)])


if __name__ == "__main__":
    main()

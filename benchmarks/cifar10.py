"""FSDP on the real CIFAR-10, from trained weights: train → export → bench, one JSON a network.

    SLIMNET_DATA=DATA python benchmarks/cifar10.py resnet20 [resnet56]

Expected: ResNet-20 within 1.5 points of its start at more than 50 % fewer realised FLOPs. On one processor core about an hour
for ResNet-20 (25 epochs, learning from the dense network), likewise for ResNet-56 (9 epochs); an interrupted run is resumed. The
weights to start from were trained by others (91.7 % and 93.4 %); they and the data stay outside the project.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from _results import data_dir, without_paths, write_result

import slimnet
from slimnet.commands import bench_bundle, export_run

SETTINGS = {
    "resnet20": {"epochs": 25, "lr": 0.01, "weight_decay": 1e-4, "finetune": 12, "teacher": True},
    "resnet56": {"epochs": 9, "lr": 0.03, "weight_decay": 5e-4, "finetune": 3, "teacher": False},
}
RUNS, BUILD = Path("runs"), Path("build")


def train(name: str) -> slimnet.Run:
    """Train, or go on with a run that was interrupted."""
    chosen, data = SETTINGS[name], data_dir()
    weights = str(data / "weights" / f"{name}_cifar10.th")
    out = RUNS / f"cifar10-{name}"
    return slimnet.train(
        model=name,
        data="cifar10",
        data_dir=str(data),
        method=slimnet.FSDP(rate_cs=0.1, rate_gm=0.22, tau=4.0, finetune_epochs=int(chosen["finetune"])),
        epochs=int(chosen["epochs"]),
        lr=chosen["lr"],
        weight_decay=chosen["weight_decay"],
        schedule="cosine",
        warmup_epochs=1,
        init=weights,
        teacher=weights if chosen["teacher"] else None,
        distill_weight=0.5,
        precision="auto",
        channels_last=True,
        val_fraction=0.04,
        out=out,
        resume=(out / "config.json").is_file(),
    )


def main() -> None:
    for name in sys.argv[1:] or list(SETTINGS):
        run = train(name)
        bundle = export_run(run.path, BUILD / f"cifar10-{name}", force=True, say=print)
        bench = bench_bundle(bundle.path, seconds=20.0)
        report = json.loads((bundle.path / "report.json").read_text())
        settings = run.config.as_dict()
        write_result(
            f"cifar10_{name}",
            {
                "model": name,
                "taught": SETTINGS[name]["teacher"],
                "settings": {k: v for k, v in settings.items() if k not in ("data_dir", "init", "teacher")},
                "accuracy": report["accuracy"],
                "flops": {"dense": bundle.cost_dense.flops, "realised": bundle.cost_slim.flops},
                "flops_saved": 1 - bundle.cost_slim.flops / bundle.cost_dense.flops,
                "paper_accounting": report["paper_accounting"],
                "params": {"dense": bundle.cost_dense.params, "slim": bundle.cost_slim.params},
                "onnx_bytes": {"dense": bundle.dense_onnx.stat().st_size, "slim": bundle.onnx.stat().st_size},
                "surgery": report["surgery"],
                "parity": report["parity"]["slim"],
                "latency": without_paths(bench.latency.as_dict()),
                "epoch_seconds": [line["seconds"] for line in run.metrics],
                "val_accuracy": [line["val_accuracy"] for line in run.metrics],
            },
        )


if __name__ == "__main__":
    main()

"""Facial expressions on the real FER2013: a dense network, and its slim descendant, trained, exported, measured.

    SLIMNET_DATA=DATA python benchmarks/fer2013.py

A compact VGG on 48×48 grey faces: dense from random weights (24 epochs), then FSDP from there with the dense network as the
teacher (14 epochs). The official splits; training images that also stand in validation or test are left out. Expected: 62 % or
more on the test split with at least 60 % fewer realised FLOPs and at most 1 point lost. On one processor core about 50 and 45
minutes; an interrupted run is resumed. Writes results/fer2013.json.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from _results import data_dir, without_paths, write_result

import slimnet
from slimnet.commands import bench_bundle, evaluate_any, export_run

RUNS, BUILD, MODEL = Path("runs"), Path("build"), "vgg9_face"
COMMON: dict[str, Any] = {
    "model": MODEL,
    "data": "fer2013",
    "data_options": {"drop_leaked": True},
    "batch_size": 128,
    "schedule": "cosine",
    "label_smoothing": 0.1,
    "ema": 0.998,
    "precision": "auto",
    "channels_last": True,
}
DENSE: dict[str, Any] = {"method": slimnet.Dense(), "epochs": 24, "lr": 0.1, "weight_decay": 5e-4}
SLIM: dict[str, Any] = {
    "method": slimnet.FSDP(rate_cs=0.1, rate_gm=0.275, tau=4.0, finetune_epochs=8),
    "epochs": 14,
    "lr": 0.05,
    "weight_decay": 5e-4,
    "distill_weight": 0.7,
}


def train(name: str, settings: dict[str, Any]) -> slimnet.Run:
    """Train, or go on with a run that was interrupted."""
    out = RUNS / f"fer2013-{name}"
    resume = (out / "config.json").is_file()
    return slimnet.train(data_dir=str(data_dir() / "fer2013"), out=out, resume=resume, **COMMON, **settings)


def judged(model: Path, views: str) -> dict[str, Any]:
    """Accuracy, macro-F1 and confusion on the test split."""
    result, classes = evaluate_any(model, data="fer2013", data_dir=str(data_dir() / "fer2013"), views=views)
    return {"classes": list(classes), **result.as_dict()}


def main() -> None:
    dense = train("dense", DENSE)
    weights = str(dense.path / "model.safetensors")
    run = train("slim", {**SLIM, "init": weights, "teacher": str(dense.path)})
    bundle = export_run(run.path, BUILD / "fer2013", dense=dense.path, force=True, say=print)
    bench = bench_bundle(bundle.path, seconds=20.0)
    report = json.loads((bundle.path / "report.json").read_text())
    subjects = {"dense": dense.path, "slim": bundle.path}
    write_result(
        "fer2013",
        {
            "model": MODEL,
            "settings": {"common": COMMON, "dense": plain(DENSE), "slim": plain(SLIM)},
            "test": {name: {views: judged(path, views) for views in ("one", "flip")} for name, path in subjects.items()},
            "flops": {"dense": bundle.cost_dense.flops, "realised": bundle.cost_slim.flops},
            "flops_saved": 1 - bundle.cost_slim.flops / bundle.cost_dense.flops,
            "paper_accounting": report["paper_accounting"],
            "params": {"dense": bundle.cost_dense.params, "slim": bundle.cost_slim.params},
            "onnx_bytes": {"dense": bundle.dense_onnx.stat().st_size, "slim": bundle.onnx.stat().st_size},
            "parity": report["parity"]["slim"],
            "latency": without_paths(bench.latency.as_dict()),
            "notes": run.data.get("notes", []),
        },
    )


def plain(settings: dict[str, Any]) -> dict[str, Any]:
    """Settings as JSON values."""
    return settings | {"method": settings["method"].as_dict()}


if __name__ == "__main__":
    main()

"""Facial expressions on the real FER2013: a dense network, and its slim descendant, trained, exported, measured.

    SLIMNET_DATA=DATA python benchmarks/fer2013.py

A compact VGG on 48×48 grey faces: dense from random weights (24 epochs), then FSDP from there with the dense network as the
teacher (14 epochs). The official splits; training images that also stand in validation or test are left out. Expected: 62 % or
more on the test split with at least 60 % fewer realised FLOPs and at most 1 point lost. On one processor core about 50 and 45
minutes; an interrupted run is resumed. Writes results/fer2013.json.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import _runs
from _results import write_result
from _runs import RUNS, data_dir, export_and_time
from _tables import Result, measured, network_row, of_runs, percent, speedup, table

import slimnet
from slimnet.commands import evaluate_any

MODEL = "vgg9_face"
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
    return _runs.train(RUNS / f"fer2013-{name}", data_dir=str(data_dir() / "fer2013"), **COMMON, **settings)


def judged(model: Path, views: str) -> dict[str, Any]:
    """Accuracy, macro-F1 and confusion on the test split."""
    result, classes = evaluate_any(model, data="fer2013", data_dir=str(data_dir() / "fer2013"), views=views)
    return {"classes": list(classes), **result.as_dict()}


def main() -> None:
    dense = train("dense", DENSE)
    weights = str(dense.path / "model.safetensors")
    run = train("slim", {**SLIM, "init": weights, "teacher": str(dense.path)})
    bundle, found = export_and_time(run, "fer2013", dense=dense.path)
    subjects = {"dense": dense.path, "slim": bundle.path}
    write_result(
        "fer2013",
        {
            "model": MODEL,
            "settings": {"common": COMMON, "dense": plain(DENSE), "slim": plain(SLIM)},
            "test": {name: {views: judged(path, views) for views in ("one", "flip")} for name, path in subjects.items()},
            **found,
            "notes": run.data.get("notes", []),
        },
    )


def plain(settings: dict[str, Any]) -> dict[str, Any]:
    """Settings as JSON values."""
    return settings | {"method": settings["method"].as_dict()}


def fer_row(r: Result) -> tuple[str, ...]:
    """The compact network for faces."""
    accuracy = {name: by_views["one"]["accuracy"] for name, by_views in r["test"].items()}
    return network_row("VGG-9, FER2013 48×48, trained here", r, accuracy, r["flops_saved"], r["params"], r["parity"])


@of_runs("fer2013")
def fer_table(runs: list[Result]) -> str:
    """Facial expressions: accuracy, macro-F1, F1 a class, confusion."""
    r = runs[0]
    rows = [
        (f"{name}, {label}", percent(found["accuracy"]), f"{found['macro_f1']:.3f}", *(f"{value:.2f}" for value in found["f1"]))
        for name, by_views in r["test"].items()
        for label, found in (("one view", by_views["one"]), ("mean of the image and its mirror image", by_views["flip"]))
    ]
    slim = r["test"]["slim"]["one"]
    classes = slim["classes"]
    head = ("test split (3,589 faces)", "accuracy", "macro-F1", *(f"F1 {name}" for name in classes))
    confusion = [(name, *(str(n) for n in row)) for name, row in zip(classes, slim["confusion"], strict=True)]
    times = "; ".join(f"{speedup(run['latency'])} faster, {measured(run)}" for run in runs)
    cost = (
        f"FLOPs {r['flops']['dense'] / 1e6:.1f} M → {r['flops']['realised'] / 1e6:.1f} M ({percent(r['flops_saved'], 1)} fewer, "
        f"realised), parameters {r['params']['dense']:,} → {r['params']['slim']:,}, ONNX file "
        f"{r['onnx_bytes']['slim'] / 1e6:.2f} MB; {times}."
    )
    return "\n\n".join([table(head, rows), cost, "Slim, one view; rows are true:", table(("", *classes), confusion)])


TABLES = {"fer2013": fer_table}


if __name__ == "__main__":
    main()

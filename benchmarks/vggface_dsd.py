"""DSD on VGG-Face at 224×224, end to end on a few real faces: D-S-D-S-D, then structured DSD → surgery → ONNX.

    SLIMNET_DATA=DATA python benchmarks/vggface_dsd.py

That the largest network of the family runs on a processor, and what it costs: not a result in accuracy, since the weights are
random (in the layout of the converted file, with its 2,622 outputs) and there are 21 images to train on. About 15 minutes and
10 GB of memory. Writes results/vggface_dsd.json.
"""

from __future__ import annotations

import csv
import resource
import statistics
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import torch
from _results import write_result
from _runs import data_dir, sizes
from _tables import PROCESSOR, Result, measured, of_runs, parity, processor, table

import slimnet
from slimnet.commands import export_run
from slimnet.models import build_model

A_CLASS = {"Training": 3, "PublicTest": 1, "PrivateTest": 1}
BATCH, CLASSES = 7, 7
METHODS = {
    "dsd": slimnet.DSD(sparsity=0.6, phases="D-S-D-S-D", layers=("fc*",)),
    "structured-dsd": slimnet.StructuredDSD(sparsity=0.5, phases="dsds"),
}


def few_faces(folder: Path) -> None:
    """A few rows of the real file, the same number of each class."""
    taken: Counter[tuple[str, str]] = Counter()
    with (
        (data_dir() / "fer2013/fer2013.csv").open(newline="") as source,
        (folder / "fer2013.csv").open("w", newline="") as target,
    ):
        reader, writer = csv.DictReader(source), csv.writer(target)
        writer.writerow(["emotion", "pixels", "Usage"])
        for row in reader:
            key = (row["emotion"], row["Usage"])
            if taken[key] < A_CLASS[row["Usage"]]:
                taken[key] += 1
                writer.writerow([row["emotion"], row["pixels"], row["Usage"]])
            if sum(taken.values()) == CLASSES * sum(A_CLASS.values()):
                return


def gigabytes() -> float:
    """The most memory that this process has held."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def train(name: str, folder: Path) -> slimnet.Run:
    """One epoch a phase."""
    method = METHODS[name]
    return slimnet.train(
        model="vggface",
        data="fer2013",
        data_dir=folder,
        image_size=224,
        method=method,
        epochs=len(method.phases),
        batch_size=BATCH,
        lr=1e-3,
        warmup_epochs=0,
        init=folder / "vggface.pth",
        precision="bf16",
        channels_last=True,
        out=folder / name,
    )


def main() -> None:
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        few_faces(folder)
        model = build_model("vggface", num_classes=2622)
        torch.save(model.state_dict(), folder / "vggface.pth")
        params = sum(parameter.numel() for parameter in model.parameters())
        del model
        rows: dict[str, Any] = {}
        for method in METHODS:
            run = train(method, folder)
            steps = -(-run.data["train"] // BATCH)
            rows[method] = {
                "phases": run.method.as_dict()["phases"],
                "steps": steps * run.config.epochs,
                "seconds_a_step": [line["seconds"] / steps for line in run.metrics],
                "train_loss": [line["train_loss"] for line in run.metrics],
                "peak_gigabytes": gigabytes(),
            }
            print(method, rows[method], flush=True)
        bundle = export_run(folder / "structured-dsd", folder / "bundle", say=print)
        rows["surgery"] = {
            **sizes(bundle),
            "flops": {"dense": bundle.cost_dense.flops, "slim": bundle.cost_slim.flops},
            "peak_gigabytes": gigabytes(),
        }
    write_result("vggface_dsd", {"params": params, "batch_size": BATCH, "image_size": 224, **rows})


@of_runs("vggface_dsd")
def vggface_table(runs: list[Result]) -> str:
    """The largest network, end to end."""
    rows = [
        (
            *(name, r[name]["phases"], str(r[name]["steps"]), f"{statistics.median(r[name]['seconds_a_step']):.1f}"),
            *(f"{r[name]['peak_gigabytes']:.1f}", processor(r)),
        )
        for r in runs
        for name in ("dsd", "structured-dsd")
    ]
    r = runs[0]
    head = (f"VGG-Face, 224×224, batches of {r['batch_size']}, bf16", "phases", "steps", "seconds a step", "peak memory, GB",
            PROCESSOR)  # fmt: skip
    s = r["surgery"]
    cut = (
        f"Structured DSD, cut: parameters {s['params']['dense']:,} → {s['params']['slim']:,}, "
        f"FLOPs {s['flops']['dense'] / 1e9:.2f} G → {s['flops']['slim'] / 1e9:.2f} G, "
        f"relative Δ {parity(s['parity'])} (float64, ONNX), peak memory {s['peak_gigabytes']:.1f} GB; {measured(r)}, busy."
    )
    return f"{table(head, rows)}\n\n{cut}"


TABLES = {"vggface": vggface_table}


if __name__ == "__main__":
    main()

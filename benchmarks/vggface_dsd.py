"""DSD on VGG-Face at 224×224, end to end on a few real faces: D-S-D-S-D, then structured DSD → surgery → ONNX.

    SLIMNET_DATA=DATA python benchmarks/vggface_dsd.py
    SLIMNET_DATA=DATA python benchmarks/vggface_dsd.py frozen

That the largest network of the family runs on a processor, and what it costs: not a result in accuracy, since the weights are
random (in the layout of the converted file, with its 2,622 outputs) and there are 21 images to train on. About 15 minutes and
10 GB of memory. Writes results/vggface_dsd.json.

With `frozen`, the recipe dsd-vggface-fer2013 as it stands (convolutions frozen, its dropout, normalisation and learning rate),
one epoch a phase: whole, and ended by SIGTERM in the middle of the first sparse phase and resumed. Expected: both end equal, bit
for bit, and the convolutions as they began; at most 8 GB of memory. About 5 minutes. Writes results/vggface_frozen.json.
"""

from __future__ import annotations

import csv
import resource
import signal
import statistics
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from _results import write_result
from _runs import data_dir, sizes
from _tables import PROCESSOR, Result, measured, of_runs, parity, processor, table

import slimnet
from slimnet.commands import export_run
from slimnet.files import read_tensors
from slimnet.methods import Method
from slimnet.models import build_model, load_weights
from slimnet.recipes import load_recipe
from slimnet.training import Interrupted
from slimnet.training.loop import Loop

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


def weights_file(folder: Path) -> int:
    """Random weights in the layout of the converted file; how many."""
    torch.manual_seed(0)
    model = build_model("vggface", num_classes=2622)
    torch.save(model.state_dict(), folder / "vggface.pth")
    return sum(parameter.numel() for parameter in model.parameters())


RECIPE = "dsd-vggface-fer2013"
CUT_AT = (1, 1)
"""Epoch and step, from 0, at which the run is interrupted: after the first step of the first sparse phase."""


def frozen_run(folder: Path, out: str) -> slimnet.Run:
    """The recipe, with one epoch a phase and few faces."""
    recipe = load_recipe(RECIPE)
    method = Method.from_dict({**recipe.method, "lengths": [1] * len(METHODS["dsd"].phases)})
    settings = {**recipe.train, "epochs": len(METHODS["dsd"].phases), "batch_size": BATCH}
    more = {"data_dir": folder, "init": folder / "vggface.pth", "precision": "bf16", "channels_last": True}
    return slimnet.train(out=folder / out, method=method, **settings, **more)


def interrupted_run(folder: Path, out: str) -> slimnet.Run:
    """The same, ended by a signal in mid-epoch, and resumed."""
    original = Loop._step

    def step(self: Loop, images: torch.Tensor, labels: torch.Tensor) -> int:
        if (self.state.epoch, self.state.step) == CUT_AT:
            signal.raise_signal(signal.SIGTERM)
        return original(self, images, labels)

    try:
        with mock.patch.object(Loop, "_step", step):
            frozen_run(folder, out)
    except Interrupted as error:
        print(error, flush=True)
        return slimnet.train(out=folder / out, resume=True)
    raise RuntimeError("the run was not interrupted.")


def held(folder: Path, whole: slimnet.Run, resumed: slimnet.Run) -> dict[str, Any]:
    """How many tensors of the two results differ, and how many frozen ones from what they began with."""
    one, other = (read_tensors(run.path / "model.safetensors") for run in (whole, resumed))
    start = build_model("vggface", num_classes=2622, in_channels=1)
    load_weights(start, folder / "vggface.pth")  # as a run does it: the first kernel is summed over its colours
    began = start.state_dict()
    frozen = [name for name in one if name.startswith("conv_")]
    different = [name for name in one if not torch.equal(one[name], other[name])]
    return {
        "tensors": len(one),
        "differ_when_resumed": different,
        "frozen": len(frozen),
        "frozen_changed": [name for name in frozen if not torch.equal(one[name], began[name])],
        "trained_unchanged": [name for name in ("fc6.weight", "fc7.weight") if torch.equal(one[name], began[name])],
    }


def frozen() -> None:
    """Convolutions frozen, and an interruption."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        few_faces(folder)
        params = weights_file(folder)
        whole = frozen_run(folder, "whole")
        steps = -(-whole.data["train"] // BATCH)
        peak = gigabytes()
        resumed = interrupted_run(folder, "resumed")
        timeless = [[{**line, "seconds": 0, "data_share": 0} for line in run.metrics] for run in (whole, resumed)]
        found = {
            "recipe": RECIPE,
            "params": params,
            "batch_size": BATCH,
            "image_size": 224,
            "freeze": list(whole.config.freeze),
            "phases": whole.method.as_dict()["phases"],
            "steps": steps * whole.config.epochs,
            "interrupted_at": {"epoch": CUT_AT[0], "step": CUT_AT[1]},
            "seconds_a_step": [line["seconds"] / steps for line in whole.metrics],
            "train_loss": [line["train_loss"] for line in whole.metrics],
            "sparsity": [line["sparsity"] for line in whole.metrics],
            "peak_gigabytes": {"whole": peak, "both": gigabytes()},
            "metrics_equal": timeless[0] == timeless[1],
            **held(folder, whole, resumed),
        }
    print(found)
    write_result("vggface_frozen", found)


def main() -> None:
    if sys.argv[1:] == ["frozen"]:
        frozen()
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        few_faces(folder)
        params = weights_file(folder)
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


@of_runs("vggface_frozen")
def frozen_table(runs: list[Result]) -> str:
    """The recipe with its convolutions frozen, interrupted and resumed."""
    rows = []
    for r in runs:
        changed = f"{r['frozen'] - len(r['frozen_changed'])} of {r['frozen']}"
        same = f"{r['tensors'] - len(r['differ_when_resumed'])} of {r['tensors']}"
        seconds, memory = statistics.median(r["seconds_a_step"]), max(r["peak_gigabytes"].values())
        shares = ", ".join(f"{share:.2f}" for share in r["sparsity"])
        rows.append((r["phases"], str(r["steps"]), shares, changed, same, f"{seconds:.1f}", f"{memory:.1f}", processor(r)))
    r = runs[0]
    head = (f"`{r['recipe']}`, batches of {r['batch_size']}, bf16", "steps", "masked share of the trained layers, a phase",
            "frozen tensors as they began", "tensors equal after SIGTERM and resume", "seconds a step", "peak memory, GB",
            PROCESSOR)  # fmt: skip
    return f"{table(head, rows)}\n\n{measured(r)}, busy."


TABLES = {"vggface": vggface_table, "vggface-frozen": frozen_table}


if __name__ == "__main__":
    main()

"""One change at a time of the recipe that cuts a trained network and trains what is left, on a small budget of real CIFAR-10.

    SLIMNET_DATA=DATA python benchmarks/ablation.py [--minutes 30] [--only FACTOR …] [--seeds 0 1 2] [--work FOLDER]

ResNet-20 from trained weights; 32 % of the filters of every coupled group are closed (or as many as leave the same FLOPs);
8 passes over 1,980 training images, tested on all 10,000 test images. The first row is the base, each other row differs from it
in one factor. A finished training is in the JSON at once, so the script goes on where it stood. About a minute a training on one
hyperthread with AVX-512 bf16. Writes results/ablation.json. A small budget ranks what helps at once: which rows hold for long
trainings is for benchmarks/campaign.py to say.
"""

from __future__ import annotations

import argparse
import re
import shutil
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from _results import own_run, read_runs, write_networks
from _runs import data_dir, slim_flops, train_cifar10, trained_network, weights
from _tables import Result, of_runs, table, when
from torch import Tensor, nn

import slimnet
from slimnet.criteria import exact_count, group_scores, lowest
from slimnet.data import calibration_batches, load_data
from slimnet.files import write_tensors
from slimnet.graph import ChannelGroup, channel_groups, prunable
from slimnet.masks import SoftMask
from slimnet.methods import Method

NAME, MODEL, RATE, EPOCHS = "ablation", "resnet20", 0.32, 8
BASE: dict[str, Any] = {
    "epochs": EPOCHS,
    "val_fraction": 0.01,
    "train_fraction": 0.04,
    "normalise": "imagenet",
    "lr": 0.02,
    "weight_decay": 5e-4,
    "schedule": "cosine",
    "warmup_epochs": 0,
    "distill_weight": 0.9,
    "distill_temperature": 4.0,
}
AT_ONCE = slimnet.OneShot(RATE)
STREAMS = ("conv1", "layer2.0.conv2", "layer3.0.conv2")
"""The channel groups that are residual streams."""


@dataclass(frozen=True)
class Case:
    """One row.

    Attributes:
        factor: what is changed.
        value: to what.
        settings: changes to the base's settings; ``teacher`` False takes the teacher away.
        method: in place of closing the filters of smallest norm at once.
        closed_by: ``"taylor"`` or ``"random"``: what the method does not take; its filters are zeroed beforehand.
        images: that gradients are summed over.
    """

    factor: str
    value: str
    settings: dict[str, Any] = field(default_factory=dict)
    method: Method = AT_ONCE
    closed_by: str = ""
    images: int = 0

    @property
    def name(self) -> str:
        """Of the row in the JSON."""
        return f"{self.factor}: {self.value}"


def _fading(rise: int) -> Method:
    return slimnet.FSDP(rate_cs=0.1, rate_gm=RATE - 0.1, first="l2", finetune_epochs=EPOCHS - rise)


def _target(shut_branches: bool, by: str) -> dict[str, Any]:
    return {"target": {"flops": 0.475}, "shut_branches": shut_branches, "allocate_by": by}


FREE = slimnet.OneShot()
CASES = (
    Case("base", "l2 at once, lr 0.02, cosine, teacher 0.9 at T 4"),
    *(Case("criterion", name, method=slimnet.OneShot(RATE, score=name)) for name in ("l1", "gm", "norm-scale", "cs")),
    *(Case("criterion", f"taylor, {images} images", closed_by="taylor", images=images) for images in (128, 2048)),
    Case("criterion", "random", closed_by="random"),
    Case("mechanism", "FPGM-mix, 4 of 8 passes frozen", method=slimnet.FPGM(RATE, rate_norm=0.08, finetune_epochs=4)),
    Case("mechanism", "SFP, 4 of 8 passes frozen", method=slimnet.SFP(RATE, finetune_epochs=4)),
    *(Case("mechanism", f"FSDP, l2 first, faded over {rise} of 8 passes", method=_fading(rise)) for rise in (2, 6)),
    Case("mechanism", "FSDP, cs first, faded over 4 of 8 passes",
         method=slimnet.FSDP(rate_cs=0.1, rate_gm=RATE - 0.1, finetune_epochs=4)),
    Case("where", "inner channels alone, half of each", method=slimnet.OneShot(0.5, ignore=STREAMS)),
    *(Case("where", f"widths by {by}", _target(False, by), FREE) for by in ("energy", "loss")),
    *(Case("where", f"widths and branches by {by}", _target(True, by), FREE) for by in ("energy", "loss")),
    Case("teacher", "none", {"teacher": False}),
    *(Case("teacher", f"weight {weight:g}", {"distill_weight": weight}) for weight in (0.5, 1.0)),
    *(Case("teacher", f"temperature {t:g}", {"distill_temperature": float(t)}) for t in (1, 8)),
    *(Case("learning rate", f"{lr:g}", {"lr": lr}) for lr in (0.005, 0.05, 0.1)),
    *(Case("schedule", name, {"schedule": name}) for name in ("step", "constant")),
    *(Case("averaged weights", f"decay {decay:g}", {"ema": decay}) for decay in (0.9, 0.97)),
    Case("label smoothing", "0.1, with the teacher", {"label_smoothing": 0.1}),
    Case("label smoothing", "0.1, without a teacher", {"label_smoothing": 0.1, "teacher": False}),
    Case("augmentation", "none", {"augment": {"flip": False, "crop_padding": 0}}),
    Case("augmentation", "erasing 0.25", {"augment": {"erase": 0.25}}),
    Case("augmentation", "mixup 0.2", {"mixup": 0.2}),
    Case("augmentation", "cutmix 1", {"cutmix": 1.0}),
    Case("weight decay", "1e-4", {"weight_decay": 1e-4}),
    Case("batch", "32 images", {"batch_size": 32}),
)  # fmt: skip


def close_beforehand(case: Case, seed: int, folder: Path) -> Path:
    """Weights whose filters of lowest score are zero: those of smallest norm, for the method that follows."""
    model = trained_network(MODEL).eval()
    groups = prunable(channel_groups(model, torch.zeros(2, 3, 32, 32)))
    scores = _random(groups, seed) if case.closed_by == "random" else _taylor(model, groups, case.images)
    mask = SoftMask(model, groups)
    for name, values in scores.items():
        scale = torch.ones(len(values))
        scale[lowest(values, exact_count(len(values), RATE))] = 0.0
        mask.set(name, scale)
    mask.apply()
    path = folder / f"start-{slug(case.name)}-{seed}.safetensors"
    write_tensors(path, model.state_dict())
    return path


def _random(groups: Sequence[ChannelGroup], seed: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {group.name: torch.rand(group.size, generator=generator) for group in groups}


def _taylor(model: nn.Module, groups: Sequence[ChannelGroup], images: int) -> dict[str, Tensor]:
    data = load_data("cifar10", data_dir=str(data_dir()), normalise="imagenet")
    for batch, labels in calibration_batches(data, images, 128):
        torch.nn.functional.cross_entropy(model(batch), labels).backward()
    return {group.name: group_scores(model, group, "taylor") for group in groups}


def slug(text: str) -> str:
    """A name that a folder may have."""
    return re.sub(r"[^a-z0-9.]+", "-", text.lower()).strip("-")


def train(case: Case, seed: int, folder: Path) -> dict[str, Any]:
    """Train a case with one seed, or go on with it: its accuracies and its FLOPs."""
    settings = BASE | case.settings
    taught = settings.pop("teacher", True)
    out = folder / f"{slug(case.name)}-{seed}"
    settings["init"] = str(close_beforehand(case, seed, folder) if case.closed_by else weights(MODEL))
    settings["teacher"] = str(weights(MODEL)) if taught else None
    run = train_cifar10(MODEL, out, method=case.method, seed=seed, **settings)
    found = {"val": run.result["val_accuracy"], "test": run.result["test_accuracy"], "flops": slim_flops(run)}
    shutil.rmtree(out)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--only", nargs="*", help="factors; default: all")
    parser.add_argument("--work", default="runs/ablation", help="where runs lie until they are finished")
    args = parser.parse_args()
    folder, end = Path(args.work), time.monotonic() + 60 * args.minutes
    folder.mkdir(parents=True, exist_ok=True)
    for seed in args.seeds:
        for case in CASES:
            row = next((row for row in own_run(NAME).get("networks", []) if row["name"] == case.name), None)
            found, known = dict(row["seeds"]) if row else {}, pooled(read_runs(NAME)).get(case.name, {})
            if str(seed) in known or (args.only and case.factor not in args.only):
                continue
            if time.monotonic() > end:
                sys.exit("the time is over: call it again to go on.")
            found[str(seed)] = train(case, seed, folder)
            new = {"name": case.name, "factor": case.factor, "value": case.value, "seeds": found}
            write_networks(NAME, {"network": MODEL, "base": BASE, "rate": RATE}, [new])
            print(case.name, seed, found[str(seed)], flush=True)


def pooled(runs: Sequence[Result]) -> dict[str, dict[str, Any]]:
    """Name of a case → its seeds, from whatever machine: they differ by rounding; of a seed that two have the newest counts."""
    found: dict[str, dict[str, Any]] = {}
    for run in reversed(runs):
        for row in run["networks"]:
            found.setdefault(row["name"], {}).update(row["seeds"])
    return found


@of_runs("ablation")
def ablation_table(runs: list[Result]) -> str:
    """One change at a time of the recipe that cuts a trained network."""
    found = runs[0]
    base, seeds = found["base"], pooled(runs)
    rows = [_ablation_row(case, seeds[case.name]) for case in CASES if case.name in seeds]
    head = ("changed", "to", "test accuracy", "seeds", "multiply-adds left")
    share = f"{100 * base['train_fraction'] * (1 - base['val_fraction']):.1f} % of the training images"
    note = f"`python benchmarks/ablation.py`: {found['network']}, CIFAR-10, {base['epochs']} passes over {share}. {when(runs)}."
    return table(head, rows) + f"\n\n{note}"


def _ablation_row(case: Case, seeds: dict[str, Any]) -> tuple[str, ...]:
    tests = [100 * seed["test"] for seed in seeds.values()]
    spread = f" ± {statistics.stdev(tests):.2f}" if len(tests) > 1 else ""
    flops = statistics.mean(seed["flops"] for seed in seeds.values())
    return (case.factor, case.value, f"{statistics.mean(tests):.2f}{spread}", str(len(tests)), f"{flops / 1e6:.1f} M")


TABLES = {"ablation": ablation_table}


if __name__ == "__main__":
    main()

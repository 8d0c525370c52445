"""Long trainings, row by row: networks cut to the time of a smaller dense one, each with the recipe that it is compared by.

    SLIMNET_DATA=DATA python benchmarks/campaign.py --minutes 60 [--jobs 2] [--device cpu] [--rows NAME …] [--list]

Rows are trained in the order of their worth. A row goes on where it stood: stop the script (SIGTERM, Ctrl-C) or let ``--minutes``
run out, and call it again. Each finished row is written to results/campaign.json at once. A row is a process of its own, so
``--jobs`` rows share a processor or a card; on a CPU each job gets one thread unless OMP_NUM_THREADS says otherwise. Nothing but
Python, torch and the unpacked data is needed. On one hyperthread with AVX-512 bf16 an epoch of ``resnet56-9-blocks`` takes about
two minutes, of ``resnet56-4-blocks`` one and a half.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import _runs
import torch
from _results import read_runs, write_networks
from _runs import data_dir, dense_flops, slim_flops, trained_network, weights
from _tables import PROCESSOR, ROOT, Result, of_runs, percent, processor, table
from torch import nn

import slimnet
from slimnet.criteria import branch_order
from slimnet.data import Batches, Dataset, load_data
from slimnet.files import write_json
from slimnet.graph import residual_branches
from slimnet.recipes import load_recipe
from slimnet.training import Interrupted

NAME = "campaign"
RECIPE: dict[str, Any] = {
    "val_fraction": 0.02,
    "lr": 0.05,
    "weight_decay": 5e-4,
    "schedule": "cosine",
    "warmup_epochs": 1,
    "distill_weight": 0.9,
    "distill_temperature": 4.0,
    "ema": 0.995,
}
"""What all rows on CIFAR-10 share: large learning rate, cosine, the dense network as teacher, averaged weights."""
FACES: dict[str, Any] = {
    "data": "fer2013",
    "data_options": {"drop_leaked": True},
    "schedule": "cosine",
    "label_smoothing": 0.1,
    "ema": 0.998,
}
"""What all rows on FER2013 share, those of dense networks too."""
FACES_LR, FACES_DISTILLED = 0.05, 0.7
"""Of networks that are cut: the learning rate; of those with a teacher: its share."""
MIRRORED: dict[str, Any] = {"teacher_views": "flip"}
STRONGER: dict[str, Any] = {"augment": {"rotate": 15.0, "scale": 0.2, "erase": 0.5}}
"""Of faces: turned half as far again as is customary, twice the changes of size, twice as many images with a hole."""
VOTES: dict[str, Any] = {"data_options": {"drop_leaked": True, "ferplus_votes": True}, "soft_labels": True}
"""Of faces: half of each soft label is FER+'s votes."""
HEARD: dict[str, Any] = {**VOTES, "label_smoothing": 0.0, "distill_weight": 0.5}
"""The same where they count beside a teacher's opinion: they are smooth by themselves."""
ORDER_IMAGES, ORDER_BATCH = 512, 256
FROM_SCRATCH, SHORT = ("fsdp-resnet20-cifar10", "fpgm-mix-resnet20-cifar10"), 30
"""Recipes as published, and the epochs of their short rows, which end in one sitting on one thread."""


@dataclass(frozen=True)
class Row:
    """One training.

    Attributes:
        name: of the row.
        start: the trained network that it begins with, which is also the teacher: for CIFAR-10 by its name, for faces the run of
            another row; None for a dense network from random weights.
        epochs: passes over the training images.
        blocks: how many residual branches are left of it; None where a target says what goes.
        settings: changes to the recipe, such as a ``target``.
        seed: of the run.
        model: name of a network for faces, whose ``start`` does not say it.
        recipe: name of the recipe that it repeats, on CIFAR-10 from random weights; its epochs are the row's.
        teacher: run of another row, for faces, where it is not what the row begins with.
        shape: row whose run of the same seed says which widths are left, where no target does.
    """

    name: str
    start: str | None
    epochs: int
    blocks: int | None = None
    settings: dict[str, Any] = field(default_factory=dict)
    seed: int = 0
    model: str | None = None
    recipe: str | None = None
    teacher: str | None = None
    shape: str | None = None

    @property
    def is_cut(self) -> bool:
        """Whether it trains a part of the network that it begins with."""
        return self.blocks is not None or self.shape is not None or bool(self.settings.get("target"))

    @property
    def run(self) -> str:
        """Name of its run."""
        return f"{self.name}-{self.seed}"


def compared(seed: int) -> tuple[Row, ...]:
    """Branches and widths against widths alone, at the same predicted times: short trainings.

    Widths alone fall short of 1.8× and 2.5× on a processor with AMX: the targets lie below.
    """
    short = {"train_fraction": 0.25}
    return tuple(
        Row(
            f"resnet56-{speedup:g}x-{what}",
            "resnet56",
            8,
            None,
            short | {"target": {"speedup": speedup}, "shut_branches": shut},
            seed,
        )
        for speedup in (1.4, 1.6)
        for what, shut in (("branches", True), ("widths", False))
    )


def faces() -> tuple[Row, ...]:
    """Expressions: a residual network cut to three blocks against one that has three, trained as long in all."""
    dense = Row("faces-resnet20", None, 16, model="resnet20")
    return (
        dense,
        Row("faces-resnet20-3-blocks", dense.run, 16, 3, model="resnet20"),
        Row("faces-resnet8", None, 32, model="resnet8"),
    )


def expressions() -> tuple[Row, ...]:
    """The classifiers that slimnet ships, by what their int8 file may weigh: the base is the teacher of all others.

    The small one is cut out of the base; the tiny one out of a network of separable convolutions, which says more in 90 kB. The
    base learns once more, from itself and its mirror images, with stronger changes of the images; the others learn from it again.
    Then all learn from FER+'s votes, too.
    """
    decay = {"weight_decay": 5e-4}
    base = Row("expressions-base", None, 30, None, decay, model="resnet12_face")
    longer = Row("expressions-base-on", base.run, 45, None, decay | {"teacher": None, "mixup": 0.2}, model=base.model)
    less = {"weight_decay": 1e-4}
    wide = Row("expressions-tiny-wide", None, 30, None, less, model="xception_face", teacher=base.run)
    small, tiny, more = ({"target": {"params": left}} for left in (0.29, 0.64, 0.74))
    again = Row("expressions-base-again", longer.run, 30, None, decay | MIRRORED | STRONGER | {"mixup": 0.2}, model=base.model)
    voted = Row(
        "expressions-base-votes", again.run, 14, None, decay | STRONGER | HEARD | {"mixup": 0.2, "lr": 0.03}, model=base.model
    )
    return (
        base,
        longer,
        wide,
        Row("expressions-small", longer.run, 14, None, decay | small, model=base.model),
        Row("expressions-tiny", wide.run, 20, None, less | tiny, model=wide.model, teacher=longer.run),
        again,
        _on("expressions-small", 14, decay | MIRRORED, base.model, again),
        Row("expressions-tiny-more", wide.run, 34, None, less | MIRRORED | more, model=wide.model, teacher=again.run),
        voted,
        _on_votes("expressions-small", again, 14, decay, again),
        _on_votes("expressions-tiny", wide, 16, less, voted, shape="expressions-tiny-more"),
    )


def _on(name: str, epochs: int, settings: dict[str, Any], model: str | None, teacher: Row) -> Row:
    """A cut network, trained on from where its row ended, with another teacher."""
    return Row(f"{name}-again", f"{name}-0", epochs, None, settings, model=model, teacher=teacher.run, shape=name)


def _on_votes(name: str, start: Row, epochs: int, settings: dict[str, Any], teacher: Row, shape: str | None = None) -> Row:
    """A network cut to widths that a row found before, which learns from FER+'s votes and a teacher."""
    how = settings | MIRRORED | HEARD
    return Row(f"{name}-votes", start.run, epochs, None, how, model=start.model, teacher=teacher.run, shape=shape or name)


def ingredients(seed: int) -> tuple[Row, ...]:
    """What each ingredient of the small classifier gives: short trainings, each with one thing changed.

    Some look for their widths anew, which takes minutes; the others take those that the reference found.
    """
    shared, base = {"weight_decay": 5e-4, "target": {"params": 0.29}}, "expressions-base-on-0"

    def row(name: str, changes: dict[str, Any], **more: Any) -> Row:
        return Row(f"small-{name}", base, 6, None, shared | changes, seed, "resnet12_face", **more)

    def as_found(name: str, changes: dict[str, Any]) -> Row:
        return row(name, {"target": {}} | changes, shape="small-reference")

    return (
        row("reference", {}),
        row("without-teacher", {"teacher": None}),
        row("weaker-teacher", {}, teacher="expressions-base-0"),
        row("mirrored-teacher", MIRRORED),
        as_found("random-start", {"init": None}),
        row("stronger-changes", STRONGER),
        as_found("mixup", {"mixup": 0.2}),
        as_found("without-average", {"ema": 0.0}),
        as_found("without-smoothing", {"label_smoothing": 0.0}),
        as_found("votes", VOTES),
    )


ROWS = (
    Row("resnet56-9-blocks", "resnet56", 24, 9),
    Row("resnet56-4-blocks", "resnet56", 24, 4),
    Row("resnet56-6-blocks", "resnet56", 30, 6),
    *(row for seed in (0, 1) for row in compared(seed)),
    Row("resnet56-15-blocks", "resnet56", 20, 15),
    Row("resnet56-20-blocks", "resnet56", 20, 20),
    Row("resnet56-13-blocks", "resnet56", 20, 13),
    Row("resnet20-6-blocks", "resnet20", 24, 6),
    Row("resnet20-4-blocks", "resnet20", 24, 4),
    *(Row(f"resnet56-{blocks}-blocks", "resnet56", 24, blocks, seed=seed) for seed in (1, 2) for blocks in (9, 4)),
    *faces(),
    *expressions(),
    *(row for seed in (0, 1) for row in ingredients(seed)),
    *(Row(f"{name}-short", None, SHORT, recipe=name) for name in FROM_SCRATCH),
    *(Row(name, None, 200, recipe=name) for name in FROM_SCRATCH),
)


def closed_branches(row: Row, work: Path, device: str) -> tuple[str, ...]:
    """The branches of a row's network that cost least, in order; found once for each network and kept in the work folder."""
    if row.blocks is None:
        return ()
    kept = work / f"branches-{row.start}.json"
    if not kept.is_file():
        write_json(kept, {"start": row.start, "images": ORDER_IMAGES, "order": _order(row, work, device)})
    order = json.loads(kept.read_text(encoding="utf-8"))["order"]
    return tuple(name for name, _ in order[: len(order) + 1 - row.blocks])


def _order(row: Row, work: Path, device: str) -> list[tuple[str, float]]:
    """All branches but one, by the loss on training images without them."""
    model, data = start_network(row, work)
    layout = torch.channels_last
    model = model.to(device, memory_format=layout)
    part = data.train.subset(torch.arange(ORDER_IMAGES))
    batches = list(Batches(part, ORDER_BATCH, mean=data.mean, std=data.std, device=device, memory_format=layout).epoch(0))
    branches = residual_branches(model.cpu(), batches[0][0][:2].cpu())
    model.to(device)
    with torch.autocast(torch.device(device).type, dtype=torch.bfloat16):
        found = branch_order(model, branches, batches, len(branches) - 1, progress=lambda *what: print(*what, flush=True))
    return [(name, round(loss, 5)) for name, loss in found]


def start_network(row: Row, work: Path) -> tuple[nn.Module, Dataset]:
    """The trained network that a row begins with, and the images that it was trained on."""
    if row.model is None:
        return trained_network(str(row.start)), load_data("cifar10", data_dir=str(data_dir()), normalise="imagenet")
    run = slimnet.Run.open(work / str(row.start))
    return run.load_model(), run.dataset()


def settings_of(row: Row, work: Path) -> dict[str, Any]:
    """The settings of a row: network, data, where it begins and whom it learns from, what its kind shares, and its own."""
    if row.recipe is not None:
        return {**load_recipe(row.recipe).settings, "data_dir": str(data_dir()), **row.settings}
    if row.model is None:
        start = str(weights(str(row.start)))
        begin = {"model": row.start, "data": "cifar10", "data_dir": str(data_dir()), "init": start, "teacher": start}
        return {**begin, **RECIPE, **row.settings}
    begin = {"model": row.model, "data_dir": str(data_dir() / "fer2013"), **FACES}
    teacher = row.teacher or row.start
    taught = {} if teacher is None else {"teacher": str(work / teacher), "distill_weight": FACES_DISTILLED}
    method = {} if row.is_cut else {"method": slimnet.Dense()}
    if row.shape is not None:
        method = {"method": slimnet.OneShot(widths=widths_of(f"{row.shape}-{row.seed}"))}
    if row.start is None:
        return {**begin, **method, **taught, **row.settings}
    return {**begin, **method, "init": str(work / row.start / "model.safetensors"), **taught, "lr": FACES_LR, **row.settings}


def widths_of(name: str) -> tuple[tuple[str, int], ...]:
    """What a finished row left of each group: from the results, so that its run need not lie here."""
    found = next((row["widths"] for run in read_runs(NAME) for row in run["networks"] if row["name"] == name), None)
    if not found:
        sys.exit(f"the row {name!r} is not finished, and another has its widths: train it first.")
    return tuple((group, int(width)) for group, width in found)


def train(row: Row, work: Path, device: str) -> None:
    """Train a row, or go on with it, and note its result."""
    work.mkdir(parents=True, exist_ok=True)
    branches = closed_branches(row, work, device)
    settings = {"method": slimnet.OneShot(branches=branches), **settings_of(row, work)}
    run = _runs.train(work / row.run, **settings | {"epochs": row.epochs, "seed": row.seed, "device": device})
    write_networks(NAME, {"recipe": RECIPE}, [described(row, run, branches)])


def described(row: Row, run: slimnet.Run, branches: tuple[str, ...]) -> dict[str, Any]:
    return {
        "name": row.run,
        "start": row.start,
        "model": run.config.model,
        "data": run.config.data,
        "blocks": row.blocks,
        "epochs": row.epochs,
        "seed": row.seed,
        "settings": {name: _relative(value) for name, value in row.settings.items()},
        "teacher": None if run.config.teacher is None else row.teacher or row.start,
        "branches": list(branches),
        "widths": [list(pair) for pair in run.method.widths] if isinstance(run.method, slimnet.OneShot) else [],
        "predicted": (run.target or {}).get("predicted"),
        "flops": {"dense": dense_flops(run), "realised": slim_flops(run)},
        "val_accuracy": run.result["val_accuracy"],
        "test_accuracy": run.result["test_accuracy"],
        "seconds": sum(line["seconds"] for line in run.metrics),
        "curve": [round(line["val_accuracy"], 4) for line in run.metrics],
    }


def _relative(value: Any) -> Any:
    """A path of this folder as the results name it, whatever machine wrote them."""
    return value.replace(str(ROOT), "").lstrip("/") if isinstance(value, str) else value


def is_finished(row: Row) -> bool:
    rows = [done for run in read_runs(NAME) for done in run["networks"]]
    return any(done["name"] == row.run and done["epochs"] == row.epochs for done in rows)


def run_rows(rows: list[Row], args: argparse.Namespace) -> None:
    """Start rows one after another, so many at a time; stop them all when the time is over, or when this is stopped."""
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    end = time.monotonic() + 60 * args.minutes
    waiting, running = [row for row in rows if not is_finished(row)], {}
    env = {"OMP_NUM_THREADS": "1", **os.environ}
    try:
        while (waiting or running) and time.monotonic() < end:
            while waiting and len(running) < args.jobs:
                row = waiting.pop(0)
                command = [sys.executable, __file__, "--one", row.run, "--device", args.device, "--work", args.work]
                running[row.run] = subprocess.Popen(command, env=env)
            time.sleep(1)
            for name in [name for name, process in running.items() if process.poll() is not None]:
                print(name, "ended with", running.pop(name).returncode, flush=True)
    finally:
        for process in running.values():
            process.terminate()
        for process in running.values():
            process.wait()


@of_runs(NAME)
def compared_table(runs: list[Result]) -> str:
    """Branches against widths alone at the same predicted time: a row for each target and seed that both have."""
    done = {row["name"]: (row, run) for run in reversed(runs) for row in run["networks"]}
    targets = sorted({name.partition("x-branches")[0] for name in done if "x-branches" in name})
    lines = []
    for target in targets:
        for seed in (0, 1, 2):
            pair = [done.get(f"{target}x-{what}-{seed}") for what in ("branches", "widths")]
            lines += [_compared_row(target, *pair)] if None not in pair else []
    if not lines:
        return "(Not measured yet.)"
    head = ("target, seed", "branches and widths", "shut", "widths alone", "difference, points", "multiply-adds left", PROCESSOR)
    return (
        table(head, lines) + "\n\nTest accuracy after 8 epochs on a quarter of the training images, the dense network as teacher."
    )


def _compared_row(target: str, branches: tuple[Result, Result], widths: tuple[Result, Result]) -> tuple[str, ...]:
    (one, run), (other, _) = branches, widths
    shut = len({name for name, width in one["widths"] if width == 0})
    left = (percent(row["flops"]["realised"] / row["flops"]["dense"], 0) for row in (one, other))
    by = 100 * (one["test_accuracy"] - other["test_accuracy"])
    return (
        *(f"{target.removeprefix('resnet56-')}×, {one['seed']}", percent(one["test_accuracy"]), f"{shut} of 27"),
        *(percent(other["test_accuracy"]), f"{by:+.2f}", ", ".join(left), processor(run)),
    )


CHANGES = {
    "reference": "as the small classifier, 6 epochs",
    "without-teacher": "no teacher",
    "weaker-teacher": "the base of 30 epochs as teacher, not the one of 75",
    "mirrored-teacher": "the teacher answers for the mirror image, too",
    "random-start": "the same widths from random weights: not cut out of the base",
    "stronger-changes": "turned by up to 15° (10°), size ±20 % (10 %), half of the images with a hole (a quarter)",
    "mixup": "mixup, α = 0.2",
    "without-average": "no averaged weights",
    "without-smoothing": "no label smoothing",
    "votes": "half of each label is FER+'s votes",
}


@of_runs(NAME)
def ingredients_table(runs: list[Result]) -> str:
    """What changing one thing of the small classifier's training gives, a row for each change and seed."""
    done = {row["name"]: (row, run) for run in reversed(runs) for row in run["networks"]}
    lines = []
    for what, told in CHANGES.items():
        for seed in (0, 1):
            if f"small-{what}-{seed}" in done and f"small-reference-{seed}" in done:
                (row, run), (reference, _) = done[f"small-{what}-{seed}"], done[f"small-reference-{seed}"]
                by = "–" if what == "reference" else f"{100 * (_of_both(row) - _of_both(reference)):+.2f}"
                figures = (percent(row["test_accuracy"]), percent(row["val_accuracy"]), by)
                lines.append((told, str(seed), *figures, processor(run)))
    if not lines:
        return "(Not measured yet.)"
    head = ("change", "seed", "test", "validation", "difference over both, points", PROCESSOR)
    return table(head, lines)


def _of_both(row: Result) -> float:
    """Accuracy over FER2013's two splits that are not trained on: they are of the same size."""
    return float(row["test_accuracy"] + row["val_accuracy"]) / 2


@of_runs(NAME)
def from_scratch_table(runs: list[Result]) -> str:
    """Methods as published, from random weights: a row for each that is finished, the shortest first."""
    done = {row["name"]: (row, run) for run in reversed(runs) for row in run["networks"]}
    rows = [done[row.run] for row in ROWS if row.recipe in FROM_SCRATCH and row.run in done]
    lines = [
        (
            row["name"].partition("-resnet20")[0],
            str(row["epochs"]),
            percent(row["test_accuracy"]),
            percent(row["val_accuracy"]),
            percent(row["flops"]["realised"] / row["flops"]["dense"], 1),
            f"{row['seconds'] / 3600:.1f}",
            processor(run),
        )
        for row, run in sorted(rows, key=lambda pair: pair[0]["epochs"])
    ]
    if not lines:
        return "(Not measured yet.)"
    head = ("ResNet-20, CIFAR-10, from random weights", "epochs", "test", "validation", "multiply-adds left", "hours", PROCESSOR)
    return table(head, lines)


TABLES = {
    "branches-widths": compared_table,
    "expression-ingredients": ingredients_table,
    "from-scratch": from_scratch_table,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--rows", nargs="*", help="names of rows; default: all, in the order of their worth")
    parser.add_argument("--work", default="runs/campaign", help="where runs and checkpoints lie")
    parser.add_argument("--list", action="store_true", help="say which rows there are, and which are finished")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    args = parser.parse_args()
    by_name = {row.run: row for row in ROWS}
    if args.one:
        try:
            train(by_name[args.one], Path(args.work), args.device)
        except Interrupted as stop:
            sys.exit(128 + stop.signum)
        return
    unknown = [name for name in args.rows or () if name not in by_name]
    if unknown:
        sys.exit(f"there is no row {unknown[0]!r}; there are: {', '.join(by_name)}.")
    rows = [by_name[name] for name in args.rows] if args.rows else list(ROWS)
    if args.list:
        for row in rows:
            print(row.run, "finished" if is_finished(row) else "open")
        return
    run_rows(rows, args)


if __name__ == "__main__":
    main()

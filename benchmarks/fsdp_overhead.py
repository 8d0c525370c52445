"""What FSDP costs: epoch time with FSDP ÷ epoch time of plain training of the same network, in one process, interleaved.

    SLIMNET_DATA=DATA python benchmarks/fsdp_overhead.py [ROUNDS]

Expected: at most 1.05 (the published way, a whole extra pass over the training set every second epoch, about 1.35 in the epochs
that have it). ResNet-20 on 10,000 images of CIFAR-10, so that what is paid once an epoch weighs five times as much as in
training on all of them. A round is two epochs (class statistics are due every second one) of each variant, in random order, on
one thread; what counts is the processor's time, which a busy machine disturbs less than the clock's (given beside it). About
12 minutes. Writes results/fsdp_overhead.json.
"""

from __future__ import annotations

import random
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _results import write_result
from _runs import data_dir, weights
from _tables import PROCESSOR, Result, of_runs, processor, table, when

from slimnet.allocation import LiveFlops
from slimnet.data import stratified_indices
from slimnet.measure.stats import median_interval
from slimnet.methods import FSDP, Dense
from slimnet.training.config import TrainConfig
from slimnet.training.engine import start_state
from slimnet.training.job import prepare
from slimnet.training.loop import Loop
from slimnet.training.signals import SignalWatch
from slimnet.training.team import join_team

IMAGES, EPOCHS = 10_000, 40
VARIANTS = {
    "plain": Dense(),
    "fsdp": FSDP(finetune_epochs=0),
    "published": FSDP(faithful=True),
    "plain again": Dense(),
}


def make_loop(name: str, folder: Path, crew: object) -> Loop:
    """A training loop that stands before its first epoch."""
    config = TrainConfig(
        model="resnet20", data="cifar10", data_dir=str(data_dir()), method=VARIANTS[name], epochs=EPOCHS, lr=0.01,
        precision="auto", channels_last=True, init=str(weights("resnet20")),
    )  # fmt: skip
    job = prepare(config, crew, weights=True, say=print)
    chosen = stratified_indices(job.dataset.train.labels, IMAGES, torch.Generator().manual_seed(0))
    few = stratified_indices(job.dataset.val.labels, 500, torch.Generator().manual_seed(0))
    part = replace(job.dataset, train=job.dataset.train.subset(chosen), val=job.dataset.val.subset(few))
    job = replace(job, dataset=part)
    (folder / name).mkdir()
    flops = LiveFlops(job.model, job.groups, job.example)
    return Loop(job, start_state(job), folder / name, SignalWatch(), print, flops)


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 6
    torch.set_num_threads(1)
    times: dict[str, list[float]] = {name: [] for name in VARIANTS}
    clock: dict[str, list[float]] = {name: [] for name in VARIANTS}
    crew = join_team("cpu")
    with tempfile.TemporaryDirectory() as folder:
        loops = {name: make_loop(name, Path(folder), crew) for name in VARIANTS}
        for number in range(rounds + 1):
            for name in random.sample(list(loops), len(loops)):
                start, began = time.process_time(), time.perf_counter()
                loops[name].run_epoch()
                loops[name].run_epoch()
                if number:  # the first round warms up
                    times[name].append(time.process_time() - start)
                    clock[name].append(time.perf_counter() - began)
            print(number, {name: f"{values[-1]:.1f} s" for name, values in times.items() if values}, flush=True)
    ratios, by_clock = against_plain(times), against_plain(clock)
    for name, ratio in ratios.items():
        print(f"{name} ÷ plain: {ratio['median']:.3f} ({ratio['interval'][0]:.3f}–{ratio['interval'][1]:.3f})")
    about = {"model": "resnet20", "images": IMAGES, "rounds": rounds, "epochs_a_round": 2, "threads": 1}
    write_result("fsdp_overhead", about | {"ratio_to_plain": ratios, "ratio_by_the_clock": by_clock})


def against_plain(times: dict[str, list[float]]) -> dict[str, dict[str, Any]]:
    """Median and 95 % interval of each variant's time over plain training's in the same round."""
    plain, ratios = np.asarray(times["plain"]), {}
    for name in [name for name in VARIANTS if name != "plain"]:
        values = np.asarray(times[name]) / plain
        ratios[name] = {"median": float(np.median(values)), "interval": list(median_interval(values, seed=0))}
    return ratios


@of_runs("fsdp_overhead")
def overhead_table(runs: list[Result]) -> str:
    """What FSDP costs."""
    r = runs[0]
    rows = [
        (name, f"{v['median']:.3f}", f"{v['interval'][0]:.3f}–{v['interval'][1]:.3f}", processor(run))
        for run in runs
        for name, v in run["ratio_to_plain"].items()
    ]
    head = ("variant", "epoch time ÷ plain training", "95 % interval", PROCESSOR)
    note = f"{r['model']}, {r['images']:,} images of CIFAR-10, {r['rounds']} interleaved rounds; {when(runs)}."
    return table(head, rows) + f"\n\n{note}"


TABLES = {"overhead": overhead_table}


if __name__ == "__main__":
    main()

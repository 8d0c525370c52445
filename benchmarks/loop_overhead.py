"""What masks in one's own loop cost: time of a step with ``slimnet.attach`` ÷ time of the same step without.

    python benchmarks/loop_overhead.py [ROUNDS]

Expected: at most 1.03. ResNet-20 on batches of 64 made-up pictures of 32 × 32, SGD with momentum and AdamW, half of all filters
fading, or closed. A round is 3 steps of each variant, in random order, on one thread; what counts is the processor's time, which
a busy machine disturbs less than the clock's (given beside it). The same plain loop runs twice: what its second run shows is
noise. About 5 minutes. Writes results/loop_overhead.json.
"""

from __future__ import annotations

import random
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from _results import write_result
from _tables import PROCESSOR, Result, of_runs, processor, table, when
from torch import nn

import slimnet
from slimnet.measure.stats import median_interval

BATCH, STEPS, EPOCHS = 64, 3, 20
OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "SGD": lambda parameters: torch.optim.SGD(parameters, lr=0.01, momentum=0.9, nesterov=True, weight_decay=5e-4),
    "AdamW": lambda parameters: torch.optim.AdamW(parameters, lr=1e-3),
}
PHASES = {"nothing selected": 0, "fading": 2, "closed": 17}


def make_steps(optimizer: str, epochs: int | None) -> Callable[[], None]:
    """Some steps of a loop; with a pruner, that of a run after so many epochs."""
    torch.manual_seed(0)
    model = slimnet.build_model("resnet20", num_classes=10)
    images, labels = torch.randn(BATCH, 3, 32, 32), torch.randint(10, (BATCH,))
    made = OPTIMIZERS[optimizer](model.parameters())

    def steps() -> None:
        for _ in range(STEPS):
            nn.functional.cross_entropy(model(images), labels).backward()
            made.step()
            made.zero_grad()

    if epochs is not None:
        method = slimnet.FSDP(rate_cs=0.1, rate_gm=0.4)
        pruner = slimnet.attach(model, images[:2], method, epochs=EPOCHS, data=[(images, labels)], optimizer=made)
        for epoch in range(epochs):
            with pruner.epoch(epoch):
                if epoch == 0:
                    steps()
        keep_alive.append(pruner)
    return steps


keep_alive: list[Any] = []


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 60
    torch.set_num_threads(1)
    variants: dict[tuple[str, str], Callable[[], None]] = {}
    for optimizer in OPTIMIZERS:
        variants |= {(optimizer, name): make_steps(optimizer, None) for name in ("plain", "plain again")}
        variants |= {(optimizer, name): make_steps(optimizer, epochs) for name, epochs in PHASES.items()}
    times: dict[tuple[str, str], list[float]] = {key: [] for key in variants}
    clock: dict[tuple[str, str], list[float]] = {key: [] for key in variants}
    for number in range(rounds + 2):
        for key in random.sample(list(variants), len(variants)):
            start, began = time.process_time(), time.perf_counter()
            variants[key]()
            if number > 1:  # the first rounds warm up
                times[key].append(time.process_time() - start)
                clock[key].append(time.perf_counter() - began)
    rows = [
        {"optimizer": optimizer, "variant": name, "step_ms": float(np.median(values)) / STEPS * 1e3,
         "ratio": ratio(times, optimizer, name), "by_the_clock": ratio(clock, optimizer, name)}
        for (optimizer, name), values in times.items()
    ]  # fmt: skip
    for row in rows:
        low, high = row["ratio"]["interval"]
        print(f"{row['optimizer']}, {row['variant']}: {row['ratio']['median']:.3f} ({low:.3f}–{high:.3f})")
    write_result("loop_overhead", {"model": "resnet20", "batch": BATCH, "rounds": rounds, "threads": 1, "rows": rows})


def ratio(times: dict[tuple[str, str], list[float]], optimizer: str, name: str) -> dict[str, Any]:
    """Median and 95 % interval of a variant's time over the plain loop's in the same round."""
    values = np.asarray(times[optimizer, name]) / np.asarray(times[optimizer, "plain"])
    return {"median": float(np.median(values)), "interval": list(median_interval(values, seed=0))}


@of_runs("loop_overhead")
def loop_table(runs: list[Result]) -> str:
    """What a step costs with a pruner attached."""
    rows = [
        (
            row["optimizer"],
            row["variant"],
            f"{row['step_ms']:.1f} ms",
            f"{row['ratio']['median']:.3f}",
            "{:.3f}–{:.3f}".format(*row["ratio"]["interval"]),
            processor(run),
        )
        for run in runs
        for row in run["rows"]
        if row["variant"] != "plain"
    ]
    r = runs[0]
    head = ("optimiser", "variant", "a step", "÷ plain loop", "95 % interval", PROCESSOR)
    note = f"{r['model']}, batches of {r['batch']}, one thread, {r['rounds']} interleaved rounds; {when(runs)}."
    return table(head, rows) + f"\n\n{note}"


TABLES = {"loop-overhead": loop_table}


if __name__ == "__main__":
    main()

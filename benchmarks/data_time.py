"""Is data what training waits for? Milliseconds to make a batch with all that is done to faces, and the share of an epoch.

    python benchmarks/data_time.py

Random images of CIFAR-10's size: 20 batches of 128, five times, the fastest counts; then two epochs of ResNet-8 on the digits at
32x32, the smallest network that ships, in which the data are the largest share. Expected on one core: below 7 ms a batch, below
5 % of an epoch. On an idle machine; about a minute. Writes results/data_time.json.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import torch
from _results import write_result

import slimnet
from slimnet.data import Augment, Batches, Split
from slimnet.measure.machine import load

BATCH, BATCHES, EPOCHS = 128, 20, 5
AUGMENTS = {"crop and flip": Augment(), "all": Augment(crop_padding=4, flip=True, rotate=10.0, scale=0.1, erase=0.25)}


def milliseconds(augment: Augment) -> float:
    """Of a batch, in the fastest epoch."""
    images = torch.randint(256, (BATCH * BATCHES, 3, 32, 32), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    split = Split(images, torch.zeros(len(images), dtype=torch.int64))
    batches = Batches(split, BATCH, mean=(0.5,) * 3, std=(0.25,) * 3, augment=augment, shuffle=True)
    times = []
    for epoch in range(EPOCHS):
        start = time.perf_counter()
        for _ in batches.epoch(epoch):
            pass
        times.append(1e3 * (time.perf_counter() - start) / len(batches))
    return min(times)


def share() -> float:
    """Of the data in the last of two epochs."""
    with tempfile.TemporaryDirectory() as folder:
        run = slimnet.train(
            out=Path(folder) / "run", model="resnet8", data="digits", image_size=32, epochs=2, device="cpu", progress=False
        )
    return float(run.metrics[-1]["data_share"])


def main() -> None:
    torch.set_num_threads(1)
    found = {name: milliseconds(augment) for name, augment in AUGMENTS.items()}
    write_result("data_time", {"threads": 1, "batch": BATCH, "load_average": load(), "milliseconds": found, "share": share()})


if __name__ == "__main__":
    main()

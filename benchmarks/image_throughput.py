"""Images a second from JPEG files: slimnet's loader against a plain DataLoader with Pillow, and with torchvision's decoder.

    python benchmarks/image_throughput.py [--files 2000] [--rounds 9]

JPEGs of 500×375 are made for it (smooth noise, about 60 kB, as photographs have). Each side does the customary training pass: a
random window brought to 224×224, mirrored or not, normalised, in batches of 64; as many processes decode. In each round the three
take one epoch each, in random order, and slimnet a second one (A/A): a ratio is that of a round, so that a busy machine slows all
of them. Expected: at least 1.0 against the faster of the two: nothing but the window is resized, bytes travel between processes,
and a batch is normalised whole. Then memory: an epoch over 100,000 names of few small JPEGs, and how much more the process and
the two that decode hold of their own at its end than after a tenth of it. Writes results/image_throughput.json.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _results import write_result
from _tables import PROCESSOR, Result, of_runs, processor, ranged, table, when
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms as v1
from torchvision.transforms import v2

from slimnet.data import Augment, Batches, ImageFiles, Split
from slimnet.data.images import PathFiles
from slimnet.data.paths import Paths
from slimnet.measure.machine import load
from slimnet.measure.stats import median_interval

SIDE, BATCH, MEAN, STD = 224, 64, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
NAMES = 100_000


def make_files(folder: Path, count: int, size: tuple[int, int]) -> list[Path]:
    """JPEGs of noise that is smooth, but not quite."""
    rng, paths = np.random.default_rng(0), []
    for i in range(count):
        coarse = Image.fromarray(rng.integers(0, 256, (24, 32, 3), np.uint8)).resize(size, Image.Resampling.BICUBIC)
        pixels = np.asarray(coarse).astype(np.int16) + rng.integers(-12, 12, (size[1], size[0], 3), np.int16)
        paths.append(folder / f"{i:06}.jpg")
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(paths[-1], quality=90)
    return paths


class Plain(Dataset[Tensor]):
    """What a plain data set does."""

    def __init__(self, paths: list[Path], read: Callable[[Path], Any], change: Callable[[Any], Tensor]) -> None:
        self.paths, self.read, self.change = paths, read, change

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, place: int) -> Tensor:
        return self.change(self.read(self.paths[place]))


def with_pillow(path: Path) -> Any:
    with path.open("rb") as file:
        return Image.open(file).convert("RGB")


def with_torchvision(path: Path) -> Tensor:
    """The operator behind `torchvision.io.decode_jpeg`, which warns that it will move."""
    found: Tensor = torch.ops.image.decode_jpeg(torch.frombuffer(bytearray(path.read_bytes()), dtype=torch.uint8), 3, False)
    return found


def sides(paths: list[Path], workers: int) -> dict[str, Callable[[], Iterable[Any]]]:
    """Name → what gives an epoch."""
    pillow = v1.Compose([v1.RandomResizedCrop(SIDE), v1.RandomHorizontalFlip(), v1.ToTensor(), v1.Normalize(MEAN, STD)])
    floats = v2.Compose([v2.ToDtype(torch.float32, scale=True), v2.Normalize(MEAN, STD)])
    vision = v2.Compose([v2.RandomResizedCrop(SIDE, antialias=True), v2.RandomHorizontalFlip(), floats])
    split = Split(ImageFiles.of(paths, channels=3, size=(SIDE, SIDE)), torch.zeros(len(paths), dtype=torch.int64))
    own = Batches(split, BATCH, mean=MEAN, std=STD, augment=Augment(area=0.08), shuffle=True, workers=workers)
    options: dict[str, Any] = {"batch_size": BATCH, "shuffle": True, "num_workers": workers}
    loaders = {
        "pillow": DataLoader(Plain(paths, with_pillow, pillow), **options),
        "torchvision": DataLoader(Plain(paths, with_torchvision, vision), **options),
    }
    return {"slimnet": lambda: own.epoch(0), "again": lambda: own.epoch(0), **{n: lambda d=d: d for n, d in loaders.items()}}


def seconds(epoch: Callable[[], Iterable[Any]]) -> float:
    start = time.perf_counter()
    for _ in epoch():
        pass
    return time.perf_counter() - start


def compared(paths: list[Path], rounds: int, workers: int) -> dict[str, Any]:
    """Ratios of images a second, each of one round."""
    found, rng = sides(paths, workers), np.random.default_rng(0)
    names = list(found)
    times = np.zeros((rounds, len(names)))
    for row in times:
        for i in rng.permutation(len(names)):
            row[i] = seconds(found[names[i]])
    own = times[:, names.index("slimnet")]
    ratios = {name: times[:, names.index(name)] / own for name in names if name != "slimnet"}
    ratios["better"] = np.minimum(ratios["pillow"], ratios["torchvision"])
    return {
        "images_per_second": {name: float(len(paths) / np.median(times[:, i])) for i, name in enumerate(names)},
        "ratios": {name: [float(np.median(r)), *map(float, median_interval(r))] for name, r in ratios.items()},
    }


def own_memory(pids: Iterable[int]) -> float:
    """MB that processes hold for themselves alone: what they share is not counted."""
    total = 0
    for pid in pids:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
        total += sum(int(line.split()[1]) for line in text.splitlines() if line.startswith("Private_"))
    return total / 1024


def memory(folder: Path) -> dict[str, Any]:
    """Of an epoch over many names."""
    few = make_files(folder, 20, (32, 32))
    names = [f"links/{i:06}.jpg" for i in range(NAMES)]
    (folder / "links").mkdir()
    for i, name in enumerate(names):
        os.link(few[i % len(few)], folder / name)
    split = Split(ImageFiles(PathFiles(Paths.of(folder, names)), 3, (32, 32)), torch.zeros(NAMES, dtype=torch.int64))
    del names
    batches = Batches(split, 256, mean=MEAN, std=STD, shuffle=True, workers=2)
    seen = []
    for step, _ in enumerate(batches.epoch(0)):
        if step in (len(batches) // 10, len(batches) - 10):
            children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
            seen.append(own_memory([os.getpid(), *map(int, children)]))
    return {"files": NAMES, "after_a_tenth_mb": seen[0], "at_the_end_mb": seen[1]}


@of_runs("image_throughput")
def throughput_table(runs: list[Result]) -> str:
    head = ("against", "images a second, relative (interval over rounds)", PROCESSOR)
    names = {"pillow": "DataLoader with Pillow", "torchvision": "DataLoader with torchvision's decoder",
             "better": "the better of both in each round", "again": "slimnet itself (A/A)"}  # fmt: skip
    rows = [
        (words, ranged(r["ratios"][name][0], r["ratios"][name][1:], "×"), processor(r))
        for r in runs
        for name, words in names.items()
    ]
    said = "; ".join(
        f"{r['memory']['after_a_tenth_mb']:.0f} MB after a tenth of {r['memory']['files']:,} files, "
        f"{r['memory']['at_the_end_mb']:.0f} MB at their end" for r in runs
    )  # fmt: skip
    return f"{table(head, rows)}\n\nMemory of the process and the two that decode: {said}. Measured: {when(runs)}."


TABLES = {"image-throughput": throughput_table}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--files", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--workers", type=int, default=2)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        paths = make_files(Path(folder), asked.files, (500, 375))
        found = compared(paths, asked.rounds, asked.workers)
    with tempfile.TemporaryDirectory() as folder:
        held = memory(Path(folder))
    about = {"files": asked.files, "rounds": asked.rounds, "workers": asked.workers, "load_average": load()}
    write_result("image_throughput", {**about, **found, "memory": held})


if __name__ == "__main__":
    main()

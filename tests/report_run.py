"""A finished run, written by hand, for a report of it."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from slimnet.commands.report import write_report as write_any_report
from slimnet.evaluation.f1 import macro_f1
from slimnet.files import write_tensors
from slimnet.methods import FSDP, Method
from slimnet.training import TrainConfig

CLASSES = ["an<gry>", "happy & co", '"sad"']
CONFUSION = [[8, 2, 0], [1, 9, 0], [3, 0, 2]]
EPOCHS = 5
SELECTED = [[], [3], [3, 5], [5, 6], [5, 6]]  # of the 8 filters of "first"; after each epoch


class Tiny(nn.Module):
    def __init__(self, num_classes: int, in_channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(in_channels, 8, 3)
        self.second = nn.Conv2d(8, 6, 3)
        self.head = nn.Linear(6, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(self.second(self.first(x).relu()).relu().mean((2, 3)))
        return out


NET = "report_run:tiny"
write_report = partial(write_any_report, trust_code=NET)


def tiny(num_classes: int, in_channels: int) -> nn.Module:
    return Tiny(num_classes, in_channels)


def line(epoch: int) -> dict[str, Any]:
    return {
        "epoch": epoch,
        "lr": 0.1 / (1 + epoch),
        "train_loss": 1.0 / (1 + epoch),
        "train_accuracy": 0.5 + 0.1 * epoch,
        "val_loss": 3.0 / (1 + epoch),
        "val_accuracy": 0.4 + 0.1 * epoch,
        "rate": 0.0625 * epoch,
        "zeta": 1 - epoch / 4,
        "closed_share": 0.25 if epoch == 4 else 0.0,
        "live_flops": 1000.0 if epoch == 4 else 2000.0,
        "seconds": 1.5,
    }


def hexed(indices: list[int], size: int) -> str:
    return np.packbits(np.isin(np.arange(size), indices)).tobytes().hex()


def make_run(folder: Path, *, method: Method | None = None) -> Path:
    """A finished run of :class:`Tiny` whose filters 5 and 6 are closed."""
    folder.mkdir()
    method = method or FSDP(finetune_epochs=1)
    config = TrainConfig(model=NET, method=method, epochs=EPOCHS, data_dir="/some/where", init="/a/b/start.pth")
    data = {"name": "fac<i>es", "classes": CLASSES, "image_shape": [1, 8, 8], "mean": [0.5], "std": [0.25], "test": 25}
    record = {"format": "slimnet-run/1", "train": config.as_dict(), "data": data, "environment": {"device": "x<86>"}}
    (folder / "config.json").write_text(json.dumps(record))
    result = {
        "final": True,
        "best_epoch": 4,
        "val_accuracy": 0.8,
        "test_accuracy": 0.76,
        "test_macro_f1": macro_f1(CONFUSION),
        "test_confusion": CONFUSION,
        "test_images": 25,
    }
    write_lines(folder / "metrics.jsonl", [line(epoch) for epoch in range(EPOCHS)] + [result])
    selection = [{"epoch": e, "selected": {"first": hexed(s, 8), "second": hexed([], 6)}} for e, s in enumerate(SELECTED)]
    write_lines(folder / "selection.jsonl", selection)
    torch.manual_seed(0)
    model = Tiny(3, 1)
    with torch.no_grad():
        for tensor in (model.first.weight, model.first.bias):
            tensor[[5, 6]] = 0
    write_tensors(folder / "model.safetensors", model.state_dict())
    return folder


def write_lines(path: Path, lines: list[Any]) -> None:
    path.write_text("".join(json.dumps(entry) + "\n" for entry in lines))


def read_lines(path: Path) -> list[Any]:
    return [json.loads(text) for text in path.read_text().splitlines()]


def drop_confusion(run: Path) -> None:
    lines = read_lines(run / "metrics.jsonl")
    del lines[-1]["test_confusion"], lines[-1]["test_macro_f1"]
    write_lines(run / "metrics.jsonl", lines)

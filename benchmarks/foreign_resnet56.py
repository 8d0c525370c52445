"""Somebody else's ResNet-56 for CIFAR-10, 40 % of the filters of every convolution zeroed: masked against slim, image by image.

    SLIMNET_DATA=DATA python benchmarks/foreign_resnet56.py [IMAGES]

The filters of smallest L2 norm are zeroed, in every layer by itself, and the norms are left as they are, as SFP and FPGM leave
them. Expected: the same class for all 10,000 test images with and without ``expand``, max |Δ logits| about 1e-5 (float32); 34 %
fewer FLOPs, 47 % with ``expand``; the papers' formula claims 50 % (6 of 16 channels is 37.5 %). About 4 minutes on one processor
core. Writes results/foreign_resnet56.json.
"""

from __future__ import annotations

import sys
from typing import Any

import torch
from _results import write_result
from _runs import data_dir, trained_network
from _tables import Result, of_runs, percent, table
from torch import Tensor, nn

import slimnet
from slimnet.commands.paper import paper_accounting
from slimnet.data import Batches, load_data

RATE = 0.4


def masked_network() -> nn.Module:
    """The trained network with 40 % of the filters of every convolution at zero."""
    model = trained_network("resnet56").eval()
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            norms = module.weight.data.flatten(1).norm(dim=1)
            module.weight.data[norms.argsort()[: int(RATE * len(norms))]] = 0
    return model


@torch.no_grad()
def predict(model: nn.Module, batches: Batches) -> tuple[Tensor, Tensor]:
    """Logits (N, 10) and labels (N,) of the test set."""
    parts = [(model(images), labels) for images, labels in batches.epoch(0)]
    return torch.cat([logits for logits, _ in parts]), torch.cat([labels for _, labels in parts])


def compare(masked: nn.Module, example: Tensor, batches: Batches, reference: Tensor, *, expand: bool) -> dict[str, Any]:
    """Cut the network, and hold its answers against those of the masked one."""
    result = slimnet.slim(masked, example, expand=expand)
    logits, labels = predict(result.model, batches)
    cost = slimnet.count(result.model, example)
    return {
        "accuracy": float((logits.argmax(1) == labels).double().mean()),
        "same_class": int((logits.argmax(1) == reference.argmax(1)).sum()),
        "max_abs": float((logits - reference).abs().max()),
        "relative": float((logits - reference).abs().max() / reference.abs().max()),
        "parity_float64": result.report.verification.worst,
        "flops": cost.flops,
        "params": cost.params,
        "seconds": result.report.seconds,
        "verify_seconds": result.report.verify_seconds,
    }


def main(images: int) -> None:
    torch.set_num_threads(1)
    data = load_data("cifar10", data_dir=str(data_dir()))
    test = data.test.subset(torch.arange(images))
    batches = Batches(test, 250, mean=data.mean, std=data.std)
    masked = masked_network()
    logits, labels = predict(masked, batches)
    example = next(iter(batches.epoch(0)))[0][:4]
    dense = slimnet.count(masked, example)
    values = {
        "images": images,
        "rate": RATE,
        "threads": 1,
        "logit_std": float(logits.std()),
        "masked": {"accuracy": float((logits.argmax(1) == labels).double().mean()), "flops": dense.flops, "params": dense.params},
        "slim": compare(masked, example, batches, logits, expand=False),
        "expanded": compare(masked, example, batches, logits, expand=True),
        "paper_accounting": paper_accounting(masked, example),
    }
    for name in ("masked", "slim", "expanded"):
        print(name, values[name])
    print("paper accounting", values["paper_accounting"])
    if images == len(data.test):
        write_result("foreign_resnet56", values)
    if any(values[name]["same_class"] != images for name in ("slim", "expanded")):
        sys.exit("the slim network gives another class for some image")


@of_runs("foreign_resnet56")
def foreign_table(runs: list[Result]) -> str:
    """A checkpoint as SFP and FPGM leave them."""
    r = runs[0]
    before = r["masked"]["flops"]
    rows = [
        (
            *(label, f"{r[key]['same_class']:,} of {r['images']:,}"),
            *(f"{r[key]['max_abs']:.0e}", percent(1 - r[key]["flops"] / before, 1)),
        )
        for label, key in (("`slim`", "slim"), ("`slim --expand`", "expanded"))
    ]
    head = f"ResNet-56 on CIFAR-10, {r['rate']:.0%} of every layer's filters zeroed by L2, norms live"
    saved = f"FLOPs saved, realised (paper accounting {percent(r['paper_accounting']['saved'], 1)})"
    return table((head, "test images in the same class", "max abs Δ logits", saved), rows)


TABLES = {"foreign": foreign_table}


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 10_000)

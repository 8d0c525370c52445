"""slimnet against torch-pruning 1.6.1: the same filters removed from the same networks, and what the outputs say.

    SLIMNET_DATA=DATA python benchmarks/against_torch_pruning.py

In every network half of the channels of each channel group have zero filters in all layers that make them, while norms and
biases live on: what soft pruning without masked norms leaves behind. torch-pruning slices exactly these channels; slimnet removes
what it can without changing the function. Both are held against the network with its zero filters. ResNet-56 has the weights that
others trained on CIFAR-10, with 40 % of each group closed by smallest L2 norm, and sees real test images; once with its streams
and once without: its shortcuts pad with channels, which torch-pruning does not follow, and the network that it leaves does not
run. The others have random weights. Expected: slimnet about 1e-6 everywhere (float32 rounding), torch-pruning of the size of the
logits themselves. About 3 minutes on one processor core. Without SLIMNET_DATA, ResNet-56 is left out. Writes
results/against_torch_pruning.json.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from _results import write_result
from _runs import data_dir, trained_network
from _tables import Result, of_runs, table
from torch import Tensor, nn

import slimnet
from slimnet.data import Batches, load_data
from slimnet.errors import GraphError
from slimnet.graph import ChannelGroup, channel_groups, prunable
from slimnet.graph.dependency import peer_slice

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
import zoo

NAMES = ("resnet18", "resnet50", "vgg16_bn", "mobilenet_v2", "squeezenet1_0", "densenet121", "googlenet")
Channels = Mapping[str, list[int]]


def closed(model: nn.Module, groups: tuple[ChannelGroup, ...]) -> Channels:
    """A layer of each group → its channels of which all filters are zero."""
    found = {}
    for group in groups:
        zero = torch.ones(group.size, dtype=torch.bool)
        for rows in group.weights:
            filters = (model.get_parameter(rows.name).detach().movedim(rows.dim, 0).flatten(1) == 0).all(dim=1)
            zero &= filters[rows.index].all(dim=1)
        first = group.weights[0]
        found[first.module] = found.get(first.module, []) + first.index[zero].flatten().tolist()
    return found


@torch.no_grad()
def distance(reference: nn.Module, model: nn.Module, x: Tensor) -> dict[str, Any]:
    """max |Δ logits|, and how many inputs get the same class."""
    before, after = reference(x), model(x)
    return {
        "max_abs": float((before - after).abs().max()),
        "same_class": float((before.argmax(1) == after.argmax(1)).double().mean()),
        "params": sum(parameter.numel() for parameter in model.parameters()),
    }


def compare(name: str, masked: nn.Module, x: Tensor) -> dict[str, Any]:
    """One network: both tools on the same channels."""
    channels = closed(masked, prunable(channel_groups(masked, x[:2])))
    result = slimnet.slim(masked, x[:2])
    with torch.no_grad():
        deviation = float(masked(x).std())
    row: dict[str, Any] = {
        "name": name,
        "inputs": len(x),
        "closed_channels": sum(len(chosen) for chosen in channels.values()),
        "params": sum(parameter.numel() for parameter in masked.parameters()),
        "logit_std": deviation,
        "slimnet": {**distance(masked, result.model, x), "parity_float64": result.report.verification.worst},
    }
    try:
        row["torch_pruning"] = distance(masked, peer_slice(masked, x[:2], channels), x)
    except (GraphError, RuntimeError) as error:
        row["torch_pruning"] = {"error": str(error).splitlines()[0]}
    return row


def foreign_resnet56(*, streams: bool) -> tuple[nn.Module, Tensor]:
    """Trained weights, 40 % of every group (that is not a stream) closed, norms live; 500 real test images."""
    data = load_data("cifar10", data_dir=str(data_dir()))
    batches = Batches(data.test.subset(torch.arange(500)), 500, mean=data.mean, std=data.std)
    x = next(iter(batches.epoch(0)))[0]
    model = trained_network("resnet56").eval()
    ignore = [] if streams else [group.name for group in prunable(channel_groups(model, x[:2])) if group.is_stream]
    slimnet.prune(model, x[:2], criterion="l2", rate=0.4, mask_norm=False, ignore=ignore)
    return model, x


def networks() -> Iterator[tuple[str, nn.Module, Tensor]]:
    """All of them, one after the other."""
    if os.environ.get("SLIMNET_DATA"):
        yield "resnet56 (CIFAR-10)", *foreign_resnet56(streams=True)
        yield "resnet56 (CIFAR-10), no streams", *foreign_resnet56(streams=False)
    for name in NAMES:
        model, _ = zoo.masked(zoo.BY_NAME[name], "coupled")
        yield name, model, zoo.example(zoo.BY_NAME[name], batch=16)


def main() -> None:
    torch.set_num_threads(1)
    rows = []
    for name, model, x in networks():
        rows.append(compare(name, model, x))
        print(rows[-1], flush=True)
    write_result("against_torch_pruning", {"threads": 1, "networks": rows})


def _sliced(peer: Result) -> str:
    """How far off, or that the network does not run."""
    return f"{peer['max_abs']:.1e}" if "max_abs" in peer else "does not run"


@of_runs("against_torch_pruning")
def surgeon_table(runs: list[Result]) -> str:
    """Exactness against slicing."""
    r = runs[0]
    rows = [
        (n["name"], f"{n['slimnet']['max_abs']:.1e}", _sliced(n["torch_pruning"]), f"{n['logit_std']:.2f}") for n in r["networks"]
    ]
    return table(("network", "slimnet, max abs Δ logits", "torch-pruning 1.6.1, max abs Δ logits", "σ of the logits"), rows)


TABLES = {"surgeon": surgeon_table}


if __name__ == "__main__":
    main()

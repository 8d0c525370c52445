"""What benchmarks that train share: the data, networks to start from, a run begun or gone on with, what a bundle comes to."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from _results import without_paths
from torch import Tensor, nn

import slimnet
from slimnet.criteria import group_scores
from slimnet.graph import ChannelGroup, prunable
from slimnet.measure import count

if TYPE_CHECKING:
    from slimnet.export import Bundle

RUNS, BUILD = Path("runs"), Path("build")
SIZES = {"resnet18": (224, 1000), "resnet50": (224, 1000), "vgg16_bn": (48, 7), "resnet56": (32, 10)}
"""Image size and classes of the networks that are timed with random weights."""


def data_dir() -> Path:
    """The folder with the real data sets and weights, from SLIMNET_DATA."""
    value = os.environ.get("SLIMNET_DATA")
    if not value or not Path(value).is_dir():
        sys.exit("set SLIMNET_DATA to a folder with cifar-10-batches-py/ and weights/")
    return Path(value)


def weights(network: str) -> Path:
    """Weights for CIFAR-10 that others trained."""
    return data_dir() / "weights" / f"{network}_cifar10.th"


def trained_network(network: str) -> nn.Module:
    """A network with these weights."""
    return slimnet.build_model(network, num_classes=10, weights=weights(network))


def random_network(name: str) -> tuple[nn.Module, Tensor]:
    """A network of SIZES and two images (2, 3, H, W): random, and the same every time."""
    side, classes = SIZES[name]
    torch.manual_seed(0)
    return slimnet.build_model(name, num_classes=classes).eval(), torch.randn(2, 3, side, side)


def l2_scores(model: nn.Module, groups: Iterable[ChannelGroup]) -> dict[str, Tensor]:
    """The L2 norm of every filter that may go, by group."""
    return {group.name: group_scores(model, group, "l2") for group in prunable(groups)}


def train(out: Path, **settings: Any) -> slimnet.Run:
    """Train, or go on with a run that was interrupted."""
    return slimnet.train(out=out, resume=(out / "config.json").is_file(), **settings)


def train_cifar10(network: str, out: Path, **settings: Any) -> slimnet.Run:
    """The same on CIFAR-10, from trained weights unless ``init`` names others."""
    start = {"model": network, "data": "cifar10", "data_dir": str(data_dir()), "init": str(weights(network))}
    return train(out, **start | settings)


def dense_flops(run: slimnet.Run) -> int:
    """Multiply-adds for one image of a run's network at full size."""
    return count(run.build_model(), run.example_input()[:1]).flops


def slim_flops(run: slimnet.Run) -> int:
    """Multiply-adds of what surgery leaves of it."""
    example = run.example_input()
    return count(slimnet.slim(run.load_model(), example).model, example[:1]).flops


def sizes(bundle: Bundle) -> dict[str, Any]:
    """Of a bundle's networks: multiply-adds, parameters, bytes, and how far they are from the masked one."""
    dense, slim = bundle.cost_dense, bundle.cost_slim
    return {
        "flops": {"dense": dense.flops, "realised": slim.flops},
        "flops_saved": 1 - slim.flops / dense.flops,
        "paper_accounting": bundle.report["paper_accounting"],
        "params": {"dense": dense.params, "slim": slim.params},
        "onnx_bytes": {"dense": bundle.dense_onnx.stat().st_size, "slim": bundle.onnx.stat().st_size},
        "parity": bundle.report["parity"]["slim"],
    }


def export_and_time(run: slimnet.Run, name: str, **how: Any) -> tuple[Bundle, dict[str, Any]]:
    """A run's bundle in build/NAME, and what there is to say of it: accuracy, sizes, latency, and its target."""
    from slimnet.commands import bench_bundle, export_run

    bundle = export_run(run.path, BUILD / name, force=True, say=print, **how)
    bench = bench_bundle(bundle.path, seconds=20.0)
    found = {"accuracy": bundle.report["accuracy"], **sizes(bundle), "latency": without_paths(bench.latency.as_dict())}
    return bundle, found | ({"target": bench.target} if bench.target else {})

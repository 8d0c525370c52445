"""slimnet's widths against torch-pruning's at the same FLOPs: how fast are they, in one paired run?

    python benchmarks/speed_against_peer.py [NETWORK …]

torchvision's ResNet-18 and ResNet-50 at 224×224 and VGG-16-BN at 48×48, random weights, one thread, batch 1. torch-pruning
removes 52 % of the channels of every group by L2 norm, with its default widths; then with `round_to` 8 and 16, at the rate whose
FLOPs come closest to that. slimnet chooses widths by `fit_widths` for the same FLOPs, from L2 norms too. All are exported by the
same exporter and timed in one session each. Expected: at least 1.4 times as fast as the default widths, and no slower than the
better `round_to`. About 10 minutes. Writes results/speed_against_peer.json; networks that are not asked for stay in it.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from _results import ratio, write_networks
from _runs import l2_scores, random_network
from _tables import PROCESSOR, Result, of_runs, processor, ranged, table, when
from torch import Tensor, nn

import slimnet
from slimnet.allocation import Budget, fit_widths
from slimnet.export import export_onnx
from slimnet.graph import channel_groups
from slimnet.graph.dependency import peer_prune
from slimnet.measure import compare_latency, count

CLASSIFIER = {"resnet18": "fc", "resnet50": "fc", "vgg16_bn": "classifier.6"}
RATE, ROUNDED = 0.52, (8, 16)


def flops(model: nn.Module, x: Tensor) -> int:
    """Multiply-adds for one image."""
    return count(model, x[:1]).flops


def rounded(name: str, round_to: int, wanted: int) -> nn.Module:
    """torch-pruning's network with such widths whose FLOPs are closest to those wanted, by bisection: they fall with the rate."""
    model, x = random_network(name)
    low, high = 30, 80  # per cent
    tried = {}
    while high - low > 1:
        rate = (low + high) // 2
        small = peer_prune(model, x, rate / 100, round_to=round_to, ignore=[CLASSIFIER[name]])
        left = flops(small, x)
        tried[abs(left - wanted)] = small
        low, high = (rate, high) if left > wanted else (low, rate)
    return tried[min(tried)]


def chosen(name: str, share: float) -> nn.Module:
    """slimnet's network at this share of the FLOPs."""
    model, x = random_network(name)
    groups = channel_groups(model, x)
    fitted = fit_widths(model, x, groups, l2_scores(model, groups), Budget(flops=share))
    slimnet.prune(model, x, widths=fitted.kept)
    return slimnet.slim(model, x).model


def measured(name: str, folder: Path) -> dict[str, Any]:
    """All of them in one paired run; torch-pruning's default widths are the baseline."""
    dense, x = random_network(name)
    default = peer_prune(dense, x, RATE, ignore=[CLASSIFIER[name]])
    wanted, whole = flops(default, x), flops(dense, x)
    models = {"torch-pruning": default, "dense": dense}
    models |= {f"torch-pruning, round_to={to}": rounded(name, to, wanted) for to in ROUNDED}
    models["slimnet"] = chosen(name, wanted / whole)
    files, left = {}, {label: flops(model, x) for label, model in models.items()}
    for number, (label, model) in enumerate(models.items()):
        files[label] = folder / f"{name}-{number}.onnx"
        export_onnx(model, x, files[label])
    report = compare_latency(files, rounds=100, seconds=30.0, limit=90.0, baseline="torch-pruning")
    rows = [
        {
            "name": label,
            "flops_reduction": whole / left[label],
            "against_default": report[label].speedup,
            "interval": list(report[label].interval),
            "against_dense": report[label].speedup / report["dense"].speedup,
        }
        for label in models
    ]
    for row in rows:
        print(name, row, flush=True)
    return {"name": name, "variants": rows, "control": ratio(report.control), "flags": report.flags}


def main() -> None:
    torch.set_num_threads(1)
    for name in sys.argv[1:] or CLASSIFIER:
        with tempfile.TemporaryDirectory() as folder:
            found = measured(name, Path(folder))
        write_networks("speed_against_peer", {"threads": 1, "batch": 1, "rate": RATE}, [found])


@of_runs("speed_against_peer")
def peer_table(runs: list[Result]) -> str:
    """Against torch-pruning at the same FLOPs."""
    rows = []
    for n, where in [(n, processor(r)) for r in runs for n in r["networks"]]:
        for v in n["variants"]:
            times = ranged(v["against_default"], v["interval"])
            rows.append((n["name"], v["name"], f"{v['flops_reduction']:.2f}", f"{v['against_dense']:.2f}", times, where))
        rows[-1] = (*rows[-1][:-2], f"{rows[-1][-2]}; A/A {n['control']['speedup']:.3f}", where)
    head = ("network", "widths of", "FLOPs ÷", "time ÷, against dense", "against torch-pruning's default widths", PROCESSOR)
    note = f"One thread, batch {runs[0]['batch']}, ONNX Runtime, random weights, filters by L2 norm, one session each."
    return table(head, rows) + f"\n\n{note} {when(runs)}."


TABLES = {"peer": peer_table}


if __name__ == "__main__":
    main()

"""Detectors of torchvision, cut where torch.export can follow them: backbone and head, to half of their multiply-adds.

    python benchmarks/object_detectors.py          # cut, export, hold against ONNX Runtime, time
    python benchmarks/object_detectors.py time     # again the times alone, on a quiet machine

Random weights: this is about what can be cut, and about time, not about boxes that are found. The whole detector, boxes and
suppression with it, is run and compared as well. Widths stay multiples of 16. Expected: parity of rounding, most of what is
closed gone, and fewer milliseconds. About 3 minutes on one processor core; files in build/. Writes results/object_detectors.json.
"""

from __future__ import annotations

import sys
from functools import partial
from typing import Any

import torch
from _results import own_run, ratio, write_networks
from _runs import BUILD
from _tables import PROCESSOR, Result, of_runs, percent, processor, ranged, table, when
from torch import nn

import slimnet
from slimnet.measure import compare_latency, count
from slimnet.parts import catch_part

NAME = "object_detectors"
PART = "backbone+head"
RATE, ALIGN = 0.4, 16
"""Channels closed, and the multiple that is kept: kernels are slow on odd widths, so that a cut of odd ones may gain nothing."""
SIDES = {"ssdlite320_mobilenet_v3_large": 320, "retinanet_resnet50_fpn": 320}


def detector(name: str) -> tuple[nn.Module, torch.Tensor]:
    """A detector of 91 classes and a picture."""
    from torchvision.models import detection

    torch.manual_seed(0)
    side = SIDES[name]
    sized: dict[str, int] = {} if name.startswith("ssd") else {"min_size": side, "max_size": side}
    made = partial(getattr(detection, name), weights=None, weights_backbone=None)
    return made(**sized).eval(), torch.rand(2, 3, side, side)


def measure(name: str) -> dict[str, Any]:
    """Cut one, and export what it was and what it is."""
    model, x = detector(name)
    before = catch_part(model, x, PART)
    files = BUILD / NAME / name
    files.mkdir(parents=True, exist_ok=True)
    slimnet.export_onnx(model, x, files / "dense.onnx", part=PART)
    slimnet.prune(model, x, rate=RATE, part=PART)
    result = slimnet.slim(model, x, part=PART, align=ALIGN)
    parity = slimnet.export_onnx(result.model, x, files / "slim.onnx", reference=model, part=PART)
    after = catch_part(result.model, x, PART)
    return {
        "name": name,
        "image": SIDES[name],
        "flops": {"dense": count(before.module, before.inputs).flops, "slim": count(after.module, after.inputs).flops},
        "params": {"dense": result.report.params_before, "slim": result.report.params_after},
        "closed": result.report.closed,
        "removed": result.report.removed,
        "parity": result.report.verification.worst,
        "onnx": max(check.relative for check in parity.checks if check.dtype == "float32"),
        "outputs": len({check.output for check in parity.checks}),
        "times": times(name),
    }


def times(name: str) -> dict[str, Any]:
    """Dense and slim in the same rounds, one picture, one thread."""
    files = BUILD / NAME / name
    report = compare_latency({"dense": files / "dense.onnx", "slim": files / "slim.onnx"}, rounds=50)
    rows = {which: {"ms": report[which].median_ms, **ratio(report[which])} for which in ("dense", "slim")}
    return {**rows, "control": ratio(report.control), "flags": report.flags}


@of_runs(NAME)
def detectors_table(runs: list[Result]) -> str:
    """What was cut, and what it gave."""
    rows, flags = [], []
    for run in runs:
        for each in run["networks"]:
            flops, params, took = each["flops"], each["params"], each["times"]
            flags += [f"{each['name']}: {flag}" for flag in took["flags"].values()]
            rows.append(
                (
                    f"{each['name']}, {each['image']}²",
                    f"{each['removed']:,} of {each['closed']:,}",
                    f"{percent(flops['slim'] / flops['dense'])} of {flops['dense'] / 1e9:.2f} G",
                    f"{percent(params['slim'] / params['dense'])} of {params['dense'] / 1e6:.1f} M",
                    f"{each['parity']:.0e}",
                    f"{each['onnx']:.0e}, {each['outputs']} outputs",
                    f"{took['dense']['ms']:.1f} → {took['slim']['ms']:.1f} ms",
                    ranged(took["slim"]["speedup"], took["slim"]["interval"], "×"),
                    processor(run),
                )
            )
    head = ("detector", "removed of closed", "multiply-adds left", "parameters left", "float64", "ONNX Runtime", "time", "faster")
    return table((*head, PROCESSOR), rows) + f"\n\n{when(runs)}." + (f" Beware: {'; '.join(flags)}." if flags else "")


TABLES = {"object-detectors": detectors_table}


def main() -> None:
    torch.set_num_threads(1)
    if sys.argv[1:] == ["time"]:
        for row in own_run(NAME).get("networks", []):
            write_networks(NAME, {}, [row | {"times": times(row["name"])}])
    elif sys.argv[1:]:
        sys.exit("give nothing, or time")
    else:
        for name in SIDES:
            write_networks(NAME, {}, [measure(name)])


if __name__ == "__main__":
    main()

"""int8 placed by measured time: what stays in fp32, and what that is worth.

    python benchmarks/placing.py [NAME…]    # on an idle machine, about 5 minutes; one thread, one image

Networks with random weights, dense or with half of every group cut. Each is quantised whole and with
the search of `--placing measured`; then fp32, int8 whole and int8 placed run in one paired run of its own, so that the figures
are not those that the choice was made from. Expected: the search takes less than 2 minutes for ResNet-20; what it
chooses is not slower than int8 whole beyond the A/A control, exit status 1 otherwise. Writes results/placing.json after each
network; networks that are not named stay as they are.

On a processor with AVX-512 or VNNI, AVX2 can be had for its kernels (not for what this file says of the processor) by
LD_PRELOAD of tests/c/without_avx512.c, as .ci/avx2 does.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from _results import ratio, write_networks
from _tables import PROCESSOR, Result, of_runs, processor, ranged, table, when

import slimnet
from slimnet.export.precision._int8 import Quantiser
from slimnet.export.precision._place import candidates, doubt_of, place
from slimnet.measure import LatencyReport, compare_latency

NETWORKS = {
    "resnet20": ((3, 32, 32), 0.0),
    "resnet20 slim": ((3, 32, 32), 0.5),
    "vgg9_face slim": ((1, 48, 48), 0.5),
    "resnet18 slim": ((3, 224, 224), 0.5),
    "mobilenet_v2": ((3, 96, 96), 0.0),
    "mobilenet_v3_small": ((3, 96, 96), 0.0),
    "efficientnet_b0": ((3, 96, 96), 0.0),
    "shufflenet_v2_x0_5": ((3, 96, 96), 0.0),
}


def fp32_network(name: str, folder: Path) -> tuple[bytes, torch.Tensor]:
    """The ONNX file, and images."""
    shape, rate = NETWORKS[name]
    torch.manual_seed(0)
    model, x = slimnet.build_model(name.partition(" ")[0], num_classes=10, in_channels=shape[0]).eval(), torch.randn(16, *shape)
    if rate:
        slimnet.prune(model, x, criterion="l2", rate=rate)
        model = slimnet.slim(model, x).model
    slimnet.export_onnx(model, x[:2], folder / "fp32.onnx")
    return (folder / "fp32.onnx").read_bytes(), x


def measured(name: str) -> tuple[dict[str, Any], bool]:
    """One network, and whether what was chosen turned out to be slower."""
    with tempfile.TemporaryDirectory() as folder:
        data, x = fp32_network(name, Path(folder))

        def paired(files: Mapping[str, Path], seconds: float = 2.0) -> LatencyReport:
            first = next(iter(files))
            return compare_latency(files, rounds=100, seconds=seconds, limit=60.0, inputs=x[:1].numpy(), baseline=first)

        quantiser = Quantiser(data, x.numpy())
        found, begin = candidates(quantiser.prepared), time.perf_counter()
        placement = place(
            lambda nodes: quantiser("minmax", nodes),
            found,
            fixed=(),
            compare=paired,
            accepts=lambda _: True,
            layers=quantiser.layers,
        )
        seconds = time.perf_counter() - begin
        files = {"int8": quantiser("minmax"), "fp32": data, "placed": placement.data}
        paths = {key: Path(folder) / f"{key}.onnx" for key in files}
        for key, path in paths.items():
            path.write_bytes(files[key])
        report = paired(paths, 10.0)
        nodes = set(placement.nodes)
        is_slower = report["placed"].interval[1] < 1 - doubt_of(report.control)
        return {
            "name": name,
            "seconds": seconds,
            "candidates": len(found),
            "left": [one.name for one in found if set(one.nodes) <= nodes],
            "nodes": len(nodes),
            "rows": {key: {"bytes": len(files[key]), "median_ms": report[key].median_ms, **ratio(report[key])} for key in files},
            "control": ratio(report.control),
            "flags": report.flags,
            "tried": placement.tried,
        }, is_slower


def main() -> None:
    torch.set_num_threads(1)
    names = sys.argv[1:] or list(NETWORKS)
    if not set(names) <= set(NETWORKS):
        sys.exit(f"there are {', '.join(NETWORKS)}")
    wrong = []
    for name in names:
        found, is_slower = measured(name)
        write_networks("placing", {"threads": 1, "batch": 1}, [found])
        print({key: value for key, value in found.items() if key != "tried"}, flush=True)
        if is_slower:
            wrong.append(f"{name}: placed is slower than whole, {found['rows']['placed']}")
    if wrong:
        sys.exit("\n".join(wrong))


@of_runs("placing")
def placing_table(runs: list[Result]) -> str:
    """int8 whole and placed, against fp32's and each other's time."""
    rows = [
        (
            n["name"],
            ranged(1 / n["rows"]["fp32"]["speedup"], sorted(1 / end for end in n["rows"]["fp32"]["interval"]), "×"),
            ranged(n["rows"]["placed"]["speedup"], n["rows"]["placed"]["interval"], "×"),
            ", ".join(n["left"]) or "nothing",
            f"{n['candidates']} in {n['seconds']:.0f} s",
            f"{n['control']['interval'][0]:.3f}–{n['control']['interval'][1]:.3f}",
            processor(r),
        )
        for r in runs
        for n in r["networks"]
    ]
    flags = sorted({flag for r in runs for n in r["networks"] for flag in n["flags"]})
    head = ("network", "int8 against fp32", "placed against int8", "stays in fp32", "candidates", "A/A", PROCESSOR)
    note = f"One image, one thread, random weights.{' Flags: ' + ', '.join(flags) + '.' if flags else ''} {when(runs)}."
    return table(head, rows) + f"\n\n{note}"


TABLES = {"placing": placing_table}


if __name__ == "__main__":
    main()

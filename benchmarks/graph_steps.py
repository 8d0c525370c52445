"""What each step on the exported graph does to its time, nodes and bytes, and what all of them do together.

Random weights: only the structure matters. Each step is timed against the graph before it and kept by the exporter's own rule
(`slimnet export --optimise measured`); then the exporter's graph, the safe and the measured one run in one interleaved session.
For networks with expanded layers, the bound for a contiguous order of their channels is timed as well: one Pad behind the live
channels, in whatever order (it computes something else, for the same time).

Expected: ResNet-56 1.08× faster with shortcuts as convolutions; VGG-16 at 48² 1.9× faster and a quarter of the bytes, its
classifier reading each place once; nothing on ResNet-18 and VGG-9, where ONNX Runtime finds all there is by itself. About 4
minutes on one thread.

    taskset -c 1 python benchmarks/graph_steps.py [CASE…]
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from _results import without_paths, write_result
from _tables import PROCESSOR, Result, of_runs, processor, speedup, table, when
from torch import nn

import slimnet
from slimnet.export.exporter import build
from slimnet.export.gate import Examples, check_onnx
from slimnet.export.parity import ONNX_MODEL
from slimnet.export.steps import Pace, optimise_graph
from slimnet.export.steps.merge import write_movement
from slimnet.export.steps.moves import NOWHERE, movements
from slimnet.measure import compare_latency
from slimnet.onnx import graph as ir

THREADS, SECONDS, ROUNDS = 1, 2.5, 60


def network(
    name: str, size: int, *, channels: int = 3, rate: float = 0.0, **options: Any
) -> Callable[[], tuple[nn.Module, int, int]]:
    """Makes a network, pruned at a rate where one is given, and its number of input channels and size of images."""

    def make() -> tuple[nn.Module, int, int]:
        torch.manual_seed(0)
        model = slimnet.build_model(name, num_classes=10, in_channels=channels).eval()
        if rate:
            example = torch.randn(2, channels, size, size)
            slimnet.prune(model, example, rate=rate, couple=options["couple"])
            model = slimnet.slim(model, example, align=options.get("align"), expand=options.get("expand", False)).model.eval()
        return model, channels, size

    return make


CASES = {
    "resnet18@224": network("resnet18", 224),
    "resnet56@32": network("resnet56", 32),
    "resnet56@32, 50 % of each stream": network("resnet56", 32, rate=0.5, couple="stream"),
    "vgg9_face@48": network("vgg9_face", 48, channels=1),
    "vgg16_bn@48": network("vgg16_bn", 48),
    "resnet18@224, 40 % of each layer, expanded": network("resnet18", 224, rate=0.4, couple="none", expand=True),
    "resnet56@32, 40 % of each layer, expanded": network("resnet56", 32, rate=0.4, couple="none", expand=True),
    "mobilenet_v3_small@224": network("mobilenet_v3_small", 224),
}


def main() -> None:
    chosen = sys.argv[1:] or list(CASES)
    results = {}
    for name in chosen:
        print(name, file=sys.stderr)
        results[name] = measured(CASES[name])
        write_result("graph_steps", {"threads": THREADS, "batch": 1, "seconds_a_step": SECONDS, "cases": results})


def measured(make: Callable[[], tuple[nn.Module, int, int]]) -> dict[str, Any]:
    model, channels, size = make()
    examples = Examples.of(torch.randn(2, channels, size, size))
    plain = build(model, examples, optimise="none").data

    def gate(data: bytes) -> Any:
        return check_onnx(data, {ONNX_MODEL: model}, examples)

    safe, _ = optimise_graph(plain, gate, "safe")
    best, steps = optimise_graph(plain, gate, "measured", pace=Pace(threads=THREADS, rounds=ROUNDS, seconds=SECONDS))
    graphs = {"exported": plain, "safe": safe, "measured": best, **contiguous(safe)}
    for step in steps.results:
        print(step.name, step.reason, step.speedup, step.interval, step.control, file=sys.stderr)
    return {
        "steps": steps.as_dict()["steps"],
        "graphs": {name: {"nodes": len(ir.operators(data)), "bytes": len(data)} for name, data in graphs.items()},
        "latency": together(graphs),
    }


def contiguous(data: bytes) -> dict[str, bytes]:
    """The graph as if the live channels of every expansion came first; empty where there are no expansions."""
    model = ir.read(data)
    found = [(node, movement) for node, movement in movements(model) if movement.padding is None]
    for node, movement in found:
        zeros = movement.index.count(NOWHERE)
        ordered = replace(movement, index=(*range(movement.channels), *(NOWHERE,) * zeros))
        write_movement(model.graph, node, ordered)
    return {"contiguous (bound)": ir.written(model)} if found else {}


def together(graphs: dict[str, bytes]) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        files = {name: Path(folder) / f"{i}.onnx" for i, name in enumerate(graphs)}
        for name, file in files.items():
            file.write_bytes(graphs[name])
        report = compare_latency(files, threads=THREADS, rounds=ROUNDS, seconds=2 * SECONDS, limit=30)
    for variant in (*report.variants, report.control):
        print(f"  {variant.name:20s} {variant.median_ms:8.3f} ms {variant.speedup:.3f} {variant.interval}", file=sys.stderr)
    latency = without_paths(report.as_dict())
    return {key: latency[key] for key in ("variants", "control", "rounds", "flags")}


def _step(step: Result) -> str:
    """A step's own speed-up and verdict."""
    if step["speedup"] is None:
        return f"{step['name']}: {step['reason']}"
    low, high = step["interval"]
    return f"{step['name']} {step['speedup']:.3f} ({low:.3f}–{high:.3f}), {step['reason'].rpartition(', ')[2]}"


def _bytes(graphs: Result) -> str:
    """Bytes as exported and after the safe steps, and after the measured ones where these differ."""
    sizes = [f"{graph['bytes'] / 1e6:.2f}" for name, graph in graphs.items() if "bound" not in name]
    return " → ".join(sizes) + " MB; " + " → ".join(str(g["nodes"]) for name, g in graphs.items() if "bound" not in name)


@of_runs("graph_steps")
def steps_table(runs: list[Result]) -> str:
    """What each step on the exported graph does."""
    rows = []
    for name, case, where in [(name, case, processor(r)) for r in runs for name, case in r["cases"].items()]:
        variants = {v["name"]: v for v in case["latency"]["variants"]}
        low, high = case["latency"]["control"]["interval"]
        bound = variants.get("contiguous (bound)")
        rows.append(
            (
                name,
                "<br>".join(_step(step) for step in case["steps"]) or "nothing to do",
                speedup(case["latency"], "safe"),
                f"{variants['measured']['speedup']:.2f}×",
                f"{bound['speedup']:.2f}×" if bound else "",
                f"{low:.3f}–{high:.3f}",
                _bytes(case["graphs"]),
                where,
            )
        )
    head = (
        *("network", "step: speed-up against the graph before it, 95 % interval, verdict", "safe", "measured"),
        *("one `Pad` an expansion (bound)", "A/A", "bytes; nodes: exported → safe → measured", PROCESSOR),
    )
    return table(head, rows) + f"\n\nOne thread, batch 1, ONNX Runtime, random weights; {when(runs)}."


TABLES = {"steps": steps_table}


if __name__ == "__main__":
    main()

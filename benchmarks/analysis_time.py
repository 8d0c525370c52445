"""What the analysis of a network costs: seconds and memory against the operators that it has.

    python benchmarks/analysis_time.py

torch.export comes first and is timed apart. Processor seconds, the least of three; the first run loads what is loaded on first
use. Expected: the same time an operator in small and in large networks (linear), more where layers have more channels. About two
minutes on one processor core. Writes results/analysis_time.json.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

import torch
from _results import write_result
from _tables import Result, measured, of_runs, table
from surgery_cost import Peak, in_processes

from slimnet import build_model
from slimnet.graph import channel_groups
from slimnet.graph.capture import capture

NAME = "analysis_time"
NETWORKS = ("resnet18", "resnet50", "resnet152", "vit_b_16", "convnext_large")
RUNS = 3


def measure(name: str) -> dict[str, Any]:
    """One network; neither part looks at how large maps are."""
    torch.set_num_threads(1)
    model, x = build_model(name, num_classes=1000).eval(), torch.zeros(2, 3, 224, 224)
    channel_groups(torch.nn.Conv2d(3, 4, 3), x[:, :, :8, :8])
    export, whole, grown = [], [], []
    for _ in range(RUNS):
        start = time.process_time()
        nodes = [node for node in capture(model, x).nodes if node.op == "call_function"]
        export.append(time.process_time() - start)
        peak = Peak()
        peak.start()
        start = time.process_time()
        groups = channel_groups(model, x)
        whole.append(time.process_time() - start)
        grown.append(peak.stop())
    return {
        "network": name,
        "operators": len(nodes),
        "params": sum(parameter.numel() for parameter in model.parameters()),
        "groups": len(groups),
        "export_seconds": min(export),
        "seconds": min(whole) - min(export),
        "peak_bytes": max(grown),
    }


def rows_of(runs: list[Result]) -> str:
    """The table."""
    run = runs[0]
    rows = [
        (
            row["network"],
            f"{row['operators']:,}",
            f"{row['params'] / 1e6:.1f} M",
            f"{row['export_seconds']:.2f}",
            f"{row['seconds']:.2f}",
            f"{1e3 * row['seconds'] / row['operators']:.2f}",
            f"{row['peak_bytes'] / 1e6:,.0f} MB",
        )
        for row in run["networks"]
    ]
    head = ("network", "operators", "parameters", "torch.export, s", "analysis, s", "ms an operator", "memory on top")
    return table(head, rows) + f"\n\nMeasured: {measured(run)}; processor seconds, one thread."


TABLES = {"analysis-time": of_runs(NAME)(rows_of)}


def main() -> None:
    write_result(NAME, {"threads": 1, "networks": in_processes(__file__, NETWORKS)})


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print(json.dumps(measure(sys.argv[1])))
    else:
        main()

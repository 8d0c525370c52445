"""What the exported program can do without where the plain module keeps channels that its code counts: slim with --as-graph.

    python benchmarks/as_graph.py                # those that are not there yet from this machine and these versions
    python benchmarks/as_graph.py yolo_like      # these again; the others stay as they were measured

Networks of the coverage table, closed as there (tests/zoo.py), each cut both ways. Expected: float64 parity ≤ 1e-9 both ways; the
graph removes at least as much. Five minutes on one processor core. Needs timm. Writes results/as_graph.json after each.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from _results import own_run, write_result
from _tables import Result, measured, of_runs, percent, table
from torch import Tensor, nn

from slimnet.errors import SlimnetError, one_line
from slimnet.export import export_onnx
from slimnet.measure import count
from slimnet.surgery import slim

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
import zoo

NAME = "as_graph"
CASES: tuple[tuple[str, zoo.Mode], ...] = (
    ("yolo_like", "coupled"),
    ("shufflenet_v2_x0_5", "coupled"),
    ("res2net50_26w_4s", "coupled"),
    ("res2net50_26w_4s", "independent"),
    ("inception_next_atto", "independent"),
    ("mixnet_s", "independent"),
    ("cspresnet50", "independent"),
    ("pvt_v2_b0", "coupled"),
)
"""Where the coverage table says that channels stay because the code counts them, or picks them by number.

torchvision's swin_t alone takes longer than all of these; tests/test_as_graph.py has a small one.
"""
WAYS = ("module", "graph")


def measure(name: str, mode: zoo.Mode) -> dict[str, Any]:
    """One row: a network closed once, and cut both ways."""
    case = zoo.BY_NAME[name]
    model, x = zoo.masked(case, mode)
    found = sum(len(rows) for rows in zoo.zero_filters(model).values())
    row = {"network": name, "family": case.family, "image": case.size, "mode": mode, "zero_filters": found}
    return row | {"flops": count(model, x).flops} | {way: cut(model, x, found, as_graph=way == "graph") for way in WAYS}


def cut(model: nn.Module, x: Tensor, found: int, *, as_graph: bool) -> dict[str, Any]:
    """What one way removes of so many zero filters, how exactly, and what its ONNX file computes."""
    start = time.process_time()
    try:
        result = slim(model, x, as_graph=as_graph)
    except SlimnetError as error:
        return {"refused": one_line(error)}
    made: dict[str, Any] = {
        "removed": found - zoo.zero_filters_left(model, result),
        "flops": count(result.model, x).flops,
        "parity": result.report.verification.worst,
        "seconds": time.process_time() - start,
        "way": result.report.way,
        "reasons": zoo.reasons(result),
    }
    with tempfile.TemporaryDirectory() as folder:
        try:
            report = export_onnx(result.model, x, Path(folder) / "slim.onnx", reference=model, tolerance=1e-6)
        except SlimnetError as error:
            return made | {"onnx": None, "onnx_error": one_line(error)}
    return made | {"onnx": max(check.relative for check in report.checks if check.dtype == "float32")}


def _cells(row: Mapping[str, Any]) -> tuple[str, ...]:
    module, graph = row["module"], row["graph"]

    def both(of: str, written: Any) -> str:
        return " → ".join(written(way[of]) if way.get(of) is not None else "refused" for way in (module, graph))

    left = graph.get("reasons") or {}
    return (
        f"{row['network']}, {row['image']}², {row['mode']}",
        f"{row['zero_filters']:,}",
        both("removed", lambda removed: percent(removed / row["zero_filters"], 1)),
        both("flops", lambda flops: percent(flops / row["flops"], 1)),
        both("parity", lambda parity: f"{parity:.0e}"),
        both("onnx", lambda relative: f"{relative:.0e}"),
        both("seconds", lambda seconds: f"{seconds:.1f}"),
        graph.get("way", graph.get("refused", "")).removeprefix("graph, "),
        "; ".join(f"{channels:,} {reason}" for reason, channels in left.items()) or "nothing",
    )


HEAD = ("network, image, masks", "zero filters", "removed", "FLOPs left", "parity", "ONNX", "seconds", "the graph takes",
        "what stays in the graph, and why")  # fmt: skip


@of_runs(NAME)
def as_graph_table(runs: list[Result]) -> str:
    """Both ways beside each other."""
    run = max(runs, key=lambda run: len(run["rows"]))  # of those, the newest
    versions = ", ".join(f"{name} {version}" for name, version in run["versions"].items())
    made = table(HEAD, [_cells(row) for row in run["rows"]])
    return f"{made}\n\nMeasured: {measured(run)}; {versions}, timm {run['timm']}."


TABLES = {"as-graph": as_graph_table}


def merged(new: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The new row and what there is from this machine, in the order of the table."""
    rows = {(row["network"], row["mode"]): row for row in (*own_run(NAME).get("rows", []), new)}
    return [rows[case] for case in CASES if case in rows]


def main(names: Sequence[str]) -> None:
    torch.set_num_threads(1)
    there = {(row["network"], row["mode"]) for row in own_run(NAME).get("rows", [])}
    for name, mode in CASES:
        if name in names or (not names and (name, mode) not in there):
            row = measure(name, mode)
            print(*_cells(row), sep=" | ", flush=True)
            write_result(NAME, {"threads": 1, "timm": version("timm"), "rows": merged(row)})


if __name__ == "__main__":
    main(sys.argv[1:])

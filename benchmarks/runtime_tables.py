"""The table of other runtimes."""

from __future__ import annotations

from _results import read_runs
from _tables import PROCESSOR, Result, processor, table, when


def runtimes_table() -> str:
    """Runtime × opset: how many networks agree, and how closely."""
    runs = read_runs("runtimes")
    if not runs:
        return "(Not measured yet.)"
    r = runs[0]
    opsets = [row["opset"] for row in r["networks"][0]["opsets"]]
    rows = [("`slimnet export` writes it", *(_exports(r, i) for i in range(len(opsets))), "")]
    rows += [
        (f"{one['name']} {one['version']}", *(_cell(run, i, one) for i in range(len(opsets))), processor(run))
        for run in runs
        for one in run["runtimes"]
    ]
    names = ", ".join(n["name"] for n in r["networks"])
    note = (
        f"The largest difference of a logit from ONNX Runtime's Python package ({r['versions']['onnxruntime']}), relative to the "
        f"largest logit, over {names} (random weights, {r['rate']:.0%} of every group cut) at batch 1 and 3; above "
        f"{r['tolerance']:g} what computes in float32 would count as wrong. From image to image the logits "
        f"differ by {min(n['spread'] for n in r['networks']):.0%} or more of the largest. {when(runs)}."
    )
    return table(("", *(f"opset {opset}" for opset in opsets), PROCESSOR), rows) + f"\n\n{note}"


def _exports(r: Result, i: int) -> str:
    missing = [n["name"] for n in r["networks"] if not n["opsets"][i]["exports"]]
    if len(missing) == len(r["networks"]):
        return "no"
    return f"not {', '.join(missing)}" if missing else "yes"


def _cell(r: Result, i: int, runtime: Result) -> str:
    """The worst error of the networks that agree, and the names of those that do not load or run."""
    found = {n["name"]: n["opsets"][i]["runtimes"][runtime["name"]] for n in r["networks"] if n["opsets"][i]["exports"]}
    if not found:
        return ""
    errors = [max(one["error"].values()) for one in found.values() if "error" in one]
    failed = [name for name, one in found.items() if "error" not in one]
    parts = [f"{max(errors):.0e}"] if errors else []
    if runtime["exact"] and max(errors, default=0) > r["tolerance"]:
        parts[0] = f"**wrong: {parts[0]}**"
    return "; ".join([*parts, *([f"fails: {', '.join(failed)}"] if failed else [])])

"""Tables of what export does to a network: precisions, steps on the graph, prediction."""

from __future__ import annotations

from _results import read_runs
from _tables import PROCESSOR, Result, percent, processor, speedup, table, when


def precision_row(name: str, row: str, r: Result, where: str) -> tuple[str, ...]:
    """One network in one precision."""
    low, high = r["interval"]
    made = ", ".join([r["method"], *(f"{name} in fp32" for name in r["excluded"])]) if "method" in r else ""
    return (
        f"{name}, {row}" + (f" ({made})" if made else ""),
        percent(r["test_accuracy"]) if "test_accuracy" in r else "–",
        percent(r["agreement"]) if "agreement" in r else "–",
        f"{r['bytes'] / 1e3:,.0f} kB",
        f"{r['speedup']:.2f}× ({low:.2f}–{high:.2f})",
        "–" if "refused" not in r else f"no: {r['refused']}" if r["refused"] else "yes",
        where,
    )


def precisions_table() -> str:
    """int8 and fp16 against fp32, dense and slim."""
    runs = read_runs("precisions")
    if not runs:
        return "(Not measured yet.)"
    networks = [(n, processor(r)) for r in runs for n in r["networks"]]
    rows = [precision_row(n["name"], label, row, where) for n, where in networks for label, row in n["rows"].items()]
    head = (
        "network",
        "test accuracy",
        "agreement with slim fp32",
        "bytes",
        "against dense fp32 (95 % interval)",
        "kept",
        PROCESSOR,
    )
    controls = ", ".join(
        f"{n['name']} {n['control']['speedup']:.3f} ({n['control']['interval'][0]:.3f}–{n['control']['interval'][1]:.3f})"
        for n, _ in networks
    )
    flags = sorted({flag for n, _ in networks for flag in n["flags"]})
    note = f"One image, one thread, one paired run a network. A/A: {controls}."
    return table(head, rows) + f"\n\n{note}{' Flags: ' + ', '.join(flags) + '.' if flags else ''} {when(runs)}."


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


def steps_table() -> str:
    """What each step on the exported graph does."""
    runs = read_runs("graph_steps")
    if not runs:
        return "(Not measured yet.)"
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


def predict_table() -> str:
    """Predicting from files against running on arrays."""
    runs = read_runs("predict_throughput")
    if not runs:
        return "(Not measured yet.)"
    rows = [
        (
            c["name"],
            f"{c['images']:,}",
            f"{c['decode_ms'] / c['bare_ms']:.2f}",
            f"{percent(c['ratio'], 0)} ({percent(c['interval'][0], 0)} to {percent(c['interval'][1], 0)})",
            f"{c['control']:.3f}",
            f"{processor(r)}, {r['processors']} processors",
        )
        for r in runs
        for c in r["cases"]
    ]
    head = (
        "network and files",
        "images",
        "reading alone ÷ network alone",
        "share of the network's throughput",
        "A/A",
        PROCESSOR,
    )
    r = runs[0]
    shared = f"batch {r['batch']}, {r['threads']} thread for the network, {r['workers']} that read"
    return table(head, rows) + f"\n\nAn image; {shared}; {when(runs)}."

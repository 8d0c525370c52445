"""Tables of how the clock follows the FLOPs."""

from __future__ import annotations

from _results import read_runs
from _tables import PROCESSOR, Result, percent, processor, table, when


def widths_table() -> str:
    """Predicted against measured."""
    runs = read_runs("predictions")
    if not runs:
        return "(Not measured yet.)"
    rows = []
    for n, where in [(n, r) for r in runs for n in r["networks"]]:
        target = next(row for row in n["assignments"] if row["name"] == "target")
        low, high = target["interval"]
        rows.append(
            (
                n["name"],
                percent(n["median_error"], 1),
                f"{where['target_speedup']:g}× → predicted {target['predicted_speedup']:.2f}×, "
                f"measured {target['measured_speedup']:.2f}× ({low:.2f}–{high:.2f})",
                f"{n['control']:.3f}",
                f"{n['table_seconds']:.0f} s, again {n['table_again_seconds']:.2f} s",
                processor(where),
            )
        )
    error = "10 random assignments: median error of the predicted speed-up"
    head = ("network", error, "target", "A/A", "building the table", PROCESSOR)
    return table(head, rows) + f"\n\nOne thread, batch 1, ONNX Runtime, random weights; {when(runs)}."


def clock_table() -> str:
    """Speed-up against FLOPs reduction, ordinary pruning and chosen widths."""
    runs = read_runs("clock_follows_flops")
    if not runs:
        return "(Not measured yet.)"
    networks = [(n, processor(r)) for r in runs for n in r["networks"]]
    kinds = [(n, kind, where) for n, where in networks for kind in ("chosen", "branches shut") if f"{kind} 50%" in n["variants"]]
    rows = [(*_clock_row(n, kind, rate), where) for n, kind, where in kinds for rate in ("30%", "50%", "70%")]
    head = (
        *("network", "batch", "rate"),
        *("same rate everywhere: FLOPs ÷", "time ÷", "follows"),
        *("chosen widths: FLOPs ÷", "time ÷", "follows", "A/A"),
        PROCESSOR,
    )
    note = "One thread, ONNX Runtime, random weights, paired rounds; *follows* is time ÷ over FLOPs ÷: 1 where the clock follows."
    return table(head, rows) + f"\n\n{note} {when(runs)}."


def _clock_row(n: Result, kind: str, rate: str) -> tuple[str, ...]:
    cells: list[str] = [n["name"] + ("" if kind == "chosen" else f", {kind}"), str(n["batch"]), rate]
    for way in ("ordinary", kind):
        row = n["variants"][f"{way} {rate}"]
        low, high = row["interval"]
        cells += [f"{row['flops_reduction']:.2f}", f"{row['speedup']:.2f} ({low:.2f}–{high:.2f})", f"{row['follows']:.2f}"]
    return *cells, f"{n['control']['speedup']:.3f}"


def peer_table() -> str:
    """Against torch-pruning at the same FLOPs."""
    runs = read_runs("speed_against_peer")
    if not runs:
        return "(Not measured yet.)"
    rows = []
    for n, where in [(n, processor(r)) for r in runs for n in r["networks"]]:
        for v in n["variants"]:
            low, high = v["interval"]
            times = f"{v['against_default']:.2f} ({low:.2f}–{high:.2f})"
            rows.append((n["name"], v["name"], f"{v['flops_reduction']:.2f}", f"{v['against_dense']:.2f}", times, where))
        rows[-1] = (*rows[-1][:-2], f"{rows[-1][-2]}; A/A {n['control']['speedup']:.3f}", where)
    head = ("network", "widths of", "FLOPs ÷", "time ÷, against dense", "against torch-pruning's default widths", PROCESSOR)
    note = f"One thread, batch {runs[0]['batch']}, ONNX Runtime, random weights, filters by L2 norm, one session each."
    return table(head, rows) + f"\n\n{note} {when(runs)}."


def target_table() -> str:
    """Trained to a target."""
    runs = read_runs("train_to_target")
    if not runs:
        return "(Not measured yet.)"
    rows = []
    for way, where in [(way, processor(r)) for r in runs for way in r["networks"]]:
        target, accuracy = way["target"], way["accuracy"]
        low, high = target["measured"]["interval"]
        rows.append(
            (
                way["name"],
                str(way["branches_shut"]),
                f"{way['flops']['dense'] / way['flops']['realised']:.2f}",
                f"{target['target']['speedup']:g}×, {target['predicted']['speedup']:.2f}×",
                f"{target['measured']['speedup']:.2f}× ({low:.2f}–{high:.2f}; A/A {way['latency']['control']['speedup']:.3f})",
                f"{percent(accuracy['dense'])} → {percent(accuracy['slim'])}",
                where,
            )
        )
    head = ("ResNet-56, CIFAR-10", "branches shut", "FLOPs ÷", "target, predicted", "measured", "test accuracy, dense → slim",
            PROCESSOR)  # fmt: skip
    r = runs[0]
    images = f"{r['settings']['epochs']} passes over {percent(r['settings']['train_fraction'], 0)} of the training images"
    return table(head, rows) + f"\n\n{images}, FPGM, the dense network as teacher; {when(runs)}."

"""The tables of accuracy at equal milliseconds, and of what leads there."""

from __future__ import annotations

import statistics

from _results import read_runs
from _tables import PROCESSOR, Result, load, percent, processor, table, when


def frontier_table() -> str:
    """Dense ladder and slim networks, the fastest first, by instruction set."""
    found = load("frontier")
    if not found:
        return "(Not measured yet.)"
    rows = sorted(found["rows"], key=lambda row: (row["instructions"], row["ms"]))
    head = ("network, CIFAR-10", "precision", "test accuracy", "ms", "ResNet-56 ÷ it", "epochs", "measured")
    note = "All 10,000 test images, one seed. One thread, batch 1, ONNX Runtime, paired rounds"
    return table(head, [_row(row) for row in rows]) + f"\n\n{note}; A/A {found['control']['speedup']:.3f}."


def _row(row: Result) -> tuple[str, ...]:
    low, high = row["interval"]
    source = "" if row["source"] == "measured" else f" ({row['source']})"
    name = f"**{row['name']}**" if row["kind"] == "slim" else row["name"]
    return (
        *(name, row["precision"], percent(row["accuracy"]) + source, f"{row['ms']:.3f}"),
        f"{row['speedup']:.2f}× ({low:.2f}–{high:.2f})",
        *(str(row.get("epochs", "")), f"{row['date']}, {row['device']}, {row['instructions']}"),
    )


def allocation_table() -> str:
    """Rank correlations, and what plans lose before training, by the way they are chosen."""
    found = load("allocation")
    if not found:
        return "(Not measured yet.)"
    ranks = found["rank_correlation"]
    names = {"answers": "how far the answers move", "labels": "cross-entropy of the labels"}
    pairs = [(*map(names.__getitem__, pair.split(" → ")), f"{value:.2f}") for pair, value in ranks.items()]
    rows = [
        (
            *(f"{row['target']:g}×", row["way"], f"{row['speedup']:.2f}×", str(row["shut"])),
            *(f"{row['measured'][name]:.2f}" for name in names),
            f"{row['seconds']:.0f} s",
        )
        for row in found["targets"]
    ]
    head = ("target", "groups valued by", "predicted", "branches shut", "answers moved", "cross-entropy", "chosen in")
    plans = f"{len(found['plans'])} random plans"
    note = (
        f"ResNet-56 on {found['images']} training images of CIFAR-10, before any training; the dense network's cross-entropy "
        f"there is near 0. The seconds hold the measuring in rounds, not the single one. {when([found])}."
    )
    ranking = table(("sum over the groups of", "measured of the whole plan", f"Spearman's ρ, {plans}"), pairs)
    return f"{ranking}\n\n{table(head, rows)}\n\n{note}"


def cut_table() -> str:
    """An epoch masked and cut."""
    runs = read_runs("cut_training")
    if not runs:
        return "(Not measured yet.)"
    rows = [
        (
            *(row["name"], f"{row['flops_ratio']:.2f}"),
            f"{row['ratio']:.2f} ({row['ratios'][0]:.2f}–{row['ratios'][1]:.2f})",
            *(f"{row['follows']:.2f}", row["precision"], processor(run)),
        )
        for run in runs
        for row in run["networks"]
    ]
    head = ("network, what is closed", "multiply-adds ÷", "an epoch ÷", "follows", "precision", PROCESSOR)
    return table(head, rows) + f"\n\nMasked over cut, by turns; range of {runs[0]['rounds']} rounds. {when(runs)}."


def ablation_table() -> str:
    """One change at a time of the recipe that cuts a trained network."""
    found = load("ablation")
    if not found:
        return "(Not measured yet.)"
    base = found["base"]
    rows = [_ablation_row(row) for row in found["networks"]]
    head = ("changed", "to", "test accuracy", "seeds", "multiply-adds left")
    share = f"{100 * base['train_fraction'] * (1 - base['val_fraction']):.1f} % of the training images"
    note = (
        f"`python benchmarks/ablation.py`: {found['network']}, CIFAR-10, {base['epochs']} passes over {share}. {when([found])}."
    )
    return table(head, rows) + f"\n\n{note}"


def _ablation_row(row: Result) -> tuple[str, ...]:
    tests = [100 * seed["test"] for seed in row["seeds"].values()]
    spread = f" ± {statistics.stdev(tests):.2f}" if len(tests) > 1 else ""
    flops = statistics.mean(seed["flops"] for seed in row["seeds"].values())
    return (row["factor"], row["value"], f"{statistics.mean(tests):.2f}{spread}", str(len(tests)), f"{flops / 1e6:.1f} M")

"""The table of accuracy at equal milliseconds."""

from __future__ import annotations

from _tables import Result, load, percent, table


def frontier_table() -> str:
    """Dense ladder and slim networks, the fastest first, by instruction set."""
    found = load("frontier")
    if not found:
        return "(Not measured yet.)"
    rows = sorted(found["rows"], key=lambda row: (row["instructions"], row["ms"]))
    head = ("network, CIFAR-10", "precision", "test accuracy", "ms", "ResNet-56 ÷ it", "epochs", "measured")
    return table(head, [_row(row) for row in rows]) + "\n\n" + " ".join(map(_goal, found["goals"]))


def _row(row: Result) -> tuple[str, ...]:
    low, high = row["interval"]
    source = "" if row["source"] == "measured" else f" ({row['source']})"
    name = f"**{row['name']}**" if row["kind"] == "slim" else row["name"]
    return (
        *(name, row["precision"], percent(row["accuracy"]) + source, f"{row['ms']:.3f}"),
        f"{row['speedup']:.2f}× ({low:.2f}–{high:.2f})",
        *(str(row.get("epochs", "")), f"{row['date']}, {row['device']}, {row['instructions']}"),
    )


def _goal(goal: Result) -> str:
    share = "" if goal["share"] == 1 else f"{goal['share']:g} of "
    asked = f"In {share}the time of {goal['time_of']} the goal is {percent(goal['goal'], 1)}:"
    best = goal["reached"]
    return (
        f"{asked} {best['name']} in {best['precision']} has {percent(best['accuracy'])}."
        if best
        else f"{asked} nothing is as fast yet."
    )

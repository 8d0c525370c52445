"""The table of docs/security.md."""

from __future__ import annotations

from _tables import Result, load, measured, table

NAMES = {
    "bundles": "broken and hostile bundles",
    "runs": "tampered runs",
    "weights": "files of weights",
    "kill train": "SIGKILL in training, then `--resume`",
    "kill export": "SIGKILL in export, then export again",
    "full disks": "full disks",
    "pictures": "odd and damaged pictures",
    "csvs": "FER2013 CSV files, and their binary copies",
    "networks": "random networks, cut",
}


def robustness_table() -> str:
    """Cases and commands of each part, and how often each kind of fault was found."""
    r = load("robustness")
    if r is None:
        return "(Not run to its end yet.)"
    kinds = list(r["kinds"])
    rows = [_row(NAMES[name], part, kinds) for name, part in r["parts"].items()]
    meanings = "; ".join(f"*{kind}*: {meaning}" for kind, meaning in r["kinds"].items())
    limits = f"{r['limits']['seconds']:.0f} s and {r['limits']['memory_mib']:,} MiB a command"
    return table(("input", "cases", "commands", *kinds), rows) + f"\n\n{meanings}. {limits}; {measured(r)}."


def _row(name: str, part: Result, kinds: list[str]) -> tuple[str, ...]:
    return (name, f"{part['cases']:,}", f"{part['commands']:,}", *(f"{part['faults'][kind]:,}" for kind in kinds))

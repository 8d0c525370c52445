"""The classifier of facial expressions that slimnet ships: the slim network of fer2013.py in int8, without what made it.

    SLIMNET_DATA=DATA python benchmarks/expressions.py
    SLIMNET_DATA=DATA python benchmarks/expressions.py calibrate

Needs runs/fer2013-dense and runs/fer2013-slim, which fer2013.py makes. Expected: at most 1 MB in all, at most half a point
of accuracy lost to float32, and a calibration error that the temperature makes smaller. A minute. Writes
slimnet/ready/expressions and results/expressions.json. With `calibrate` the shipped network stays as it is, and only its
temperature is fitted again: that needs the data alone.
"""

from __future__ import annotations

import sys
from pathlib import Path

from _results import write_result
from _runs import RUNS, data_dir
from _tables import Result, of_runs, percent, table

import slimnet
from slimnet.commands import PrecisionSettings, calibrate_bundle, export_compact
from slimnet.export import Bundle

OUT = Path(slimnet.__file__).parent / "ready" / "expressions"
MOST_BYTES = 1_000_000
UNSURE_BELOW = 0.5
"""Calibrated, an answer below it is wrong more often than right."""


def exported() -> Bundle:
    """A new network."""
    return export_compact(
        RUNS / "fer2013-slim",
        OUT,
        dense=RUNS / "fer2013-dense",
        data_dir=data_dir() / "fer2013",
        precisions=PrecisionSettings(("int8",), reduce_range=True),  # the same on processors without VNNI
        unsure_below=UNSURE_BELOW,
        force=True,
        say=print,
    )


def calibrated() -> Bundle:
    """The network that is shipped, calibrated again."""
    return calibrate_bundle(OUT, OUT, data_dir=data_dir() / "fer2013", unsure_below=UNSURE_BELOW, force=True, say=print)


def main() -> None:
    bundle = calibrated() if sys.argv[1:] == ["calibrate"] else exported()
    sizes = {path.name: path.stat().st_size for path in sorted(OUT.iterdir())}
    if sum(sizes.values()) > MOST_BYTES:
        sys.exit(f"{OUT} has {sum(sizes.values()):,} bytes, at most {MOST_BYTES:,} are allowed.")
    values = {"accuracy": bundle.model["accuracy"], "precisions": bundle.model["precisions"]}
    write_result("expressions", {**values, "bytes": {"all": sum(sizes.values()), **sizes}})


@of_runs("expressions")
def confidence_table(runs: list[Result]) -> str:
    """How far the probabilities of the shipped classifier can be believed."""
    rows, kept = [], []
    for name, entry in runs[0]["precisions"].items():
        found = entry["confidence"]
        for what in ("fitted", "measured"):
            on = found[what]
            label = f"{name}, {on['split']} split ({on['count']:,} faces)"
            figures = (
                percent(on["ece"]["before"]),
                percent(on["ece"]["after"]),
                *(f"{on['nll'][w]:.4f}" for w in ("before", "after")),
            )
            rows.append((label, f"{found['temperature']:g}" if what == "fitted" else "the same", *figures))
        kept += [
            (f"{row['threshold']:.0%}", percent(row["share"]), percent(row["accuracy"]) if row["share"] else "–")
            for row in found["answered"]
        ]
    head = ("`expressions`", "temperature", "ECE at T = 1", "ECE at the temperature", "NLL at T = 1", "NLL at the temperature")
    told = table(("answers kept back below", "faces answered", "right, of these"), kept)
    return f"{table(head, rows)}\n\n{told}"


TABLES = {"confidence": confidence_table}


if __name__ == "__main__":
    main()

"""The classifier of facial expressions that slimnet ships: the slim network of fer2013.py in int8, without what made it.

    SLIMNET_DATA=DATA python benchmarks/expressions.py

Needs runs/fer2013-dense and runs/fer2013-slim, which fer2013.py makes. Expected: at most 1 MB in all, and at most half a point
of accuracy lost to float32. A minute. Writes slimnet/ready/expressions and results/expressions.json.
"""

from __future__ import annotations

import sys
from pathlib import Path

from _results import write_result
from _runs import RUNS, data_dir

import slimnet
from slimnet.commands import PrecisionSettings, export_compact

OUT = Path(slimnet.__file__).parent / "ready" / "expressions"
MOST_BYTES = 1_000_000


def main() -> None:
    bundle = export_compact(
        RUNS / "fer2013-slim",
        OUT,
        dense=RUNS / "fer2013-dense",
        data_dir=data_dir() / "fer2013",
        precisions=PrecisionSettings(("int8",), reduce_range=True),  # the same on processors without VNNI
        force=True,
        say=print,
    )
    sizes = {path.name: path.stat().st_size for path in sorted(OUT.iterdir())}
    if sum(sizes.values()) > MOST_BYTES:
        sys.exit(f"{OUT} has {sum(sizes.values()):,} bytes, at most {MOST_BYTES:,} are allowed.")
    values = {"accuracy": bundle.model["accuracy"], "precisions": bundle.model["precisions"]}
    write_result("expressions", {**values, "bytes": {"all": sum(sizes.values()), **sizes}})


if __name__ == "__main__":
    main()

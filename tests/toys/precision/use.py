"""A run is exported with the precision by its name; its file passes the bundle's check, and answers."""

from typing import Any

from toy_use import slimnet, trained

import slimnet.measure.latency as clock

compare = clock.compare_latency


def quick(files: Any, **how: Any) -> Any:
    """It only matters that there are times."""
    return compare(files, rounds=3, seconds=0, warmup=0, baseline=how.get("baseline"))


clock.compare_latency = quick
run = trained()
slimnet("export", run.path, "--out", "bundle", "--precision", "toy24", "--max-drop", "100", "--calibration", "8")
slimnet("verify", "bundle")
from slimnet.export import read_bundle  # noqa: E402

bundle = read_bundle("bundle")
assert bundle.precision_files["toy24"].name == "model.toy24.onnx"

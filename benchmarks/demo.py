"""The main job on the embedded digits: train → export → bench, with the commands that a user would type.

Expected: at least 3 times fewer FLOPs, at most 1 point of test accuracy lost, in under 5 minutes on 2 processor cores.
Writes runs/demo-* and build/demo, overwritten each time; with --record also results/demo.json.

    python benchmarks/demo.py [--record]
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from _tables import Result, network_row

RUNS, BUILD = Path("runs"), Path("build")


def slimnet(*arguments: str) -> str:
    """Run a command as a user would; progress goes to the terminal, the result comes back."""
    print("\n$ slimnet", *arguments, flush=True)
    command = [sys.executable, "-m", "slimnet_cli", *arguments]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    print(done.stdout, end="", flush=True)
    if done.returncode:
        sys.exit(done.returncode)
    return done.stdout


def _record(report: dict[str, Any]) -> None:
    from _results import without_paths, write_result

    from slimnet.commands import bench_bundle

    latency = without_paths(bench_bundle(BUILD / "demo", seconds=10.0).latency.as_dict())
    costs = {name: {k: cost[k] for k in ("flops", "params", "bytes")} for name, cost in report["cost"].items()}
    write_result(
        "demo", {**{k: report[k] for k in ("accuracy", "paper_accounting", "parity")}, "cost": costs, "latency": latency}
    )


def main() -> None:
    start = time.monotonic()
    dense, slim, bundle = str(RUNS / "demo-dense"), str(RUNS / "demo-slim"), str(BUILD / "demo")
    common = ["--model", "resnet20", "--batch-size", "64", "--schedule", "cosine", "--precision", "fp32", "--force"]
    slimnet("train", "--method", "dense", *common, "--epochs", "12", "--out", dense)
    slimnet(
        "train", "--method", "fsdp", *common, "--epochs", "30", "--init", f"{dense}/model.safetensors", "--out", slim
    )  # fmt: skip
    slimnet("export", slim, "--out", bundle, "--dense", dense, "--force")
    slimnet("bench", bundle, "--seconds", "5")
    report = json.loads((BUILD / "demo" / "report.json").read_text())
    costs, accuracy = report["cost"], report["accuracy"]
    ratio = costs["dense"]["flops"] / costs["slim"]["flops"]
    lost = 100 * (accuracy["dense"] - accuracy["slim"])
    print(f"\n{ratio:.2f} times fewer FLOPs, accuracy {-lost:+.2f} points, {time.monotonic() - start:.0f} s in all")
    if "--record" in sys.argv:
        _record(report)
    if ratio < 3 or lost > 1:
        sys.exit("the demo fell short of 3 times fewer FLOPs at no more than 1 point lost")


def demo_row(r: Result) -> tuple[str, ...]:
    """The demo."""
    dense, slim = r["cost"]["dense"], r["cost"]["slim"]
    params = {"dense": dense["params"], "slim": slim["params"]}
    saved = 1 - slim["flops"] / dense["flops"]
    return network_row("ResNet-20, digits 8×8 (`make demo`)", r, r["accuracy"], saved, params, r["parity"]["slim"])


if __name__ == "__main__":
    main()

"""Which runtimes and converters install beside the libraries that slimnet runs on: tried with pip, one after the other.

    python benchmarks/installs.py    # about 5 minutes, most of it downloads (1 GB); changes nothing here

What pip would install, raise or lower in this environment is read from its own report of a dry run; what that takes on the disk
and how long it takes, from installing just these into an empty folder. What each then did with a slim network was tried by hand
on the same versions, and stands in ``TRIED``. Writes results/installs.json.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from _results import write_result
from _tables import Result, of_runs, table, when

TRIED = {
    "openvino nncf": "extra `openvino`, in `dev`: IR in fp32, fp16, int8",
    "ai-edge-litert ai-edge-quantizer": "extra `litert`, in `dev`: .tflite by slimnet's own writer, int8 by the quantiser",
    "ncnn pnnx": "extra `ncnn`, in `dev`: .param and .bin in fp32 and fp16; no program for int8 comes with it",
    "litert-torch": "converts (19 s a network) and agrees; lowers what others here need, so that it is no extra",
    "onnx2tf": "pins older numpy, onnx, onnxruntime and protobuf: not tried further",
    "executorch": "converts by XNNPACK (13 s a network) and agrees; no extra yet",
    "coremltools": "see below",
    "tensorrt": "needs a GPU of NVIDIA's",
}
"""Packages, and what came of them with a slim ResNet-8."""


def pip(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def planned(packages: list[str], folder: Path) -> list[tuple[str, str]] | None:
    """(name, version) of what pip would install here; None where it cannot."""
    report = folder / "report.json"
    done = pip("install", "--dry-run", "--quiet", "--report", str(report), *packages)
    if done.returncode or not report.is_file():
        return None
    metadata = [each["metadata"] for each in json.loads(report.read_text())["install"]]
    return [(each["name"], each["version"]) for each in metadata]


def moved(plan: list[tuple[str, str]]) -> list[str]:
    """What is here already, in another version."""
    found = []
    for name, wanted in plan:
        try:
            here = version(name)
        except PackageNotFoundError:
            continue
        if here != wanted:
            found.append(f"{name} {here} → {wanted}")
    return found


def tried(packages: str) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        plan = planned(packages.split(), Path(folder))
        if plan is None:
            return {"packages": packages, "installs": False}
        wanted = [f"{name}=={number}" for name, number in plan] or packages.split()
        out, start = Path(folder) / "out", time.monotonic()
        done = pip("install", "--quiet", "--no-deps", "--target", str(out), *wanted)
        seconds = time.monotonic() - start
        size = sum(path.stat().st_size for path in out.rglob("*") if path.is_file()) if out.is_dir() else None
        at = {name: version(name) for name in packages.split() if not plan}
        versions = at or {name: number for name, number in plan if name.lower() in packages.split()}
        how = {"seconds": round(seconds), "bytes": size, "moved": moved(plan), "versions": versions, "count": len(wanted)}
        return {"packages": packages, "installs": done.returncode == 0, **how}


def main() -> None:
    rows = []
    for packages in TRIED:
        rows.append(tried(packages))
        print(rows[-1], flush=True)
    write_result("installs", {"python": sys.version.split()[0], "rows": rows})


@of_runs("installs")
def installs_table(runs: list[Result]) -> str:
    """Packages × whether they install beside the rest, what they take, move and do."""
    run, rows = runs[0], []
    for row in run["rows"]:
        names = ", ".join(f"{name} {row.get('versions', {}).get(name, '')}".strip() for name in row["packages"].split())
        if not row["installs"]:
            rows.append((names, "no", "", "", "", TRIED[row["packages"]]))
            continue
        beside = "yes" if not row["moved"] else "only by moving others"
        size = f"{row['bytes'] / 1e6:.0f} MB in {row['count']} packages"
        rows.append((names, beside, size, f"{row['seconds']} s", ", ".join(row["moved"]) or "nothing", TRIED[row["packages"]]))
    versions = ", ".join(f"{name} {run['versions'][name]}" for name in ("torch", "onnxruntime"))
    head = ("packages", "installs beside", "takes", "in", "moves", "with slimnet")
    return table(head, rows) + f"\n\nBeside {versions}, Python {run['python']}, with all of `dev`. {when(runs)}."


TABLES = {"installs": installs_table}


if __name__ == "__main__":
    main()

"""Which networks can be written in which opsets, and what ONNX Runtime and OpenCV make of the files.

    python benchmarks/opsets.py [NAME…]

Slim networks (half of every group cut, random weights) are exported (opsets 18 and 20, the graph's steps taken), written in
older opsets as `slimnet export --opset` does it, and passed through the gate: ONNX Runtime against PyTorch at batch 1, 2 and 7.
OpenCV's dnn runs each file in a process of its own, since it crashes on some. Expected: ONNX Runtime agrees to 1e-5 of the
largest logit wherever a file is written; exit status 1 otherwise. Nothing is timed. About 10 minutes on one processor core.
Writes results/opsets.json after each network; networks that are not named stay as they are.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _results import write_networks
from _tables import Result, of_runs, table, when
from runtimes import RATE, first_line, images, slim_network

from slimnet.errors import ExportError
from slimnet.export.exporter import build
from slimnet.export.gate import Examples, check_onnx
from slimnet.export.parity import ONNX_MODEL
from slimnet.onnx.write import in_opset

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
from other_runtimes import BY_NAME, TOLERANCE, python, relative_error

NETWORKS = {
    "resnet20": ((3, 32, 32), 10),
    "resnet18": ((3, 64, 64), 1000),
    "mobilenet_v2": ((3, 64, 64), 1000),
    "vgg9_face": ((1, 48, 48), 7),
    "mobilenet_v3_small": ((3, 64, 64), 1000),
    "efficientnet_b0": ((3, 64, 64), 1000),
    "shufflenet_v2_x0_5": ((3, 64, 64), 1000),
    "squeezenet1_1": ((3, 64, 64), 1000),
    "regnet_y_400mf": ((3, 64, 64), 1000),
    "densenet121": ((3, 64, 64), 1000),
    "convnext_tiny": ((3, 64, 64), 1000),
}
OPSETS, NATIVE, BATCH = (11, 13, 15, 17, 18, 20), (18, 20), 3


def tried(name: str) -> dict[str, Any]:
    """One network in all opsets."""
    model, x = slim_network(name, *NETWORKS[name])
    examples = Examples.of(x[:2])
    native = {opset: build(model, examples, opset=opset).data for opset in NATIVE}
    rows: list[dict[str, Any]] = []
    for opset in OPSETS:
        try:
            file = in_opset(native[max(opset, NATIVE[0])], opset)
            worst = check_onnx(file, {ONNX_MODEL: model}, examples).worst
        except ExportError as error:
            rows.append({"opset": opset, "why": str(error)})
        else:
            rows.append(
                {"opset": opset, "error": worst.relative, "passed": worst.passed, "opencv": in_opencv(file, NETWORKS[name][0])}
            )
        print(name, rows[-1], flush=True)
    return {"name": name, "opsets": rows}


def in_opencv(file: bytes, shape: tuple[int, ...]) -> dict[str, Any]:
    """How far OpenCV is from ONNX Runtime, or why there is no answer."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        path.write_bytes(file)
        command = [sys.executable, __file__, "--opencv", str(path), json.dumps(shape)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode < 0:
        return {"why": f"crashes (signal {-done.returncode})"}
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def answer_of_opencv(path: Path, shape: tuple[int, ...]) -> dict[str, Any]:
    """What OpenCV raises has no common base class."""
    x = images(BATCH, shape)
    right = python(path)(x)
    try:
        found = BY_NAME["OpenCV dnn"].load(path)(x)
    except Exception as error:
        return {"why": first_line(error).replace(str(path), "the file")}
    error = relative_error(right, found)
    return {"error": error} if np.isfinite(error) else {"why": f"gives {found.shape}, or what is not finite"}


def main() -> None:
    if sys.argv[1:2] == ["--opencv"]:
        print(json.dumps(answer_of_opencv(Path(sys.argv[2]), tuple(json.loads(sys.argv[3])))))
        return
    torch.set_num_threads(1)
    names = sys.argv[1:] or list(NETWORKS)
    if not set(names) <= set(NETWORKS):
        sys.exit(f"there are {', '.join(NETWORKS)}")
    settings = {"rate": RATE, "tolerance": TOLERANCE, "opencv": BY_NAME["OpenCV dnn"].version()}
    wrong = []
    for name in names:
        found = tried(name)
        write_networks("opsets", settings, [found])
        wrong += [f"{name}, opset {row['opset']}: {row}" for row in found["opsets"] if not row.get("passed", True)]
    if wrong:
        sys.exit("\n".join(["ONNX Runtime disagrees:", *wrong]))


@of_runs("opsets")
def opsets_table(runs: list[Result]) -> str:
    """Network × opset: ONNX Runtime's error, and OpenCV's."""
    r = runs[0]
    opsets = [row["opset"] for row in r["networks"][0]["opsets"]]
    rows = [(n["name"], *(_cell(row, r["tolerance"]) for row in n["opsets"]), _reasons(n, r["tolerance"])) for n in r["networks"]]
    note = (
        f"The largest difference of a logit, relative to the largest: ONNX Runtime {r['versions']['onnxruntime']} from PyTorch, "
        f"behind the dot OpenCV {r['opencv']} from ONNX Runtime (batch {BATCH}). "
        f"Random weights, {r['rate']:.0%} of every group cut. {when(runs)}."
    )
    return table(("network", *(f"opset {opset}" for opset in opsets), "OpenCV"), rows) + f"\n\n{note}"


def _cell(row: Result, tolerance: float) -> str:
    if "why" in row:
        return "–"
    opencv = row["opencv"]
    other = "–" if "why" in opencv else f"{opencv['error']:.0e}" if opencv["error"] <= tolerance else "wrong"
    return f"{row['error']:.0e} · {other}"


def _reasons(network: Result, tolerance: float) -> str:
    whys = [row["opencv"]["why"] for row in network["opsets"] if "why" in row.get("opencv", {})]
    wrong = [row for row in network["opsets"] if row.get("opencv", {}).get("error", 0) > tolerance]
    told = [why.replace("|", "/")[:160] for why in dict.fromkeys(whys)]
    return "; ".join([*told, *(["another answer"] if wrong else [])]) or "agrees"


TABLES = {"opsets": opsets_table}


if __name__ == "__main__":
    main()

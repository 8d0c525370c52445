"""Runtimes other than ONNX Runtime's Python package, each as a function of a file.

Shared by ``tests/test_runtimes.py`` and ``benchmarks/runtimes.py``. Each loader takes the path of an ONNX file and gives a
function from a batch, (N, C, H, W) float32, to its logits, (N, classes).
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime

Run = Callable[[np.ndarray], np.ndarray]

TOLERANCE = 1e-4
"""Of the largest logit; what counts as agreement."""
PROGRAM = Path(__file__).parent / "c" / "classify.cpp"


@dataclass(frozen=True)
class Runtime:
    """A runtime.

    Attributes:
        name: in the tables.
        load: how a file is loaded.
        version: which one is installed; None where none is.
        needs: its name in the table of what a machine may lack, tests/skips.py.
        exact: whether it is set to compute in float32, and so must agree.
    """

    name: str
    load: Callable[[Path], Run]
    version: Callable[[], str | None]
    needs: str
    exact: bool = True


def python(path: Path) -> Run:
    """ONNX Runtime's Python package: what the others are compared with."""
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return lambda x: session.run(["logits"], {"input": x})[0]


def reference(path: Path) -> Run:
    """ONNX's own evaluator, in NumPy."""
    from onnx.reference import ReferenceEvaluator

    evaluator = ReferenceEvaluator(str(path))
    return lambda x: evaluator.run(["logits"], {"input": x})[0]


def openvino(path: Path) -> Run:
    """OpenVINO on the CPU, in float32."""
    return _openvino(path, {"INFERENCE_PRECISION_HINT": "f32"})


def openvino_as_it_comes(path: Path) -> Run:
    """The same in the precision that OpenVINO chooses: bfloat16 where the processor has it."""
    return _openvino(path, {})


def _openvino(path: Path, settings: dict[str, str]) -> Run:
    import openvino

    model = openvino.Core().compile_model(path, "CPU", {"INFERENCE_NUM_THREADS": 1, **settings})
    return lambda x: model(x)["logits"]


def opencv(path: Path) -> Run:
    """OpenCV's dnn, which takes the batch from the input."""
    import cv2

    network = cv2.dnn.readNetFromONNX(str(path))

    def run(x: np.ndarray) -> np.ndarray:
        network.setInput(x, "input")
        return np.array(network.forward("logits"))

    return run


def cpp(path: Path) -> Run:
    """ONNX Runtime's C++ API, in a program of its own."""
    program = _compiled(_ort_root())

    def run(x: np.ndarray) -> np.ndarray:
        with tempfile.NamedTemporaryFile(suffix=".f32") as file:
            x.astype(np.float32).tofile(file.name)
            done = subprocess.run([program, path, file.name], capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(done.stderr.strip())
        return np.array([line.split() for line in done.stdout.splitlines()], dtype=np.float32)

    return run


def _ort_root() -> Path | None:
    """An unpacked release of ONNX Runtime, with a compiler at hand."""
    root = os.environ.get("ORT_ROOT")
    if not root or not shutil.which("c++") or not (Path(root) / "include" / "onnxruntime_cxx_api.h").is_file():
        return None
    return Path(root)


@functools.cache
def _compiled(root: Path) -> Path:
    include, lib = root / "include", root / "lib"
    out = Path(tempfile.mkdtemp()) / "classify"
    flags = [f"-I{include}", f"-L{lib}", "-lonnxruntime", f"-Wl,-rpath,{lib}"]
    subprocess.run(["c++", "-std=c++17", "-Wall", "-Wextra", "-Werror", PROGRAM, *flags, "-o", out], check=True)
    return out


def _cpp_version() -> str | None:
    root = _ort_root()
    if root is None:
        return None
    header = (root / "include" / "onnxruntime_c_api.h").read_text(encoding="utf-8")
    found = re.search(r"#define ORT_API_VERSION (\d+)", header)
    return f"1.{found[1]}" if found else None


def _package_version(module: str) -> Callable[[], str | None]:
    def version() -> str | None:
        if importlib.util.find_spec(module) is None:
            return None
        return str(importlib.import_module(module).__version__).partition("-")[0]

    return version


RUNTIMES = (
    Runtime("ONNX Runtime, C++", cpp, _cpp_version, "c++"),
    Runtime("OpenVINO, float32", openvino, _package_version("openvino"), "openvino"),
    Runtime("OpenVINO, its default", openvino_as_it_comes, _package_version("openvino"), "openvino", exact=False),
    Runtime("OpenCV dnn", opencv, _package_version("cv2"), "opencv"),
    Runtime("ONNX's reference evaluator", reference, _package_version("onnx"), "onnx"),
)
BY_NAME = {runtime.name: runtime for runtime in RUNTIMES}


def relative_error(right: np.ndarray, found: np.ndarray) -> float:
    """The largest difference, relative to the largest logit. Infinite where the shapes differ or a value is not finite."""
    if found.shape != right.shape or not np.isfinite(found).all():
        return float("inf")
    return float(np.abs(found - right).max() / np.abs(right).max())

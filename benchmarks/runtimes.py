"""Which runtimes take the exported files, at which opsets, and whether they compute the same.

    python benchmarks/runtimes.py

Four slim networks (half of every group cut, random weights), exported at each opset, are loaded in every runtime that is
installed and run at batch 1 and 3: ONNX Runtime's C++ API (ORT_ROOT: an unpacked release), OpenVINO, OpenCV's dnn and ONNX's
reference evaluator, each against ONNX Runtime's Python package. Expected: what loads and computes in float32 agrees to 1e-4 of
the largest logit (about 1e-6); exit status 1 otherwise. About 4 minutes on one processor core. Writes results/runtimes.json
after each network.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _results import write_result
from _tables import PROCESSOR, Result, of_runs, processor, table, when

import slimnet
from slimnet.errors import ExportError, ParityError

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
from other_runtimes import BY_NAME, RUNTIMES, TOLERANCE, Runtime, python, relative_error
from skips import reason

NETWORKS = {
    "resnet20": ((3, 32, 32), 10),
    "vgg9_face": ((1, 48, 48), 7),
    "resnet18": ((3, 64, 64), 1000),
    "mobilenet_v2": ((3, 64, 64), 1000),
}
OPSETS, BATCHES, RATE = (11, 13, 15, 17, 18, 20, 21), (1, 3), 0.5


def slim_network(name: str, shape: tuple[int, ...], classes: int) -> tuple[torch.nn.Module, torch.Tensor]:
    """The same random network every time, half of every group cut, with the running statistics of its norms from images."""
    torch.manual_seed(0)
    x = torch.from_numpy(images(16, shape))
    model = slimnet.build_model(name, num_classes=classes, in_channels=shape[0]).eval()
    slimnet.prune(model, x, rate=RATE)
    small = slimnet.slim(model, x).model
    settle_norms(small, x)
    return small, x


def settle_norms(model: torch.nn.Module, x: torch.Tensor) -> None:
    """Give norms random biases and running statistics from images, in place, so that the logits depend on the image.

    Norms divide by six times the spread of what they get: at equal size, random layers one behind another amplify the rounding of
    float32 beyond what the export's gate allows.
    """

    def before(norm: torch.nn.BatchNorm2d, inputs: tuple[torch.Tensor]) -> None:
        norm.running_mean = inputs[0].mean((0, 2, 3))
        norm.running_var = 36 * inputs[0].var((0, 2, 3))
        torch.nn.init.normal_(norm.bias, std=0.3)

    hooks = [m.register_forward_pre_hook(before) for m in model.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    try:
        with torch.no_grad():
            model(x)
    finally:
        for hook in hooks:
            hook.remove()


def images(batch: int, shape: tuple[int, ...]) -> np.ndarray:
    """Noise whose brightness, colour and contrast differ from image to image."""
    rng = np.random.default_rng(batch)
    contrast, colour = rng.uniform(0.2, 2, (batch, 1, 1, 1)), rng.standard_normal((batch, shape[0], 1, 1))
    return (contrast * rng.standard_normal((batch, *shape)) + colour).astype(np.float32)


def spread(model: torch.nn.Module, x: torch.Tensor) -> float:
    """How far the logits of the images lie from their mean, relative to the largest logit: 0 if the image did not matter."""
    with torch.no_grad():
        logits = model(x)
    return float((logits - logits.mean(0)).abs().max() / logits.abs().max())


def tried(runtime: Runtime, path: Path, expected: dict[int, tuple[np.ndarray, np.ndarray]]) -> dict[str, Any]:
    """The relative error at each batch, or why there is none. What a runtime raises has no common base class."""
    try:
        run = runtime.load(path)
    except Exception as error:
        return {"loads": False, "why": first_line(error)}
    try:
        return {"loads": True, "error": {batch: relative_error(right, run(x)) for batch, (x, right) in expected.items()}}
    except Exception as error:
        return {"loads": True, "why": first_line(error)}


def first_line(error: Exception) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)


def exported(name: str, runtimes: list[Runtime]) -> dict[str, Any]:
    """One network at all opsets in all runtimes."""
    model, x = slim_network(name, *NETWORKS[name])
    inputs, rows = {batch: images(batch, NETWORKS[name][0]) for batch in BATCHES}, []
    for opset in OPSETS:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / f"{name}.onnx"
            try:
                slimnet.export_onnx(model, x, path, opset=opset)
            except ParityError:
                raise  # the opset is not to blame
            except ExportError as error:
                rows.append({"opset": opset, "exports": False, "why": str(error)})
            else:
                session = python(path)
                expected = {batch: (x, session(x)) for batch, x in inputs.items()}
                found = {runtime.name: tried(runtime, path, expected) for runtime in runtimes}
                rows.append({"opset": opset, "exports": True, "runtimes": found})
        print(name, rows[-1], flush=True)
    return {"name": name, "spread": spread(model, x), "opsets": rows}


def disagreements(networks: list[dict[str, Any]]) -> list[str]:
    return [
        f"{runtime}: {network['name']}, opset {row['opset']}, batch {batch}: {error:.1e}"
        for network in networks
        for row in network["opsets"]
        for runtime, found in row.get("runtimes", {}).items()
        if BY_NAME[runtime].exact
        for batch, error in found.get("error", {}).items()
        if error > TOLERANCE
    ]


def main() -> None:
    torch.set_num_threads(1)
    versions = {runtime.name: runtime.version() for runtime in RUNTIMES}
    runtimes = [runtime for runtime in RUNTIMES if versions[runtime.name]]
    for runtime in RUNTIMES:
        if runtime not in runtimes:
            print(f"{runtime.name}: left out; {reason(runtime.needs)}", file=sys.stderr)
    found = [{"name": runtime.name, "version": versions[runtime.name], "exact": runtime.exact} for runtime in runtimes]
    networks: list[dict[str, Any]] = []
    for name in NETWORKS:
        networks.append(exported(name, runtimes))
        write_result("runtimes", {"runtimes": found, "rate": RATE, "tolerance": TOLERANCE, "networks": networks})
    wrong = disagreements(networks)
    if wrong:
        sys.exit("\n".join(["these disagree:", *wrong]))


@of_runs("runtimes")
def runtimes_table(runs: list[Result]) -> str:
    """Runtime × opset: how many networks agree, and how closely."""
    r = runs[0]
    opsets = [row["opset"] for row in r["networks"][0]["opsets"]]
    rows = [("`slimnet export` writes it", *(_exports(r, i) for i in range(len(opsets))), "")]
    rows += [
        (f"{one['name']} {one['version']}", *(_cell(run, i, one) for i in range(len(opsets))), processor(run))
        for run in runs
        for one in run["runtimes"]
    ]
    names = ", ".join(n["name"] for n in r["networks"])
    note = (
        f"The largest difference of a logit from ONNX Runtime's Python package ({r['versions']['onnxruntime']}), relative to the "
        f"largest logit, over {names} (random weights, {r['rate']:.0%} of every group cut) at batch 1 and 3; above "
        f"{r['tolerance']:g} what computes in float32 would count as wrong. From image to image the logits "
        f"differ by {min(n['spread'] for n in r['networks']):.0%} or more of the largest. {when(runs)}."
    )
    return table(("", *(f"opset {opset}" for opset in opsets), PROCESSOR), rows) + f"\n\n{note}"


def _exports(r: Result, i: int) -> str:
    missing = [n["name"] for n in r["networks"] if not n["opsets"][i]["exports"]]
    if len(missing) == len(r["networks"]):
        return "no"
    return f"not {', '.join(missing)}" if missing else "yes"


def _cell(r: Result, i: int, runtime: Result) -> str:
    """The worst error of the networks that agree, and the names of those that do not load or run."""
    found = {n["name"]: n["opsets"][i]["runtimes"][runtime["name"]] for n in r["networks"] if n["opsets"][i]["exports"]}
    if not found:
        return ""
    errors = [max(one["error"].values()) for one in found.values() if "error" in one]
    failed = [name for name, one in found.items() if "error" not in one]
    parts = [f"{max(errors):.0e}"] if errors else []
    if runtime["exact"] and max(errors, default=0) > r["tolerance"]:
        parts[0] = f"**wrong: {parts[0]}**"
    return "; ".join([*parts, *([f"fails: {', '.join(failed)}"] if failed else [])])


TABLES = {"runtimes": runtimes_table}


if __name__ == "__main__":
    main()

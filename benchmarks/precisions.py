"""What int8 and fp16 are worth: ResNet-18 at 224×224 (structure only), and trained networks with their accuracy.

    python benchmarks/precisions.py make [NAME…]    # networks and accuracies, into build/precisions; nothing is timed
    python benchmarks/precisions.py time [NAME…]    # timings, one thread, one image: about 2 minutes for all, on an idle machine

ResNet-18 with random weights and data: dense and half of the filters removed, fp32 and int8, all in one paired run. The runs
cifar10-resnet20, cifar10-resnet56 and fer2013-slim (in runs/): dense fp32 against the slim network in each precision, with test
accuracy and agreement; precisions are chosen on the validation split, as `slimnet export --precision` does it. The aim: slim
int8 at least 9 times as fast as dense fp32 on ResNet-18, and no precision kept that loses more than half a point. Writes
results/precisions.json, where networks that are not named stay as they are.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from _results import ratio, write_networks
from _tables import PROCESSOR, Result, of_runs, percent, processor, ranged, table, when

import slimnet
from slimnet.commands import PrecisionSettings
from slimnet.commands.precisions import PrecisionStep, answers
from slimnet.export.precision import to_int8
from slimnet.files import read_json, write_json
from slimnet.measure import LatencyReport, compare_latency, count

RUNS = ("cifar10-resnet20", "cifar10-resnet56", "fer2013-slim")
NETWORKS = ("resnet18", *RUNS)
OUT = Path("build/precisions")
SECONDS = {"resnet18": 40.0}


def make_resnet18(folder: Path) -> dict[str, Any]:
    """Dense and slim, fp32 and int8, with random weights: what they answer means nothing."""
    flops, widths = {}, {}
    for name in ("dense", "slim"):
        torch.manual_seed(0)
        model, x = slimnet.build_model("resnet18", num_classes=1000).eval(), torch.randn(2, 3, 224, 224)
        if name == "slim":
            slimnet.prune(model, x, criterion="l2", rate=0.5)
            model = slimnet.slim(model, x).model
        path = folder / f"{name} fp32.onnx"
        slimnet.export_onnx(model, x, path)
        images = torch.randn(16, 3, 224, 224, generator=torch.Generator().manual_seed(0))
        (folder / f"{name} int8.onnx").write_bytes(to_int8(path.read_bytes(), images.numpy()))
        flops[name] = count(model, x[:1]).flops
        widths[name] = sorted({layer.out_channels for layer in model.modules() if isinstance(layer, torch.nn.Conv2d)})
    return {
        f"{name} {precision}": {"flops": flops[name], "widths": widths[name], "bytes": size(folder / f"{name} {precision}.onnx")}
        for name in ("dense", "slim")
        for precision in ("fp32", "int8")
    }


def make_run(name: str, folder: Path) -> dict[str, Any]:
    """The dense network and every precision of the slim one, refused ones too."""
    bundle = slimnet.export_run(Path("runs") / name, folder / "bundle", force=True)
    data = slimnet.Run.open(Path("runs") / name).dataset()
    step = PrecisionStep(data, PrecisionSettings(("int8", "fp16")), print)
    files = step(bundle.onnx.read_bytes())
    assert step.choice is not None
    base = answers(bundle.onnx.read_bytes(), data.test, data)
    (folder / "dense fp32.onnx").write_bytes(bundle.dense_onnx.read_bytes())
    rows = {"dense fp32": {"test_accuracy": bundle.report["accuracy"]["dense"], "bytes": size(bundle.dense_onnx)}}
    for one in step.choice.found:
        (folder / f"slim {one.name}.onnx").write_bytes(one.data)
        test = base if one.name == "fp32" else answers(one.data, data.test, data)
        made = files[one.name].about if one.name in files else one.made
        rows[f"slim {one.name}"] = {
            "test_accuracy": test.accuracy,
            "agreement": test.agreement(base),
            "validation_accuracy": one.accuracy,
            "refused": one.refused,
            "bytes": len(one.data),
            "trials": [trial.as_dict() for trial in one.trials],
            **{key: made[key] for key in ("method", "excluded", "calibration", "reduce_range") if key in made},
        }
    return {"test_count": len(data.test), "validation_count": len(data.val), "rows": rows}


def size(path: Path) -> int:
    return path.stat().st_size


def make(names: Sequence[str]) -> None:
    for name in names:
        folder = OUT / name
        folder.mkdir(parents=True, exist_ok=True)
        made = {"rows": make_resnet18(folder)} if name == "resnet18" else make_run(name, folder)
        write_json(folder / "made.json", made)
        print(name, made, flush=True)


def timed(name: str) -> dict[str, Any]:
    folder = OUT / name
    made = read_json(folder / "made.json")
    files = {row: folder / f"{row}.onnx" for row in made["rows"]}
    report: LatencyReport = compare_latency(files, rounds=100, seconds=SECONDS.get(name, 15.0), limit=120.0)
    for row, values in made["rows"].items():
        variant = report[row]
        values |= {"median_ms": variant.median_ms, **ratio(variant)}
        print(f"{name} {row}: {variant.median_ms:.3f} ms, {variant.speedup:.2f}×", flush=True)
    return {"name": name, **made, "control": ratio(report.control), "rounds": report.rounds, "flags": report.flags}


def main() -> None:
    torch.set_num_threads(1)
    step, names = sys.argv[1:2], sys.argv[2:] or NETWORKS
    if not set(names) <= set(NETWORKS):
        sys.exit(f"there are {', '.join(NETWORKS)}")
    if step == ["make"]:
        make(names)
    elif step == ["time"]:
        write_networks("precisions", {"threads": 1, "batch": 1}, [timed(name) for name in names])
    else:
        sys.exit("say make, then time")


def precision_row(name: str, row: str, r: Result, where: str) -> tuple[str, ...]:
    """One network in one precision."""
    made = ", ".join([r["method"], *(f"{name} in fp32" for name in r["excluded"])]) if "method" in r else ""
    return (
        f"{name}, {row}" + (f" ({made})" if made else ""),
        percent(r["test_accuracy"]) if "test_accuracy" in r else "–",
        percent(r["agreement"]) if "agreement" in r else "–",
        f"{r['bytes'] / 1e3:,.0f} kB",
        ranged(r["speedup"], r["interval"], "×"),
        "–" if "refused" not in r else f"no: {r['refused']}" if r["refused"] else "yes",
        where,
    )


@of_runs("precisions")
def precisions_table(runs: list[Result]) -> str:
    """int8 and fp16 against fp32, dense and slim."""
    networks = [(n, processor(r)) for r in runs for n in r["networks"]]
    rows = [precision_row(n["name"], label, row, where) for n, where in networks for label, row in n["rows"].items()]
    head = ("network", "test accuracy", "agreement with slim fp32", "bytes", "against dense fp32 (95 % interval)", "kept",
            PROCESSOR)  # fmt: skip
    controls = ", ".join(
        f"{n['name']} {n['control']['speedup']:.3f} ({n['control']['interval'][0]:.3f}–{n['control']['interval'][1]:.3f})"
        for n, _ in networks
    )
    flags = sorted({flag for n, _ in networks for flag in n["flags"]})
    note = f"One image, one thread, one paired run a network. A/A: {controls}."
    return table(head, rows) + f"\n\n{note}{' Flags: ' + ', '.join(flags) + '.' if flags else ''} {when(runs)}."


TABLES = {"precisions": precisions_table}


if __name__ == "__main__":
    main()

"""Write the tables of README.md, docs/ and benchmarks/README.md from the JSON files in benchmarks/results/.

    python benchmarks/tables.py            # or: make docs

A table stands between ``<!-- name:begin -->`` and ``<!-- name:end -->``. What has no JSON yet is left out. What claims a
speed has a row for each instruction set that it was measured on; the rest is of the newest run.
"""

from __future__ import annotations

import re
import statistics
from collections.abc import Callable, Mapping
from pathlib import Path

from _results import read_runs
from _tables import PROCESSOR, ROOT, Result, load, measured, parity, percent, processor, speedup, table, when
from export_tables import precisions_table, predict_table, steps_table
from frontier_tables import ablation_table, allocation_table, cut_table, frontier_table
from runtime_tables import runtimes_table
from security_tables import robustness_table
from settings_tables import METHOD_TABLES, settings_table, soft_table
from speed_tables import clock_table, peer_table, target_table, widths_table


def cifar_row(r: Result, label: str) -> tuple[str, ...]:
    """ResNet on CIFAR-10."""
    taught = ", the dense network as teacher" if r.get("taught") else ""
    label = f"{label}, {r['settings']['epochs']} epochs from trained weights{taught}"
    return _row(label, r, r["accuracy"], r["flops_saved"], r["params"], r["parity"])


def demo_row(r: Result) -> tuple[str, ...]:
    """The demo."""
    dense, slim = r["cost"]["dense"], r["cost"]["slim"]
    params = {"dense": dense["params"], "slim": slim["params"]}
    saved = 1 - slim["flops"] / dense["flops"]
    return _row("ResNet-20, digits 8×8 (`make demo`)", r, r["accuracy"], saved, params, r["parity"]["slim"])


def _row(
    label: str, r: Result, accuracy: Mapping[str, float], saved: float, params: Mapping[str, int], gate: Result
) -> tuple[str, ...]:
    return (
        label,
        f"{percent(accuracy['dense'])} → {percent(accuracy['slim'])}",
        f"{percent(saved, 1)} ({percent(r['paper_accounting']['saved'], 1)})",
        f"{params['dense'] / params['slim']:.2f}×",
        speedup(r["latency"]),
        parity(gate),
        measured(r),
    )


def main_table() -> str:
    """Train, export, bench."""
    head = ("network", "test accuracy, dense → slim", "FLOPs saved, realised (paper accounting)", "parameters",
            "latency, 1 thread, batch 1",
            "relative Δ: slim to masked (float64), ONNX (float32)", "measured")  # fmt: skip
    rows = [
        *map(demo_row, read_runs("demo")),
        *(cifar_row(r, "ResNet-20, CIFAR-10") for r in read_runs("cifar10_resnet20")),
        *(cifar_row(r, "ResNet-56, CIFAR-10") for r in read_runs("cifar10_resnet56")),
        *map(fer_row, read_runs("fer2013")),
    ]
    return table(head, rows)


def fsdp_table() -> str:
    """The method card: results and cost."""
    parts = [main_table()]
    runs = read_runs("fsdp_overhead")
    if runs:
        r = runs[0]
        rows = [
            (name, f"{v['median']:.3f}", f"{v['interval'][0]:.3f}–{v['interval'][1]:.3f}", processor(run))
            for run in runs
            for name, v in run["ratio_to_plain"].items()
        ]
        parts.append(
            f"Epoch time ÷ plain training ({r['model']}, {r['images']} images of CIFAR-10, {r['rounds']} interleaved rounds, "
            f"{when(runs)}):\n\n" + table(("variant", "ratio", "95 % interval", PROCESSOR), rows)
        )
    parts += [
        f"Timed from inside (the processor's time in FSDP's hooks, against everything else of the same {inside['epochs']} "
        f"epochs): {inside['ratio']:.3f}, of which class statistics and selection {inside['shares']['after_epoch']:.3f}; "
        f"{measured(inside)}."
        for inside in read_runs("fsdp_inside")
    ]
    return "\n\n".join(parts)


def fer_row(r: Result) -> tuple[str, ...]:
    """The compact network for faces."""
    accuracy = {name: by_views["one"]["accuracy"] for name, by_views in r["test"].items()}
    return _row("VGG-9, FER2013 48×48, trained here", r, accuracy, r["flops_saved"], r["params"], r["parity"])


def fer_table() -> str:
    """Facial expressions: accuracy, macro-F1, F1 a class, confusion."""
    r = load("fer2013")
    if r is None:
        return ""
    rows = [
        (f"{name}, {label}", percent(found["accuracy"]), f"{found['macro_f1']:.3f}", *(f"{value:.2f}" for value in found["f1"]))
        for name, by_views in r["test"].items()
        for label, found in (("one view", by_views["one"]), ("mean of the image and its mirror image", by_views["flip"]))
    ]
    slim = r["test"]["slim"]["one"]
    classes = slim["classes"]
    head = ("test split (3,589 faces)", "accuracy", "macro-F1", *(f"F1 {name}" for name in classes))
    confusion = [(name, *(str(n) for n in row)) for name, row in zip(classes, slim["confusion"], strict=True)]
    times = "; ".join(f"{speedup(run['latency'])} faster, {measured(run)}" for run in read_runs("fer2013"))
    cost = (
        f"FLOPs {r['flops']['dense'] / 1e6:.1f} M → {r['flops']['realised'] / 1e6:.1f} M ({percent(r['flops_saved'], 1)} fewer, "
        f"realised), parameters {r['params']['dense']:,} → {r['params']['slim']:,}, ONNX file "
        f"{r['onnx_bytes']['slim'] / 1e6:.2f} MB; {times}."
    )
    return "\n\n".join([table(head, rows), cost, "Slim, one view; rows are true:", table(("", *classes), confusion)])


def methods_table() -> str:
    """The family under one budget."""
    r = load("cifar10_methods")
    if r is None:
        return "(Not run to its end yet.)"
    settings, flops = r["settings"], r["flops"]
    rows = [
        (
            name,
            f"{100 * m['mean']:.2f} ± {100 * m['std']:.2f}",
            ", ".join(f"{100 * value:.2f}" for value in m["test_accuracy"]),
        )
        for name, m in r["methods"].items()
    ]
    head = (
        f"ResNet-20, CIFAR-10, {settings['epochs']} passes over {settings['train_fraction']:.0%} of the training images from "
        f"trained weights, {settings['finetune_epochs']} of them "
        f"fine-tuning, {percent(1 - flops['realised'] / flops['dense'], 1)} fewer realised FLOPs",
        "test accuracy, mean ± std", "seeds",
    )  # fmt: skip
    return table(head, rows) + f"\n\n{measured(r)}."


def vggface_table() -> str:
    """The largest network, end to end."""
    runs = read_runs("vggface_dsd")
    if not runs:
        return ""
    rows = [
        (
            name,
            r[name]["phases"],
            str(r[name]["steps"]),
            f"{statistics.median(r[name]['seconds_a_step']):.1f}",
            f"{r[name]['peak_gigabytes']:.1f}",
            processor(r),
        )
        for r in runs
        for name in ("dsd", "structured-dsd")
    ]
    r = runs[0]
    head = (f"VGG-Face, 224×224, batches of {r['batch_size']}, bf16", "phases", "steps", "seconds a step", "peak memory, GB",
            PROCESSOR)  # fmt: skip
    s = r["surgery"]
    cut = (
        f"Structured DSD, cut: parameters {s['params']['dense']:,} → {s['params']['slim']:,}, "
        f"FLOPs {s['flops']['dense'] / 1e9:.2f} G → {s['flops']['slim'] / 1e9:.2f} G, "
        f"relative Δ {parity(s['parity'])} (float64, ONNX), peak memory {s['peak_gigabytes']:.1f} GB; "
        f"{measured(r)}, busy."
    )
    return "\n\n".join([table(head, rows), cut])


def _sliced(peer: Result) -> str:
    """How far off, or that the network does not run."""
    return f"{peer['max_abs']:.1e}" if "max_abs" in peer else "does not run"


def surgeon_table() -> str:
    """Exactness against slicing."""
    r = load("against_torch_pruning")
    if r is None or "networks" not in r:
        return ""
    rows = [
        (n["name"], f"{n['slimnet']['max_abs']:.1e}", _sliced(n["torch_pruning"]), f"{n['logit_std']:.2f}") for n in r["networks"]
    ]
    return table(("network", "slimnet, max abs Δ logits", "torch-pruning 1.6.1, max abs Δ logits", "σ of the logits"), rows)


def foreign_table() -> str:
    """A checkpoint as SFP and FPGM leave them."""
    r = load("foreign_resnet56")
    if r is None:
        return ""
    before = r["masked"]["flops"]
    rows = [
        (
            label,
            f"{r[key]['same_class']:,} of {r['images']:,}",
            f"{r[key]['max_abs']:.0e}",
            percent(1 - r[key]["flops"] / before, 1),
        )
        for label, key in (("`slim`", "slim"), ("`slim --expand`", "expanded"))
    ]
    head = f"ResNet-56 on CIFAR-10, {r['rate']:.0%} of every layer's filters zeroed by L2, norms live"
    saved = f"FLOPs saved, realised (paper accounting {percent(r['paper_accounting']['saved'], 1)})"
    return table((head, "test images in the same class", "max abs Δ logits", saved), rows)


TABLES: dict[str, Callable[[], str]] = {
    "steps": steps_table,
    "foreign": foreign_table,
    "results": main_table,
    "fsdp": fsdp_table,
    "surgeon": surgeon_table,
    "fer2013": fer_table,
    "methods": methods_table,
    "precisions": precisions_table,
    "predict": predict_table,
    "vggface": vggface_table,
    "widths": widths_table,
    "clock": clock_table,
    "peer": peer_table,
    "target": target_table,
    "runtimes": runtimes_table,
    "robustness": robustness_table,
    "frontier": frontier_table,
    "allocation": allocation_table,
    "cut": cut_table,
    "ablation": ablation_table,
    "settings": settings_table,
    "settings-soft": soft_table,
    **METHOD_TABLES,
}


def fill(path: Path) -> None:
    """Replace the tables of one file."""
    text = path.read_text(encoding="utf-8")
    for name, make in TABLES.items():
        pattern = re.compile(rf"(<!-- {name}:begin -->\n).*?(<!-- {name}:end -->)", re.DOTALL)
        if pattern.search(text):
            text = pattern.sub(lambda found, made=make: f"{found[1]}{made()}\n{found[2]}", text)
    path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    for file in (ROOT / "README.md", ROOT / "benchmarks" / "README.md", *(ROOT / "docs").rglob("*.md")):
        if file.is_file():
            fill(file)

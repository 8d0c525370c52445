"""Write the tables of README.md, docs/ and benchmarks/README.md from the JSON files in benchmarks/results/.

    python benchmarks/tables.py            # or: make docs

A table stands between ``<!-- name:begin -->`` and ``<!-- name:end -->``. What has no JSON yet is left out.
"""

from __future__ import annotations

import json
import re
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks" / "results"
Result = dict[str, Any]


def load(name: str) -> Result | None:
    """A result, or None where it was not measured yet."""
    path = RESULTS / f"{name}.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


def table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    """Markdown."""
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def percent(share: float, digits: int = 2) -> str:
    """0.9173 → 91.73 %."""
    return f"{100 * share:.{digits}f} %"


def speedup(latency: Result, name: str = "slim") -> str:
    """Median and interval of the paired ratio, and the control."""
    variant = next(v for v in latency["variants"] if v["name"] == name)
    (low, high), control = variant["interval"], latency["control"]["speedup"]
    busy = ", busy machine" if "contended" in latency["flags"] else ""
    return f"{variant['speedup']:.2f}× ({low:.2f}–{high:.2f}; A/A {control:.2f}{busy})"


def parity(report: Result) -> str:
    """The worst relative errors of the gate."""
    worst = report["worst"]
    return f"{worst['model vs reference']['relative']:.0e}, {worst['onnx vs reference']['relative']:.0e}"


def cifar_row(name: str, label: str) -> tuple[str, ...] | None:
    """ResNet on CIFAR-10."""
    r = load(f"cifar10_{name}")
    if r is None:
        return None
    accuracy, epochs = r["accuracy"], r["settings"]["epochs"]
    taught = ", the dense network as teacher" if r.get("taught") else ""
    return (
        f"{label}, {epochs} epochs from trained weights{taught}",
        f"{percent(accuracy['dense'])} → {percent(accuracy['slim'])}",
        f"{percent(r['flops_saved'], 1)} ({percent(r['paper_accounting']['saved'], 1)})",
        f"{r['params']['dense'] / r['params']['slim']:.2f}×",
        speedup(r["latency"]),
        parity(r["parity"]),
        f"{r['date']}, {r['device']}",
    )


def demo_row() -> tuple[str, ...] | None:
    """The demo."""
    r = load("demo")
    if r is None:
        return None
    dense, slim, accuracy = r["cost"]["dense"], r["cost"]["slim"], r["accuracy"]
    return (
        "ResNet-20, digits 8×8 (`make demo`)",
        f"{percent(accuracy['dense'])} → {percent(accuracy['slim'])}",
        f"{percent(1 - slim['flops'] / dense['flops'], 1)} ({percent(r['paper_accounting']['saved'], 1)})",
        f"{dense['params'] / slim['params']:.2f}×",
        speedup(r["latency"]),
        parity(r["parity"]["slim"]),
        f"{r['date']}, {r['device']}",
    )


def main_table() -> str:
    """Train, export, bench."""
    head = ("network", "test accuracy, dense → slim", "FLOPs saved, realised (paper accounting)", "parameters",
            "latency, 1 thread, batch 1",
            "relative Δ: slim to masked (float64), ONNX (float32)", "measured")  # fmt: skip
    candidates = (
        demo_row(),
        cifar_row("resnet20", "ResNet-20, CIFAR-10"),
        cifar_row("resnet56", "ResNet-56, CIFAR-10"),
        fer_row(),
    )
    return table(head, [row for row in candidates if row])


def fsdp_table() -> str:
    """The method card: results and cost."""
    parts = [main_table()]
    r = load("fsdp_overhead")
    if r:
        rows = [
            (name, f"{v['median']:.3f}", f"{v['interval'][0]:.3f}–{v['interval'][1]:.3f}")
            for name, v in r["ratio_to_plain"].items()
        ]
        parts.append(
            f"Epoch time ÷ plain training ({r['model']}, {r['images']} images of CIFAR-10, {r['rounds']} interleaved rounds, "
            f"{r['date']}, {r['device']}):\n\n" + table(("variant", "ratio", "95 % interval"), rows)
        )
    inside = load("fsdp_inside")
    if inside:
        parts.append(
            f"Timed from inside (the processor's time in FSDP's hooks, against everything else of the same {inside['epochs']} "
            f"epochs): {inside['ratio']:.3f}, of which class statistics and selection {inside['shares']['after_epoch']:.3f}; "
            f"{inside['date']}, {inside['device']}."
        )
    return "\n\n".join(parts)


def fer_row() -> tuple[str, ...] | None:
    """The compact network for faces."""
    r = load("fer2013")
    if r is None:
        return None
    test = r["test"]
    return (
        "VGG-9, FER2013 48×48, trained here",
        f"{percent(test['dense']['one']['accuracy'])} → {percent(test['slim']['one']['accuracy'])}",
        f"{percent(r['flops_saved'], 1)} ({percent(r['paper_accounting']['saved'], 1)})",
        f"{r['params']['dense'] / r['params']['slim']:.2f}×",
        speedup(r["latency"]),
        parity(r["parity"]),
        f"{r['date']}, {r['device']}",
    )


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
    cost = (
        f"FLOPs {r['flops']['dense'] / 1e6:.1f} M → {r['flops']['realised'] / 1e6:.1f} M ({percent(r['flops_saved'], 1)} fewer, "
        f"realised), parameters {r['params']['dense']:,} → {r['params']['slim']:,}, ONNX file "
        f"{r['onnx_bytes']['slim'] / 1e6:.2f} MB, {speedup(r['latency'])} faster; {r['date']}, {r['device']}."
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
    return table(head, rows) + f"\n\n{r['date']}, {r['device']}."


def widths_table() -> str:
    """Predicted against measured."""
    r = load("predictions")
    if r is None:
        return "(Not measured yet.)"
    rows = []
    for n in r["networks"]:
        target = next(row for row in n["assignments"] if row["name"] == "target")
        low, high = target["interval"]
        rows.append(
            (
                n["name"],
                percent(n["median_error"], 1),
                f"{r['target_speedup']:g}× → predicted {target['predicted_speedup']:.2f}×, "
                f"measured {target['measured_speedup']:.2f}× ({low:.2f}–{high:.2f})",
                f"{n['control']:.3f}",
                f"{n['table_seconds']:.0f} s, again {n['table_again_seconds']:.2f} s",
            )
        )
    head = ("network", "10 random assignments: median error of the predicted speed-up", "target", "A/A", "building the table")
    return table(head, rows) + f"\n\nOne thread, batch 1, ONNX Runtime, random weights; {r['date']}, {r['device']}."


def vggface_table() -> str:
    """The largest network, end to end."""
    r = load("vggface_dsd")
    if r is None:
        return ""
    rows = [
        (
            name,
            r[name]["phases"],
            str(r[name]["steps"]),
            f"{statistics.median(r[name]['seconds_a_step']):.1f}",
            f"{r[name]['peak_gigabytes']:.1f}",
        )
        for name in ("dsd", "structured-dsd")
    ]
    head = (f"VGG-Face, 224×224, batches of {r['batch_size']}, bf16", "phases", "steps", "seconds a step", "peak memory, GB")
    s = r["surgery"]
    cut = (
        f"Structured DSD, cut: parameters {s['params']['dense']:,} → {s['params']['slim']:,}, "
        f"FLOPs {s['flops']['dense'] / 1e9:.2f} G → {s['flops']['slim'] / 1e9:.2f} G, "
        f"relative Δ {parity(s['parity'])} (float64, ONNX), peak memory {s['peak_gigabytes']:.1f} GB; "
        f"{r['date']}, {r['device']}, busy."
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


def precision_row(name: str, row: str, r: Result) -> tuple[str, ...]:
    """One network in one precision."""
    low, high = r["interval"]
    made = ", ".join([r["method"], *(f"{name} in fp32" for name in r["excluded"])]) if "method" in r else ""
    return (
        f"{name}, {row}" + (f" ({made})" if made else ""),
        percent(r["test_accuracy"]) if "test_accuracy" in r else "–",
        percent(r["agreement"]) if "agreement" in r else "–",
        f"{r['bytes'] / 1e3:,.0f} kB",
        f"{r['median_ms']:.3f} ms",
        f"{r['speedup']:.2f}× ({low:.2f}–{high:.2f})",
        "–" if "refused" not in r else f"no: {r['refused']}" if r["refused"] else "yes",
    )


def precisions_table() -> str:
    """int8 and fp16 against fp32, dense and slim."""
    r = load("precisions")
    if r is None:
        return "(Not measured yet.)"
    rows = [precision_row(n["name"], label, row) for n in r["networks"] for label, row in n["rows"].items()]
    head = (
        "network",
        "test accuracy",
        "agreement with slim fp32",
        "bytes",
        "median",
        "against dense fp32 (95 % interval)",
        "kept",
    )
    controls = ", ".join(
        f"{n['name']} {n['control']['speedup']:.3f} ({n['control']['interval'][0]:.3f}–{n['control']['interval'][1]:.3f})"
        for n in r["networks"]
    )
    flags = sorted({flag for n in r["networks"] for flag in n["flags"]})
    note = f"One image, one thread, one paired run a network. A/A: {controls}."
    return table(head, rows) + f"\n\n{note}{' Flags: ' + ', '.join(flags) + '.' if flags else ''} {r['date']}, {r['device']}."


TABLES: dict[str, Callable[[], str]] = {
    "foreign": foreign_table,
    "results": main_table,
    "fsdp": fsdp_table,
    "surgeon": surgeon_table,
    "fer2013": fer_table,
    "methods": methods_table,
    "precisions": precisions_table,
    "vggface": vggface_table,
    "widths": widths_table,
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

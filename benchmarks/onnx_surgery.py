"""The surgeon on ONNX files of many exporters, with half of each layer's filters zeroed: what goes, what stays, and how exactly.

    python benchmarks/onnx_files.py make --work FOLDER              # first: the files
    python benchmarks/onnx_surgery.py --work FOLDER                 # all of them
    python benchmarks/onnx_surgery.py --work FOLDER NAME…           # these again; the others stay as they were

Filters are zeroed in the file (``tests/onnx_zeros.py``), in three ways. The slim file is compared with the zeroed one by code
that shares nothing with slimnet's own verification (``tests/onnx_compare.py``): in ONNX Runtime on two inputs and two batch
sizes; in float64 by onnx's reference evaluator. Each file runs in a process of its own, with a time limit; a failure is a row.

Expected: no row WRONG; in ONNX Runtime ≤ 1e-5 of the largest output, in float64 ≤ 1e-9 where no constant was folded into a
float32 bias. Half an hour to an hour on one processor core. Writes results/onnx_surgery.json.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from _results import own_run, write_result
from _tables import Result, measured, of_runs, percent, table

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
import onnx_compare
import onnx_zeros

NAME = "onnx_surgery"
LIMIT = 400
"""Seconds for one file, all modes."""
STORED, DOUBLE = 1e-5, 1e-9
"""The largest difference, as a share of the largest output, in float32 and in float64."""
FOLDED = 1e-6
"""The second where constants went into biases, which are stored in float32."""


def measure(file: Path, row: Mapping[str, Any], mode: onnx_zeros.Mode) -> dict[str, Any]:
    """What happens to one file with one kind of zeros."""
    zeroed = onnx_zeros.zero_half(onnx.load(file), mode)
    found: dict[str, Any] = {"name": row["name"], "mode": mode, "layers": len(zeroed.layers), "zero_filters": zeroed.filters}
    with tempfile.TemporaryDirectory() as folder:
        before, after = Path(folder) / "zeroed.onnx", Path(folder) / "slim.onnx"
        onnx.save(zeroed.model, before)
        try:
            found |= cut(before, after, row["shape"])
        except Exception as error:  # a row, whatever it is
            ours = type(error).__module__.startswith("slimnet")
            return found | {"status": "refused" if ours else "crashed", "reason": f"{type(error).__name__}: {error}"[:400]}
        slim = onnx.load(after)
        found["bytes"] = {"before": before.stat().st_size, "after": after.stat().st_size}
        found |= compared(zeroed.model, slim, row["shape"])
    found["left"] = sum(zero for zero, _ in onnx_zeros.zero_filters(slim).values())
    limit = FOLDED if found["folds"] else DOUBLE
    right = found["float32"] <= STORED and found["float64"] <= limit
    return found | {"status": ("nothing" if found["removed"] == 0 else "cut") if right else "WRONG"}


def cut(before: Path, after: Path, shape: Sequence[Any]) -> dict[str, Any]:
    """Slim a file with slimnet."""
    import torch

    from slimnet.onnx_surgery import slim_onnx

    start = time.perf_counter()
    declared = inputs(onnx.load(before, load_external_data=False))[0].type.tensor_type.shape.dim
    is_open = any(not dim.dim_value for dim in declared[1:])
    example = torch.from_numpy(example_of(shape, 2, seed=5)) if is_open else None
    result = slim_onnx(before, example)
    result.save(after)
    total: Counter[str] = Counter()
    for group in result.plan.groups:
        for reason, channels in group.reasons.items():
            total[reason.partition(" (")[0]] += channels
    return {
        "removed": result.report.removed,
        "closed": result.report.closed,
        "folds": len(result.plan.folds),
        "reasons": dict(total.most_common(4)),
        "beyond": dict(list(result.beyond.items())[:4]),
        "not_followed": len(result.beyond),
        "seconds": time.perf_counter() - start,
    }


def inputs(model: onnx.ModelProto) -> list[onnx.ValueInfoProto]:
    """Those that are no weights."""
    stored = {tensor.name for tensor in model.graph.initializer}
    return [value for value in model.graph.input if value.name not in stored]


def example_of(shape: Sequence[Any], batch: int, *, seed: int) -> np.ndarray[Any, Any]:
    """Noise; ``batch`` where the shape says N."""
    return np.random.default_rng(seed).standard_normal([batch if size == "N" else size for size in shape]).astype(np.float32)


def compared(expected: onnx.ModelProto, found: onnx.ModelProto, shape: Sequence[Any]) -> dict[str, Any]:
    """The largest difference in ONNX Runtime and in float64; multiply-adds of an image; whether the interface is what it was."""
    name = inputs(expected)[0].name
    is_same = interface(expected) == interface(found)
    (expected, scales), (found, _) = onnx_compare.with_logits(expected), onnx_compare.with_logits(found)
    feeds = [{name: example_of(shape, batch, seed=seed)} for batch, seed in ((1, 11), (3, 12))]
    differences = [onnx_compare.worst(onnx_compare.run(found, feed), onnx_compare.run(expected, feed), scales) for feed in feeds]
    feed = {name: example_of(shape, 2, seed=13)}
    exact = onnx_compare.worst(onnx_compare.run_double(found, feed), onnx_compare.run_double(expected, feed), scales)
    feed = {name: example_of(shape, 1, seed=14)}
    count = len(feed[name])
    flops = {
        "before": onnx_compare.multiply_adds(expected, feed) // count,
        "after": onnx_compare.multiply_adds(found, feed) // count,
    }
    return {"float32": max(differences), "float64": exact, "flops": flops, "interface": is_same}


def interface(model: onnx.ModelProto) -> list[Any]:
    """What a user of the file sees: inputs, outputs, opsets, metadata."""
    values = [[value.SerializeToString() for value in part] for part in (inputs(model), model.graph.output)]
    opsets = sorted((entry.domain, entry.version) for entry in model.opset_import)
    return [*values, opsets, sorted((entry.key, entry.value) for entry in model.metadata_props), model.producer_name]


def one(file: Path, row: Mapping[str, Any], modes: Sequence[onnx_zeros.Mode], folder: Path) -> list[dict[str, Any]]:
    """The rows of a file, from a process of its own."""
    out = folder / "rows.json"
    out.unlink(missing_ok=True)
    command = [sys.executable, __file__, "--one", json.dumps({"file": str(file), "row": row, "modes": modes, "out": str(out)})]
    try:
        done = subprocess.run(command, check=False, timeout=LIMIT, capture_output=True, text=True)
        reason = f"exit status {done.returncode}: {(done.stderr.strip().splitlines() or [''])[-1][:300]}"
    except subprocess.TimeoutExpired:
        reason = f"longer than {LIMIT} s"
    rows: list[dict[str, Any]] = json.loads(out.read_text(encoding="utf-8")) if out.exists() else []
    missing = [mode for mode in modes if mode not in {found["mode"] for found in rows}]
    rows += [{"name": row["name"], "mode": mode, "status": "crashed", "reason": reason} for mode in missing]
    about = {key: row.get(key) for key in ("exporter", "versions", "producer", "opset", "special", "shape")}
    return [about | found for found in rows]


def run_one(task: Mapping[str, Any]) -> None:
    """In that process."""
    rows: list[dict[str, Any]] = []
    for mode in task["modes"]:
        rows.append(measure(Path(task["file"]), task["row"], mode))
        Path(task["out"]).write_text(json.dumps(rows), encoding="utf-8")


HEAD = (
    "file",
    "opset",
    "zero filters",
    "gone",
    "FLOPs before → after",
    "bytes",
    "ONNX Runtime",
    "float64",
    "seconds",
    "what stays",
)


def cells(row: Mapping[str, Any]) -> tuple[str, ...]:
    """A row of the table."""
    name = f"{row['name']}{': ' + row['special'] if row.get('special') else ''}"
    if "float32" not in row:
        return (name, str(row["opset"]), f"{row.get('zero_filters', 0):,}", row["status"], *[""] * 5, row["reason"])
    before, after = row["flops"]["before"], row["flops"]["after"]
    flops = f"{before / 1e6:,.1f} M → {after / 1e6:,.1f} M (−{percent(1 - after / before, 0)})"
    return (
        name,
        str(row["opset"]),
        f"{row['zero_filters']:,}",
        f"{row['zero_filters'] - row['left']:,}" if row["status"] != "WRONG" else "WRONG",
        flops,
        f"−{percent(1 - row['bytes']['after'] / row['bytes']['before'], 0)}",
        f"{row['float32']:.0e}",
        f"{row['float64']:.0e}",
        f"{row['seconds']:.1f}",
        _stays(row),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("names", nargs="*", help="parts of names; all without")
    parser.add_argument("--work", type=Path, help="the folder of onnx_files.py")
    parser.add_argument("--modes", nargs="+", choices=onnx_zeros.MODES, default=list(onnx_zeros.MODES))
    parser.add_argument("--out", type=Path, help="write rows here, and no result")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        return run_one(json.loads(args.one))
    files = args.work / "files"
    index = [row for row in json.loads((files / "index.json").read_text(encoding="utf-8")) if "error" not in row]
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        for row in sorted(index, key=lambda row: int(row["bytes"])):
            if args.names and not any(name in row["name"] for name in args.names):
                continue
            found = one(files / row["file"], row, args.modes, Path(folder))
            rows += found
            for each in found:
                print(each["mode"], *cells(each), sep=" | ", flush=True)
            if args.out:
                args.out.write_text(json.dumps(rows, indent=1), encoding="utf-8")
            else:
                write_result(NAME, {"threads": 1, "onnx": onnx.__version__, "rows": merged(rows)})
    print(dict(Counter(row["status"] for row in rows)))
    return None


def merged(new: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The new rows, and what was there of the others from this machine."""
    rows = {(row["name"], row["mode"]): row for row in (*own_run(NAME).get("rows", []), *new)}
    return [rows[key] for key in sorted(rows)]


ROW = ("file", "opset", "alone: gone", "FLOPs", "together: gone", "FLOPs", "ONNX Runtime", "float64", "what stays (alone)")


def files_table(runs: list[Result]) -> str:
    """A row a file."""
    run = runs[0]
    found: dict[str, dict[str, Result]] = {}
    for row in run["rows"]:
        found.setdefault(row["name"], {})[row["mode"]] = row
    versions = ", ".join(f"{name} {version}" for name, version in run["versions"].items())
    rows = [_of_file(modes) for modes in found.values()]
    return table(ROW, rows) + f"\n\nMeasured: {measured(run)}; {versions}, onnx {run['onnx']}."


def _of_file(modes: Mapping[str, Result]) -> tuple[str, ...]:
    row = next(iter(modes.values()))
    name = f"{row['name']}{': ' + row['special'] if row.get('special') else ''}"
    if any("float32" not in each for each in modes.values()):
        return (name, str(row["opset"]), row["status"], *[""] * 5, row["reason"].replace("|", "\\|"))
    shares: list[str] = []
    for mode in ("alone", "together"):
        shares += _shares(modes[mode]) if mode in modes else ["", ""]
    worst = [f"{max(each[kind] for each in modes.values()):.0e}" for kind in ("float32", "float64")]
    return (name, str(row["opset"]), *shares, *worst, _stays(row))


def _shares(row: Result) -> list[str]:
    """Of the zero filters, those that are gone; of the FLOPs."""
    gone = 1 - row["left"] / row["zero_filters"]
    return [
        percent(gone, 0) if row["status"] != "WRONG" else "WRONG",
        f"−{percent(1 - row['flops']['after'] / row['flops']['before'], 0)}",
    ]


def _stays(row: Mapping[str, Any]) -> str:
    reasons = [f"{channels:,} {reason}" for reason, channels in list(row["reasons"].items())[:2]]
    reasons += [f"{row['not_followed']} nodes not followed ({next(iter(row['beyond']))})"] if row["beyond"] else []
    return "; ".join(reasons) or "nothing"


def summary(runs: list[Result]) -> str:
    """How many files of which exporter, what came of them, and the worst differences."""
    rows = runs[0]["rows"]
    kinds = ("cut", "nothing", "refused", "crashed", "WRONG")
    groups = {name: [row for row in rows if row["exporter"] == name] for name in sorted({row["exporter"] for row in rows})}
    body = []
    for name, part in (*groups.items(), ("all", rows)):
        counts = Counter(row["status"] for row in part)
        exact = [row for row in part if "float64" in row]
        plain, folded = ([row["float64"] for row in exact if bool(row["folds"]) is folds] for folds in (False, True))
        worst = [f"{max(values):.0e}" if values else "–" for values in ([row["float32"] for row in exact], plain, folded)]
        body.append((name, str(len({row["name"] for row in part})), *(str(counts[kind]) for kind in kinds), *worst))
    return table(("exporter", "files", *kinds, "ONNX Runtime", "float64", "float64, constants folded"), body)


TABLES = {"onnx-corpus": of_runs(NAME)(files_table), "onnx-corpus-summary": of_runs(NAME)(summary)}


if __name__ == "__main__":
    main()

"""Accuracy at equal milliseconds: the networks of the campaign against the shallower dense ones that a user would take instead.

    SLIMNET_DATA=DATA python benchmarks/frontier.py make [--work runs/campaign]    # bundles and accuracies; nothing is timed
    python benchmarks/frontier.py time [--seconds 60]                              # paired timings, on an idle machine
    python benchmarks/frontier.py draw                                             # docs/images/frontier.svg

The same with ``--data fer2013`` for faces; the default is cifar10.

CIFAR-10. Dense: ResNet-20, -32, -44 and -56. The weights of 20 and 56 are evaluated here on all 10,000 test images, in fp32 and
int8; those of 32 and 44 are not at hand, so their accuracy is the one that their authors publish, which the row says; they are
timed with random weights. Slim: each finished row of the campaign that saw all training images, in fp32 and int8, evaluated on
all test images as ONNX; those whose runs are not at hand were evaluated where they were trained, and are timed here with random
weights in their shape. All are timed in one run, one thread, batch 1, ONNX Runtime. Writes results/frontier.json: ``rows``, each
with the instruction set that it was timed on; a rerun on another kind of processor adds its rows.

FER2013. Dense and slim are both rows of the campaign, and evaluated in the same way. Writes results/faces_frontier.json.
"""

from __future__ import annotations

import argparse
import datetime
import json
import sys
from pathlib import Path
from typing import Any

import torch
from _results import RESULTS, ratio, read_runs
from _runs import BUILD, data_dir, trained_network, weights
from _tables import ROOT, Picture, Result, measured, of_runs, percent, ranged, table

import slimnet
from slimnet.commands import PrecisionSettings, export_run
from slimnet.data import calibration_batches, load_data
from slimnet.export.precision import to_int8
from slimnet.files import read_json, write_json
from slimnet.measure import compare_latency, count
from slimnet.measure.machine import cpu_model, instructions
from slimnet.report._figure import BLUE, MUTED, ORANGE, new_figure, save
from slimnet.training import evaluate
from slimnet.training.run import is_finished

OUT = BUILD / "frontier"
PUBLISHED = {"resnet32": 0.9263, "resnet44": 0.9310}
"""Test accuracies that the authors of the weights publish (Idelbayev's ResNets for CIFAR-10)."""
CALIBRATION = 256
LADDER = ("resnet20", "resnet32", "resnet44", "resnet56")
GOALS = (("resnet32", 1.0, 0.932), ("resnet20", 1.0, 0.922), ("resnet20", 0.5, 0.905))
"""Accuracy to be had in a share of the time of a dense network, on CIFAR-10."""
FIRST = {"cifar10": "resnet56", "fer2013": "faces-resnet20-0"}
"""The dense network that the others are held against."""
CIFAR_WORDS = ("network, CIFAR-10", "ResNet-56 ÷ it")
ALL_IMAGES = "All 10,000 test images, one seed."
RESULT = {"cifar10": "frontier", "fer2013": "faces_frontier"}


def make(work: Path, data: str) -> None:
    """Export what is to be timed, and note its accuracy in build/frontier/made_DATA.json."""
    OUT.mkdir(parents=True, exist_ok=True)
    rows = [row for name in LADDER for row in dense(name)] if data == "cifar10" else []
    for folder in sorted(path for path in work.iterdir() if path.is_dir() and is_finished(path)):
        run = slimnet.Run.open(folder)
        if run.config.data == data and run.config.train_fraction == 1:
            rows += of_run(run)
            print(json.dumps(rows[-2:]), flush=True)
    rows += [row for name in sorted(known(data) - {row["name"] for row in rows}) for row in of_shape(name, data)]
    write_json(made_of(data), {"rows": rows})


def made_of(data: str) -> Path:
    """Where stands what was made."""
    return OUT / f"made_{data}.json"


def dense(name: str) -> list[dict[str, Any]]:
    """A network of the ladder: evaluated in fp32 and int8 where its weights are at hand."""
    is_at_hand = weights(name).is_file()
    model = (trained_network(name) if is_at_hand else slimnet.build_model(name, num_classes=10)).eval()
    example = torch.randn(2, 3, 32, 32)
    slimnet.export_onnx(model, example, OUT / f"{name}.onnx")
    row = {"name": name, "kind": "dense", "flops": count(model, example[:1]).flops}
    if not is_at_hand:
        source = "published, not measured here"
        return [row | {"precision": "fp32", "accuracy": PUBLISHED[name], "source": source, "file": f"{name}.onnx"}]
    data = load_data("cifar10", data_dir=data_dir())
    images = torch.cat([images for images, _ in calibration_batches(data, CALIBRATION, CALIBRATION)])
    (OUT / f"{name}.int8.onnx").write_bytes(to_int8((OUT / f"{name}.onnx").read_bytes(), images.numpy()))
    rows = []
    for precision, path in (("fp32", f"{name}.onnx"), ("int8", f"{name}.int8.onnx")):
        accuracy = evaluate(OUT / path, data.test, mean=data.mean, std=data.std).accuracy
        rows.append(row | {"precision": precision, "accuracy": accuracy, "source": "measured", "file": path})
    return rows


def of_run(run: slimnet.Run) -> list[dict[str, Any]]:
    """A finished run in fp32 and int8."""
    name = run.path.name
    out = OUT / name
    bundle = export_run(run.path, out, force=True, precisions=PrecisionSettings(("int8",)), say=print)
    data = run.dataset()
    kind = "dense" if run.method.name == "dense" else "slim"
    rows = []
    for precision in ("fp32", "int8"):
        file = out / ("model.onnx" if precision == "fp32" else f"model.{precision}.onnx")
        if not file.is_file():
            continue
        found = evaluate(file, data.test, mean=data.mean, std=data.std)
        rows.append(
            {
                "name": name, "kind": kind, "precision": precision, "accuracy": found.accuracy, "source": "measured",
                "flops": bundle.cost_slim.flops, "bytes": file.stat().st_size, "epochs": run.config.epochs,
                "seed": run.config.seed, "start": run.config.model, "method": run.method.name,
                "file": f"{name}/{file.name}",
            }
        )  # fmt: skip
    return rows


def known(data: str) -> set[str]:
    """The slim networks whose accuracy was measured, here or elsewhere, and which lost branches alone: their shape is known."""
    path = RESULTS / f"{RESULT[data]}.json"
    if data != "cifar10" or not path.is_file():
        return set()
    measured_ones = {row["name"] for row in read_json(path)["rows"] if row["kind"] == "slim"}
    return measured_ones & shapes().keys()


def shapes() -> dict[str, Result]:
    """What the campaign says of each row that lost branches alone."""
    networks = [network for run in read_runs("campaign") for network in run["networks"]]
    return {network["name"]: network for network in networks if network["branches"] and not network.get("widths")}


def of_shape(name: str, data: str) -> list[dict[str, Any]]:
    """A network that was evaluated elsewhere: its accuracies, and files of its shape with random weights, to be timed here."""
    model, example = slimnet.build_model(shapes()[name]["start"], num_classes=10), torch.randn(2, 3, 32, 32)
    for norm in map(model.get_submodule, shapes()[name]["branches"]):
        for tensor in norm.parameters():
            torch.nn.init.zeros_(tensor)
    slim = slimnet.slim(model.eval(), example).model
    folder = OUT / name
    folder.mkdir(exist_ok=True)
    slimnet.export_onnx(slim, example, folder / "model.onnx")
    images = torch.randn(CALIBRATION, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    (folder / "model.int8.onnx").write_bytes(to_int8((folder / "model.onnx").read_bytes(), images.numpy()))
    files = {"fp32": f"{name}/model.onnx", "int8": f"{name}/model.int8.onnx"}
    was = {row["precision"]: row for row in read_json(RESULTS / f"{RESULT[data]}.json")["rows"] if row["name"] == name}
    made = count(slim, example[:1]).flops
    if any(row["flops"] != made for row in was.values()):
        sys.exit(f"{name} has {made:,} multiply-adds in the shape that the campaign tells, not those that were evaluated.")
    about = ("name", "kind", "precision", "accuracy", "source", "flops", "bytes", "epochs", "seed", "start", "method")
    return [{key: row[key] for key in about} | {"file": files[precision]} for precision, row in was.items()]


def measure(seconds: float, data: str) -> None:
    """Time everything that was made in one run, and write the rows."""
    made = read_json(made_of(data))["rows"]
    names = {f"{row['name']} {row['precision']}": OUT / row["file"] for row in made}
    first = f"{FIRST[data]} fp32"
    names = {first: names[first], **names}
    report = compare_latency(names, seconds=seconds)
    timed = {variant.name: variant for variant in report.variants}
    where = {
        "instructions": instructions(),
        "device": cpu_model(),
        "date": datetime.datetime.now(tz=datetime.UTC).date().isoformat(),
    }
    rows = []
    for row in made:
        variant = timed[f"{row['name']} {row['precision']}"]
        about = {key: value for key, value in row.items() if key != "file"}
        rows.append(about | {"ms": variant.median_ms, **ratio(variant)} | where)
    path = RESULTS / f"{RESULT[data]}.json"
    before = json.loads(path.read_text(encoding="utf-8"))["rows"] if path.is_file() else []
    kept = [row for row in before if row["instructions"] != where["instructions"]]
    how = {"goals": goals(rows) if data == "cifar10" else [], "control": ratio(report.control), "flags": report.flags}
    write_json(path, {**where, "rows": [*rows, *kept], **how})
    print(path)


def goals(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """For every goal the best slim network that is as fast, or None."""
    dense_ms = {row["name"]: row["ms"] for row in rows if row["kind"] == "dense" and row["precision"] == "fp32"}
    found = []
    for name, share, accuracy in GOALS:
        limit = share * dense_ms[name]
        fits = [row for row in rows if row["kind"] == "slim" and row["ms"] <= 1.02 * limit]
        best = max(fits, key=lambda row: row["accuracy"], default=None)
        reached = {key: best[key] for key in ("name", "precision", "ms", "accuracy")} if best else None
        found.append({"time_of": name, "share": share, "ms": limit, "goal": accuracy, "reached": reached})
    return found


def newest() -> list[Result]:
    """The rows of the processor that was timed last."""
    rows = read_json(RESULTS / "frontier.json")["rows"]
    return [row for row in rows if row["instructions"] == rows[0]["instructions"]]


def draw(rows: list[Result], path: Path) -> None:
    """Accuracy against milliseconds, a line for each network that others were cut out of, and for the dense ladder."""
    figure, axes = new_figure(f"Test accuracy on CIFAR-10 against milliseconds ({rows[0]['instructions']})", height=4.2)
    series: dict[tuple[str, str], list[Result]] = {}
    for row in rows:
        series.setdefault((row.get("start", ""), row["precision"]), []).append(row)
    for (start, precision), found in sorted(series.items(), reverse=True):
        colour = {"": MUTED, "resnet56": BLUE}.get(start, ORANGE)
        style = "-" if precision == "fp32" else "--"
        words = f"{start.replace('resnet', 'ResNet-')} cut" if start else "dense ResNet"
        line = sorted(found, key=lambda row: row["ms"])
        places = [(row["ms"], 100 * row["accuracy"]) for row in line]
        fill = colour if precision == "fp32" else "white"
        axes.plot(*zip(*places, strict=True), f"o{style}", color=colour, markerfacecolor=fill, label=f"{words}, {precision}")
        for row, place in zip(line, places, strict=True):
            beside = {"xytext": (-6, 3), "ha": "right"} if start and precision == "int8" else {"xytext": (6, -9), "ha": "left"}
            axes.annotate(_short(row), place, textcoords="offset points", fontsize=8, color=colour, **beside)
    axes.margins(x=0.1, y=0.1)
    axes.set_xlabel("milliseconds, batch 1, one thread", fontsize=9, color=MUTED)
    axes.set_ylabel("test accuracy, %", fontsize=9, color=MUTED)
    axes.legend(fontsize=8, frameon=False, loc="lower right", title="numbers: depth, or blocks left", title_fontsize=8)
    save(figure, path)


def _short(row: Result) -> str:
    """The depth of a dense network, or how many blocks are left of one that was cut."""
    name = str(row["name"])
    return name.removeprefix("resnet") if row["kind"] == "dense" else name.removeprefix(f"{row['start']}-").partition("-")[0]


PICTURES = (Picture(ROOT / "docs" / "images" / "frontier.svg", newest, draw),)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("make", "time", "draw"))
    parser.add_argument("--work", default="runs/campaign", help="where the campaign's runs lie")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--data", choices=tuple(RESULT), default="cifar10")
    args = parser.parse_args()
    if args.what == "make":
        make(Path(args.work), args.data)
    if args.what == "time":
        if not made_of(args.data).is_file():
            sys.exit("there is nothing to time: run `frontier.py make` first.")
        measure(args.seconds, args.data)
    if args.what != "make" and args.data == "cifar10":
        PICTURES[0].make()


@of_runs("frontier")
def frontier_table(runs: list[Result]) -> str:
    """Dense ladder and slim networks, the fastest first, on the processor that was timed last."""
    return _table(runs[0] | {"rows": newest()}, CIFAR_WORDS, ALL_IMAGES)


@of_runs("frontier")
def others_table(runs: list[Result]) -> str:
    """The same on the processors that were timed before."""
    others = [row for row in runs[0]["rows"] if row not in newest()]
    return _table({"rows": others}, CIFAR_WORDS, ALL_IMAGES) if others else "(Not timed on another processor yet.)"


@of_runs("faces_frontier")
def faces_table(runs: list[Result]) -> str:
    """The same of networks for faces."""
    return _table(runs[0], ("network, FER2013", f"{FIRST['fer2013']} ÷ it"), "All 3,589 test faces, one view, one seed.")


def _table(found: Result, words: tuple[str, str], of_what: str) -> str:
    rows = sorted(found["rows"], key=lambda row: (row["instructions"], row["ms"]))
    head = (words[0], "precision", "test accuracy", "ms", words[1], "epochs", "measured")
    control = f"; A/A {found['control']['speedup']:.3f}" if "control" in found else ""
    note = f"{of_what} One thread, batch 1, ONNX Runtime, paired rounds{control}."
    return table(head, [_row(row) for row in rows]) + f"\n\n{note}"


def _row(row: Result) -> tuple[str, ...]:
    source = "" if row["source"] == "measured" else f" ({row['source']})"
    name = f"**{row['name']}**" if row["kind"] == "slim" else row["name"]
    return (
        *(name, row["precision"], percent(row["accuracy"]) + source, f"{row['ms']:.3f}"),
        *(ranged(row["speedup"], row["interval"], "×"), str(row.get("epochs", "")), measured(row)),
    )


TABLES = {"frontier": frontier_table, "frontier-others": others_table, "faces-frontier": faces_table}


if __name__ == "__main__":
    main()

"""The classifiers of facial expressions that slimnet ships: made of a campaign's runs, in int8, without what made them.

    SLIMNET_DATA=DATA python benchmarks/expressions.py make [tiny] [small] [votes] [base]   # a few minutes
    SLIMNET_DATA=DATA python benchmarks/expressions.py time                         # again the times alone, on a quiet machine
    SLIMNET_DATA=DATA python benchmarks/expressions.py judge                        # again the accuracy of what is shipped
    SLIMNET_DATA=DATA python benchmarks/expressions.py between                      # the base by labels, by votes, and between
    SLIMNET_DATA=DATA python benchmarks/expressions.py calibrate                    # again the temperatures of what is shipped

Needs the runs that the rows `expressions-base-again-0`, `expressions-small-again-0`, `expressions-small-votes-0` and
`expressions-tiny-more-0` of benchmarks/campaign.py make, with those that they begin with, in runs/campaign or in the folder that
EXPRESSIONS_RUNS names; `between` that of `expressions-base-votes-0`, too. Expected: each within its bytes, at most half a point
of accuracy lost to float32, and answers whose likelihood the temperature raises. Writes slimnet/ready/ and
results/expressions.json; a bundle is shipped only if it is better than what is shipped, or as good in fewer bytes, and worth its
size (`WORTH`). How good it is says its accuracy on the validation split: by FER2013's labels, for `votes` by FER+'s votes. With
`calibrate` what is shipped stays as it is, only temperatures are fitted again: that needs the data alone.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import campaign
import torch
from _results import own_run, ratio, write_networks
from _runs import BUILD, data_dir
from _tables import PROCESSOR, Result, of_runs, percent, processor, ranged, table, when

import slimnet
from slimnet.commands import PrecisionSettings, calibrate_bundle, evaluate_any, export_run
from slimnet.data import load_data, match_classes
from slimnet.errors import FileFormatError
from slimnet.export import Bundle, compact_bundle, read_bundle
from slimnet.measure import compare_latency
from slimnet.training import evaluate

NAME = "expressions"
MOST_BYTES = {"tiny": 90_000, "small": 500_000, "votes": 500_000, "base": 2_000_000}
ROWS = {
    "tiny": ("tiny-more", "tiny-wide"),
    "small": ("small-again", "base-again"),
    "votes": ("small-votes", "base-again"),
    "base": ("base-again", "base-again"),
}
"""The run of each, and the dense one that it was cut out of."""
SHIPPED = {"tiny": "expressions-tiny", "small": "expressions", "votes": "expressions-votes", "base": "expressions-base"}
TOLD = {"votes": "small, from votes"}
READY = Path(slimnet.__file__).parent / "ready"
RUNS = Path(os.environ.get("EXPRESSIONS_RUNS", "runs/campaign"))
PRECISIONS = PrecisionSettings(("int8",), reduce_range=True)  # the same on processors without VNNI
WORTH = {"tiny": -0.03, "small": 0.0, "votes": 0.03, "base": 0.01}
"""Validation accuracy that the others must have more than the small one that is shipped."""
NAME_OF = {"labels": "fer2013", "votes": "ferplus"}
UNSURE_BELOW = 0.5
"""Calibrated, an answer below it is wrong more often than right."""


def made(size: str) -> dict[str, Any]:
    """Export a run, hold it to its bytes, compare it with what is shipped; what there is to say of it."""
    run, dense = (RUNS / f"{NAME}-{row}-0" for row in ROWS[size])
    how: dict[str, Any] = {} if run == dense else {"dense": dense}
    whole = export_run(
        run,
        BUILD / SHIPPED[size],
        data_dir=data_dir() / "fer2013",
        precisions=PRECISIONS,
        unsure_below=UNSURE_BELOW,
        force=True,
        say=print,
        **how,
    )
    with tempfile.TemporaryDirectory() as folder:
        compact = compact_bundle(whole.path, Path(folder) / SHIPPED[size])
        found = judged(compact)
        old, own_bytes = shipped_now(size), found["bytes"]
        by = "validation_votes" if size == "votes" else "validation"
        is_better = (found[by], -own_bytes) > (old[by], -old["bytes"])
        is_worth_it = found[by] >= shipped_now("small")[by] + WORTH[size] or size == "small"
        is_shipped = own_bytes <= MOST_BYTES[size] and is_better and is_worth_it
        told = "shipped" if is_shipped else "not shipped"
        print(f"{size}: {own_bytes:,} of {MOST_BYTES[size]:,} bytes; {found[by]:.2%}, {old[by]:.2%}: {told}")
        if is_shipped:
            shutil.rmtree(READY / SHIPPED[size], ignore_errors=True)
            shutil.copytree(compact.path, READY / SHIPPED[size])
    opened = slimnet.Run.open(run)
    own = {
        "size": size,
        "shipped": is_shipped,
        "model": opened.config.model,
        "epochs": epochs_of(run.name),
        "seed": opened.config.seed,
        "teacher": None if opened.config.teacher is None else Path(opened.config.teacher).name,
        "flops": whole.cost_slim.flops,
        "params": whole.cost_slim.params,
        "confidence": compact.model["precisions"]["int8"]["confidence"],
        "fp32": judged(whole),
        "times": times(whole),
    }
    return {"name": run.name, **own, **found}


def epochs_of(name: str) -> list[int]:
    """Of each training that the weights of a row of the campaign went through, the first first."""
    row = next(each for each in campaign.ROWS if each.run == name)
    return [*(epochs_of(row.start) if row.start else []), row.epochs]


def evaluated(bundle: Bundle, split: str, views: Any = "one", *, votes: bool = False) -> dict[str, Any]:
    """What a bundle says of a split, by FER2013's labels or by FER+'s votes."""
    by: dict[str, Any] = {"data": "ferplus", "data_options": {"without_contempt": True}} if votes else {"data": "fer2013"}
    result, classes = evaluate_any(bundle.path, data_dir=str(data_dir() / "fer2013"), split=split, views=views, **by)
    return {"classes": list(classes), **result.as_dict()}


def judged(bundle: Bundle) -> dict[str, Any]:
    """Accuracy and what goes with it on the test split, one view and two; accuracy on the validation split; by FER+'s votes."""
    votes = evaluated(bundle, "test", votes=True)
    main_file = bundle.onnx if bundle.onnx.is_file() else bundle.precision_files["int8"]
    return {
        "bytes": main_file.stat().st_size,
        "validation": evaluated(bundle, "val")["accuracy"],
        "validation_votes": evaluated(bundle, "val", votes=True)["accuracy"],
        "test": {views: evaluated(bundle, "test", views) for views in ("one", "flip")},
        "votes": {name: votes[name] for name in ("count", "accuracy", "macro_f1")},
    }


def between() -> list[dict[str, float]]:
    """The base that learnt from labels, the one that learnt from votes, and a network with weights half way: in float32."""
    runs = [slimnet.Run.open(RUNS / f"{NAME}-{row}-0") for row in ("base-again", "base-votes")]
    labels, votes = (run.load_model().state_dict() for run in runs)
    folder, found = str(data_dir()), []
    by = {"labels": load_data(NAME_OF["labels"], data_dir=folder)}
    seven = load_data(NAME_OF["votes"], data_dir=folder, data_options={"without_contempt": True})
    by["votes"] = match_classes(by["labels"].classes, seven.classes, who=NAME, whose=seven.name).dataset(seven)
    for share in (0.0, 0.5, 1.0):
        model = runs[0].load_model()
        model.load_state_dict(
            {name: torch.lerp(one, votes[name], share) if one.is_floating_point() else one for name, one in labels.items()}
        )
        row = {what: evaluate(model, data.test, mean=runs[0].mean, std=runs[0].std).accuracy for what, data in by.items()}
        print(share, row, flush=True)
        found.append({"share": share, **row})
    return found


def shipped_now(size: str) -> dict[str, float]:
    """What tells how good the bundle is that is shipped now, and its bytes; no accuracy where none is."""
    try:
        bundle = read_bundle(READY / SHIPPED[size])
    except FileFormatError:
        return {"validation": 0.0, "validation_votes": 0.0, "bytes": 0}
    labels, votes = (float(evaluated(bundle, "val", votes=by)["accuracy"]) for by in (False, True))
    return {"validation": labels, "validation_votes": votes, "bytes": bundle.onnx.stat().st_size}


def shipped(size: str) -> dict[str, Any]:
    """What there is to say of a bundle that is shipped, which no run of this machine made."""
    bundle = read_bundle(READY / SHIPPED[size])
    config = json.loads((bundle.path / "config.json").read_text(encoding="utf-8"))
    cost = bundle.model["cost"]["realised"]
    return {
        "name": SHIPPED[size],
        "size": size,
        "shipped": True,
        "model": config["model"],
        "epochs": config.get("epochs"),
        "seed": config.get("seed"),
        "flops": cost["flops"],
        "params": cost["params"],
        "confidence": bundle.model["precisions"]["int8"]["confidence"],
        **judged(bundle),
    }


def retire(values: dict[str, Any]) -> None:
    """Note that what was shipped of a size is shipped no more, where a run of today's row took its place."""
    rows = own_run(NAME).get("networks", [])
    today = {f"{NAME}-{row}-0": size for size, (row, _) in ROWS.items()}
    replaced = {today[row["name"]] for row in rows if row["shipped"] and row["name"] in today}
    old = [row for row in rows if row["shipped"] and row["size"] in replaced and row["name"] not in today]
    write_networks(NAME, values, [row | {"shipped": False} for row in old])


def calibrate(size: str) -> None:
    """Fit the temperature of a shipped bundle again."""
    folder = READY / SHIPPED[size]
    calibrate_bundle(folder, folder, data_dir=data_dir() / "fer2013", unsure_below=UNSURE_BELOW, force=True, say=print)


def times(whole: Bundle) -> dict[str, Any]:
    """fp32 and int8 in the same rounds, one image, one thread."""
    report = compare_latency({"fp32": whole.onnx, "int8": whole.precision_files["int8"]}, seconds=10.0)
    rows = {name: {"ms": report[name].median_ms, **ratio(report[name])} for name in ("fp32", "int8")}
    return {**rows, "control": ratio(report.control), "flags": report.flags}


def main() -> None:
    what, *sizes = sys.argv[1:] or ["make"]
    if what not in {"make", "time", "judge", "between", "calibrate"} or not set(sizes) <= set(MOST_BYTES):
        sys.exit(f"give make, time, judge, between or calibrate, and sizes of {', '.join(MOST_BYTES)}")
    values = {"data": "fer2013"} | {key: value for key, value in own_run(NAME).items() if key == "between"}
    there = [size for size in MOST_BYTES if (READY / SHIPPED[size]).is_dir()]
    if what == "make":
        for size in sizes or MOST_BYTES:
            write_networks(NAME, values, [made(size)])
    elif what == "time":
        for row in own_run(NAME).get("networks", []):
            made_here = row["name"] == f"{NAME}-{ROWS[row['size']][0]}-0" and (BUILD / SHIPPED[row["size"]]).is_dir()
            if "times" in row and made_here:
                write_networks(NAME, values, [row | {"times": times(read_bundle(BUILD / SHIPPED[row["size"]]))}])
    elif what == "between":
        values["between"] = between()
    elif what == "judge":
        rows = [row for row in own_run(NAME).get("networks", []) if row["shipped"]]
        write_networks(NAME, values, [row | judged(read_bundle(READY / SHIPPED[row["size"]])) for row in rows])
    else:
        for size in there:
            calibrate(size)
    new = {row["size"] for row in own_run(NAME).get("networks", []) if row["shipped"] and "times" in row}
    write_networks(NAME, values, [shipped(size) for size in there if size not in new])
    retire(values)


@of_runs(NAME)
def sizes_table(runs: list[Result]) -> str:
    """The classifiers by size, what is shipped before what was, and the confusion of what is shipped."""
    rows, confusions, flags = [], [], []
    order = list(MOST_BYTES)
    for run in runs:
        for each in sorted(run["networks"], key=lambda each: (order.index(each["size"]), not each["shipped"])):
            one, flip, took = each["test"]["one"], each["test"]["flip"], each.get("times")
            flags += [f"{each['name']}: {flag}" for flag in (took or {"flags": {}})["flags"].values()]
            fp32 = percent(each["fp32"]["test"]["one"]["accuracy"]) if "fp32" in each else "–"
            fast = (
                f"{took['int8']['ms']:.3f} ms, {ranged(took['int8']['speedup'], took['int8']['interval'], '×')}" if took else "–"
            )
            votes = percent(each["votes"]["accuracy"]) if "votes" in each else "–"
            figures = (f"{percent(one['accuracy'])} ({percent(flip['accuracy'])})", fp32, f"{one['macro_f1']:.3f}", votes)
            size = (f"{each['bytes']:,}", f"{each['flops'] / 1e6:.1f} M", f"{each['params']:,}", fast)
            name = f"`{each['name']}`, {each['model']}" + (", shipped" if each["shipped"] else "")
            rows.append((TOLD.get(each["size"], each["size"]), name, *figures, *size, _epochs(each["epochs"]), processor(run)))
            if not each["shipped"]:
                continue
            body = [(label, *(str(n) for n in line)) for label, line in zip(one["classes"], one["confusion"], strict=True)]
            confusions.append(f"`{each['name']}`, int8, one view; rows are true:\n\n" + table(("", *one["classes"]), body))
    head = (
        "size",
        "classifier",
        "accuracy, int8 (with mirror image)",
        "in fp32",
        "macro-F1",
        "accuracy by FER+'s votes",
        "bytes",
        "multiply-adds",
        "parameters",
    )
    head = (*head, "int8 and how much faster than fp32", "epochs, one training after another", PROCESSOR)
    return "\n\n".join([table(head, rows), f"{when(runs)}." + (f" Beware: {'; '.join(flags)}" if flags else ""), *confusions])


@of_runs(NAME)
def votes_table(runs: list[Result]) -> str:
    """What is right by FER2013's labels and by FER+'s votes: of what is shipped, and of bases between labels and votes."""
    run = next((each for each in runs if "between" in each), None)
    rows = [
        (f"`{SHIPPED[each['size']]}`, int8", percent(each["test"]["one"]["accuracy"]), percent(each["votes"]["accuracy"]))
        for each in sorted(runs[0]["networks"], key=lambda each: list(MOST_BYTES).index(each["size"]))
        if each["shipped"] and "votes" in each
    ]
    told = {0.0: "as shipped", 0.5: "weights half way", 1.0: "14 epochs on, from votes"}
    rows += [
        (f"base, {told[each['share']]}, float32", percent(each["labels"]), percent(each["votes"]))
        for each in (run["between"] if run else ())
    ]
    return table(("classifier", "by FER2013's labels, 3,589 faces", "by FER+'s votes, 3,137 faces"), rows)


def _epochs(each: list[int] | int | None) -> str:
    """Of each training; rows of before know the last one alone."""
    return " + ".join(map(str, each)) if isinstance(each, list) else f"… + {each}" if each else "–"


@of_runs(NAME)
def confidence_table(runs: list[Result]) -> str:
    """How far the probabilities of the shipped classifiers can be believed."""
    rows, kept = [], []
    for each in runs[0]["networks"]:
        found = each["confidence"]
        for what in ("fitted", "measured"):
            on = found[what]
            label = f"`{each['name']}`, {on['split']} split ({on['count']:,} faces)"
            pair = ("before", "after")
            figures = (*(percent(on["ece"][w]) for w in pair), *(f"{on['nll'][w]:.4f}" for w in pair))
            rows.append((label, f"{found['temperature']:g}" if what == "fitted" else "the same", *figures))
        kept += [
            (
                f"`{each['name']}`",
                f"{row['threshold']:.0%}",
                percent(row["share"]),
                percent(row["accuracy"]) if row["share"] else "–",
            )
            for row in found["answered"]
        ]
    head = ("classifier", "temperature", "ECE at T = 1", "ECE at the temperature", "NLL at T = 1", "NLL at the temperature")
    told = table(("classifier", "answers kept back below", "faces answered", "right, of these"), kept)
    return f"{table(head, rows)}\n\n{told}"


TABLES = {"expressions": sizes_table, "expression-votes": votes_table, "confidence": confidence_table}


if __name__ == "__main__":
    main()

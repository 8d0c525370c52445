"""``MODEL_CARD.md``: what a bundle is, in words. Every figure in it stands in ``model.json`` or ``report.json``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from slimnet._clean import in_markdown
from slimnet.bundle.front_matter import front_matter, is_slimmed
from slimnet.bundle.manifest import INITIAL_WEIGHTS

Facts = Mapping[str, Any]


def model_card(model: Facts, report: Facts, config: Facts) -> str:
    """The card of a bundle, with the front matter that the Hugging Face Hub reads: a function of these three alone.

    Args:
        model: contents of ``model.json``; the hashes of files are not needed.
        report: contents of ``report.json``; ``data`` and ``evaluation`` where they are known.
        config: contents of ``config.json``.
    """
    sections = (_what, _sizes, _classes, _confidence, _data, _input, _checked, _limits, _use, _provenance)
    shown = [_shown(facts) for facts in (model, report, config)]
    parts = ["\n".join(section(*shown)) for section in sections]
    return front_matter(model, report, config) + "\n\n".join(part for part in parts if part) + "\n"


def _shown(value: Any) -> Any:
    """Facts whose texts are no more than texts in Markdown: names of classes come from anybody."""
    if isinstance(value, Mapping):
        return {_shown(key): _shown(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_shown(each) for each in value]
    return in_markdown(value) if isinstance(value, str) else value


def _what(model: Facts, report: Facts, config: Facts) -> Iterator[str]:
    data = report.get("data") or {}
    network, trained = config.get("model", "network"), f" on {data['name']}" if "name" in data else ""
    height, width = model["preprocessing"]["size"]
    color = {"grey": "grey", "rgb": "RGB"}[model["preprocessing"]["color"]]
    yield f"# {network}{trained}" + (", slimmed" if is_slimmed(report) else "")
    yield ""
    yield f"Tells {len(model['labels'])} classes of pictures apart: {', '.join(model['labels'])}."
    yield f"It takes {color} pictures of {height}×{width} pixels and gives one logit a class."
    surgery = report.get("surgery") or {}
    if "removed" in surgery and "name" in (report.get("method") or {}):
        how = f"A {network}, trained with {report['method']['name']}"
        cut = f", from which {surgery['removed']:,} closed channels were cut out."
        yield how + (cut if is_slimmed(report) else "; nothing was cut out of it.")


def _sizes(model: Facts, report: Facts, config: Facts) -> Iterator[str]:
    cost, accuracy = model["cost"], model["accuracy"]
    dense, slim = cost["dense"], cost["realised"]
    scores = {name: _evaluation(report, name).get("macro_f1") for name in ("dense", "slim")}
    yield "## Size and accuracy"
    yield ""
    rows = [("multiply-adds a picture", f"{dense['flops']:,}", f"{slim['flops']:,}")]
    rows += [("parameters", f"{dense['params']:,}", f"{slim['params']:,}")]
    if accuracy.keys() >= {"split", "dense", "slim"}:
        split = f"accuracy, {accuracy['split']} split ({accuracy['count']:,} pictures)"
        rows += [(split, _percent(accuracy["dense"]), _percent(accuracy["slim"]))]
    if None not in scores.values():
        rows += [("macro-F1", f"{scores['dense']:.4f}", f"{scores['slim']:.4f}")]
    yield from _table(("", *_columns(model, report)), rows)
    yield ""
    files = [(f"`{entry['file']}`", name, f"{entry['bytes']:,}", _accuracy(entry)) for name, entry in model["precisions"].items()]
    if "embedded" in model:
        files += [(f"`{model['embedded']['file']}`", "fp32", f"{model['embedded']['bytes']:,}", "takes uint8 (N, H, W, C)")]
    files += [
        (
            ", ".join(f"`{file}`" for file in entry["files"]),
            f"{precision}, for {entry['runtime']['name']}",
            f"{entry['bytes']:,}",
            how,
        )
        for precisions in model.get("formats", {}).values()
        for precision, entry in precisions.items()
        for how in [_accuracy(entry) if precision != "fp32" else "as in ONNX Runtime"]
    ]
    yield from _table(("file", "precision", "bytes", "accuracy"), files)


def _columns(model: Facts, report: Facts) -> tuple[str, str]:
    """What is compared: the network with the dense one that it was cut out of, or with what it was before training."""
    compact = bool(model.get("compact"))
    if is_slimmed(report):
        return "dense", "slim, in fp32" if compact else "slim (this network)"
    before = "before training" if report.get("dense_source") == INITIAL_WEIGHTS else "dense"
    return before, "this network, in fp32" if compact else "this network"


def _classes(model: Facts, report: Facts, config: Facts) -> Iterator[str]:
    found = _evaluation(report, "slim")
    if not found:
        return
    columns = {"pictures": [f"{sum(row):,}" for row in found["confusion"]]}
    for name, entry in model["precisions"].items():
        shares = found["per_class"] if name == "fp32" else entry.get("per_class")
        if shares:
            columns[f"accuracy, {name}"] = list(map(_percent, shares))
    if "fp32" in model["precisions"]:
        columns["F1, fp32"] = list(map(_score, found["f1"]))
    yield f"## Accuracy of each class, {model['accuracy'].get('split', '')} split"
    yield ""
    yield from _table(("class", *columns), zip(model["labels"], *columns.values(), strict=True))


def _confidence(model: Facts, report: Facts, config: Facts) -> Iterator[str]:
    known = {name: entry["confidence"] for name, entry in model["precisions"].items() if entry.get("confidence")}
    if not known:
        return
    first = next(iter(known.values()))
    on, fitted = first["measured"], first["fitted"]
    yield "## How far its probabilities can be believed"
    yield ""
    yield "Probabilities are the softmax of the logits divided by a temperature T, which changes no answer. T was fitted on the"
    yield f"{fitted['split']} split ({fitted['count']:,} pictures; Guo et al., ICML 2017). ECE is the expected calibration error,"
    yield "the mean distance between how sure it is and how often it is right (15 bins of the likeliest class); before is T = 1."
    yield ""
    head = ("network", "T", f"ECE before, {on['split']} split", "ECE after", "NLL before", "NLL after")
    rows = []
    for name, entry in known.items():
        ece, nll = entry["measured"]["ece"], entry["measured"]["nll"]
        figures = (_percent(ece["before"]), _percent(ece["after"]), _score(nll["before"]), _score(nll["after"]))
        rows.append((name, f"{entry['temperature']:.4g}", *figures))
    yield from _table(head, rows)
    if on["split"] == fitted["split"]:
        yield ""
        yield "There is no test split: these figures are of the pictures that T was fitted on."
    for name, entry in known.items():
        yield ""
        yield f"Answers that are less probable than a threshold, kept back ({name}, {entry['measured']['split']} split):"
        yield ""
        kept = [
            (f"{row['threshold']:.0%}", _percent(row["share"]), _percent(row["accuracy"]) if row["share"] else "–")
            for row in entry["answered"]
        ]
        yield from _table(("threshold", "pictures answered", "right, of these"), kept)
    if "unsure_below" in model:
        yield ""
        yield f"Answers below {model['unsure_below']:.0%} count as unsure here; `slimnet predict --unsure-below P` changes that."


def _data(model: Facts, report: Facts, config: Facts) -> Iterator[str]:
    data = report.get("data") or {}
    if not data:
        return
    counts = ", ".join(f"{data[split]:,} to {use}" for split, use in _SPLITS if split in data)
    yield "## Trained on"
    yield ""
    yield f"`{data['name']}`: {counts}."
    yield f"Terms of the data: {data.get('terms') or 'not known to slimnet; ask whoever trained this network'}."
    for note in data.get("notes", ()):
        yield f"Note: {note}."
    yield "No picture is part of this bundle; what the terms of the data mean for a network trained on it is yours to judge."


def _input(model: Facts, report: Facts, config: Facts) -> Iterator[str]:
    rule = model["preprocessing"]
    height, width = rule["size"]
    entry = model["inputs"][0]
    yield "## Preprocessing"
    yield ""
    yield "1. Turn the picture upright by its EXIF orientation; drop transparency."
    if rule["channels"] == 1:
        yield "2. Make it grey: (19595 R + 38470 G + 7471 B + 32768) >> 16."
    else:
        yield "2. Make it RGB."
    yield f"3. If it is not {height}×{width} (height × width): scale it by max({height}/h, {width}/w), bilinear and antialiased,"
    yield "   sides rounded half to even; cut the centre out, offsets rounded down. As Pillow's `resize` does it, to the bit."
    yield f"4. (pixel / 255 − mean) / std, mean {_numbers(rule['mean'])}, std {_numbers(rule['std'])}."
    yield f"5. As `{entry['name']}`, {entry['dtype']} {entry['shape']} (N, C, H, W)."


def _checked(model: Facts, report: Facts, config: Facts) -> Iterator[str]:
    yield "## Checked at export"
    yield ""
    rows = [
        (pair, check["dtype"], f"{check['relative']:.1e}", f"{check['tolerance']:.0e}", _percent(check["agreement"]))
        for pair, check in model["parity"]["worst"].items()
    ]
    if "fp32" not in model["precisions"]:
        yield "Of the network in fp32, which the one here was made from."
    yield "Largest difference of logits, relative to the largest logit, on random and on real input at several batch sizes."
    yield "The model is the slim network in PyTorch; the reference is the network that it was cut from, closed channels included."
    yield ""
    yield from _table(("pair", "in", "difference", "at most", "same class"), rows)
    for name, entry in model["precisions"].items():
        if name != "fp32" and "validation" in entry:
            yield ""
            yield _against_fp32(name, entry)


def _against_fp32(name: str, entry: Facts) -> str:
    """A sentence on what another precision changes."""
    found = entry["validation"]
    bits = f" Weights of {7 if entry['reduce_range'] else 8} bits." if "reduce_range" in entry else ""
    return (
        f"{name}: the class that fp32 gives for {_percent(found['agreement'])} of {found['count']:,} validation pictures, "
        f"accuracy {_percent(found['fp32_accuracy'])} in fp32, {_percent(found['accuracy'])} in {name}.{bits}"
    )


def _limits(model: Facts, report: Facts, config: Facts) -> Iterator[str]:
    yield "## Limits"
    yield ""
    for sentence in (report.get("data") or {}).get("limits", ()):
        yield f"- {sentence}"
    yield "- The figures hold for pictures like those of the data set; nothing else was measured."
    calibrated = all(entry.get("confidence") for entry in model["precisions"].values())
    told = (
        "probabilities are calibrated for pictures like those of the data set alone"
        if calibrated
        else "probabilities were not calibrated"
    )
    yield f"- It always names one of its classes, also for a picture that shows none of them; {told}."


def _use(model: Facts, report: Facts, config: Facts) -> Iterator[str]:
    yield "## Use"
    yield ""
    yield "```sh"
    yield "pip install numpy pillow 'onnxruntime>=1.22'"
    yield "python infer.py IMAGE…          # label and probability, the likeliest first"
    yield "slimnet predict . IMAGE…        # the same with slimnet: folders, batches, JSON"
    same = "" if model.get("compact") else ", and the network still computes the same"
    yield f"slimnet verify .                # that no file was changed{same}"
    yield "```"
    yield ""
    yield "`model.json` tells a program all of this; its JSON Schema is `bundle.schema.json` of slimnet."


def _provenance(model: Facts, report: Facts, config: Facts) -> Iterator[str]:
    known = model.get("provenance") or {}
    rows = [(key.replace("_", " "), str(value)) for key, value in known.items() if value is not None and key != "versions"]
    rows += [(f"version of {name}", version) for name, version in known.get("versions", {}).items()]
    yield "## Provenance"
    yield ""
    yield from _table(("", ""), rows)


_SPLITS = (("train", "train"), ("val", "choose among epochs"), ("test", "test"))


def _table(head: Sequence[str], rows: Any) -> Iterator[str]:
    yield f"| {' | '.join(head)} |"
    yield f"|{'|'.join(' --- ' for _ in head)}|"
    for row in rows:
        yield f"| {' | '.join(row)} |"


def _evaluation(report: Facts, name: str) -> dict[str, Any]:
    found: dict[str, Any] = (report.get("evaluation") or {}).get(name) or {}
    return found


def _accuracy(entry: Facts) -> str:
    known = entry["accuracy"]
    return f"{_percent(known['value'])} ({known['split']}, {known['count']:,} pictures)" if known else "not measured"


def _percent(value: float | None) -> str:
    return "no picture" if value is None else f"{100 * value:.2f} %"


def _score(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"


def _numbers(values: Sequence[float]) -> str:
    return "[" + ", ".join(f"{value!r}" for value in values) + "]"

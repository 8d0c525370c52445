"""The tables of a report, as HTML."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from slimnet._json import encode
from slimnet.report.confusion import SPLIT_NAMES
from slimnet.report.contents import RunContents
from slimnet.report.numbers import large, percent

MOST_COLUMNS = 30
COLUMNS = {  # name in metrics.jsonl → heading
    "lr": "learning rate",
    "train_loss": "train loss",
    "val_loss": "val loss",
    "train_accuracy": "train accuracy",
    "val_accuracy": "val accuracy",
    "rate": "rate",
    "zeta": "scale",
    "closed_share": "closed",
    "live_flops": "live FLOPs",
}


def table(head: Sequence[str], rows: Sequence[Sequence[str]], *, caption: str = "") -> str:
    """An HTML table; the first column names the rows. Everything is escaped."""
    top = "".join(f'<th scope="col">{escape(cell)}</th>' for cell in head)
    body = "\n".join(f"<tr>{_row(row)}</tr>" for row in rows)
    above = f"<caption>{escape(caption)}</caption>" if caption else ""
    return f'<div class="scroll" tabindex="0"><table>{above}<thead><tr>{top}</tr></thead><tbody>\n{body}\n</tbody></table></div>'


def _row(cells: Sequence[str]) -> str:
    return f'<th scope="row">{escape(cells[0])}</th>' + "".join(f"<td>{escape(cell)}</td>" for cell in cells[1:])


def folded(summary: str, body: str) -> str:
    """Something to be opened on demand."""
    return f"<details><summary>{escape(summary)}</summary>\n{body}\n</details>"


def class_tables(run: RunContents) -> str:
    """Images, recall and F1 of each class; the confusion in numbers, up to 30 classes."""
    scores = run.scores
    if scores is None:
        return ""
    columns = (scores.classes, scores.confusion, scores.recall, scores.f1)
    rows = [(name, f"{sum(row):,}", percent(recall), _f1(f1)) for name, row, recall, f1 in zip(*columns, strict=True)]
    split = SPLIT_NAMES.get(run.tested_on, run.tested_on)
    shown = folded("Classes in numbers", table(("class", f"{split} images", "recall", "F1"), rows))
    if len(scores.classes) > MOST_COLUMNS:
        return shown
    counts = [(name, *map(str, row)) for name, row in zip(scores.classes, scores.confusion, strict=True)]
    matrix = table(
        ("true ╲ predicted", *scores.classes), counts, caption=f"{split.capitalize()} images, by true and predicted class"
    )
    return shown + "\n" + folded("Confusion in numbers", matrix)


def _f1(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def epoch_table(run: RunContents) -> str:
    """The numbers of every epoch."""
    names = [name for name in COLUMNS if any(epoch.get(name) is not None for epoch in run.epochs)]
    rows = [
        (_epoch_name(run, number), *(_shown(name, epoch.get(name)) for name in names)) for number, epoch in enumerate(run.epochs)
    ]
    return folded("Epochs in numbers", table(("epoch", *(COLUMNS[name] for name in names)), rows))


def _epoch_name(run: RunContents, number: int) -> str:
    return f"{number + 1} (best)" if number == run.best else str(number + 1)


def _shown(name: str, value: float | None) -> str:
    if value is None:
        return "–"
    if name == "live_flops":
        return large(value)
    if name.endswith(("accuracy", "_share")):
        return percent(value)
    return f"{value:.3g}" if name == "lr" else f"{value:.4f}"


def group_table(run: RunContents) -> str:
    """Original and kept width of every channel group."""
    if not run.groups:
        return ""
    rows = [(str(group["name"]), str(group["size"]), str(group["closed"]), str(group["kept"])) for group in run.groups]
    return folded("Channel groups in numbers", table(("group", "channels", "closed", "kept"), rows))


def settings_tables(run: RunContents) -> str:
    """Training, method, data and environment, side by side."""
    parts = {"Training": run.settings, "Method": run.method, "Data": run.data, "Environment": run.environment}
    tables = [_pairs(caption, values) for caption, values in parts.items()]
    return f'<div class="settings">\n{chr(10).join(tables)}\n</div>'


def _pairs(caption: str, values: Mapping[str, Any]) -> str:
    return table(("setting", "value"), [(str(name), _value(value)) for name, value in values.items()], caption=caption)


def _value(value: Any) -> str:
    if value is None or value in ("", [], {}):
        return "–"
    if isinstance(value, str):
        return value
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return ", ".join(value)
    if isinstance(value, list) and all(isinstance(item, float) for item in value):
        return ", ".join(f"{item:.4g}" for item in value)
    if isinstance(value, float):
        return f"{value:.6g}"
    return encode(value)

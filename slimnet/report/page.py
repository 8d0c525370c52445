"""A run as one self-contained HTML page, and its pictures beside it."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping
from html import escape
from importlib.resources import files
from pathlib import Path
from string import Template

from slimnet.report._figure import Words
from slimnet.report.confusion import SPLIT_NAMES
from slimnet.report.contents import RunContents
from slimnet.report.numbers import duration, large, percent
from slimnet.report.pictures import SECTIONS, draw_pictures
from slimnet.report.tables import class_tables, epoch_table, group_table, settings_tables

PAGE = "report.html"
FILES = (PAGE, *(name for names in SECTIONS.values() for name in names))
"""The names that a report may consist of."""

Card = tuple[str, str, str]
"""What it is, the figure, and what else there is to say."""


def write_pages(run: RunContents, folder: Path, *, version: str) -> None:
    """Write ``report.html`` and the pictures of a run.

    Args:
        run: what to show.
        folder: an existing folder.
        version: of slimnet.

    Raises:
        SlimnetError: if matplotlib is not installed.
    """
    words = draw_pictures(run, folder)
    images = {name: (folder / name).read_bytes() for name in words}
    heading = f"{run.settings['model']} on {run.settings['data']}"
    page = Template(files("slimnet.report").joinpath("page.html").read_text(encoding="utf-8")).substitute(
        title=escape(f"{run.name}: {heading} – slimnet report"),
        heading=escape(heading),
        subtitle=escape(_subtitle(run)),
        body="\n".join(_body(run, words, images)),
        version=escape(version),
    )
    (folder / PAGE).write_text(page, encoding="utf-8")


def _subtitle(run: RunContents) -> str:
    trained = f"{len(run.epochs)} of {run.planned} epochs" if len(run.epochs) < run.planned else f"{run.planned} epochs"
    time = f" in {duration(run.seconds)}" if run.seconds else ""
    return f"Run {run.name} · method {run.method['name']} · {trained}{time}"


def _body(run: RunContents, words: Mapping[str, Words], images: Mapping[str, bytes]) -> Iterator[str]:
    yield _headline(run)
    yield from _notes(run)
    below = {"Classes": class_tables(run), "Training": epoch_table(run), "Schedule": "", "Filters": group_table(run)}
    for title, names in SECTIONS.items():
        shown = [_figure(words[name], images[name]) for name in names if name in words]
        if shown:
            yield _section(title, f'<div class="pictures">\n{chr(10).join(shown)}\n</div>\n{below[title]}')
    yield _section("Settings", settings_tables(run))


def _section(title: str, body: str) -> str:
    key = title.lower()
    return f'<section aria-labelledby="{key}">\n<h2 id="{key}">{title}</h2>\n{body}\n</section>'


def _headline(run: RunContents) -> str:
    items = [
        f'<div><dt>{escape(name)}</dt><dd class="value">{escape(value)}</dd><dd class="more">{escape(more)}</dd></div>'
        for name, value, more in _cards(run)
    ]
    return f'<dl class="headline">\n{chr(10).join(items)}\n</dl>'


def _cards(run: RunContents) -> Iterator[Card]:
    figures = run.headline()
    if run.result:
        images = figures["test_images"]
        if run.tested_on == "test":
            yield "Test accuracy", percent(figures["test_accuracy"]), f"of {images:,} images" if images else ""
        if figures["test_macro_f1"] is not None:
            split = SPLIT_NAMES.get(run.tested_on, run.tested_on).capitalize()
            yield f"{split} macro-F1", f"{figures['test_macro_f1']:.3f}", "every class counts alike"
        yield "Validation accuracy", percent(figures["val_accuracy"]), f"with the weights of epoch {figures['best_epoch'] + 1}"
    else:
        yield "Validation accuracy", percent(figures["val_accuracy"]), f"epoch {len(run.epochs)}, not final"
    if figures["closed_share"] is not None:
        yield "Closed filters", percent(figures["closed_share"]), "at the end" if run.result else "so far"
    for name, title in (("flops", "FLOPs once cut"), ("params", "Parameters once cut")):
        if run.cost:
            dense, slim = run.cost[name]
            yield title, large(slim), f"{percent(1 - slim / dense)} less than {large(dense)}" if slim < dense else "as dense"


def _notes(run: RunContents) -> Iterator[str]:
    if not run.result:
        yield (
            f'<p class="note" role="note"><strong>This run is not finished</strong>: {len(run.epochs)} of {run.planned} epochs '
            "are shown; there is no test result yet.</p>"
        )
    if run.left_out:
        items = "".join(f"<li>{escape(reason)}</li>" for reason in run.left_out)
        yield f'<div class="note" role="note"><strong>Left out</strong><ul>{items}</ul></div>'


def _figure(words: Words, image: bytes) -> str:
    """An image inside the page; its width and height keep its place free while it loads."""
    width, height = (int.from_bytes(image[start : start + 4]) for start in (16, 20))  # PNG: IHDR comes first
    data = base64.b64encode(image).decode("ascii")
    return (
        f'<figure><img src="data:image/png;base64,{data}" width="{width}" height="{height}" '
        f'alt="{escape(f"{words.title}. {words.alt}")}"><figcaption>{escape(words.aid)}</figcaption></figure>'
    )

"""Pictures of a report: what they show, what they say, and that they are the same every time."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.text import Text
from numpy.typing import NDArray
from PIL import Image

from report_run import EPOCHS, SELECTED, line
from slimnet.errors import ArgumentError
from slimnet.report import (
    ClassScores,
    _figure,
    churn,
    plot_accuracy,
    plot_churn,
    plot_class_scores,
    plot_confusion,
    plot_flops,
    plot_learning_rate,
    plot_loss,
    plot_plan,
    plot_schedule,
    plot_selection,
    plot_widths,
)
from slimnet.report.selection import order

METRICS = [line(epoch) for epoch in range(EPOCHS)]


def selection(*chosen: list[int], size: int = 8) -> list[dict[str, NDArray[np.bool_]]]:
    return [{"g": np.isin(np.arange(size), indices)} for indices in chosen]


def test_churn_counts_new_and_released_filters() -> None:
    newly, released = churn(selection([], [3], [3, 5], [5, 6], [5, 6]))
    assert newly == pytest.approx([math.nan, 1.0, 0.5, 0.5, 0.0], nan_ok=True)
    assert released == pytest.approx([math.nan, math.nan, 0.0, 0.5, 0.0], nan_ok=True)
    assert churn([]) == ([], [])


def test_churn_is_over_all_groups() -> None:
    before = {"a": np.array([True, False]), "b": np.array([True, True])}
    after = {"a": np.array([False, True]), "b": np.array([True, True])}
    assert churn([before, after])[0][1] == pytest.approx(1 / 3)


def test_filters_are_ordered_by_their_last_change() -> None:
    """Never selected, released late, selected late, selected from early on."""
    history = np.array([[0, 0, 0, 0], [0, 1, 0, 1], [0, 1, 0, 1], [0, 0, 1, 1]], dtype=np.bool_)
    assert order(history).tolist() == [0, 1, 2, 3]
    assert order(history[:, [3, 2, 0, 1]]).tolist() == [2, 3, 1, 0]


def test_selection_of_many_groups_says_what_it_leaves_out(tmp_path: Path) -> None:
    flicker, still = np.array([True, False]), np.array([False, False])
    chosen = [{f"g{i}": (flicker if i >= 8 and epoch % 2 else still) for i in range(40)} for epoch in range(3)]
    words = plot_selection(chosen, tmp_path / "s.png")
    assert "32 groups of 40 that changed the most" in words.aid
    assert "32 channel groups" in words.alt


SCORES = ClassScores(
    classes=("a", "b", "c"),
    confusion=((8, 2, 0), (1, 9, 0), (0, 0, 0)),
    recall=(0.8, 0.9, None),
    f1=(0.842, 0.857, None),
    macro_f1=0.85,
)
PLAN = {
    "predicted": {"ms": 1.5, "dense_ms": 4.0, "loss": 0.25},
    "layers": [
        {"name": name, "reads": 8, "makes": 8, "reads_kept": reads, "makes_kept": makes, "dense_ms": 1.0, "ms": reads / 8}
        for name, reads, makes in (("stem", 8, 8), ("narrow", 8, 4), ("reader", 4, 8), ("shut", 0, 8))
    ],
}
TITLES: list[tuple[Callable[[Path], Any], str]] = [
    (lambda path: plot_loss(METRICS, path), "Validation loss: last 0.6, lowest 0.6 in epoch 5"),
    (lambda path: plot_accuracy(METRICS, path, best=3), "Validation accuracy: 70.0 % in epoch 4, whose weights are the result"),
    (lambda path: plot_accuracy(METRICS[:2], path), "Validation accuracy: 50.0 % in epoch 2, the highest so far"),
    (lambda path: plot_schedule(METRICS, path), "Pruning: filters are closed from epoch 5 on, 25.0 % at the end"),
    (lambda path: plot_schedule(METRICS[:1], path), "Pruning: nothing is closed yet"),
    (lambda path: plot_flops(METRICS, path, dense=4000), "FLOPs of live channels: 1 k, 25.0 % of dense"),
    (lambda path: plot_learning_rate(METRICS, path), "Learning rate: at most 0.1, 0.02 at the end"),
    (lambda path: plot_churn(selection(*SELECTED), path), "Selection churn: unchanged from epoch 5 on"),
    (lambda path: plot_churn(selection(*SELECTED[:4]), path), "Selection churn: the last epoch still changed it"),
    (lambda path: plot_selection(selection(*SELECTED), path), "Selection: 2 of 8 filters at the end; unchanged from epoch 5 on"),
    (lambda path: plot_selection(selection([], [7], size=300), path),
     "Selection: 1 of 300 filters at the end; the last epoch still changed it"),
    (lambda path: plot_confusion(SCORES.confusion, SCORES.classes, path),
     "Confusion: 3 of 20 images are wrong, most often a taken for b (2 of 10)"),
    (lambda path: plot_confusion(np.eye(40, dtype=int).tolist(), [str(i) for i in range(40)], path),
     "Confusion: 0 of 40 images are wrong, no confusion"),
    (lambda path: plot_class_scores(SCORES, path), "F1 by class: macro-F1 0.850; a is lowest, 0.842"),
    (lambda path: plot_widths([{"name": "g", "size": 8, "kept": 6}], path), "Channel groups: 6 of 8 channels stay"),
    (lambda path: plot_plan(PLAN, path), "Plan: 1.5 of 4 ms, 1 layers shut, 1 narrower, answers moved by 0.25"),
    (lambda path: plot_plan({"layers": PLAN["layers"]}, path), "Plan, 1 layers shut, 1 narrower"),
]  # fmt: skip


@pytest.mark.parametrize(("draw", "title"), TITLES, ids=[title for _, title in TITLES])
def test_titles_say_what_is_seen(draw: Callable[[Path], Any], title: str, tmp_path: Path) -> None:
    words = draw(tmp_path / "picture.svg")
    assert words.title.replace("\u00a0", " ") == title
    assert (tmp_path / "picture.svg").read_text(encoding="utf-8").startswith("<?xml")
    assert [path.name for path in tmp_path.iterdir()] == ["picture.svg"]


NOTHING: list[tuple[Callable[[Path], Any], str]] = [
    (lambda path: plot_loss([], path), "no epochs"),
    (lambda path: plot_learning_rate([], path), "no epochs"),
    (lambda path: plot_schedule([{"epoch": 0}], path), "no pruning schedule"),
    (lambda path: plot_flops([{"epoch": 0}], path), "no FLOPs"),
    (lambda path: plot_selection([], path), "no selection"),
    (lambda path: plot_churn(selection([1]), path), "no change of selection"),
    (lambda path: plot_confusion([[1, 2]], ["a", "b"], path), "square"),
    (lambda path: plot_widths([], path), "no channel groups"),
    (lambda path: plot_plan({"predicted": {}}, path), "no plan to draw"),
    (lambda path: plot_loss(METRICS, path.with_suffix(".jpg")), r"must end in \.png, \.svg or \.pdf"),
    (lambda path: plot_selection([*selection([1]), *selection([1], size=9)], path), "group g has 8 filters .* and 9"),
]


@pytest.mark.parametrize(("draw", "said"), NOTHING, ids=[said for _, said in NOTHING])
def test_nothing_to_draw_is_said(draw: Callable[[Path], Any], said: str, tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match=said):
        draw(tmp_path / "picture.png")
    assert list(tmp_path.iterdir()) == []


ODD_NAMES = ["a$\\frac{b$", "\0nul", "\x1b[31m", "\u202eleft", "日本", "plain"]


@pytest.mark.parametrize("ending", ["svg", "png"])
def test_names_from_data_are_drawn_as_they_are(ending: str, tmp_path: Path) -> None:
    """No formula, no control character, and no warning of a letter that the font lacks."""
    path = tmp_path / f"picture.{ending}"
    plot_confusion(np.eye(6, dtype=int).tolist(), ODD_NAMES, path)
    plot_widths([{"name": name, "size": 4, "kept": 2} for name in ODD_NAMES], path)
    if ending == "svg":
        text = path.read_text(encoding="utf-8")
        assert not any(character in text for character in ("\0", "\x1b", "\u202e"))


def test_a_title_is_drawn_as_it_is(tmp_path: Path) -> None:
    figure, _ = _figure.new_figure("\x1b[31m\u202e a$\\frac{b$", height=1.0)
    _figure.save(figure, tmp_path / "x.png")
    (title,) = [text for text in figure.findobj(Text) if "frac" in text.get_text()]
    assert title.get_text() == "\\x1b[31m\\u202e a$\\frac{b$"
    assert not title.get_parse_math()


def test_a_picture_of_very_many_rows_has_a_bound(tmp_path: Path) -> None:
    layers = PLAN["layers"] * 1000
    words = plot_plan({"layers": layers}, tmp_path / "plan.png")
    plot_widths([{"name": "g", "size": 8, "kept": 6}] * 4000, tmp_path / "widths.png")
    assert words.title.replace("\u00a0", " ") == "Plan, 1000 layers shut, 1000 narrower"
    for name in ("plan.png", "widths.png"):
        with Image.open(tmp_path / name) as picture:
            assert 18_000 < picture.height < 22_000

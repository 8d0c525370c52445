"""Reports: what the page holds, what the pictures say, and what bad input gets."""

from __future__ import annotations

import base64
import json
import math
import shutil
import sys
from collections.abc import Callable
from functools import partial
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.text import Text
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from slimnet.commands.report import Report, open_run
from slimnet.commands.report import write_report as write_any_report
from slimnet.errors import ArgumentError, FileFormatError, SlimnetError
from slimnet.evaluation.f1 import macro_f1
from slimnet.files import write_tensors
from slimnet.methods import FSDP, Dense, Method
from slimnet.report import (
    FILES,
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
from slimnet.training import TrainConfig
from slimnet_cli import _run

CLASSES = ["an<gry>", "happy & co", '"sad"']
CONFUSION = [[8, 2, 0], [1, 9, 0], [3, 0, 2]]
EPOCHS = 5
SELECTED = [[], [3], [3, 5], [5, 6], [5, 6]]  # of the 8 filters of "first"; after each epoch


class Tiny(nn.Module):
    def __init__(self, num_classes: int, in_channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(in_channels, 8, 3)
        self.second = nn.Conv2d(8, 6, 3)
        self.head = nn.Linear(6, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(self.second(self.first(x).relu()).relu().mean((2, 3)))
        return out


NET = "test_report:tiny"
write_report = partial(write_any_report, trust_code=NET)


def tiny(num_classes: int, in_channels: int) -> nn.Module:
    return Tiny(num_classes, in_channels)


def line(epoch: int) -> dict[str, Any]:
    return {
        "epoch": epoch,
        "lr": 0.1 / (1 + epoch),
        "train_loss": 1.0 / (1 + epoch),
        "train_accuracy": 0.5 + 0.1 * epoch,
        "val_loss": 3.0 / (1 + epoch),
        "val_accuracy": 0.4 + 0.1 * epoch,
        "rate": 0.0625 * epoch,
        "zeta": 1 - epoch / 4,
        "closed_share": 0.25 if epoch == 4 else 0.0,
        "live_flops": 1000.0 if epoch == 4 else 2000.0,
        "seconds": 1.5,
    }


def hexed(indices: list[int], size: int) -> str:
    return np.packbits(np.isin(np.arange(size), indices)).tobytes().hex()


def make_run(folder: Path, *, method: Method | None = None) -> Path:
    """A finished run of :class:`Tiny` whose filters 5 and 6 are closed."""
    folder.mkdir()
    method = method or FSDP(finetune_epochs=1)
    config = TrainConfig(model=NET, method=method, epochs=EPOCHS, data_dir="/some/where", init="/a/b/start.pth")
    data = {"name": "fac<i>es", "classes": CLASSES, "image_shape": [1, 8, 8], "mean": [0.5], "std": [0.25], "test": 25}
    record = {"format": "slimnet-run/1", "train": config.as_dict(), "data": data, "environment": {"device": "x<86>"}}
    (folder / "config.json").write_text(json.dumps(record))
    result = {
        "final": True,
        "best_epoch": 4,
        "val_accuracy": 0.8,
        "test_accuracy": 0.76,
        "test_macro_f1": macro_f1(CONFUSION),
        "test_confusion": CONFUSION,
        "test_images": 25,
    }
    write_lines(folder / "metrics.jsonl", [line(epoch) for epoch in range(EPOCHS)] + [result])
    selection = [{"epoch": e, "selected": {"first": hexed(s, 8), "second": hexed([], 6)}} for e, s in enumerate(SELECTED)]
    write_lines(folder / "selection.jsonl", selection)
    torch.manual_seed(0)
    model = Tiny(3, 1)
    with torch.no_grad():
        for tensor in (model.first.weight, model.first.bias):
            tensor[[5, 6]] = 0
    write_tensors(folder / "model.safetensors", model.state_dict())
    return folder


def write_lines(path: Path, lines: list[Any]) -> None:
    path.write_text("".join(json.dumps(entry) + "\n" for entry in lines))


def read_lines(path: Path) -> list[Any]:
    return [json.loads(text) for text in path.read_text().splitlines()]


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A fresh finished run, to be changed."""
    return make_run(tmp_path / "run")


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Report:
    """The report of a finished run, not to be changed."""
    return write_report(make_run(tmp_path_factory.mktemp("made") / "r<u>n"))


class Page(HTMLParser):
    """What a page holds; it fails where tags do not match."""

    VOID = ("meta", "img", "br", "link", "input", "hr")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def page_of(report: Report) -> Page:
    return Page(report.path.read_text(encoding="utf-8"))


# --- the page -------------------------------------------------------------------------------------------------------------


def test_report_is_a_page_and_its_pictures(written: Report) -> None:
    drawn = [name for name in FILES if name != "plan.png"]  # that is for runs with a target
    assert [file.name for file in written.files] == drawn
    assert {file.name for file in written.path.parent.iterdir()} == set(drawn)
    assert written.path.parent.name == "report"
    assert written.left_out == ()


def test_pictures_are_valid_and_inside_the_page(written: Report) -> None:
    images = page_of(written).all("img")
    sources = [str(image["src"]).removeprefix("data:image/png;base64,") for image in images]
    inside = {base64.b64decode(source, validate=True) for source in sources}
    beside = {file.read_bytes() for file in written.files[1:]}
    assert inside == beside
    assert len(inside) == len(FILES) - 2  # the page itself, and no plan without a target
    for file, image in zip(sorted(written.files[1:]), sorted(written.files[1:]), strict=True):
        with Image.open(file) as picture:
            picture.load()
            assert picture.size[0] == 900, image


def test_images_have_their_sizes_and_say_what_they_show(written: Report) -> None:
    for image in page_of(written).all("img"):
        data = base64.b64decode(str(image["src"]).partition(",")[2])
        assert (data[16:20], data[20:24]) == tuple(int(str(image[key])).to_bytes(4) for key in ("width", "height"))
        assert len(str(image["alt"])) > 60


def test_page_loads_nothing(written: Report) -> None:
    text = written.path.read_text(encoding="utf-8")
    page = Page(text)
    assert "http:" not in text
    assert "https:" not in text
    assert not [tag for tag, _ in page.tags if tag in ("script", "link", "iframe", "object", "embed", "base", "a")]
    assert "url(" not in text
    assert "@import" not in text
    assert all(str(image["src"]).startswith("data:image/png;base64,") for image in page.all("img"))
    policy = next(meta["content"] for meta in page.all("meta") if meta.get("http-equiv") == "Content-Security-Policy")
    assert str(policy).startswith("default-src 'none'")


def test_page_escapes_names(written: Report) -> None:
    """Class names, the run, the data, the environment: markup in them is shown, not run."""
    page = page_of(written)
    assert {"gry", "u", "86"} & {tag for tag, _ in page.tags} == set()
    assert [tag for tag, _ in page.tags].count("i") == 0
    for name in (*CLASSES, "r<u>n", "fac<i>es", "x<86>"):
        assert name in page.text, name
    assert any("an<gry>" in str(image["alt"]) for image in page.all("img"))


def test_page_holds_headline_settings_and_tables(written: Report) -> None:
    text = page_of(written).text.replace("\u00a0", " ")
    for wanted in ("76.0 %", "0.719", "80.0 %", "25.0 %", "fsdp", "rate_gm", "start.pth", "test_report:tiny on digits"):
        assert wanted in text, wanted
    assert "/some/where" not in text
    assert "/a/b" not in text
    for heading in ("Classes", "Training", "Schedule", "Filters", "Settings"):
        assert f"\n{heading}\n" in text, heading


def test_tables_are_accessible(written: Report) -> None:
    page = page_of(written)
    assert page.all("html")[0]["lang"] == "en"
    assert len(page.all("h1")) == 1
    assert all(cell.get("scope") in ("col", "row") for cell in page.all("th"))
    assert len(page.all("table")) == 8
    assert "viewport" in {meta.get("name") for meta in page.all("meta")}


def test_headline_counts_the_slim_network(written: Report) -> None:
    """8 → 6 filters in front, 6 behind: 3×3 kernels on 8×8 and 6×6 maps, then the head."""
    dense, slim = 36 * 9 * 8 + 16 * 9 * 8 * 6 + 6 * 3, 36 * 9 * 6 + 16 * 9 * 6 * 6 + 6 * 3
    assert written.headline["flops"] == [dense, slim]
    assert written.headline["test_macro_f1"] == pytest.approx((16 / 22 + 18 / 21 + 4 / 7) / 3)
    assert written.headline["test_accuracy"] == 0.76
    assert written.headline["best_epoch"] == 4
    json.dumps(written.as_dict(), allow_nan=False)


def test_report_is_written_again(run: Path) -> None:
    first = write_report(run)
    (run / "selection.jsonl").unlink()
    second = write_report(run)
    assert first.path == second.path
    assert not (run / "report" / "selection.png").exists()
    assert [path.name for path in run.iterdir() if path.name.startswith(".")] == []


@pytest.mark.parametrize("force", [False, True])
def test_foreign_folder_is_left_alone(run: Path, force: bool) -> None:
    """Not even with --force: what is in it would be lost."""
    (run / "report").mkdir()
    (run / "report" / "thesis.md").write_text("mine")
    if force:
        (run / "report" / "report.html").write_text("")
    with pytest.raises(ArgumentError, match="choose another output"):
        write_report(run, force=force)
    assert (run / "report" / "thesis.md").read_text() == "mine"
    assert len(list((run / "report").iterdir())) == 1 + force


def test_parts_of_a_report_need_force(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "loss.png").write_text("mine?")
    with pytest.raises(ArgumentError, match="--force"):
        write_report(run, out)
    assert write_report(run, out, force=True).path == out / "report.html"


# --- what is missing is said ----------------------------------------------------------------------------------------------


def drop_confusion(run: Path) -> None:
    lines = read_lines(run / "metrics.jsonl")
    del lines[-1]["test_confusion"], lines[-1]["test_macro_f1"]
    write_lines(run / "metrics.jsonl", lines)


MISSING = [
    (drop_confusion, {"confusion.png", "classes.png"}, "Confusion matrix and F1"),
    (lambda run: (run / "selection.jsonl").unlink(), {"selection.png", "churn.png"}, "Selected filters"),
]


@pytest.mark.parametrize(("change", "gone", "said"), MISSING, ids=[said for *_, said in MISSING])
def test_missing_parts_are_said(run: Path, change: Callable[[Path], object], gone: set[str], said: str) -> None:
    change(run)
    report = write_report(run)
    assert set(FILES) - {file.name for file in report.files} == gone | {"plan.png"}
    (reason,) = report.left_out
    assert reason.startswith(said)
    assert reason in page_of(report).text


def test_network_that_cannot_be_cut_is_said(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: object, **options: object) -> None:
        raise SlimnetError("no such operator: <b>Foo</b>.")

    monkeypatch.setattr("slimnet.surgery.runnable_plan", fail)
    report = write_report(run)
    assert report.left_out == ("Widths and FLOPs of the slim network: no such operator: <b>Foo</b>.",)
    page = report.path.read_text(encoding="utf-8")
    assert "&lt;b&gt;Foo" in page and "<b>Foo" not in page
    assert report.headline["flops"] is None


def test_run_without_masks_has_no_pruning(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", method=Dense())
    (run / "selection.jsonl").unlink()
    lines = read_lines(run / "metrics.jsonl")
    for entry in lines[:-1]:
        for name in ("rate", "zeta", "closed_share"):
            del entry[name]
        entry["live_flops"] = 2000.0
    write_lines(run / "metrics.jsonl", lines)
    state = Tiny(3, 1).state_dict()
    write_tensors(run / "model.safetensors", state)
    report = write_report(run)
    assert {file.name for file in report.files} == set(FILES) - {
        "schedule.png", "flops.png", "churn.png", "selection.png", "widths.png", "plan.png"
    }  # fmt: skip
    assert report.left_out == ("Widths of the slim network: no channel can be cut out of this one.",)
    assert report.headline["closed_share"] is None


def test_unfinished_run_is_shown_as_far_as_it_came(run: Path) -> None:
    (run / "model.safetensors").unlink()
    write_lines(run / "metrics.jsonl", read_lines(run / "metrics.jsonl")[:3])
    write_lines(run / "selection.jsonl", read_lines(run / "selection.jsonl")[:3])
    report = write_report(run)
    names = {file.name for file in report.files}
    assert names == set(FILES) - {"confusion.png", "classes.png", "widths.png", "flops.png", "plan.png"}
    assert "This run is not finished: 3 of 5 epochs" in page_of(report).text
    assert report.headline["best_epoch"] is None
    assert report.headline["test_accuracy"] is None
    assert report.headline["val_accuracy"] == pytest.approx(0.6)


def test_epochs_without_a_mask_have_nothing_selected(run: Path) -> None:
    """Stages that begin without a mask: the record starts later, and is drawn where it belongs."""
    from slimnet.commands.report import read_contents

    write_lines(run / "selection.jsonl", read_lines(run / "selection.jsonl")[3:])
    contents = read_contents(open_run(run, trust_code=NET))
    assert [dict(epoch) == {} for epoch in contents.selection] == [True] * 3 + [False] * 2
    assert contents.selection[3]["first"].nonzero()[0].tolist() == [5, 6]


# --- bad input ------------------------------------------------------------------------------------------------------------


def edited(number: int, **values: Any) -> Callable[[Path], None]:
    """Change a line of the metrics."""

    def change(run: Path) -> None:
        lines = read_lines(run / "metrics.jsonl")
        lines[number].update(values)
        write_lines(run / "metrics.jsonl", lines)

    return change


def edit_config(run: Path, **values: Any) -> None:
    record = json.loads((run / "config.json").read_text())
    (run / "config.json").write_text(json.dumps(record | values))


def unfinished(change: Callable[[Path], object]) -> Callable[[Path], None]:
    def both(run: Path) -> None:
        (run / "model.safetensors").unlink()
        change(run)

    return both


SQUARE = r"metrics.jsonl: `test_confusion` must be 3 rows of 3 counts"
BAD: list[tuple[str, Callable[[Path], object], str]] = [
    ("not JSON", lambda run: (run / "metrics.jsonl").write_text("{"), r"metrics.jsonl, line 1, is not readable JSON"),
    ("a word", edited(1, val_loss="low"), r"metrics.jsonl, line 2: `val_loss` must be a number, got 'low'"),
    ("missing", edited(2, lr=None), r"metrics.jsonl, line 3: `lr` must be a number, got None"),
    ("a truth value", edited(0, rate=True), r"metrics.jsonl, line 1: `rate` must be a number, got True"),
    ("not finite", edited(0, zeta=math.inf), r"metrics.jsonl, line 1, is not readable JSON \(.*Infinity"),
    ("no accuracy", edited(-1, test_accuracy="high"), r'line 6: `test_accuracy` must be a number or null, got "high"'),
    ("no such epoch", edited(-1, best_epoch=5), r"last line: `best_epoch` must be one of the 5 epochs from 0, got 5"),
    ("no data", unfinished(lambda run: edit_config(run, data={})), "config.json: `data` lacks `classes`"),
    ("not square", edited(-1, test_confusion=[[1, 2], [3, 4]]), SQUARE),
    ("ragged", edited(-1, test_confusion=[[1, 2, 3], [3, 4], [1, 1, 1]]), SQUARE),
    ("no matrix", edited(-1, test_confusion="none"), "`test_confusion` must be a list"),
    ("negative", edited(-1, test_confusion=[[1, 1, 1], [1, -1, 1], [1, 1, 1]]), r"`test_confusion\[1\]\[1\]` must be at least 0"),
    ("no image", edited(-1, test_confusion=[[0] * 3] * 3), SQUARE),
    ("no epoch", unfinished(lambda run: (run / "metrics.jsonl").unlink()), "holds no epoch yet"),
    ("no config", lambda run: (run / "config.json").unlink(), "is not a run: it holds no config.json"),
    ("another size", lambda run: write_lines(run / "selection.jsonl", [{"epoch": 0, "selected": {"first": "ffff"}}]),
     r"selection.jsonl, line 1, does not fit"),
    ("another epoch", lambda run: write_lines(run / "selection.jsonl", [{"epoch": [], "selected": {"first": "ff"}}]),
     r"selection.jsonl, line 1: `epoch` must be a whole number, got \[\]"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "said"), [case[1:] for case in BAD], ids=[case[0] for case in BAD])
def test_bad_input_gets_one_line(
    run: Path, change: Callable[[Path], object], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    change(run)
    with pytest.raises(FileFormatError, match=said):
        write_report(run)
    assert _run(["report", "--trust-code", str(run)]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert not (run / "report").exists()
    assert [path.name for path in run.iterdir() if path.name.startswith(".")] == []


def test_missing_matplotlib_is_said(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(SlimnetError, match=r"pip install 'slimnet\[plots\]'"):
        write_report(run)
    assert not (run / "report").exists()


# --- the command ----------------------------------------------------------------------------------------------------------


def test_command_prints_figures_and_the_path(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    drop_confusion(run)
    assert _run(["report", "--trust-code", str(run), "--out", str(tmp_path / "out")]) == 0
    out, err = capsys.readouterr()
    head, _, row, path = out.splitlines()
    assert head.split()[:3] == ["epochs", "val", "accuracy"]
    assert "5 of 5" in row
    assert "76.00 %" in row
    assert path == str(tmp_path / "out" / "report.html")
    assert err.startswith("left out: Confusion matrix and F1")
    assert not (run / "report").exists()


def test_command_prints_json(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _run(["report", "--trust-code", str(run), "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed.keys() == {"path", "files", "headline", "left_out"}
    assert printed["path"] == str(run / "report" / "report.html")
    assert all(Path(file).is_file() for file in printed["files"])
    assert printed["headline"]["test_accuracy"] == 0.76


# --- pictures -------------------------------------------------------------------------------------------------------------

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


def test_drawings_are_the_same_every_time(run: Path, tmp_path: Path) -> None:
    first = write_report(run, tmp_path / "a")
    shutil.rmtree(run / "report", ignore_errors=True)
    second = write_report(run, tmp_path / "b")
    assert [file.read_bytes() for file in first.files] == [file.read_bytes() for file in second.files]


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

"""The report of a run: the page, its pictures, and what is missing."""

from __future__ import annotations

import base64
import json
import shutil
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import pytest
from PIL import Image

from report_run import CLASSES, NET, Tiny, drop_confusion, make_run, read_lines, write_lines, write_report
from slimnet.commands.report import Report, open_run
from slimnet.errors import ArgumentError, SlimnetError
from slimnet.files import write_tensors
from slimnet.methods import Dense
from slimnet.report import (
    FILES,
)


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
    for wanted in ("76.0 %", "0.719", "80.0 %", "25.0 %", "fsdp", "rate_gm", "start.pth", f"{NET} on digits"):
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


def test_figures_of_a_run_without_a_test_split_are_those_of_validation(run: Path) -> None:
    config = json.loads((run / "config.json").read_text())
    config["data"]["tested_on"] = "val"
    (run / "config.json").write_text(json.dumps(config))
    report = write_report(run)
    page = page_of(report)
    words = page.text + " ".join(str(image["alt"]) for image in page.all("img"))
    assert report.headline["tested_on"] == "val"
    assert "test accuracy" not in words.lower() and "test macro" not in words.lower() and "test images" not in words.lower()
    for wanted in ("Validation accuracy", "Validation macro-F1", "Validation images, by true", "over 25 validation images"):
        assert wanted in words, wanted


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


# --- pictures -------------------------------------------------------------------------------------------------------------


def test_drawings_are_the_same_every_time(run: Path, tmp_path: Path) -> None:
    first = write_report(run, tmp_path / "a")
    shutil.rmtree(run / "report", ignore_errors=True)
    second = write_report(run, tmp_path / "b")
    assert [file.read_bytes() for file in first.files] == [file.read_bytes() for file in second.files]

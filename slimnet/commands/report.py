"""A run in, a page with pictures out."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

from slimnet.errors import FileFormatError, SlimnetError

if TYPE_CHECKING:
    from slimnet.models import Trust
    from slimnet.report import ClassScores, RunContents
    from slimnet.report.churn import Selection
    from slimnet.training import Run

FOLDER = "report"
HIDDEN, PATHS = ("method", "data_dir"), ("init", "teacher")


@dataclass(frozen=True)
class Report:
    """A report that was written.

    Attributes:
        path: of ``report.html``.
        files: everything that was written.
        headline: the figures that matter: accuracy, macro-F1, FLOPs and parameters (dense, slim), closed share.
        left_out: what it has to do without, and why: a sentence each.
    """

    path: Path
    files: tuple[Path, ...]
    headline: dict[str, Any]
    left_out: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """As JSON values."""
        files = [str(file) for file in self.files]
        return {"path": str(self.path), "files": files, "headline": self.headline, "left_out": list(self.left_out)}


def write_report(
    run_path: Path | str, out: Path | str | None = None, *, force: bool = False, trust_code: Trust = False
) -> Report:
    """Write ``report.html``, one self-contained page, and its pictures as PNG.

    An earlier report is replaced. A run that is not finished is shown as far as it came.

    Args:
        run_path: directory of a run.
        out: folder to write; default: ``report`` in the run.
        force: replace a folder that holds parts of a report but no ``report.html``. One with other files is never replaced.
        trust_code: let a factory of the user's own that ``config.json`` names build the network (see `slimnet.models.trust`).

    Raises:
        FileFormatError: if it is no run, has no epoch yet, or a file of it is damaged.
        ArgumentError: if ``out`` holds something else.
        ModelError: if a factory is to build the network that is not trusted.
        SlimnetError: if matplotlib is not installed.
    """
    from slimnet.files import atomic_folder
    from slimnet.report import FILES, write_pages

    folder = Path(run_path)
    target = folder / FOLDER if out is None else Path(out)
    run = open_run(folder, trust_code=trust_code)
    with atomic_folder(target, force=force or (target / FILES[0]).is_file(), ours=FILES) as made:
        contents = read_contents(run)
        write_pages(contents, made, version=version("slimnet"))
    files = tuple(target / name for name in FILES if (target / name).is_file())
    return Report(target / FILES[0], files, contents.headline(), contents.left_out)


def open_run(folder: Path, *, trust_code: Trust = False) -> Run:
    """A run, finished or not: without a result, its ``result`` is empty. ``trust_code``: see :meth:`Run.open`.

    Raises:
        FileFormatError: if it is no run, or damaged.
    """
    from slimnet.training import Run
    from slimnet.training.metrics import read_metrics
    from slimnet.training.run import is_finished, read_config, read_record

    record = read_record(folder)
    if is_finished(folder):
        return Run.open(folder, trust_code=trust_code)
    lines = [line for line in read_metrics(folder) if not line.get("final")]
    config = read_config(folder, record)
    return Run(folder, config, record["data"], record["environment"], lines, {}, record.get("target"), trust_code=trust_code)


def read_contents(run: Run) -> RunContents:
    """What a report shows of a run.

    Raises:
        FileFormatError: if a file of the run is damaged.
    """
    from slimnet.report.contents import RunContents, check_epochs, check_result
    from slimnet.training.metrics import METRICS

    where = str(run.path / METRICS)
    check_epochs(run.metrics, where)
    if run.result:
        check_result(run.result, len(run.metrics), where)
    left_out: list[str] = []
    scores = _scores(run, left_out)
    groups, cost = _slim(run, left_out)
    settings = {name: value for name, value in run.config.as_dict().items() if name not in HIDDEN and value is not None}
    return RunContents(
        name=run.path.resolve().name,
        settings=settings | {name: PurePath(settings[name]).name for name in PATHS if name in settings},
        method=run.method.as_dict(),
        data=run.data,
        environment=run.environment,
        epochs=run.metrics,
        planned=run.config.epochs,
        result=run.result,
        scores=scores,
        groups=groups,
        cost=cost,
        selection=_selection(run, left_out),
        plan=run.target,
        left_out=tuple(left_out),
    )


def _scores(run: Run, left_out: list[str]) -> ClassScores | None:
    import torch

    from slimnet.evaluation.evaluate import summarise
    from slimnet.report import ClassScores
    from slimnet.training.metrics import METRICS

    confusion = run.result.get("test_confusion")
    if confusion is None:
        if run.result:
            left_out.append("Confusion matrix and F1: this run was trained by a version that did not record them.")
        return None
    size = len(run.classes)
    try:
        matrix = torch.tensor(confusion, dtype=torch.int64)
    except (TypeError, ValueError):
        matrix = torch.empty(0)
    if matrix.shape != (size, size) or int(matrix.min()) < 0 or not matrix.any():
        raise FileFormatError(f"{run.path / METRICS}: `test_confusion` must be {size} rows of {size} counts: it was changed.")
    found = summarise(matrix, torch.zeros(()))
    return ClassScores(run.classes, found.confusion, found.per_class, found.f1, found.macro_f1)


def _slim(run: Run, left_out: list[str]) -> tuple[list[dict[str, Any]], dict[str, tuple[int, int]]]:
    """The channel groups and the cost, (dense, slim), once the closed channels are cut out."""
    if not run.result:
        return [], {}
    import copy

    from slimnet.measure import count
    from slimnet.surgery import runnable_plan

    model, example = run.load_model(), run.example_input()
    try:
        plan = runnable_plan(model, example)
        dense, slim = count(model, example), count(plan.apply(copy.deepcopy(model)), example)
    except SlimnetError as error:
        left_out.append(f"Widths and FLOPs of the slim network: {error}")
        return [], {}
    masked = {group.name for group in run.groups}
    rows = [{"name": g.name, "size": g.size, "closed": g.closed, "kept": len(g.kept)} for g in plan.groups if g.name in masked]
    if all(row["kept"] == row["size"] for row in rows):
        left_out.append("Widths of the slim network: no channel can be cut out of this one.")
        rows = []
    return rows, {"flops": (dense.flops, slim.flops), "params": (dense.params, slim.params)}


def _selection(run: Run, left_out: list[str]) -> Selection:
    """What each epoch ended with selected; an epoch without a record has nothing selected."""
    from slimnet.files.untrusted import holds
    from slimnet.training.metrics import SELECTION, read_selection

    path = run.path / SELECTION
    if not holds(run.path, SELECTION):
        if any(epoch.get("rate") for epoch in run.metrics):
            left_out.append("Selected filters: this run was trained by a version that did not record them.")
        return ()
    found = read_selection(run.path, {group.name: group.size for group in run.groups})
    by_epoch = dict(zip(_numbers(path), found, strict=True))
    return [by_epoch.get(epoch["epoch"], {}) for epoch in run.metrics]


def _numbers(path: Path) -> list[int]:
    """The epoch of each line."""
    from slimnet.training.metrics import read_lines

    return [line["epoch"] for line in read_lines(path, "selection")]

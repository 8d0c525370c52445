"""Loggers: each has the settings, the epochs and the result, as its own library reads them; the run does not depend on them."""

from __future__ import annotations

import csv
import json
import shutil
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from slimnet import names
from slimnet.errors import ArgumentError, FileFormatError, SlimnetWarning, TrainingError
from slimnet.progress import Listener, Task
from slimnet.training import Interrupted, Run
from slimnet.training.loggers import check_loggers, logger_names
from slimnet.training.loggers.base import flat, numbers_of
from test_resume import assert_same, at_step, start

EPOCHS = 2


@pytest.fixture(scope="module", autouse=True)
def quiet() -> Iterator[None]:
    """Nothing of the user's says where logs go."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME", "WANDB_MODE", "WANDB_PROJECT"):
            patch.delenv(name, raising=False)
        yield


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return start(tmp_path_factory.mktemp("plain") / "run", epochs=EPOCHS)


@pytest.fixture(scope="module")
def logged(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return start(tmp_path_factory.mktemp("logged") / "run", epochs=EPOCHS, log=names.LOGGERS)


@pytest.fixture(scope="module")
def resumed(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Stopped in its second epoch, and taken up again."""
    out = tmp_path_factory.mktemp("resumed") / "run"
    with pytest.MonkeyPatch.context() as patch, pytest.raises(Interrupted):
        at_step(patch, 1, 3, signal.SIGTERM)
        start(out, epochs=EPOCHS, log=names.LOGGERS)
    return start(out, epochs=EPOCHS, resume=True)


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_the_table_of_names_is_the_registry() -> None:
    assert logger_names() == names.LOGGERS


def test_a_run_is_the_same_with_and_without(plain: Run, logged: Run) -> None:
    assert_same(logged, plain)
    with_it, without = (json.loads((run.path / "config.json").read_text()) for run in (logged, plain))
    assert "log" not in without["train"]
    assert with_it["train"].pop("log") == list(names.LOGGERS)
    assert with_it == without
    assert {path.name for path in logged.path.iterdir()} - {path.name for path in plain.path.iterdir()} == {"logs"}


@pytest.mark.parametrize("which", ["logged", "resumed"])
def test_csv(which: str, request: pytest.FixtureRequest) -> None:
    run: Run = request.getfixturevalue(which)
    found = rows(run.path / "logs/csv/metrics.csv")
    assert [int(row["epoch"]) for row in found] == list(range(EPOCHS))
    assert [{name: float(value) for name, value in row.items() if name != "epoch"} for row in found] == [
        numbers_of(line) for line in run.metrics
    ]
    settings = {row["name"]: row["value"] for row in rows(run.path / "logs/csv/settings.csv")}
    assert (settings["lr"], settings["method.rate_gm"], settings["data.name"]) == ("0.05", "0.4", "digits")
    result = {row["name"]: float(row["value"]) for row in rows(run.path / "logs/csv/result.csv")}
    assert result == numbers_of(run.result)


def test_csv_cells_are_no_formulas(tmp_path: Path) -> None:
    from slimnet.training.loggers.base import Begin
    from slimnet.training.loggers.csv import CsvLogger

    logger = CsvLogger(Begin(tmp_path, "run", "0" * 16, {"init": "=cmd()", "lr": 0.1, "names": 'a,"b"\nc'}))
    assert rows(tmp_path / "settings.csv")[0]["value"] == "'=cmd()"
    assert rows(tmp_path / "settings.csv")[2]["value"] == 'a,"b"\nc'
    logger.epoch(0, {"a": 1.0})
    logger.epoch(1, {"a": -2.0, "b": 3.0})
    assert rows(tmp_path / "metrics.csv") == [{"epoch": "0", "a": "1.0", "b": ""}, {"epoch": "1", "a": "-2.0", "b": "3.0"}]


@pytest.mark.parametrize("which", ["logged", "resumed"])
def test_tensorboard(which: str, request: pytest.FixtureRequest) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run: Run = request.getfixturevalue(which)
    found = EventAccumulator(str(run.path / "logs/tensorboard"))
    found.Reload()
    for name in ("val_accuracy", "train_loss", "lr"):
        points = found.Scalars(name)
        assert [point.step for point in points] == list(range(EPOCHS))
        assert [point.value for point in points] == pytest.approx([line[name] for line in run.metrics], rel=1e-6)
    (test,) = found.Scalars("result/test_accuracy")
    assert test.value == pytest.approx(run.result["test_accuracy"], rel=1e-6)
    assert b"| method.rate_gm | 0.4 |" in found.Tensors("settings/text_summary")[0].tensor_proto.string_val[0]


@pytest.mark.parametrize("which", ["logged", "resumed"])
def test_mlflow(which: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    from mlflow import MlflowClient

    run: Run = request.getfixturevalue(which)
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    client = MlflowClient(tracking_uri=(run.path / "logs/mlflow").as_uri())
    experiment = client.get_experiment_by_name("slimnet")
    assert experiment is not None
    (found,) = client.search_runs([experiment.experiment_id])
    assert (found.info.status, found.info.run_name) == ("FINISHED", "run")
    assert (found.data.params["lr"], found.data.params["method.rate_gm"]) == ("0.05", "0.4")
    history = {point.step: point.value for point in client.get_metric_history(found.info.run_id, "val_accuracy")}
    assert history == {line["epoch"]: line["val_accuracy"] for line in run.metrics}
    assert found.data.metrics["result.test_accuracy"] == run.result["test_accuracy"]


def wandb_records(path: Path) -> list[Any]:
    """The records of a ``.wandb`` file: a log of LevelDB, in blocks of 32 KiB, behind a header of 7 bytes."""
    from wandb.proto.wandb_internal_pb2 import Record

    data, found, whole, at = path.read_bytes(), [], b"", 7
    while at + 7 <= len(data):
        length, kind = int.from_bytes(data[at + 4 : at + 6], "little"), data[at + 6]
        whole += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # a whole record, or the last part of one
            record, whole = Record(), b""
            record.ParseFromString(data[at - length : at])
            found.append(record)
        if 32768 - at % 32768 < 7:
            at += 32768 - at % 32768
    return found


@pytest.mark.parametrize(("which", "parts"), [("logged", 1), ("resumed", 2)])
def test_wandb(which: str, parts: int, request: pytest.FixtureRequest) -> None:
    run: Run = request.getfixturevalue(which)
    files = sorted((run.path / "logs/wandb").glob("wandb/offline-run-*/run-*.wandb"))
    assert len(files) == parts
    assert {path.stem for path in files} == {f"run-{(run.path / 'logs/id').read_text()}"}
    records = [record for path in files for record in wandb_records(path)]
    config = {item.key: json.loads(item.value_json) for one in records for item in one.run.config.update}
    assert (config["lr"], config["method.rate_gm"]) == (0.05, 0.4)
    steps = [{"".join(item.nested_key) or item.key: json.loads(item.value_json) for item in one.history.item} for one in records]
    seen = {step["_step"]: step["val_accuracy"] for step in steps if "val_accuracy" in step}
    assert seen == {line["epoch"]: line["val_accuracy"] for line in run.metrics}
    summary = {item.key or item.nested_key[0]: item.value_json for one in records for item in one.summary.update}
    assert json.loads(summary["result/test_accuracy"]) == run.result["test_accuracy"]


def test_a_resumed_run_is_the_same(resumed: Run, plain: Run) -> None:
    assert_same(resumed, plain)


class _Breaks(Listener):
    """Puts a file where a logger's folder was, once the first epoch is over."""

    def __init__(self, out: Path) -> None:
        self.folder = out / "logs" / "csv"

    def report(self, task: Task, line: str) -> None:
        if self.folder.is_dir():
            shutil.rmtree(self.folder)
            self.folder.write_text("")


def test_a_log_that_fails_does_not_end_the_training(plain: Run, tmp_path: Path) -> None:
    out = tmp_path / "run"
    with pytest.warns(
        SlimnetWarning, match=r"^the log 'csv' failed and is given up, training goes on \(WriteError: .*\)\.$"
    ) as told:
        run = start(out, epochs=EPOCHS, log="csv,tensorboard", progress=_Breaks(out))
    assert len(told) == 1
    assert_same(run, plain)


def test_a_log_that_cannot_begin_is_an_error(tmp_path: Path) -> None:
    with (
        pytest.MonkeyPatch.context() as patch,
        pytest.raises(TrainingError, match=r"^the log 'mlflow' cannot begin \(.+\): mend that, or leave it out\.$"),
    ):
        patch.setenv("MLFLOW_TRACKING_URI", "nonsense://here")
        start(tmp_path / "run", log="mlflow")


@pytest.mark.parametrize("name", [name for name in names.LOGGERS if name != "csv"])
def test_a_missing_library_is_told_before_anything_is_done(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ArgumentError, match=rf"^`log` has '{name}', which needs {name}: pip install 'slimnet\[{name}\]'\.$"):
        start(tmp_path / "run", log=name)
    assert not (tmp_path / "run").exists()
    check_loggers(["csv"])


def test_a_wrong_name(tmp_path: Path) -> None:
    with pytest.raises(
        ArgumentError, match=r"^`log` must be names of loggers, of csv, mlflow, tensorboard, wandb, got \['neptune'\]"
    ):
        start(tmp_path / "run", log="neptune")


def test_a_run_that_begins_again_has_no_old_logs_and_follows_no_link(tmp_path: Path) -> None:
    out, other = tmp_path / "run", tmp_path / "other"
    start(out, epochs=1, log="csv")
    (out / "logs" / "mine").touch()
    start(out, epochs=1, force=True)
    assert [path.name for path in (out / "logs").iterdir()] == ["mine"]
    shutil.rmtree(out / "logs")
    (other / "csv").mkdir(parents=True)
    (other / "csv" / "kept").touch()
    (out / "logs").symlink_to(other)
    with pytest.raises(FileFormatError, match=r"logs is a symbolic link"):
        start(out, epochs=1, force=True, log="csv")
    assert [path.name for path in (other / "csv").iterdir()] == ["kept"]


def test_what_is_logged() -> None:
    record = {
        "slimnet": "1",
        "train": {"lr": 0.1, "init": None, "method": {"name": "fsdp"}, "freeze": ["a"]},
        "data": {"train": 5},
    }
    assert flat(record) == {"slimnet": "1", "lr": 0.1, "method.name": "fsdp", "freeze": '["a"]', "data.train": 5}
    assert numbers_of({"epoch": 1, "loss": float("nan"), "is_closed": True, "a": 2, "b": [1]}) == {"is_closed": 1.0, "a": 2.0}

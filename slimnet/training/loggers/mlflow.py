"""MLflow: into files in the run's folder, or wherever ``MLFLOW_TRACKING_URI`` says."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from mlflow import MlflowClient
from mlflow.entities import Metric, Param, RunTag

from slimnet.training.loggers.base import Begin, Logger

EXPERIMENT, TAG = "slimnet", "slimnet.run"
MOST_TEXT, MOST_PARAMS = 6_000, 100  # what MLflow takes of one value, and at once
_FILES = "MLFLOW_ALLOW_FILE_STORE"  # MLflow wants a database unless this is set


class MlflowLogger(Logger):
    """A run in the experiment ``slimnet``, or ``MLFLOW_EXPERIMENT_NAME``; a resumed run is found by its tag."""

    def __init__(self, begin: Begin) -> None:
        self.client = _client(os.environ.get("MLFLOW_TRACKING_URI"), begin.folder)
        experiment = self._experiment(os.environ.get("MLFLOW_EXPERIMENT_NAME") or EXPERIMENT)
        found = self.client.search_runs([experiment], f"tags.`{TAG}` = '{begin.run_id}'", max_results=1)
        if found:
            self.run = str(found[0].info.run_id)
            self.client.update_run(self.run, status="RUNNING")
            return
        self.run = str(self.client.create_run(experiment, run_name=begin.name, tags={TAG: begin.run_id}).info.run_id)
        params = [Param(_key(name), str(value)[:MOST_TEXT]) for name, value in begin.settings.items()]
        for start in range(0, len(params), MOST_PARAMS):
            self.client.log_batch(self.run, params=params[start : start + MOST_PARAMS])

    def epoch(self, number: int, numbers: Mapping[str, float]) -> None:
        """A step of each metric."""
        now = int(time.time() * 1000)
        self.client.log_batch(self.run, metrics=[Metric(_key(name), value, now, number) for name, value in numbers.items()])

    def result(self, numbers: Mapping[str, float]) -> None:
        """Metrics ``result.…``, and the tag ``slimnet.finished``."""
        now, step = int(time.time() * 1000), int(numbers["best_epoch"])
        metrics = [Metric(f"result.{_key(name)}", value, now, step) for name, value in numbers.items()]
        self.client.log_batch(self.run, metrics=metrics, tags=[RunTag("slimnet.finished", "true")])

    def close(self, *, finished: bool) -> None:
        """The run's status."""
        self.client.set_terminated(self.run, "FINISHED" if finished else "KILLED")

    def _experiment(self, name: str) -> str:
        known = self.client.get_experiment_by_name(name)
        return str(known.experiment_id if known else self.client.create_experiment(name))


def _client(uri: str | None, folder: Path) -> MlflowClient:
    if uri:
        return MlflowClient(tracking_uri=uri)
    with _files_allowed():
        return MlflowClient(tracking_uri=folder.resolve().as_uri())


@contextmanager
def _files_allowed() -> Iterator[None]:
    """Files will do for one run; only while the client is made, since what else the program does with MLflow is not ours."""
    had = os.environ.get(_FILES)
    os.environ[_FILES] = "true"
    try:
        yield
    finally:
        if had is None:
            del os.environ[_FILES]
        else:
            os.environ[_FILES] = had


def _key(name: str) -> str:
    """A name as MLflow takes it."""
    return "".join(char if char.isalnum() or char in "_-./ " else "_" for char in name)[:250]

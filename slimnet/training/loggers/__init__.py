"""Loggers: a run's settings, its epochs and its result, for the programs in which people look at them.

Each writes into its own folder in ``logs/`` of the run, and needs its own library. The run's own files do not depend on them: a
logger that fails in mid-run is given up with a warning.
"""

from __future__ import annotations

import importlib
import re
import secrets
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from slimnet.errors import ArgumentError, SlimnetWarning, TrainingError, whole_text
from slimnet.files import write_bytes
from slimnet.files.untrusted import holds, member, refuse_links
from slimnet.files.writing import remove
from slimnet.names import LOGGERS
from slimnet.training.loggers.base import Begin, Logger, flat, numbers_of

__all__ = ["LOGS", "Begin", "Logger", "Logs", "check_loggers", "open_logs"]

LOGS = "logs"
"""The folder of all logs, in that of a run."""

_ID = "id"
_HOME = {
    "csv": ("csv", "CsvLogger", ""),
    "mlflow": ("mlflow", "MlflowLogger", "mlflow"),
    "tensorboard": ("tensorboard", "TensorBoardLogger", "tensorboard"),
    "wandb": ("wandb", "WandbLogger", "wandb"),
}
"""Name → the module in this room that has it, its class, and the library that it needs; an extra has the library's name."""


def logger_names() -> tuple[str, ...]:
    """Every logger there is."""
    return tuple(_HOME)


def check_loggers(names: Sequence[str]) -> None:
    """Refuse loggers whose library is not installed; nothing is imported.

    Raises:
        ArgumentError: naming the extra to install.
    """
    for name in names:
        library = _HOME[name][2]
        if library and find_spec(library) is None:
            raise ArgumentError(f"`log` has {name!r}, which needs {library}: pip install 'slimnet[{name}]'.")


class Logs:
    """All loggers of a run: one that fails is given up, with a warning."""

    def __init__(self, loggers: Mapping[str, Logger]) -> None:
        self.loggers = dict(loggers)

    def epoch(self, line: Mapping[str, Any]) -> None:
        """An epoch is over; takes its line of ``metrics.jsonl``."""
        self._tell(lambda logger: logger.epoch(int(line["epoch"]), numbers_of(line)))

    def result(self, line: Mapping[str, Any]) -> None:
        """The run is over; takes the last line of ``metrics.jsonl``."""
        self._tell(lambda logger: logger.result(numbers_of(line)))

    def close(self, *, finished: bool) -> None:
        """No more comes."""
        self._tell(lambda logger: logger.close(finished=finished))

    def _tell(self, call: Callable[[Logger], None]) -> None:
        for name, logger in list(self.loggers.items()):
            try:
                call(logger)
            except Exception as error:  # of any library, disk or network
                del self.loggers[name]
                reason = f"{type(error).__name__}: {whole_text(error)}"
                warnings.warn(
                    f"the log {name!r} failed and is given up, training goes on ({reason}).", SlimnetWarning, stacklevel=3
                )


@contextmanager
def open_logs(
    names: Sequence[str], folder: Path, record: Mapping[str, Any], history: Sequence[Mapping[str, Any]], *, fresh: bool
) -> Iterator[Logs]:
    """The logs of a run; closed at the end, whatever it is.

    Args:
        names: of the loggers.
        folder: of the run.
        record: what its ``config.json`` holds.
        history: the lines of ``metrics.jsonl`` of the epochs that are over.
        fresh: what an earlier run in this folder has logged is removed.

    Raises:
        TrainingError: if a logger cannot begin.
        FileFormatError: if the folder of logs is a link.
    """
    if fresh:
        _remove_old(folder)
    logs = Logs({})
    finished = False
    try:
        for name in names:
            logs.loggers[name] = _open(name, folder, record, history)
        yield logs
        finished = True
    finally:
        logs.close(finished=finished)


def _open(name: str, folder: Path, record: Mapping[str, Any], history: Sequence[Mapping[str, Any]]) -> Logger:
    module, kind, _ = _HOME[name]
    refuse_links(folder)
    own = folder / LOGS / name
    try:
        own.mkdir(parents=True, exist_ok=True)
        refuse_links(folder / LOGS)
        begin = Begin(own, folder.resolve().name, _run_id(folder / LOGS), flat(record), tuple(map(numbers_of, history)))
        logger: Logger = getattr(importlib.import_module(f"{__name__}.{module}"), kind)(begin)
    except Exception as error:  # of any library, disk or network
        reason = f"{type(error).__name__}: {whole_text(error)}"
        raise TrainingError(f"the log {name!r} cannot begin ({reason}): mend that, or leave it out.") from error
    return logger


def _run_id(logs: Path) -> str:
    """What tells this run from all others, as long as it is not started again."""
    known = member(logs, _ID).read_bytes()[:16].decode("ascii", "replace") if holds(logs, _ID) else ""
    if not re.fullmatch("[0-9a-f]{16}", known):
        known = secrets.token_hex(8)
        write_bytes(logs / _ID, known.encode())
    return known


def _remove_old(folder: Path) -> None:
    logs = folder / LOGS
    if logs.is_dir() and not logs.is_symlink():
        for name in (*LOGGERS, _ID):
            remove(logs / name)

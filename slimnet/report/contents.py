"""What a report shows of a run."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from slimnet.errors import FileFormatError
from slimnet.report.confusion import ClassScores

if TYPE_CHECKING:
    from slimnet.report.churn import Selection

NEEDED = ("epoch", "lr", "train_loss", "train_accuracy", "val_loss", "val_accuracy")
OPTIONAL = ("rate", "zeta", "closed_share", "sparsity", "live_flops", "seconds")


@dataclass(frozen=True, kw_only=True)
class RunContents:
    """A run, finished or not, as a report shows it.

    Attributes:
        name: of the run.
        settings: of the training; ``method``: the pruning method and its hyper-parameters.
        data: what the network was trained on: name, sizes of the splits, normalisation.
        environment: versions and machine.
        epochs: lines of ``metrics.jsonl``, checked by :func:`check_epochs`.
        planned: number of epochs that the run is to have.
        result: the last line of a finished run; empty while it is not finished.
        scores: of the classes of the test split.
        groups: channel groups (name, size, kept, closed) once the closed channels are cut out; empty where not known.
        cost: ``flops`` and ``params``, each (dense, slim); empty where not known.
        plan: what was planned for a target, layer by layer; None without one.
        selection: which filters were selected, one mapping an epoch.
        left_out: what the report has to do without, and why: a sentence each.
    """

    name: str
    settings: Mapping[str, Any]
    method: Mapping[str, Any]
    data: Mapping[str, Any]
    environment: Mapping[str, Any]
    epochs: Sequence[Mapping[str, Any]]
    planned: int
    result: Mapping[str, Any]
    scores: ClassScores | None = None
    groups: Sequence[Mapping[str, Any]] = ()
    cost: Mapping[str, tuple[int, int]]
    selection: Selection = ()
    plan: Mapping[str, Any] | None = None
    left_out: tuple[str, ...] = ()

    @property
    def best(self) -> int | None:
        """The epoch, from 0, whose weights are the result; None while the run is not finished."""
        return int(self.result["best_epoch"]) if self.result else None

    @property
    def tested_on(self) -> str:
        """``"val"`` where there is no test split: what is called test is measured on the validation split then."""
        return str(self.data.get("tested_on", "test"))

    @property
    def seconds(self) -> float:
        """How long the epochs took, all together."""
        return sum(float(epoch.get("seconds") or 0) for epoch in self.epochs)

    def headline(self) -> dict[str, Any]:
        """The figures that matter, as JSON values."""
        last = self.epochs[-1]
        best = last if self.best is None else self.epochs[self.best]
        result = self.result or {"val_accuracy": best["val_accuracy"]}
        names = ("val_accuracy", "test_accuracy", "test_images")
        return {
            "epochs": len(self.epochs),
            "planned_epochs": self.planned,
            "best_epoch": self.best,
            **{name: result.get(name) for name in names},
            "tested_on": self.tested_on,
            "test_macro_f1": self.scores.macro_f1 if self.scores else None,
            "closed_share": last.get("closed_share"),
            "flops": list(self.cost["flops"]) if self.cost else None,
            "params": list(self.cost["params"]) if self.cost else None,
        }


def check_result(result: Mapping[str, Any], epochs: int, where: str) -> None:
    """Refuse the last line of a finished run that does not hold what is shown of it.

    Args:
        result: the last line of ``metrics.jsonl``.
        epochs: number of epochs.
        where: the name of the file.

    Raises:
        FileFormatError: if a number is missing or is not one, or the best epoch is none of the run's.
    """
    for name in ("val_accuracy", "test_accuracy", "test_images"):
        value = result.get(name, 0)
        if not _is_number(value):
            raise FileFormatError(f"{where}, last line: `{name}` must be a number, got {value!r}.")
    best = result["best_epoch"]
    if not isinstance(best, int) or not 0 <= best < epochs:
        raise FileFormatError(f"{where}, last line: `best_epoch` must be one of the {epochs} epochs from 0, got {best!r}.")


def check_epochs(epochs: Sequence[Mapping[str, Any]], where: str) -> None:
    """Refuse lines that do not hold what is drawn of every epoch.

    Args:
        epochs: lines of ``metrics.jsonl`` without the last one of a finished run.
        where: the name of the file.

    Raises:
        FileFormatError: if there are none, or a number is missing or is not one.
    """
    if not epochs:
        raise FileFormatError(f"{where} holds no epoch yet: there is nothing to report.")
    for line, epoch in enumerate(epochs, 1):
        for name in (*NEEDED, *OPTIONAL):
            value = epoch.get(name)
            if (value is not None or name in NEEDED) and not _is_number(value):
                raise FileFormatError(f"{where}, line {line}: `{name}` must be a number, got {value!r}.")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)

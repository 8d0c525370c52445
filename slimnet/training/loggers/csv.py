"""Tables for spreadsheets: ``settings.csv``, ``metrics.csv`` with a row an epoch, ``result.csv``."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence

from slimnet.files import append_line, write_bytes
from slimnet.training.loggers.base import Begin, Logger

_FORMULA = ("=", "+", "-", "@", "\t", "\r")


class CsvLogger(Logger):
    """Needs no library. A resumed run has the rows of all its epochs."""

    def __init__(self, begin: Begin) -> None:
        self.folder, self.columns = begin.folder, ["epoch"]
        self.rows: list[dict[str, float]] = []
        self._write("settings.csv", [("name", "value"), *begin.settings.items()])
        (self.folder / "result.csv").unlink(missing_ok=True)
        self.rows = [{"epoch": number, **numbers} for number, numbers in enumerate(begin.history)]
        self._rewrite()

    def epoch(self, number: int, numbers: Mapping[str, float]) -> None:
        """A row more; a number that no epoch before had makes a column."""
        row = {"epoch": number, **numbers}
        self.rows.append(row)
        if row.keys() - self.columns:
            self._rewrite()
        else:
            append_line(self.folder / "metrics.csv", _line(self._cells(row)))

    def result(self, numbers: Mapping[str, float]) -> None:
        """A file of its own."""
        self._write("result.csv", [("name", "value"), *numbers.items()])

    def close(self, *, finished: bool) -> None:
        """Nothing is open."""

    def _rewrite(self) -> None:
        self.columns = list(dict.fromkeys(["epoch", *(name for row in self.rows for name in row)]))
        self._write("metrics.csv", [self.columns, *map(self._cells, self.rows)])

    def _cells(self, row: Mapping[str, float]) -> list[str | float]:
        return [row.get(name, "") for name in self.columns]

    def _write(self, name: str, rows: Iterable[Sequence[str | float]]) -> None:
        write_bytes(self.folder / name, "".join(f"{_line(row)}\n" for row in rows).encode())


def _line(cells: Iterable[str | float]) -> str:
    """A row, without its end; a text that a spreadsheet would take for a formula gets an apostrophe before it."""
    file = io.StringIO()
    safe = [f"'{cell}" if isinstance(cell, str) and cell.startswith(_FORMULA) else cell for cell in cells]
    csv.writer(file, lineterminator="").writerow(safe)
    return file.getvalue()

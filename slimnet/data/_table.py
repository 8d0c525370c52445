"""Tables as they lie on disk, read within bounds: values of three columns, row by row, as text."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from slimnet.data._lines import read_lines
from slimnet.errors import DataError, whole_text

Row = tuple[int, tuple[str, str, str] | None]
"""Number from 1 and values; None where there are too few or too many."""

_LONGEST = 4096  # bytes of a value
_MOST = 1 << 31  # bytes of a column


def read_table(path: Path, columns: Mapping[str, Sequence[str]]) -> tuple[tuple[int, int, int], Iterator[Row]]:
    """Where the three columns stand (−1: nowhere, which only the last may), and the rows.

    Raises:
        DataError: if it cannot be read, or the first two columns are not there.
    """
    return _parquet(path, columns) if path.suffix.lower() == ".parquet" else _csv(path, columns)


def _places(path: Path, names: Sequence[str], columns: Mapping[str, Sequence[str]]) -> tuple[int, int, int]:
    lower = [name.strip().lower() for name in names]
    found = []
    for kind, known in columns.items():
        place = next((lower.index(word) for word in known if word in lower), -1)
        if place < 0 and kind != "split":
            shown = ", ".join(repr(name[:40]) for name in names[:12])
            raise DataError(f"{path} has no column for the {kind} ({', '.join(known[:4])} …); it has {shown or 'none'}.")
        found.append(place)
    return found[0], found[1], found[2]


def _csv(path: Path, columns: Mapping[str, Sequence[str]]) -> tuple[tuple[int, int, int], Iterator[Row]]:
    lines = _lines(path)
    first = next(lines, (0, None))[1]
    if first is None:
        raise DataError(f"{path} has no header: it is empty, or no text in UTF-8.")
    delimiter = max(",;\t", key=first.count)
    names = _split(first, delimiter)
    places = _places(path, names, columns)

    def rows() -> Iterator[Row]:
        for number, line in lines:
            values = [] if line is None else _split(line, delimiter)
            fits = len(values) == len(names)
            yield number, (values[places[0]], values[places[1]], values[places[2]] if places[2] >= 0 else "") if fits else None

    return places, rows()


def _lines(path: Path) -> Iterator[tuple[int, str | None]]:
    """Lines as text; None for one that is too long, or is not UTF-8."""
    try:
        with path.open("rb") as file:
            for number, line in read_lines(file):
                try:
                    yield number, None if line is None else line.decode("utf-8-sig" if number == 1 else "utf-8")
                except UnicodeDecodeError:
                    yield number, None
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}.") from None


def _split(line: str, delimiter: str) -> list[str]:
    try:
        return next(csv.reader([line], delimiter=delimiter), [])
    except csv.Error:
        return []


def _parquet(path: Path, columns: Mapping[str, Sequence[str]]) -> tuple[tuple[int, int, int], Iterator[Row]]:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        raise DataError(f"{path} needs pyarrow: pip install 'slimnet[tables]'.") from None
    try:
        whole = pq.ParquetFile(path)
        names = whole.schema_arrow.names
        places = _places(path, names, columns)
        asked = [names[place] for place in places if place >= 0]
        _check_size(path, whole.metadata)
        pictures = [name for name in asked if pa.types.is_struct(whole.schema_arrow.field(name).type)]
        if pictures:
            raise DataError(f"{path} holds pictures in {pictures[0]!r}: save them with datasets' save_to_disk (--data hf).")
        content = pq.ParquetFile(path, read_dictionary=asked).read(columns=asked)
        values = [_texts(path, content.column(name)) for name in asked]
    except (pa.ArrowException, OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read as Parquet: {whole_text(error)[:200]}.") from None
    if len(values) == 2:
        values.append([""] * len(values[0]))
    return places, iter([(number, row) for number, row in enumerate(zip(*values, strict=True), start=1)])


def _check_size(path: Path, about: Any) -> None:
    """Refuse a table that says of itself that it is far larger than its file."""
    size, groups = path.stat().st_size, (about.row_group(i) for i in range(about.num_row_groups))
    if about.num_rows > max(size, 1 << 16) or sum(group.total_byte_size for group in groups) > max(_MOST, 64 * size):
        raise DataError(f"{path} has {about.num_rows:,} rows in {size:,} bytes: that is no table of pictures.")


def _texts(path: Path, column: Any) -> list[str]:
    """A column as text, its distinct values looked at first."""
    found: list[str] = []
    for chunk in column.chunks:
        if hasattr(chunk, "dictionary"):
            known = ["" if value is None else str(value) for value in chunk.dictionary.to_pylist()]
            if any(len(value) > _LONGEST for value in known):
                raise DataError(f"{path} has values of more than {_LONGEST:,} characters: they are no paths and no labels.")
            found += ["" if place is None else known[place] for place in chunk.indices.to_pylist()]
        else:
            found += ["" if value is None else str(value) for value in chunk.to_pylist()]
    return found

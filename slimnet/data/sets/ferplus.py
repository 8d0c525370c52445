"""FER+: for each face of FER2013, how many of ten people saw which expression.

References:
    Barsoum, Zhang, Canton Ferrer & Zhang, *Training deep networks for facial expression recognition with crowd-sourced label
    distribution*, ICMI 2016.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from slimnet.data._lines import read_lines, shown
from slimnet.data.sets.fer_rows import USAGES
from slimnet.errors import DataError

FERPLUS_CLASSES = ("neutral", "happiness", "surprise", "sadness", "anger", "disgust", "fear", "contempt")

_VOTES = (*FERPLUS_CLASSES, "unknown", "NF")
_COLUMNS = ("Usage", "Image name", *_VOTES)


def ferplus_votes(path: str | Path) -> tuple[Tensor, Tensor]:
    """Read the votes, one row a row of ``fer2013.csv``, in its order.

    Args:
        path: ``fer2013new.csv``.

    Returns:
        votes (N, 10) int64: neutral, happiness, surprise, sadness, anger, disgust, fear, contempt, unknown, no face;
        usage (N,) int64: 0 Training, 1 PublicTest, 2 PrivateTest.

    Raises:
        DataError: if the file is missing, or naming the line that is not as it must be.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            lines = read_lines(file)
            _, header = next(lines, (1, b""))
            _check_header(path, header)
            found = [_parsed(path, number, line) for number, line in lines]
    except OSError as error:
        raise DataError(f"{path}, the votes of FER+, cannot be read: {error.strerror}.") from None
    if not found:
        raise DataError(f"{path} holds no votes.")
    numbers = torch.tensor(found, dtype=torch.int64)
    return numbers[:, 1:].contiguous(), numbers[:, 0].contiguous()


def ferplus_targets(votes: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Majority labels and soft labels, as is customary: a single vote is noise and counts as none.

    Args:
        votes: (N, 10), as `ferplus_votes` gives them.

    Returns:
        labels (N,) int64, the expression with the most votes; soft (N, 8) float32, the shares of the votes for expressions;
        kept (N,) bool, where one expression has more than half of all votes. Elsewhere labels and soft mean nothing.
    """
    heard = counted(votes)
    faces = heard[:, : len(FERPLUS_CLASSES)]
    best, labels = faces.max(dim=1)
    soft = faces.float() / faces.sum(dim=1, keepdim=True).clamp(min=1)
    return labels, soft, 2 * best > heard.sum(dim=1)


def counted(votes: Tensor) -> Tensor:
    """The votes that count: a single one for something is noise, and becomes 0."""
    return torch.where(votes > 1, votes, 0)


def _check_header(path: Path, header: bytes | None) -> None:
    names = (header or b"").removeprefix(b"\xef\xbb\xbf").decode("latin-1").split(",")
    if tuple(name.strip() for name in names) != _COLUMNS:
        raise DataError(f"{path}, line 1: the columns must be {', '.join(_COLUMNS)}; found: {shown(header or b'')}.")


def _parsed(path: Path, number: int, line: bytes | None) -> tuple[int, ...]:
    """The place in `USAGES`, then the ten votes."""
    fields = [field.strip() for field in (line or b"").split(b",")]
    usage, votes = fields[0].decode("latin-1"), fields[2:]
    good = len(fields) == len(_COLUMNS) and usage in USAGES and all(v.isdigit() and len(v) < 3 for v in votes)
    if not good:
        raise DataError(f"{path}, line {number}: not Usage, image name and {len(_VOTES)} votes: {shown(line or b'')}.")
    return USAGES.index(usage), *map(int, votes)

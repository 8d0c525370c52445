"""Classes are matched by name: the same class may stand at another place elsewhere."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from slimnet.data.dataset import Dataset, Split
from slimnet.errors import DataError

SYNONYMS = (
    ("angry", "anger"),
    ("disgust", "disgusted"),
    ("fear", "fearful", "afraid", "scared"),
    ("happy", "happiness"),
    ("sad", "sadness"),
    ("surprise", "surprised"),
    ("neutral", "normal"),
    ("contempt", "contemptuous"),
)
"""Names that the data sets of expressions give to the same class."""
_FIRST = {name: names[0] for names in SYNONYMS for name in names}
SHOWN = 12


def match_classes(wanted: Sequence[str], had: Sequence[str], *, who: str, where: str) -> Tensor:
    """Find for every class of a data set its place among the outputs of a network, by name.

    Case, spaces, underscores and hyphens do not matter; names of :data:`SYNONYMS` are the same class.

    Args:
        wanted: names of the network's outputs, in order.
        had: names of the data set's classes, in order.
        who: the network, for the error.
        where: the data set, for the error.

    Returns:
        (classes,) int64: the class ``had[i]`` is output ``found[i]``.

    Raises:
        DataError: if the names are not the same ones; both lists are shown.

    Example:
        >>> match_classes(["sad", "neutral"], ["Neutral", "sadness"], who="a", where="b").tolist()
        [1, 0]
    """
    names, found = [_plain(name) for name in wanted], [_plain(name) for name in had]
    if len(set(names)) < len(names) or len(set(found)) < len(found):  # such names tell nothing apart: only the very same will do
        names, found = list(wanted), list(had)
    if sorted(names) != sorted(found):
        raise DataError(f"the classes of {who} are {_listed(wanted)}; {where} has {_listed(had)}: they must be the same.")
    if names == found:
        return torch.arange(len(names))
    return torch.tensor([names.index(name) for name in found])


def with_classes(dataset: Dataset, wanted: Sequence[str], *, who: str) -> Dataset:
    """A data set with its labels in the order of a network's outputs; a note says so where that was another order.

    Raises:
        DataError: see :func:`match_classes`.
    """
    places = match_classes(wanted, dataset.classes, who=who, where=dataset.name)
    if bool((places == torch.arange(len(places))).all()):
        return replace(dataset, classes=tuple(wanted))
    note = f"{dataset.name} has its classes in another order than {who}: they are matched by name ({_listed(wanted)})"
    train, val, test = (_relabelled(split, places) for split in (dataset.train, dataset.val, dataset.test))
    return replace(dataset, classes=tuple(wanted), notes=(*dataset.notes, note), train=train, val=val, test=test)


def natural_order(names: Sequence[str]) -> list[str]:
    """Names sorted; where all are whole numbers, by their value: 2 before 10."""
    is_numeric = all(re.fullmatch(r"[0-9]+", name) for name in names)
    return sorted(names, key=lambda name: (int(name), name)) if is_numeric else sorted(names)


def _relabelled(split: Split, places: Tensor) -> Split:
    soft = None if split.soft is None else torch.zeros_like(split.soft).index_copy(1, places, split.soft)
    return replace(split, labels=places[split.labels], soft=soft)


def _plain(name: str) -> str:
    text = re.sub(r"[\s_-]+", "", name).casefold()
    return _FIRST.get(text, text)


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(names[:SHOWN])
    return f"{shown} and {len(names) - SHOWN} more" if len(names) > SHOWN else shown

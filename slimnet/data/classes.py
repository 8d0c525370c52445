"""Classes matched by their names: the one place that says which output of a network is which class of a data set."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch

from slimnet.data.dataset import Dataset, Split
from slimnet.errors import DataError

# Words that mean the same in the data sets of one kind: taken as such only where every name of both lists is among them.
_WORDS: tuple[Mapping[str, tuple[str, ...]], ...] = (
    {  # facial expressions: FER2013, FER+, RAF-DB, AffectNet, CK+
        "anger": ("angry",),
        "contempt": ("contemptuous",),
        "disgust": ("disgusted",),
        "fear": ("fearful", "afraid", "scared"),
        "happiness": ("happy", "joy"),
        "neutral": ("normal", "neutrality"),
        "sadness": ("sad",),
        "surprise": ("surprised",),
    },
    {  # CIFAR-10, STL-10
        "airplane": ("aeroplane", "plane"),
        "automobile": ("car",),
        **dict.fromkeys(("bird", "cat", "deer", "dog", "frog", "horse", "monkey", "ship", "truck"), ()),
    },
    {str(digit): (word,) for digit, word in enumerate("zero one two three four five six seven eight nine".split())},
)
_SYNONYMS = tuple({word: name for name, others in words.items() for word in (name, *others)} for words in _WORDS)
_SHOWN = 20  # names of a list in a message


@dataclass(frozen=True)
class ClassMatch:
    """Where the classes of a data set stand among the outputs of a network.

    Attributes:
        outputs: for each class of the data set, the output of the network that stands for it.
        classes: names of the network's outputs.
        note: a line for the user where the two lists are not the same; empty where they are.
    """

    outputs: tuple[int, ...]
    classes: tuple[str, ...]
    note: str = ""

    @property
    def is_same(self) -> bool:
        """Whether every class of the data set has the number that the network gives it, and there is no other."""
        return self.outputs == tuple(range(len(self.classes)))

    @property
    def is_whole(self) -> bool:
        """Whether the network has no class that the data set lacks."""
        return len(self.outputs) == len(self.classes)

    def split(self, split: Split) -> Split:
        """The same images with the network's numbers as labels, and shares of votes in the order of its outputs."""
        if self.is_same:
            return split
        outputs, soft = torch.tensor(self.outputs), None
        if split.soft is not None:
            soft = split.soft.new_zeros(len(split), len(self.classes))
            soft[:, outputs] = split.soft
        return replace(split, labels=outputs[split.labels], soft=soft)

    def dataset(self, dataset: Dataset) -> Dataset:
        """The same data in the order, and with the names, of the network's classes."""
        train, val, test = map(self.split, (dataset.train, dataset.val, dataset.test))
        return replace(dataset, classes=self.classes, train=train, val=val, test=test)


def match_classes(
    network: Sequence[str], data: Sequence[str], *, who: str, whose: str, whole: bool = False, hint: str = ""
) -> ClassMatch:
    """Match the classes of a data set with the outputs of a network by name.

    Names are the same whatever their case, blanks, underscores and hyphens; in data sets of a known kind (facial expressions,
    CIFAR-10, digits) also where they are synonyms (angry, anger). A data set may lack classes of the network, whose answers of
    these are then wrong by themselves; it may have none that the network lacks.

    Args:
        network: names of the outputs.
        data: names of the classes, from label 0.
        who: what a message calls the network.
        whose: what it calls the data set.
        whole: refuse a data set that lacks classes of the network too.
        hint: what to do where they do not match.

    Raises:
        DataError: if they are other classes, with both lists.
    """
    network, data = tuple(network), tuple(data)
    if network == data:
        return ClassMatch(tuple(range(len(network))), network)
    outputs = next((found for key in _keys(network, data) if (found := _places(network, data, key)) is not None), None)
    if outputs is None or (whole and len(data) != len(network)):
        advice = f": {hint}" if hint else "."
        raise DataError(f"{who} was trained for classes {_listed(network)}; {whose} has {_listed(data)}{advice}")
    return ClassMatch(outputs, network, _note(network, data, outputs, who, whose))


def match_count(outputs: int, data: Sequence[str], *, who: str, whose: str) -> str:
    """Where the names of a network's outputs are not known: compare how many there are.

    Returns:
        A line for the user: their order is assumed.

    Raises:
        DataError: if there are more or fewer outputs than classes.
    """
    if outputs != len(data):
        raise DataError(f"{who} has {outputs} outputs, {whose} has {len(data)} classes.")
    return f"{who} does not name its classes: taken to be those of {whose}, in this order: {_listed(data)}"


def sorted_classes(names: Iterable[str]) -> tuple[str, ...]:
    """Names in their order; where all are whole numbers, in the order of these: 2 before 10.

    Example:
        >>> sorted_classes(["10", "9", "2"])
        ('2', '9', '10')
    """
    found = sorted(names)
    if found and all(name.isascii() and name.isdigit() for name in found):
        found.sort(key=int)
    return tuple(found)


def _plain(name: str) -> str:
    """A name without what does not tell it from another: case, blanks, underscores, hyphens."""
    text = unicodedata.normalize("NFKC", name).casefold()
    return " ".join(text.replace("_", " ").replace("-", " ").split())


def _keys(network: Sequence[str], data: Sequence[str]) -> Iterable[Callable[[str], str]]:
    """What two names must have in common, the strictest first."""
    yield str
    yield _plain
    for synonyms in _SYNONYMS:
        if all(_plain(name) in synonyms for name in (*network, *data)):
            yield lambda name, synonyms=synonyms: synonyms[_plain(name)]  # type: ignore[misc]


def _places(network: Sequence[str], data: Sequence[str], key: Callable[[str], str]) -> tuple[int, ...] | None:
    """The output of each class, by ``key``; None where two names have the same, or the network lacks a class."""
    known = {key(name): place for place, name in enumerate(network)}
    asked = [key(name) for name in data]
    if len(known) < len(network) or len(set(asked)) < len(asked) or not set(asked) <= known.keys():
        return None
    return tuple(known[name] for name in asked)


def _note(network: Sequence[str], data: Sequence[str], outputs: Sequence[int], who: str, whose: str) -> str:
    renamed = [f"{network[o]} = {name}" for name, o in zip(data, outputs, strict=True) if _plain(network[o]) != _plain(name)]
    missing = [name for place, name in enumerate(network) if place not in set(outputs)]
    parts = []
    if list(outputs) != sorted(outputs):
        parts.append(f"{whose} has the classes of {who} in another order: matched by name")
    elif renamed:
        parts.append(f"the classes of {whose} are matched with those of {who} by name")
    if renamed:
        parts[-1] += f" ({', '.join(renamed[:_SHOWN])}{' …' if len(renamed) > _SHOWN else ''})"
    if missing:
        parts.append(f"{whose} has no images of {_listed(missing)}, which {who} knows")
    return "; ".join(parts)


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(names[:_SHOWN])
    return f"{shown} … ({len(names):,} in all)" if len(names) > _SHOWN else shown


_FER2013 = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")


def expression_order(names: Sequence[str]) -> tuple[str, ...] | None:
    """The names in FER2013's order, where they are its seven expressions, whatever they are called; else None."""
    synonyms = _SYNONYMS[0]
    known = {synonyms.get(_plain(name), ""): name for name in names}
    wanted = [synonyms[name] for name in _FER2013]
    return tuple(known[name] for name in wanted) if len(names) == len(wanted) and known.keys() == set(wanted) else None

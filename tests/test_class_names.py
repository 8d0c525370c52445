"""Class indices go by name: the one function that matches two lists of names."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch

from slimnet.data import FERPLUS_CLASSES, Split, match_classes, match_count
from slimnet.data.classes import sorted_classes
from slimnet.data.sets.fer2013 import CLASSES as FER2013_CLASSES
from slimnet.errors import DataError

SAME = [  # the network's names, the data's, where the data's stand, what the note says
    (("a", "b"), ("a", "b"), (0, 1), ""),
    (("a", "b"), ("b", "a"), (1, 0), "data has the classes of net in another order: matched by name"),
    (("Cat", "big dog"), ("BIG_DOG", "cat"), (1, 0), "in another order"),
    (("big-dog", "cat"), ("Big  Dog", "Cat"), (0, 1), ""),
    (("Cat", "cat"), ("cat", "Cat"), (1, 0), "in another order"),  # told apart by case alone: as they are written
    (("a", "b", "c"), ("c", "a"), (2, 0), "data has no images of b, which net knows"),
    (("0", "1", "10", "2"), ("0", "1", "2", "10"), (0, 1, 3, 2), "in another order"),  # of a run that sorted numbers as text
    (("0", "1"), ("one", "Zero"), (1, 0), "(1 = one, 0 = Zero)"),
    (FER2013_CLASSES, tuple(sorted(FER2013_CLASSES)), (0, 1, 2, 3, 6, 4, 5), "in another order"),
    (FERPLUS_CLASSES, FER2013_CLASSES, (4, 5, 6, 1, 3, 2, 0), "data has no images of contempt, which net knows"),
    (("angry", "happy"), ("anger", "happiness"), (0, 1), "matched with those of net by name (angry = anger, happy = happiness)"),
    (("automobile", "cat"), ("cat", "car"), (1, 0), "(automobile = car)"),
    (("x²", "b"), ("b", "X2"), (1, 0), "in another order"),  # the same character in another form
]


OTHER = [
    (("a", "b"), ("a", "c")),
    (("a",), ("a", "b")),  # images of a class that the network does not know
    (("0", "1", "2"), ("angry", "happy", "neutral")),  # numbers are names too
    (FER2013_CLASSES, FERPLUS_CLASSES),
    (("normal", "pneumonia"), ("neutral", "pneumonia")),  # synonyms of another kind of data
    (("angry", "happy"), ("anger", "angry")),
    (("Cat", "cat"), ("CAT", "dog")),
    (("Cat", "cat", "dog"), ("dog", "CAT")),  # it could be either
]


@pytest.mark.parametrize(("network", "data", "outputs", "note"), SAME)
def test_names_that_match(network: Sequence[str], data: Sequence[str], outputs: tuple[int, ...], note: str) -> None:
    found = match_classes(network, data, who="net", whose="data")
    assert (found.outputs, found.classes) == (outputs, tuple(network))
    assert note in found.note if note else found.note == ""
    assert "\n" not in found.note


@pytest.mark.parametrize(("network", "data"), OTHER)
def test_names_that_do_not_match(network: Sequence[str], data: Sequence[str]) -> None:
    with pytest.raises(DataError) as error:
        match_classes(network, data, who="net", whose="data")
    assert f"{', '.join(network)}; data has {', '.join(data)}" in str(error.value)


def test_a_part_of_the_classes_will_not_do_for_everything() -> None:
    with pytest.raises(DataError, match="a, b; data has a: give more"):
        match_classes("ab", "a", who="net", whose="data", whole=True, hint="give more")


def test_long_lists_are_shortened() -> None:
    with pytest.raises(DataError, match=r"20 … \(1,000 in all\)"):
        match_classes([str(i) for i in range(1, 1001)], ["x"], who="net", whose="data")


def test_labels_and_votes_move_with_the_names() -> None:
    images = torch.zeros(2, 1, 4, 4, dtype=torch.uint8)
    split = Split(images, torch.tensor([0, 1]), soft=torch.tensor([[0.75, 0.25], [0.5, 0.5]]))
    found = match_classes(("a", "b", "c"), ("c", "a"), who="net", whose="data").split(split)
    assert found.labels.tolist() == [2, 0]
    assert found.soft is not None
    assert found.soft.tolist() == [[0.25, 0.0, 0.75], [0.5, 0.0, 0.5]]


def test_whole_numbers_are_sorted_as_such() -> None:
    assert sorted_classes(["10", "9", "1", "02"]) == ("1", "02", "9", "10")
    assert sorted_classes(["10", "9", "b"]) == ("10", "9", "b")


def test_where_there_are_no_names_the_number_counts() -> None:
    assert (
        match_count(2, "ab", who="net", whose="data")
        == "net does not name its classes: taken to be those of data, in this order: a, b"
    )
    with pytest.raises(DataError, match="net has 3 outputs, data has 2 classes"):
        match_count(3, "ab", who="net", whose="data")

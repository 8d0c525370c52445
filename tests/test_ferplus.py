"""FER+: votes for the faces of FER2013."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from slimnet.data import (
    ferplus_targets,
    load_data,
)
from slimnet.errors import DataError
from test_fer2013 import USAGES, faces, parts, pixels, rows, whole, write

HEADER = "Usage,Image name,neutral,happiness,surprise,sadness,anger,disgust,fear,contempt,unknown,NF"
VOTES = [
    ([4, 0, 0, 1, 3, 2, 0, 0, 0, 0], False, None),  # 4 of 9: the single vote for sadness does not count
    ([6, 0, 1, 1, 0, 0, 0, 0, 2, 0], True, (0, 1.0)),  # 6 of 8
    ([5, 0, 0, 3, 1, 0, 0, 0, 1, 0], True, (0, 5 / 8)),
    ([0, 0, 0, 0, 0, 0, 0, 0, 10, 0], False, None),
    ([0, 0, 0, 0, 0, 0, 0, 0, 0, 10], False, None),
    ([0, 5, 5, 0, 0, 0, 0, 0, 0, 0], False, None),  # no more than half
    ([1, 1, 1, 1, 1, 1, 1, 1, 1, 1], False, None),
]


def vote_lines(usages: list[str]) -> list[str]:
    """Row i of class i % 8, unanimously; but the first of the training rows is no face."""
    votes = [[10 * (i % 8 == k) for k in range(10)] for i in range(len(usages))]
    votes[0] = [0] * 9 + [10]
    return [f"{usage},fer{i:07}.png,{','.join(map(str, v))}" for i, (usage, v) in enumerate(zip(usages, votes, strict=True))]


def test_majority_and_shares() -> None:
    labels, soft, kept = ferplus_targets(torch.tensor([votes for votes, _, _ in VOTES]))
    assert kept.tolist() == [wanted for _, wanted, _ in VOTES]
    for i, (_, _, wanted) in enumerate(VOTES):
        if wanted:
            assert (int(labels[i]), float(soft[i, labels[i]])) == pytest.approx(wanted)
            assert float(soft[i].sum()) == pytest.approx(1)


def test_ferplus(tmp_path: Path) -> None:
    lines = rows()
    write(tmp_path, [*lines[:5], lines[5].replace(",", ",x", 1), *lines[6:]])  # a bad row does not shift the votes
    write(tmp_path, vote_lines(USAGES), "fer2013new.csv", HEADER)
    found = load_data("ferplus", data_dir=tmp_path, data_options={"skip_bad_rows": True})
    assert found.classes[7] == "contempt"
    good = [i for i in range(14) if i not in (0, 5) and i % 8 < 8]
    assert found.train.labels.tolist() == [i % 8 for i in good]
    assert np.array_equal(pixels(found.train).numpy(), faces()[good])
    assert found.train.soft is not None
    assert torch.equal(found.train.soft.argmax(1), found.train.labels)
    assert torch.equal(found.val.soft, torch.eye(8)[found.val.labels])
    part = found.train.subset(torch.tensor([2, 1]))
    assert torch.equal(part.soft, found.train.soft[[2, 1]])  # type: ignore[arg-type]


BAD_VOTES: list[tuple[Callable[[Path], object], str]] = [
    (lambda folder: (folder / "fer2013new.csv").unlink(), "fer2013new.csv, the votes of FER., cannot be read: No such file"),
    (lambda folder: write(folder, vote_lines(USAGES)[1:], "fer2013new.csv", HEADER), "27 rows, fer2013.csv 28: they do not bel"),
    (lambda folder: write(folder, [], "fer2013new.csv", HEADER), "holds no votes"),
    (lambda folder: write(folder, vote_lines(USAGES), "fer2013new.csv", "a,b"), "line 1: the columns must be Usage, Image name"),
    (lambda folder: write(folder, ["Training,x.png,1,2"], "fer2013new.csv", HEADER), r"line 2: not Usage, image name and 10 vo"),
    (lambda folder: write(folder, vote_lines(USAGES[::-1]), "fer2013new.csv", HEADER), "row 1 is PrivateTest, in fer2013.csv it"),
]


@pytest.mark.parametrize(("damage", "message"), BAD_VOTES)
def test_bad_votes(tmp_path: Path, damage: Callable[[Path], object], message: str) -> None:
    whole(tmp_path)
    write(tmp_path, vote_lines(USAGES), "fer2013new.csv", HEADER)
    damage(tmp_path)
    with pytest.raises(DataError, match=message) as caught:
        load_data("ferplus", data_dir=tmp_path)
    assert "\n" not in str(caught.value)


def test_votes_need_the_order_of_the_whole_file(tmp_path: Path) -> None:
    parts(tmp_path)
    with pytest.raises(DataError, match=r"ferplus needs fer2013.csv or icml_face_data.csv"):
        load_data("ferplus", data_dir=tmp_path)

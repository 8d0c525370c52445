"""FER+: votes for the faces of FER2013."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from command import slimnet_cli
from slimnet.commands import evaluate_any, export_run, prune_and_finetune, prune_checkpoint
from slimnet.commands.provenance import about_data
from slimnet.data import FERPLUS_CLASSES, ferplus_targets, load_data
from slimnet.data.sets.fer2013 import half_voted
from slimnet.errors import DataError
from slimnet.methods import Dense
from slimnet.training import Run, TrainConfig, train
from slimnet.training.data import load_config_data
from slimnet.training.unused import unused_settings
from test_fer2013 import USAGES, faces, parts, pixels, rows, text, whole, write

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


SAME = (["anger"], ["disgust"], ["fear"], ["happiness"], ["sadness"], ["surprise"], ["neutral"])
"""FER+'s words for FER2013's classes, in their order."""


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


def test_votes_are_half_of_the_soft_labels(tmp_path: Path) -> None:
    whole(tmp_path)
    write(tmp_path, vote_lines(USAGES), "fer2013new.csv", HEADER)
    found = load_data("fer2013", data_dir=tmp_path, data_options={"ferplus_votes": True})
    plain = load_data("fer2013", data_dir=tmp_path)
    assert found.classes == plain.classes
    assert torch.equal(found.train.labels, plain.train.labels)
    assert found.train.soft is not None
    assert plain.train.soft is None
    seen = [6, 3, 5, 4, 0, 1, 2]  # neutral, happiness, surprise, sadness, anger, disgust, fear among FER2013's classes
    wanted = torch.zeros(14, 7)
    for i, label in enumerate(plain.train.labels.tolist()):
        voted = None if i == 0 or i % 8 == 7 else seen[i % 8]  # row 0 is no face, row 7 contempt: the label alone
        wanted[i, label] += 0.5
        wanted[i, label if voted is None else voted] += 0.5
    assert torch.equal(found.train.soft, wanted)


def test_shares_of_votes_without_single_ones() -> None:
    votes = torch.tensor([[4, 0, 0, 2, 3, 1, 0, 0, 0, 0], [0, 2, 0, 0, 0, 0, 0, 6, 2, 0]])
    soft = half_voted(torch.tensor([6, 0]), votes)
    assert soft[0].tolist() == pytest.approx([3 / 18, 0, 0, 0, 2 / 18, 0, 0.5 + 4 / 18])
    assert soft[1].tolist() == pytest.approx([0.5, 0, 0, 0.5, 0, 0, 0])  # contempt and unknown are no classes


def test_ferplus_without_contempt(tmp_path: Path) -> None:
    whole(tmp_path)
    lines = vote_lines(USAGES)
    lines[1] = "Training,fer0000001.png,0,5,0,0,0,0,0,4,0,0"  # happiness by a majority, some contempt
    lines[2] = "Training,fer0000002.png,4,0,0,0,0,0,0,5,0,0"  # contempt by a majority: not neutral without it
    write(tmp_path, lines, "fer2013new.csv", HEADER)
    found = load_data("ferplus", data_dir=tmp_path, data_options={"without_contempt": True})
    assert found.classes == FERPLUS_CLASSES[:7]
    assert found.train.labels.tolist() == [1, 3, 4, 5, 6, *range(6)]  # of rows 1, 3 to 6, 8 to 13
    assert found.train.soft is not None
    assert torch.equal(found.train.soft, torch.eye(7)[found.train.labels])


def test_a_network_for_fer2013_is_evaluated_by_votes(tmp_path: Path) -> None:
    csv, said = tmp_path / "csv", list[str]()
    csv.mkdir()
    whole(csv)
    write(csv, vote_lines(USAGES), "fer2013new.csv", HEADER)
    settings = {"data": "fer2013", "data_dir": str(csv), "data_options": {"ferplus_votes": True}, "soft_labels": True}
    train(model="vgg9_face", out=tmp_path / "run", epochs=1, batch_size=7, method=Dense(), **settings)
    with pytest.raises(DataError, match=r"was trained for classes angry.*; ferplus has neutral"):
        evaluate_any(tmp_path / "run", data="ferplus", data_dir=str(csv))
    options = {"without_contempt": True}
    found, classes = evaluate_any(tmp_path / "run", data="ferplus", data_dir=str(csv), data_options=options, say=said.append)
    assert classes == ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")
    voted = [i % 8 for i in range(21, 28) if i % 8 < 7]
    by_class = [sum(FERPLUS_CLASSES[v] in words for v in voted) for words in SAME]
    assert [sum(row) for row in found.confusion] == by_class
    assert "in another order" in said[0]
    (csv / "fer2013new.csv").unlink()  # judging needs no votes, nor does export
    assert evaluate_any(tmp_path / "run")[0].count == 7
    bundle = export_run(tmp_path / "run", tmp_path / "bundle")
    assert evaluate_any(bundle.path, data_dir=str(csv))[0].count == 7
    assert str(about_data(Run.open(tmp_path / "run"))["terms"]).endswith("; votes: MIT (Barsoum et al., ICMI 2016)")


def test_finetuning_goes_on_with_the_data_as_the_run_had_them(tmp_path: Path) -> None:
    csv = tmp_path / "csv"
    csv.mkdir()
    lines = rows()
    write(csv, [*lines[:5], lines[5].replace(",", ",x", 1), *lines[6:]])
    write(csv, vote_lines(USAGES), "fer2013new.csv", HEADER)
    settings = {"data": "fer2013", "data_dir": str(csv), "data_options": {"ferplus_votes": True, "skip_bad_rows": True}}
    train(model="vgg9_face", out=tmp_path / "run", epochs=1, batch_size=7, method=Dense(), soft_labels=True, seed=3, **settings)
    how = {"data": "fer2013", "data_dir": str(csv), "epochs": 1, "batch_size": 7, "progress": False}
    run = prune_and_finetune(tmp_path / "run", tmp_path / "cut", rate=0.3, criterion="cs", **how)
    assert (run.config.data_options, run.config.soft_labels, run.config.seed) == (settings["data_options"], True, 3)
    options = {"ferplus_votes": False}
    other = prune_and_finetune(tmp_path / "run", tmp_path / "alone", rate=0.3, soft_labels=False, data_options=options, **how)
    assert other.config.data_options == {"ferplus_votes": False, "skip_bad_rows": True}
    assert prune_checkpoint(tmp_path / "run", tmp_path / "closed", rate=0.3, criterion="cs", data="fer2013", data_dir=str(csv))
    with pytest.raises(DataError, match="--skip-bad-rows leaves such rows out"):
        prune_checkpoint(
            tmp_path / "run",
            tmp_path / "other",
            rate=0.3,
            criterion="cs",
            data="fer2013",
            data_dir=str(csv),
            data_options={"skip_bad_rows": False},
        )


def test_votes_of_other_faces_are_refused(tmp_path: Path) -> None:
    """Usage alone cannot tell: rows in another order inside their split."""
    usages = ["Training"] * 126 + ["PublicTest"] * 7 + ["PrivateTest"] * 7
    order = [4, 5, 6, 3, 1, 2, 0]  # of FER+'s votes, the class of row i
    votes = [f"{usage},x,{','.join('10' if c == order[i % 7] else '0' for c in range(10))}" for i, usage in enumerate(usages)]
    write(tmp_path, [f"{i % 7},{text(image)},{usage}" for i, (image, usage) in enumerate(zip(faces(140), usages, strict=True))])
    write(tmp_path, votes, "fer2013new.csv", HEADER)
    seven = {"without_contempt": True}
    assert len(load_data("ferplus", data_dir=tmp_path, data_options=seven).train) == 126
    write(tmp_path, [votes[125], *votes[:125], *votes[126:]], "fer2013new.csv", HEADER)
    for name, options in (("ferplus", seven), ("fer2013", {"ferplus_votes": True})):
        with pytest.raises(DataError, match=r"do not have the same order: labels and votes agree on \d+% of the faces"):
            load_data(name, data_dir=tmp_path, data_options=options)


def test_votes_need_the_column_usage(tmp_path: Path) -> None:
    write(tmp_path, [line.rpartition(",")[0] for line in rows()], header="emotion,pixels")
    write(tmp_path, vote_lines(USAGES), "fer2013new.csv", HEADER)
    with pytest.raises(DataError, match=r"fer2013\.csv has no column Usage, by which FER\+'s votes are compared"):
        load_data("ferplus", data_dir=tmp_path)


def test_votes_without_soft_labels_are_said_to_do_nothing(tmp_path: Path) -> None:
    whole(tmp_path)
    write(tmp_path, vote_lines(USAGES), "fer2013new.csv", HEADER)
    config = TrainConfig(model="vgg9_face", data="fer2013", data_dir=str(tmp_path), data_options={"ferplus_votes": True})
    told = list(unused_settings(config, load_config_data(config)))
    assert any(line.startswith("`ferplus_votes` does nothing here") for line in told)
    assert not list(unused_settings(replace(config, soft_labels=True), load_config_data(config)))


def test_the_command_takes_votes(tmp_path: Path) -> None:
    whole(tmp_path)
    write(tmp_path, vote_lines(USAGES), "fer2013new.csv", HEADER)
    run, data = tmp_path / "run", ("--data-dir", str(tmp_path))
    asked = ("train", "--model", "vgg9_face", "--data", "fer2013", *data, "--soft-labels", "--batch-size", "7", "--out", run)
    said = slimnet_cli(*asked)
    assert said.status == 1
    assert "fer2013 has labels alone (--ferplus-votes adds FER+'s votes)." in said.err
    done = slimnet_cli(*asked, "--ferplus-votes", *"--epochs 1 --method dense --quiet".split())
    assert done.status == 0, done.err
    by_votes = ("evaluate", run, "--data", "ferplus", *data)
    assert slimnet_cli(*by_votes, "--without-contempt", "--json").json["count"] == 6
    said = slimnet_cli(*by_votes)
    assert (said.status, said.err.strip().endswith("contempt: --without-contempt (`data_options`) leaves contempt out")) == (
        1,
        True,
    )
    said = slimnet_cli("evaluate", run, "--without-contempt", *data)
    assert "fer2013 has no option 'without_contempt' (it is for ferplus)" in said.err
    assert said.status == 1


def test_votes_need_rows(tmp_path: Path) -> None:
    parts(tmp_path)
    with pytest.raises(DataError, match=r"fer2013 needs fer2013.csv or icml_face_data.csv in .*: its votes"):
        load_data("fer2013", data_dir=tmp_path, data_options={"ferplus_votes": True})


def test_votes_need_the_order_of_the_whole_file(tmp_path: Path) -> None:
    parts(tmp_path)
    with pytest.raises(DataError, match=r"ferplus needs fer2013.csv or icml_face_data.csv"):
        load_data("ferplus", data_dir=tmp_path)

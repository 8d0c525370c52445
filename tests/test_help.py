"""``--help`` of the commands with many options: each stands under a heading."""

from __future__ import annotations

import re

import pytest

from command import slimnet_cli

HEADINGS = {
    "train": ["Run", "Network", "Method", "Target", "Data", "Training", "What is printed", "Options"],
    "export": ["Bundle", "Graph", "Precision", "Options"],
    "predict": ["What to look at", "Network", "Results", "Options"],
}
LEFT = {
    "train": {"--help"},
    "export": {"--time-limit", "--trust-code", "--json", "--help"},
    "predict": {"--help"},
}


def sections(name: str) -> dict[str, list[str]]:
    """Heading → the flags below it, in order."""
    lines = slimnet_cli(name, "--help").out.splitlines()
    found: dict[str, list[str]] = {}
    for line in lines:
        if head := re.fullmatch(r"(\w[\w -]*):", line):
            found[head[1]] = []
        elif (flag := re.match(r"  (?:-h, )?(--[\w-]+)", line)) and found:
            found[list(found)[-1]].append(flag[1])
    return found


@pytest.mark.parametrize("name", HEADINGS)
def test_options_stand_under_headings(name: str) -> None:
    found = sections(name)
    assert list(found) == HEADINGS[name]
    assert set(found["Options"]) == LEFT[name]
    flags = [flag for below in found.values() for flag in below]
    assert len(flags) == len(set(flags)) and all(found.values())


def test_options_that_are_made_later_stand_with_the_others() -> None:
    found = sections("train")
    assert {"--model", "--init", "--model-arg", "--weights-key"} == set(found["Network"])
    assert {"--data", "--val-fraction", "--drop-leaked"} <= set(found["Data"])
    assert {"--method", "--rate-gm"} <= set(found["Method"]) and found["Method"][0] == "--method"
    assert {"--lr", "--distill-weight"} <= set(found["Training"])


def test_other_commands_have_one_list() -> None:
    assert list(sections("slim")) == ["Options"] and "CHECKPOINT" not in slimnet_cli("slim", "--help").out.split("Options:")[1]


def test_prune_keeps_what_fine_tunes_apart() -> None:
    found = sections("prune")
    tuning = next(flags for title, flags in found.items() if title.startswith("Fine-tuning"))
    assert {"--finetune", "--teacher", "--lr", "--val-fraction"} <= set(tuning)
    assert {"--rate", "--target-speedup"} <= set(found["What is closed"])


def test_prune_tells_the_defaults_of_fine_tuning() -> None:
    words = {name: " ".join(slimnet_cli(name, "--help").out.split()) for name in ("prune", "train")}
    for flag, tuning, training in (
        ("lr FLOAT", "0.05", "0.1"),
        ("schedule step", "cosine", "step"),
        ("distill-weight", "0.9", "0.5"),
    ):
        for name, wanted in (("prune", tuning), ("train", training)):
            (found,) = re.findall(rf"--{flag}.*?\[default: (\S+)\]", words[name])
            assert found == wanted

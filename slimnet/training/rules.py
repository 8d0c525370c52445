"""What each setting of a run may be."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any

from slimnet.allocation.budget import Budget
from slimnet.data import Augment
from slimnet.data.normalise import WANTED, is_normalisation
from slimnet.methods import Method

OPTIMIZERS = ("sgd", "adamw")
SCHEDULES = ("step", "cosine", "constant")
PRECISIONS = ("auto", "fp32", "bf16")
ALLOCATE_BY = ("auto", "energy", "loss")
CUTS = ("settled", "never")
FLAGS = ("download", "soft_labels", "decay_norm", "compile", "sync_bn", "reestimate_norm", "shut_branches")

LARGEST = 1e300


def _whole(least: int, most: int = 10**40) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, int) and not isinstance(value, bool) and least <= value <= most


def _number(is_right: Callable[[float], bool]) -> Callable[[Any], bool]:
    return lambda value: _is_number(value) and is_right(value)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= LARGEST  # False for NaN


def _rising(value: Any) -> bool:
    if value is None:
        return True
    return isinstance(value, list | tuple) and all(map(_whole(1), value)) and sorted(set(value)) == list(value)


def _flag(value: Any) -> bool:
    return isinstance(value, bool)


def _text(value: Any) -> bool:
    return isinstance(value, str) and bool(value)


def _switches(value: Any) -> bool:
    return isinstance(value, Mapping) and all(_text(key) and isinstance(on, bool) for key, on in value.items())


def _changes(value: Any) -> bool:
    known = [item.name for item in fields(Augment)]
    return isinstance(value, Mapping) and all(
        key in known and (isinstance(to, bool) or _is_number(to)) for key, to in value.items()
    )


def _aim(value: Any) -> bool:
    known = [item.name for item in fields(Budget)]
    return isinstance(value, Mapping) and all(key in known and _is_number(to) for key, to in value.items())


def _patterns(value: Any) -> bool:
    return isinstance(value, list | tuple) and all(map(_text, value))


def _path(value: Any) -> bool:
    return value is None or (_text(value) and "\0" not in value)


Rule = tuple[Callable[[Any], bool], str]
RULES: dict[str, Rule] = {
    "model": (_text, "a name"),
    "data": (_text, "a name"),
    "device": (_text, "a name"),
    "data_dir": (_path, "a path"),
    "init": (_path, "a path"),
    "teacher": (_path, "a path"),
    "method": (lambda value: isinstance(value, Method), "a pruning method such as FSDP() or Dense()"),
    "target": (_aim, "one of speedup, ms, flops, params, with a number"),
    "target_threads": (_whole(1), "a whole number of at least 1"),
    "target_batch": (_whole(1), "a whole number of at least 1"),
    "epochs": (_whole(1), "a whole number of at least 1"),
    "batch_size": (_whole(1), "a whole number of at least 1"),
    "lr": (_number(lambda value: value > 0), "a positive number"),
    "momentum": (_number(lambda value: 0 < value < 1), "in (0, 1)"),
    "weight_decay": (_number(lambda value: value >= 0), "0 or a positive number"),
    "milestones": (_rising, "rising whole numbers of at least 1"),
    "gamma": (_number(lambda value: 0 < value <= 1), "in (0, 1]"),
    "warmup_epochs": (_whole(0), "a whole number of at least 0"),
    "label_smoothing": (_number(lambda value: 0 <= value < 1), "in [0, 1)"),
    "class_weights": (_number(lambda value: 0 <= value <= 1), "in [0, 1]"),
    "mixup": (_number(lambda value: value >= 0), "0 or a positive number"),
    "cutmix": (_number(lambda value: value >= 0), "0 or a positive number"),
    "distill_weight": (_number(lambda value: 0 <= value <= 1), "in [0, 1]"),
    "distill_temperature": (_number(lambda value: value > 0), "a positive number"),
    "ema": (_number(lambda value: 0 <= value < 1), "in [0, 1)"),
    "augment": (_changes, f"changes of {', '.join(item.name for item in fields(Augment))}, each with a number"),
    "seed": (_whole(0, 2**63 - 1), "a whole number from 0 to 2^63 − 1"),
    "val_fraction": (_number(lambda value: 0 < value < 1), "in (0, 1)"),
    "train_fraction": (_number(lambda value: 0 < value <= 1), "in (0, 1]"),
    "freeze": (_patterns, "names of layers, or patterns of names"),
    "dropout": (lambda value: value is None or _number(lambda share: 0 <= share < 1)(value), "in [0, 1)"),
    "normalise": (is_normalisation, WANTED),
    "image_size": (lambda value: value is None or _whole(1)(value), "a whole number of at least 1"),
    "data_options": (_switches, "names of options, each true or false"),
    "num_workers": (lambda value: value is None or _whole(0)(value), "a whole number of at least 0"),
    **dict.fromkeys(FLAGS, (_flag, "true or false")),
    "channels_last": (
        lambda value: isinstance(value, bool) or (isinstance(value, str) and value == "auto"),
        "true, false or 'auto'",
    ),
}
CHOICES = {
    "optimizer": OPTIMIZERS,
    "schedule": SCHEDULES,
    "precision": PRECISIONS,
    "cut": CUTS,
    "allocate_by": ALLOCATE_BY,
}
MOST = {
    "epochs": 1_000_000,
    "warmup_epochs": 1_000_000,
    "batch_size": 1 << 31,
    "image_size": 8_192,
    "num_workers": 1_024,
    "target_threads": 4_096,
    "target_batch": 65_536,
}
"""What a number may be at most: more is a slip, and would be memory or time without end."""

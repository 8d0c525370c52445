"""What can be set of a training run; `slimnet.training.TrainConfig` adds what needs the methods themselves."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal

from slimnet.errors import ArgumentError, did_you_mean
from slimnet.fields import (
    REQUIRED,
    Rule,
    above,
    as_lists,
    check,
    describe,
    documented,
    flag,
    is_number,
    is_plain,
    is_rising,
    is_text,
    is_whole,
    mapping,
    not_negative,
    one_of,
    optional,
    path,
    setting,
    text,
    texts,
    whole,
    within,
)
from slimnet.names import ALLOCATE_BY, DATA, LOGGERS, METHOD, METHODS, VIEWS, Views
from slimnet.settings.augment import AUGMENTATIONS
from slimnet.settings.budget import BUDGETS


def mean_and_std(value: Any) -> tuple[float, float] | None:
    """``"0,0.1"`` → (0.0, 0.1); None for what is not like that, or has a deviation that is not above 0."""
    try:
        mean, std = map(float, value.split(","))
    except (AttributeError, TypeError, ValueError):
        return None
    return (mean, std) if math.isfinite(mean) and 0 < std < math.inf else None


NORMALISATION = Rule(
    "'dataset', 'imagenet', or 'MEAN,STD' with STD above 0",
    lambda value: value in (None, "dataset", "imagenet") or mean_and_std(value) is not None,
    shape="dataset|imagenet|MEAN,STD",
)
MOST_EPOCHS = MOST_FACTOR = 1_000_000
SEED = Rule("a whole number from 0 to 2^63 − 1", lambda value: is_whole(value) and 0 <= value < 2**63, kind=int)
MILESTONES = Rule(
    "rising whole numbers of at least 1", lambda value: value is None or (isinstance(value, list | tuple) and is_rising(value))
)
AUTO_OR_FLAG = Rule("true, false or 'auto'", lambda value: isinstance(value, bool) or (is_text(value) and value == "auto"))
A_METHOD = Rule("a pruning method such as FSDP() or Dense()", lambda value: True, shape="NAME")  # methods need torch
AIM = mapping(f"one of {', '.join(BUDGETS)}, with a number", lambda name, value: name in BUDGETS and is_number(value))
AUGMENT = mapping(
    f"changes of {', '.join(AUGMENTATIONS)}, each with a number",
    lambda name, value: name in AUGMENTATIONS and (isinstance(value, bool) or is_number(value)),
)
LOGS = Rule(
    f"names of loggers, of {', '.join(LOGGERS)}",
    lambda value: isinstance(value, list | tuple) and all(name in LOGGERS for name in value),
    shape=f"{','.join(LOGGERS)}",
)
ARGUMENTS = mapping("names of arguments, each with a plain value", lambda name, value: is_text(name) and is_plain(value))
SWITCHES = mapping("names of options, each true or false", lambda name, value: is_text(name) and isinstance(value, bool))


@documented
@dataclass(frozen=True, kw_only=True)
class TrainSettings:
    """The settings of one training run, but that the method is anything (see `slimnet.training.TrainConfig`)."""

    model: str = setting(
        REQUIRED,
        text(),
        "Name of a network, timm:NAME, torchvision:NAME, hf-hub:NAME, package.module:function or FILE.py:function.",
        group="network",
    )
    data: str = setting("digits", text(), f"Name of a data set: {', '.join(DATA)}; digits are embedded.", group="data")
    data_dir: str | None = setting(None, path("DIR"), "Where the data set lies.", group="data")
    download: bool = setting(False, flag(), "Download the data set if it is missing.", group="data")
    method: object = setting(
        None,
        A_METHOD,
        f"What is pruned, and how: {', '.join(METHODS)}. Where none is named, the command line takes {METHOD}, and Python dense.",
        group="method",
    )
    target: Mapping[str, float] = setting(
        dict,
        AIM,
        "What the network is to cost once it is cut; widths are then chosen group by group, in place of the method's rate.",
    )
    target_threads: int = setting(1, whole(1, 4_096), "Threads of the session that the target is for.", group="target")
    target_batch: int = setting(1, whole(1, 65_536), "Images a run that the target is for.", group="target")
    shut_branches: bool = setting(False, flag(), "For a target: let residual branches go as a whole.", group="target")
    allocate_by: str = setting(
        "auto",
        one_of(*ALLOCATE_BY),
        "For a target: by the loss, how far the answers of the initial network move on training images when a group is narrowed; "
        "or by energy, the norms of its filters. auto: the loss where there are initial weights or data.",
        group="target",
    )
    epochs: int = setting(30, whole(1, MOST_EPOCHS), "Passes over the training split.", group="training")
    pruning_epochs: int | None = setting(
        None,
        optional(whole(1, MOST_EPOCHS)),
        "Epochs that the method is laid out for, where the run is longer: what comes after them is fine-tuning. Without it all.",
    )
    batch_size: int = setting(128, whole(1, 1 << 31), "Images a step, over all processes together.", group="training")
    optimizer: str = setting("sgd", one_of("sgd", "adamw"), "SGD is with Nesterov momentum.", group="training")
    lr: float = setting(0.1, above(0, MOST_FACTOR), "Learning rate after warm-up.", group="training")
    momentum: float = setting(0.9, within("(0, 1)"), "Momentum of SGD.", group="training")
    weight_decay: float = setting(
        5e-4, not_negative(MOST_FACTOR), "L2 penalty (SGD), or decoupled decay (AdamW).", group="training"
    )
    decay_norm: bool = setting(True, flag(), "Whether norms and biases decay too, as in the published recipe.")
    schedule: str = setting("step", one_of("step", "cosine", "constant"), "Of the learning rate.", group="training")
    milestones: tuple[int, ...] | None = setting(
        None, MILESTONES, "Epochs at which step multiplies the rate by gamma; null: 30, 60 and 80 % of the epochs, as published."
    )
    gamma: float = setting(0.2, within("(0, 1]"), "Factor of step.")
    warmup_epochs: int = setting(
        1, whole(0, MOST_EPOCHS), "Epochs over which the rate rises linearly from a tenth of itself.", group="training"
    )
    label_smoothing: float = setting(0.0, within("[0, 1)"), "Share of the target spread over all classes.", group="training")
    class_weights: float = setting(
        0.0,
        within("[0, 1]"),
        "Power p of the weights N_c^−p of classes in the loss: 1 makes classes count alike, 0 images.",
        group="training",
        shape="POWER",
    )
    soft_labels: bool = setting(
        False, flag(), "Learn the shares of people's votes (ferplus; fer2013 with --ferplus-votes).", group="training"
    )
    mixup: float = setting(
        0.0,
        not_negative(MOST_FACTOR),
        "Mix images in pairs, by a Beta distribution of this α; 0 for none.",
        group="training",
        shape="ALPHA",
    )
    cutmix: float = setting(
        0.0,
        not_negative(MOST_FACTOR),
        "Paste rectangles of one image into another; with mixup, a batch draws one.",
        group="training",
        shape="ALPHA",
    )
    teacher: str | None = setting(
        None, path("RUN_OR_WEIGHTS"), "Learn from a run, or from weights of this very network.", group="training"
    )
    teacher_views: Views = setting(
        "one",
        one_of(*VIEWS),
        "Views of an image whose answers are averaged as the teacher's; each costs its time.",
        group="training",
    )
    distill_weight: float = setting(0.5, within("[0, 1]"), "Share α of the teacher in the loss.", group="training")
    distill_temperature: float = setting(4.0, above(0, MOST_FACTOR), "T, by which logits are divided.", group="training")
    ema: float = setting(
        0.0,
        within("[0, 1)"),
        "Keep the running average of the weights, with this decay, e.g. 0.999; 0 for none.",
        group="training",
        shape="DECAY",
    )
    precision: str = setting(
        "auto",
        one_of("auto", "fp32", "bf16"),
        "auto takes what was measured to be faster on this machine (CPU), or bf16 (GPU).",
        group="training",
    )
    channels_last: bool | Literal["auto"] = setting("auto", AUTO_OR_FLAG, "Memory format; auto goes with the precision.")
    compile: bool = setting(False, flag(), "Use torch.compile; it pays in long runs.", group="training")
    seed: int = setting(0, SEED, "Of weights, order, augmentation and dropout.", group="training")
    val_fraction: float = setting(0.1, within("(0, 1)"), "Share of the training data held out for selection.", group="data")
    train_fraction: float = setting(
        1.0, within("(0, 1]"), "Share of the rest that is trained on, of each class, for quick trials.", group="data"
    )
    init: str | None = setting(
        None,
        path("FILE"),
        "Initial weights: a checkpoint of any kind, or a folder with one, e.g. a run; or a slim network, of slimnet slim or "
        "a bundle.",
        group="network",
    )
    weights_key: str | None = setting(
        None,
        optional(text("the key of a state dict", "KEY")),
        "Which of several state dicts of the initial weights, e.g. state_dict_ema; without it the plain weights.",
        group="network",
    )
    freeze: tuple[str, ...] = setting(
        tuple,
        texts("names of layers, or patterns of names", "LAYER"),
        "Layers that are not trained, by name or pattern; their norms keep their statistics. Repeatable.",
        group="training",
    )
    dropout: float | None = setting(
        None, optional(within("[0, 1)")), "Share that dropout layers leave out; without it the network's own.", group="training"
    )
    image_size: int | None = setting(None, optional(whole(1, 8_192)), "Side to which images are resized.", group="data")
    normalise: str | None = setting(
        None, NORMALISATION, "Mean and deviation taken off the images; without it what is customary for the data.", group="data"
    )
    data_options: Mapping[str, bool] = setting(dict, SWITCHES, "Options of the data set's own.")
    augment: Mapping[str, float] = setting(
        dict, AUGMENT, f"Change the augmentation: {', '.join(AUGMENTATIONS)}. Repeatable.", group="data"
    )
    transform: str | None = setting(
        None, optional(text("a description", "TEXT")), "What `slimnet.train(transform=…)` was given: kept to be told apart."
    )
    cut: str = setting(
        "settled", one_of("settled", "never"), "Train the cut network on once the selection is final.", group="training"
    )
    device: str = setting("auto", text(shape="TEXT"), "auto, cpu, cuda …", group="training")
    num_workers: int | None = setting(
        None,
        optional(whole(0, 1_024)),
        "Loader processes for data that streams from disk; without it one a core, up to 8.",
        group="data",
    )
    sync_bn: bool = setting(True, flag(), "Whether batch statistics are shared between processes.")
    reestimate_norm: bool = setting(
        True, flag(), "Whether the norms' statistics of the final model are estimated afresh (methods that prune)."
    )
    model_args: Mapping[str, Any] = setting(dict, ARGUMENTS, "Further arguments for what builds the network (`--model-arg`).")

    log: tuple[str, ...] = setting(
        tuple, LOGS, "Also log settings, epochs and result there, in `logs/` of the run; see docs/logging.md.", group="training"
    )

    def __post_init__(self) -> None:
        if isinstance(self.log, str):  # as it is written on the command line
            object.__setattr__(self, "log", self.log.split(","))
        check(self)
        object.__setattr__(self, "log", tuple(dict.fromkeys(self.log)))
        for name in [row.name for row in describe(type(self)) if isinstance(getattr(self, row.name), os.PathLike)]:
            object.__setattr__(self, name, os.fspath(getattr(self, name)))
        object.__setattr__(self, "freeze", tuple(self.freeze))
        object.__setattr__(self, "model_args", as_lists(self.model_args))


def check_names(given: Iterable[str]) -> None:
    """Refuse names that are not settings.

    Raises:
        ArgumentError: naming the first unknown setting and the nearest known one.
    """
    known = [item.name for item in fields(TrainSettings)]
    for name in map(str, given):
        if name not in known:
            raise ArgumentError(f"unknown setting `{name}`{did_you_mean(name, known)}")

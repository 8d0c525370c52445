"""Everything that decides a training run, as one frozen value that is saved with the run."""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal

from slimnet.allocation.budget import Budget
from slimnet.errors import ArgumentError, FileFormatError
from slimnet.methods import Dense, Method
from slimnet.methods._values import shown
from slimnet.methods.base import CLOSES_NOTHING
from slimnet.training.rules import CHOICES, MOST, RULES

PATHS = ("data_dir", "init", "teacher")


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """The settings of one training run.

    Attributes:
        model: name of a model, or ``"package.module:function"``.
        data: name of a data set.
        data_dir: folder that holds the data set (None for an embedded one).
        download: whether a missing data set may be downloaded.
        method: what is pruned, and how; ``Dense()`` trains without pruning.
        target: what the network is to cost once it is cut, ``{"speedup": 3}``, ``{"ms": 2}``, ``{"flops": 0.4}`` or
            ``{"params": 0.3}``: widths are then chosen group by group, in place of the method's rate (see
            `slimnet.allocation`).
        target_threads: threads of the ONNX Runtime session that ``target`` is for.
        target_batch: images a run that ``target`` is for.
        shut_branches: for a target, let residual branches go as a whole.
        allocate_by: what the widths for a target are chosen by: ``"loss"``, how far the answers of the initial network move on
            training images when a group is narrowed; ``"energy"``, the norms of its filters; ``"auto"``, the loss where there are
            initial weights (``init``).
        epochs: passes over the training split.
        batch_size: images a step, over all processes together.
        optimizer: ``"sgd"`` (Nesterov) or ``"adamw"``.
        lr: learning rate after warm-up.
        momentum: momentum of SGD.
        weight_decay: L2 penalty (SGD) or decoupled decay (AdamW).
        decay_norm: whether norms and biases decay too, as in the published recipe.
        schedule: ``"step"``, ``"cosine"`` or ``"constant"``.
        milestones: epochs at which ``"step"`` multiplies the rate by ``gamma``; None: 30, 60 and 80 % of the
            epochs, as published.
        gamma: factor of ``"step"``.
        warmup_epochs: epochs over which the rate rises linearly from a tenth of itself.
        label_smoothing: share of the target spread over all classes, in [0, 1).
        class_weights: power p of the weights N_c^−p that classes have in the loss, in [0, 1]: 0 counts images alike, 1 classes.
        soft_labels: learn the shares of people's votes instead of the majority's label (data that has them, such as FER+).
        mixup: α of MixUp's Beta distribution; 0 for none. Where ``cutmix`` is set too, each batch draws one of the two.
        cutmix: α of CutMix's Beta distribution; 0 for none.
        teacher: a finished run, or a file of weights for this very network, whose logits are learnt from.
        distill_weight: share α of the teacher in the loss, in [0, 1].
        distill_temperature: T, by which logits are divided before the teacher and the student are compared.
        ema: decay of the running average of the weights, which is then validated and kept in their place, in [0, 1);
            0 for none.
        precision: ``"fp32"``, ``"bf16"`` (autocast), or ``"auto"``: what was measured to be faster on this machine (CPU), bf16
            (GPU). The run records what was chosen.
        channels_last: memory format; ``"auto"`` goes with the precision.
        compile: whether to use ``torch.compile``.
        seed: seed of weights, order, augmentation and dropout.
        val_fraction: share of the training data held out for selection, in (0, 1).
        train_fraction: share of the rest that is trained on, in (0, 1], the same of each class: for quick trials.
        init: file of initial weights.
        freeze: patterns of names of layers that are not trained, e.g. ``("conv_*",)``; their norms keep their statistics.
        dropout: share that every dropout layer of the network leaves out, in [0, 1); None: the network's own.
        image_size: side to which images are resized (None: as they are).
        normalise: ``"dataset"`` (its own mean and deviation), ``"imagenet"``, ``"MEAN,STD"``, two numbers for every channel
            where 255 is 1, or None: what is customary for the data.
        data_options: options of the data set's own, e.g. ``{"drop_leaked": True}`` (see `slimnet.data.load_data`).
        augment: changes to the data set's customary augmentation, e.g. ``{"erase": 0.25, "flip": False}`` (see
            `slimnet.data.Augment`).
        cut: ``"settled"``: as soon as the selection is final, closed channels are cut out and the smaller network is trained on,
            where that gives the same; ``"never"``: the masked network is trained to the end.
        device: ``"auto"``, ``"cpu"``, ``"cuda"`` ….
        num_workers: loader processes for data that streams from disk; None: one a core, up to 8.
        sync_bn: whether batch statistics are shared between processes.
        reestimate_norm: whether the final model's norm statistics are estimated afresh (methods that prune).
    """

    model: str
    data: str = "digits"
    data_dir: str | None = None
    download: bool = False
    method: Method = field(default_factory=Dense)
    target: Mapping[str, float] = field(default_factory=dict)
    target_threads: int = 1
    target_batch: int = 1
    shut_branches: bool = False
    allocate_by: str = "auto"
    epochs: int = 30
    batch_size: int = 128
    optimizer: str = "sgd"
    lr: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 5e-4
    decay_norm: bool = True
    schedule: str = "step"
    milestones: tuple[int, ...] | None = None
    gamma: float = 0.2
    warmup_epochs: int = 1
    label_smoothing: float = 0.0
    class_weights: float = 0.0
    soft_labels: bool = False
    mixup: float = 0.0
    cutmix: float = 0.0
    teacher: str | None = None
    distill_weight: float = 0.5
    distill_temperature: float = 4.0
    ema: float = 0.0
    precision: str = "auto"
    channels_last: bool | Literal["auto"] = "auto"
    compile: bool = False
    seed: int = 0
    val_fraction: float = 0.1
    train_fraction: float = 1.0
    init: str | None = None
    freeze: tuple[str, ...] = ()
    dropout: float | None = None
    image_size: int | None = None
    normalise: str | None = None
    data_options: Mapping[str, bool] = field(default_factory=dict)
    augment: Mapping[str, float] = field(default_factory=dict)
    cut: str = "settled"
    device: str = "auto"
    num_workers: int | None = None
    sync_bn: bool = True
    reestimate_norm: bool = True

    def __post_init__(self) -> None:
        for name in PATHS:
            if isinstance(getattr(self, name), os.PathLike):
                object.__setattr__(self, name, os.fspath(getattr(self, name)))
        for name, (is_right, wanted) in RULES.items():
            value = getattr(self, name)
            if not is_right(value):
                raise ArgumentError(f"`{name}` must be {wanted}, got {shown(value)}.")
        for name, most in MOST.items():
            if (getattr(self, name) or 0) > most:
                raise ArgumentError(f"`{name}` must be at most {most:,}, got {shown(getattr(self, name))}.")
        for name, known in CHOICES.items():
            check_choice(name, getattr(self, name), known)
        object.__setattr__(self, "freeze", tuple(self.freeze))
        if self.target:
            self._check_target()
        else:
            for name, given in (("shut_branches", self.shut_branches), ("allocate_by", self.allocate_by != "auto")):
                if given:
                    raise ArgumentError(f"`{name}` is for a target: give one, or leave it out.")
        self.method.check(epochs=self.epochs)
        if not self.target and not self.method.closes_anything:
            raise ArgumentError(CLOSES_NOTHING)

    def _check_target(self) -> None:
        Budget(**self.target)
        if not self.method.takes_widths:
            raise ArgumentError(
                f"`target` needs a soft filter method, such as fsdp; {self.method.name} finds its own widths or none."
            )
        if self.method.couple != "stream":
            raise ArgumentError("`target` needs coupled streams: `couple` is 'none' (which `faithful` sets too).")
        if self.shut_branches and not getattr(self.method, "mask_norm", True):
            raise ArgumentError("`shut_branches` needs norms that close with their filters: leave `mask_norm` on.")

    def as_dict(self) -> dict[str, Any]:
        """The settings as JSON values; the method as its own dictionary."""
        values = {item.name: getattr(self, item.name) for item in fields(self)}
        values["method"] = self.method.as_dict()
        for name in ("data_options", "augment", "target"):
            values[name] = dict(values[name])
        values["milestones"] = None if self.milestones is None else list(self.milestones)
        values["freeze"] = list(self.freeze)
        return values

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> TrainConfig:
        """Read back what :meth:`as_dict` gave.

        Raises:
            FileFormatError: for an unknown key, or a model that is missing.
            ArgumentError: for a value out of its range.
        """
        if not isinstance(values, Mapping):
            raise FileFormatError(f"the settings must be an object, got {type(values).__name__}.")
        try:
            check_names(values)
        except ArgumentError as error:
            raise FileFormatError(str(error)) from None
        if "model" not in values:
            raise FileFormatError("the settings name no `model`.")
        read = dict(values)
        if "method" in read:
            read["method"] = Method.from_dict(read["method"])
        if isinstance(read.get("milestones"), list):
            read["milestones"] = tuple(read["milestones"])
        return cls(**read)


def check_names(names: Iterable[str]) -> None:
    """Refuse names that are not settings.

    Raises:
        ArgumentError: naming the first unknown setting and the nearest known one.
    """
    known = [item.name for item in fields(TrainConfig)]
    for name in map(str, names):
        if name not in known:
            raise ArgumentError(f"unknown setting `{name}`{_nearest(name, known)}.")


def check_choice(name: str, value: Any, known: Iterable[Any]) -> None:
    """Refuse a value that is not one of the known ones.

    Raises:
        ArgumentError: naming the argument, the value, and the known values.
    """
    if not any(type(value) is type(each) and value == each for each in known):
        raise ArgumentError(f"`{name}` must be one of {', '.join(map(str, known))}, got {shown(value)}.")


def _nearest(name: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f": did you mean `{close[0]}`?" if close else f"; known: {', '.join(known)}"

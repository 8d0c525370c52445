"""A trained checkpoint in, a run out that has trained the cut network: pruned at once, cut, fine-tuned."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from slimnet.commands.calibration import calibrate
from slimnet.commands.opening import (
    open_checkpoint,
    recorded_network,
    recorded_pictures,
    recorded_splits,
    with_members,
    with_options,
)
from slimnet.commands.prune import check_choice, unused_choices
from slimnet.commands.rate import rate_for
from slimnet.criteria import get_criterion
from slimnet.errors import ArgumentError
from slimnet.files import check_output
from slimnet.known import is_onnx
from slimnet.methods import OneShot
from slimnet.methods.channels import to_bits
from slimnet.methods.closing import prune
from slimnet.models import Trust, weights_file
from slimnet.names import AllocateBy, Couple, Ranking
from slimnet.progress import NOBODY, Listener, Say, listener, listening, say_from
from slimnet.settings import ADAMW_LR, FINETUNING, LEAST_TO_WARM_UP, does_nothing
from slimnet.training import Run, TrainConfig, train
from slimnet.training.data import load_config_data
from slimnet.training.known import with_known_size

if TYPE_CHECKING:
    from torch import Tensor

_say = say_from(__name__)

DENSE = "dense"


def prune_and_finetune(
    checkpoint: Path | str,
    out: Path | str,
    *,
    epochs: int,
    model: str | None = None,
    data: str | None = None,
    criterion: str = "l2",
    rate: float | None = None,
    flops: float | None = None,
    target: Mapping[str, float] | None = None,
    threads: int = 1,
    batch: int = 1,
    shut_branches: bool = False,
    allocate_by: AllocateBy = "auto",
    ranking: Ranking = "group",
    couple: Couple = "stream",
    mask_norm: bool = True,
    ignore: Sequence[str] = (),
    teacher: str | None = DENSE,
    num_classes: int | None = None,
    in_channels: int | None = None,
    model_args: Mapping[str, Any] | None = None,
    weights_key: str | None = None,
    trust_code: Trust = False,
    force: bool = False,
    progress: Listener | bool | None = None,
    say: Say = _say,
    **settings: Any,
) -> Run:
    """Close filters of a trained network, cut them out, and train the network that is left: it leaves a run.

    Args:
        checkpoint: the weights of the dense network.
        out: directory of the run.
        epochs: of fine-tuning.
        model: name of the network; None: as the run says that the checkpoint is.
        data: name of the data set to fine-tune on.
        criterion, rate, flops, target, threads, batch, shut_branches, allocate_by, ranking, couple, mask_norm, ignore: of
            :func:`slimnet.commands.prune_checkpoint`. Where not all that is closed can be cut (``couple="none"``, norms
            that stay open), training goes on behind the mask.
        teacher: ``"dense"``: the checkpoint; a run, or another file of weights; None for none.
        num_classes, in_channels: None: as in the file.
        model_args, weights_key, trust_code: see :func:`slimnet.commands.opening.open_checkpoint`.
        force: overwrite a run in ``out``.
        progress: who is shown how far it is, see :func:`slimnet.train`.
        say: told what was closed.
        **settings: of training (see `slimnet.training.TrainConfig`). ``lr`` is 0.05 (1e-3 with adamw), ``schedule`` cosine,
            ``distill_weight`` 0.9, with an epoch of warm-up in runs of 5 epochs or more, unless given; ``image_size`` and
            ``normalise`` are those of the run that the checkpoint is. So are, on the same data, ``data_options`` (which are
            changed one by one), ``val_fraction``, ``seed`` and ``soft_labels``: they say what is in which split.

    Returns:
        The finished run.

    Raises:
        ArgumentError: if a value is out of its range, or there are no data.
        SlimnetError: as :func:`slimnet.train`.
    """
    choice: dict[str, Any] = {
        "criterion": criterion,
        "ranking": ranking,
        "couple": couple,
        "mask_norm": mask_norm,
        "ignore": tuple(ignore),
    }
    check_choice(rate, flops, target, data=data, allocate_by=allocate_by, shut_branches=shut_branches, **choice)
    if is_onnx(checkpoint):
        raise ArgumentError(f"{checkpoint} is an ONNX file, which is not trained: leave --finetune (`prune_and_finetune`) out.")
    if data is None:
        raise ArgumentError("fine-tuning needs data: name a data set with --data.")
    if model is None:
        model, own_args = recorded_network(checkpoint, trust_code)
        model_args = model_args or own_args
    file = str(weights_file(Path(checkpoint)))
    given: dict[str, Any] = {"init": file, "teacher": file if teacher == DENSE else teacher, "weights_key": weights_key}
    given |= {
        "model": model,
        "model_args": dict(model_args or {}),
        "data": data,
        "epochs": epochs,
        **recorded_pictures(checkpoint),
        **with_options(recorded_splits(checkpoint, data, settings.get("data_dir")), settings.pop("data_options", None)),
        **_defaults(epochs, settings, teaches=teacher is not None),
        **settings,
    }
    with listening(_told(progress)):
        for line in _other_splits(checkpoint, given):
            say(line)
    how: dict[str, Any] = {"score": criterion, "couple": couple, "mask_norm": mask_norm, "ignore": tuple(ignore)}
    if target is not None:
        if get_criterion(criterion).source == "gradients":
            raise ArgumentError(f"a target with fine-tuning takes no criterion {criterion!r}: take a rate, or another criterion.")
        aim = {"target": dict(target), "target_threads": threads, "target_batch": batch, "shut_branches": shut_branches}
        given |= {**aim, "allocate_by": allocate_by, "method": OneShot(**how)}
        with listening(_told(progress)):
            for name, value in (("num_classes", num_classes), ("in_channels", in_channels)):
                if value is not None:
                    say(does_nothing(name, "the network is built for the data that it is fine-tuned on"))
        return train(out=out, force=force, progress=progress, trust_code=trust_code is True, **given)
    config = TrainConfig(**given)
    check_output(Path(out), force=force)
    with listening(_told(progress)):
        for line in unused_choices(False, {"threads": threads, "batch": batch}, data, None, needs_data=True):
            say(line)
        network = {"model": model, "num_classes": num_classes, "in_channels": in_channels, "model_args": model_args}
        network |= {"weights_key": weights_key, "trust_code": trust_code}
        config = with_known_size(config, say)
        given["image_size"] = config.image_size
        closed = _closed(checkpoint, config, rate, flops, choice, network, say)
    method = OneShot(
        **how,
        widths=tuple((name, int((~gone).sum())) for name, gone in closed.items()),
        closed=tuple((name, to_bits(gone)) for name, gone in closed.items()),
    )
    return train(out=out, force=force, progress=progress, trust_code=trust_code is True, **given, method=method)


def _other_splits(checkpoint: Path | str, given: Mapping[str, Any]) -> Iterator[str]:
    """A line for what makes pictures that the run was trained on judge it now, or the reverse."""
    known = recorded_splits(checkpoint, given["data"], given.get("data_dir"))
    for name in ("val_fraction", "seed"):
        if known.get(name, given.get(name)) != given.get(name) and given["data"] not in ("fer2013", "ferplus"):
            yield f"`{name}` is not that of the run: what is held out for validation may be what the network was trained on"
    if "members" not in (written := with_members(checkpoint, known)):
        return
    names = load_config_data(with_known_size(TrainConfig(**given), lambda line: None)).train.names
    held = [name for name in (names.names() if names else ()) if written["members"].get(name, 0)]
    if held:
        yield f"the data has changed since the run: {len(held):,} pictures are trained on that it held out, such as {held[0]}"


def _told(progress: Listener | bool | None) -> Listener:
    """Who is told of what comes before the training."""
    return NOBODY if progress is False else progress if isinstance(progress, Listener) else listener()


def _defaults(epochs: int, settings: Mapping[str, Any], *, teaches: bool) -> dict[str, Any]:
    """What fine-tuning takes where nothing is said; the teacher's weight only where there is one."""
    lr = {"lr": ADAMW_LR} if settings.get("optimizer") == "adamw" else {}
    chosen = {name: value for name, value in FINETUNING.items() if teaches or name != "distill_weight"}
    return {**chosen, **lr, "warmup_epochs": int(epochs >= LEAST_TO_WARM_UP)}


def _closed(
    checkpoint: Path | str,
    config: TrainConfig,
    rate: float | None,
    flops: float | None,
    choice: Mapping[str, Any],
    network: Mapping[str, Any],
    say: Say,
) -> dict[str, Tensor]:
    """Group name → (size,) bool, the channels that close; groups of which none does are left out."""
    dataset = load_config_data(config)
    model, example, about = open_checkpoint(checkpoint, **network, image_size=dataset.image_shape[-1])
    example = torch.randn(2, *dataset.image_shape, generator=torch.Generator().manual_seed(0))
    source, statistics = get_criterion(choice["criterion"]).source, None
    if source in ("statistics", "gradients"):
        where = (config.data, config.data_dir)
        splits = {"data_options": config.data_options, "val_fraction": config.val_fraction, "seed": config.seed}
        splits = with_members(checkpoint, splits) if recorded_splits(checkpoint, config.data, config.data_dir) else splits
        statistics = calibrate(model, example, source, choice["couple"], *where, about=about, splits=splits, say=say)
    options = {**choice, "statistics": statistics}
    chosen = rate if flops is None else rate_for(model, example, flops, options)[0]
    closed = prune(model, example, rate=chosen, **options).closed()
    found = {name: gone for name, gone in closed.items() if bool(gone.any())}
    if not found:
        raise ArgumentError(
            f"a rate of {chosen} closes no filter: the widest group has {max(map(len, closed.values()))} channels."
        )
    count, channels = sum(int(gone.sum()) for gone in found.values()), sum(map(len, closed.values()))
    say(f"closing {count} of {channels} channels (rate {chosen:.3g})")
    return found

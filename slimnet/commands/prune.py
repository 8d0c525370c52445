"""A trained checkpoint in, the same with closed filters out."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slimnet.allocation import Allocation, Budget, fit_widths
from slimnet.commands.calibration import calibrate, load_images_for
from slimnet.commands.opening import (
    example_of,
    no_part,
    onnx_pictures,
    open_checkpoint,
    open_onnx,
    open_part,
    recorded_splits,
    with_members,
    with_options,
)
from slimnet.commands.rate import flops_once_cut, rate_for
from slimnet.criteria import LOSS_IMAGES, ClosedLoss, get_criterion, group_scores
from slimnet.errors import ArgumentError
from slimnet.fields import one_of
from slimnet.files import atomic_folder, claims_folder, write_json, write_tensors
from slimnet.graph import ExampleInputs, channel_groups, not_ignored, prunable
from slimnet.known import is_onnx
from slimnet.measure import count
from slimnet.methods.closing import prune
from slimnet.names import ALLOCATE_BY, RUN_BY, AllocateBy, Couple, Ranking
from slimnet.progress import Say, say_from
from slimnet.runtimes.formats import check_runs
from slimnet.settings import does_nothing

if TYPE_CHECKING:
    from torch import Tensor, nn

    from slimnet.onnx_surgery import Reading

_say = say_from(__name__)

PRUNED_FILES = ("model.safetensors", "config.json", "report.json", "model.onnx", "masked.onnx", "plan.json")


@claims_folder(*PRUNED_FILES)
def prune_checkpoint(
    checkpoint: Path | str,
    out: Path | str,
    *,
    criterion: str = "l2",
    rate: float | None = None,
    flops: float | None = None,
    target: Mapping[str, float] | None = None,
    threads: int = 1,
    batch: int = 1,
    runtime: str = "onnxruntime",
    shut_branches: bool = False,
    allocate_by: AllocateBy = "auto",
    ranking: Ranking = "group",
    couple: Couple = "stream",
    mask_norm: bool = True,
    ignore: Sequence[str] = (),
    data: str | None = None,
    data_dir: str | None = None,
    data_options: Mapping[str, bool] | None = None,
    part: str | None = None,
    force: bool = False,
    say: Say = _say,
    **network: Any,
) -> dict[str, Any]:
    """Close filters of a trained network at once, and write ``model.safetensors`` and ``report.json``.

    Args:
        checkpoint: the weights; or an ONNX file: ``masked.onnx`` is written then, and ``model.onnx``, which is cut already.
        out: folder to write.
        rate: share of filters to close; or
        flops: share of the FLOPs that the network is to have once it is cut, in (0, 1): the least rate that reaches it.
        target: what the network is to cost on this machine once it is cut, e.g. ``{"speedup": 3}`` (see
            `slimnet.allocation.Budget`): widths are chosen group by group from measured costs.
        threads, batch: that the target is for.
        runtime: that it is for, one of `slimnet.names.RUN_BY`: its own cost table is measured.
        shut_branches: for a target, let residual branches go as a whole.
        allocate_by: what the widths for a target are chosen by: ``"loss"``, how far the answers move on training images when a
            group is narrowed; ``"energy"``, the scores; ``"auto"``, the loss where ``data`` is given.
        criterion, ranking, couple, mask_norm, ignore: see :func:`slimnet.prune`.
        data, data_dir: training data for ``"cs"``, ``"taylor"`` and ``allocate_by="loss"``. Of a run on the same data its splits
            hold.
        data_options: of the data set's own, in place of the run's (see `slimnet.data.load_data`).
        part: submodules that alone are pruned, see :func:`slimnet.slim`. FLOPs, a target and what layers cost are those of the
            part; the loss that ``allocate_by`` takes is the whole network's.
        force: replace an existing folder.
        say: told what takes a while.
        **network: see :func:`open_checkpoint`.

    Returns:
        What is in ``report.json``.

    Raises:
        ArgumentError: if a value is out of its range, or the criterion needs data and there are none.
    """
    options: dict[str, Any] = {
        "criterion": criterion,
        "ranking": ranking,
        "couple": couple,
        "mask_norm": mask_norm,
        "ignore": tuple(ignore),
    }
    budget = check_choice(rate, flops, target, data=data, allocate_by=allocate_by, shut_branches=shut_branches, **options)
    _check_runtime(runtime, budget)
    source = get_criterion(criterion).source
    needs_data = source in ("statistics", "gradients") or (budget is not None and allocate_by != "energy")
    machine: dict[str, Any] = {"threads": threads, "batch": batch}
    for line in unused_choices(budget is not None, machine, data, data_dir, needs_data=needs_data):
        say(line)
    if data_options and not needs_data:
        say(does_nothing("data_options", "nothing here needs data"))
    if is_onnx(checkpoint):
        no_part(part, str(checkpoint))
    reading = open_onnx(checkpoint, **network) if is_onnx(checkpoint) else None
    if reading is None:
        whole, images, config = open_checkpoint(checkpoint, say=say, **network)
    else:
        if budget is not None:
            _check_batch(reading, batch)
        whole, images, config = copy.deepcopy(reading.model), example_of(reading), onnx_pictures(checkpoint)
    model, example = open_part(whole, images, part)
    statistics, splits = None, with_members(checkpoint, with_options(recorded_splits(checkpoint, data, data_dir), data_options))
    if source in ("statistics", "gradients"):
        seen = {"about": config, "splits": splits}
        statistics = calibrate(whole, images, source, couple, data, data_dir, **seen, part=part, say=say)
    found: dict[str, Any] = {}
    left: int | None = None
    if budget is not None:
        machine |= {"runtime": runtime} if runtime != RUN_BY[0] else {}
        scored = {"criterion": criterion, "statistics": statistics}
        loss = None if data is None or allocate_by == "energy" else _loss(whole, images, data, data_dir, config, splits)
        fitted = _fitted(model, example, budget, scored, ignore, shut_branches=shut_branches, loss=loss, **machine)
        found = {**fitted.as_dict(), **machine}
        how: dict[str, Any] = {"widths": found["kept"]}
    else:
        if flops is not None:
            rate, left = rate_for(model, example, flops, {**options, "statistics": statistics})
        how = {"rate": rate}
    mask = prune(model, example, statistics=statistics, **how, **options)
    report = {
        "rate": how.get("rate"),
        **({} if part is None else {"part": part}),
        **({"allocation": found} if found else {}),
        **options,
        **_outcome(model, example, mask.closed(), left),
    }
    with atomic_folder(Path(out), force=force, ours=PRUNED_FILES) as folder:
        if reading is not None:
            from slimnet.commands.onnx_files import write_pruned

            return write_pruned(reading, whole, folder, report, say)
        write_tensors(folder / "model.safetensors", whole.state_dict())
        write_json(folder / "config.json", config)
        write_json(folder / "report.json", report)
    return report


def check_choice(
    rate: float | None,
    flops: float | None,
    target: Mapping[str, float] | None,
    *,
    data: str | None,
    allocate_by: str,
    shut_branches: bool,
    criterion: str,
    ranking: str,
    couple: str,
    mask_norm: bool,
    ignore: Sequence[str],
) -> Budget | None:
    """Refuse a choice of filters that says nothing, or contradicts itself; else the target, where there is one.

    Raises:
        ArgumentError: naming the argument.
    """
    if flops is not None and not 0 < flops < 1:
        raise ArgumentError(f"`flops` must be in (0, 1), got {flops}.")
    if [rate, flops, target].count(None) != 2:
        raise ArgumentError("give one of `rate`, `flops` and `target`.")
    budget = _checked_budget(target, ranking, couple, mask_norm=mask_norm, shut_branches=shut_branches)
    _check_allocate_by(allocate_by, budget, data)
    if get_criterion(criterion).source in ("statistics", "gradients") and data is None:
        raise ArgumentError(f"criterion {criterion!r} needs data: name a data set with --data.")
    return budget


def unused_choices(
    has_target: bool, machine: Mapping[str, int], data: str | None, data_dir: str | None, *, needs_data: bool
) -> Iterator[str]:
    """A line for each choice that the others leave nothing to do.

    Args:
        has_target: whether there is a target.
        machine: ``threads`` and ``batch`` that it would be for.
        data, data_dir: the data.
        needs_data: whether anything looks at them.
    """
    for name, value in machine.items():
        if value != 1 and not has_target:
            yield does_nothing(f"target_{name}", "there is no target; --target-speedup X is one")
    if data is not None and not needs_data:
        yield does_nothing(
            "data", "no image is looked at; the criteria cs and taylor need some, and a target takes them for --allocate-by loss"
        )
    elif data_dir is not None and data is None:
        yield does_nothing("data_dir", "no data set is named; --data NAME does")


def _checked_budget(
    target: Mapping[str, float] | None, ranking: str, couple: str, *, mask_norm: bool, shut_branches: bool
) -> Budget | None:
    """The target, once the settings go with it; None where there is none.

    Raises:
        ArgumentError: if one does not, or the target is none.
    """
    if target is None:
        if shut_branches:
            raise ArgumentError("`shut_branches` is for a target: give one, or leave it out.")
        return None
    budget = Budget(**target)
    if ranking != "group":
        raise ArgumentError("a target ranks groups by itself: leave `ranking` at 'group'.")
    if couple != "stream":
        raise ArgumentError("a target needs coupled streams: leave `couple` at 'stream'.")
    if shut_branches and not mask_norm:
        raise ArgumentError("`shut_branches` needs norms that close with their filters: leave `mask_norm` on.")
    return budget


def _check_allocate_by(allocate_by: str, budget: Budget | None, data: str | None) -> None:
    """Refuse a way of valuing groups that is none, or lacks a target or data."""
    one_of(*ALLOCATE_BY).check("`allocate_by`", allocate_by)
    if allocate_by == "loss" and (budget is None or data is None):
        raise ArgumentError("`allocate_by` 'loss' is for a target, and needs data: name a data set with --data.")
    if allocate_by == "energy" and budget is None:
        raise ArgumentError("`allocate_by` is for a target: give one, or leave it out.")


def _check_runtime(runtime: str, budget: Budget | None) -> None:
    """Refuse a runtime that is none, is not installed, or has no target."""
    one_of(*RUN_BY).check("`runtime`", runtime)
    if budget is None and runtime != RUN_BY[0]:
        raise ArgumentError("`runtime` is for a target: give one, or leave it out.")
    check_runs(runtime)


def _check_batch(reading: Reading, batch: int) -> None:
    """Refuse a target for another batch than an ONNX file fixes."""
    fixed = reading.batch
    if fixed not in (None, batch):
        raise ArgumentError(
            f"{reading.document.name} has a fixed batch of {fixed}, the target is for {batch}: "
            f"give --target-batch {fixed} (`batch` in Python)."
        )


def _loss(
    model: nn.Module, example: Tensor, data: str, data_dir: str | None, about: Mapping[str, Any], splits: Mapping[str, Any]
) -> ClosedLoss:
    """How far the answers move on training images."""
    from slimnet.data import calibration_batches

    loaded = load_images_for(example, data, data_dir, about, splits)
    return ClosedLoss.of_answers(model, calibration_batches(loaded, *LOSS_IMAGES))


def _fitted(
    model: nn.Module, example: ExampleInputs, budget: Budget, scored: Mapping[str, Any], ignore: Sequence[str], **how: Any
) -> Allocation:
    """Widths for a target, chosen among the groups that are not ignored.

    Args:
        model, example: the network, or a part of one, and what it takes.
        budget: the target.
        scored: criterion and statistics, see :func:`slimnet.criteria.group_scores`.
        ignore: patterns of names of groups that are left alone.
        **how: see :func:`slimnet.allocation.fit_widths`.
    """
    groups = channel_groups(model, example)
    scores = {group.name: group_scores(model, group, **scored) for group in not_ignored(prunable(groups), ignore)}
    return fit_widths(model, example, groups, scores, budget, **how)


def _outcome(model: nn.Module, example: ExampleInputs, closed: Mapping[str, Tensor], left: int | None) -> dict[str, Any]:
    """What is closed, and what that comes to: ``left`` multiply-adds, where that is known."""
    realisable = flops_once_cut(model, example) if left is None else left
    return {
        "groups": [{"name": name, "size": len(gone), "closed": int(gone.sum())} for name, gone in closed.items()],
        "flops": {"dense": count(model, example).flops, "realisable": realisable},
    }

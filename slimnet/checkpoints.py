"""The compositions behind ``prune``, ``slim`` and ``inspect``: any checkpoint in, whoever made it."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch

from slimnet._files import atomic_folder, check_output, write_json, write_tensors
from slimnet.allocation import Budget, fit_widths, slim_aligned
from slimnet.criteria import ClassStatistics, Ranking, collect_class_statistics, get_criterion, group_scores, statistics_modules
from slimnet.errors import ArgumentError, DataError
from slimnet.graph import ChannelGroup, Couple, channel_groups, not_ignored, prunable
from slimnet.measure import count
from slimnet.models import build_model, load_weights
from slimnet.models.weights import first_and_last
from slimnet.oneshot import prune
from slimnet.surgery import make_plan, runnable_plan
from slimnet.surgery.plan import Plan

if TYPE_CHECKING:
    from torch import Tensor, nn

SLIM_FILES = ("slim.safetensors", "plan.json", "config.json", "model.onnx", "report.json")
PRUNED_FILES = ("model.safetensors", "config.json", "report.json")
CALIBRATION_IMAGES = 1000
HIGHEST_RATE, RATE_STEP = 0.999, 1e-3


def open_checkpoint(
    checkpoint: Path | str, *, model: str, num_classes: int | None, in_channels: int | None, image_size: int
) -> tuple[nn.Module, Tensor, dict[str, Any]]:
    """Build a network and load a checkpoint into it.

    Args:
        checkpoint: .safetensors, or a state dict (.pth, .th, .pt).
        model: name of the network, or ``package.module:function``.
        num_classes, in_channels: None: as in the file.
        image_size: side of the input.

    Returns:
        The network in eval mode, random input (2, C, H, W), and what it takes to build the network again.

    Raises:
        FileFormatError: if the file is missing, corrupt, or not a plain state dict.
        ModelError: if it does not fit the network.
    """
    found_in, found_out = first_and_last(Path(checkpoint))
    outputs, channels = num_classes or found_out, in_channels or found_in
    network = build_model(model, num_classes=outputs, in_channels=channels)
    load_weights(network, checkpoint)
    shape = [channels, image_size, image_size]
    example = torch.randn(2, *shape, generator=torch.Generator().manual_seed(0))
    config = {"model": model, "num_classes": outputs, "in_channels": channels, "image_shape": shape}
    return network.eval(), example, config


def slim_checkpoint(
    checkpoint: Path | str,
    out: Path | str,
    *,
    align: int | Literal["auto"] | None = None,
    expand: bool = False,
    tolerance: float = 0.0,
    force: bool = False,
    **network: Any,
) -> dict[str, Any]:
    """Remove what is zero from a checkpoint, verify it, export it, and write a folder: all or nothing.

    Args:
        checkpoint: the weights, with zero filters.
        out: folder for ``slim.safetensors``, ``plan.json``, ``config.json``, ``model.onnx``, ``report.json``;
            :func:`slimnet.load_slim` reads it.
        align: see :func:`slimnet.slim`; ``"auto"``: closed channels stay where the network is predicted to be faster with them.
        expand, tolerance: see :func:`slimnet.slim`.
        force: replace an existing folder.
        **network: see :func:`open_checkpoint`.

    Returns:
        What is in ``report.json``: cost before and after, surgery, groups, parity.

    Raises:
        ArgumentError: if ``out`` exists and ``force`` is not set.
        VerificationError: if the slim network computes something else.
        ParityError: if ONNX Runtime does.
    """
    from slimnet.export import export_onnx

    check_output(Path(out), force=force, ours=SLIM_FILES)
    model, example, config = open_checkpoint(checkpoint, **network)
    result = slim_aligned(model, example, align, expand=expand, tolerance=tolerance)
    with atomic_folder(Path(out), force=force, ours=SLIM_FILES) as folder:
        reference = None if result.report.zeroed else model  # zeroing small filters changes the function on purpose
        parity = export_onnx(result.model, example, folder / "model.onnx", reference=reference, tolerance=1e-6)
        report = {
            "cost": {"before": _cost(model, example), "after": _cost(result.model, example)},
            "surgery": result.report.as_dict(),
            "groups": [group_row(group) for group in result.plan.as_dict()["groups"]],
            "parity": parity.as_dict(),
        }
        write_tensors(folder / "slim.safetensors", result.model.state_dict())
        write_json(folder / "plan.json", result.plan.as_dict())
        write_json(folder / "config.json", config)
        write_json(folder / "report.json", report)
    return report


def _cost(model: nn.Module, example: Tensor) -> dict[str, Any]:
    cost = count(model, example)
    return {"flops": cost.flops, "params": cost.params, "bytes": cost.bytes, "unknown_operators": cost.unknown}


def group_row(group: Mapping[str, Any]) -> dict[str, Any]:
    """A group of a plan without its index list."""
    return {key: value for key, value in group.items() if key != "kept"} | {"kept": _length(group["kept"])}


def _length(ranges: str) -> int:
    from slimnet.surgery.plan import from_ranges

    return len(from_ranges(ranges))


def inspect_checkpoint(checkpoint: Path | str, **network: Any) -> dict[str, Any]:
    """The channel groups of a checkpoint: what is zero, what can go, and if not, why. Nothing is changed or verified.

    Args:
        checkpoint: the weights.
        **network: see :func:`open_checkpoint`.

    Returns:
        ``groups``: name, size, members, closed, partly, kept, reasons, flops_share (of making the channels);
        ``flops``: of the whole network.
    """
    model, example, _ = open_checkpoint(checkpoint, **network)
    plan = make_plan(model, example)
    cost = count(model, example)
    shares = {g.name: _making(g, model, cost.by_module) / max(cost.flops, 1) for g in channel_groups(model, example)}
    rows = [{**group_row(group), "flops_share": shares[group["name"]]} for group in plan.as_dict()["groups"]]
    return {"flops": cost.flops, "params": cost.params, "groups": rows}


def _making(group: ChannelGroup, model: nn.Module, flops: Mapping[str, int]) -> float:
    """Multiply-adds that make the channels of a group."""
    return sum(
        flops.get(rows.module, 0) * rows.index.numel() / model.get_parameter(rows.name).shape[rows.dim] for rows in group.weights
    )


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
    ranking: Ranking = "group",
    couple: Couple = "stream",
    mask_norm: bool = True,
    ignore: Sequence[str] = (),
    data: str | None = None,
    data_dir: str | None = None,
    force: bool = False,
    **network: Any,
) -> dict[str, Any]:
    """Close filters of a trained network at once, and write ``model.safetensors`` and ``report.json``.

    Args:
        checkpoint: the weights.
        out: folder to write.
        rate: share of filters to close; or
        flops: share of the FLOPs that the network is to have once it is cut, in (0, 1): the least rate that reaches it.
        target: what the network is to cost on this machine once it is cut, e.g. ``{"speedup": 3}`` (see
            `slimnet.allocation.Budget`): widths are chosen group by group from measured costs.
        threads, batch: that the target is for.
        criterion, ranking, couple, mask_norm, ignore: see :func:`slimnet.prune`.
        data, data_dir: training data for ``"cs"`` and ``"taylor"``.
        force: replace an existing folder.
        **network: see :func:`open_checkpoint`.

    Returns:
        What is in ``report.json``.

    Raises:
        ArgumentError: if a value is out of its range, or the criterion needs data and there are none.
    """
    check_output(Path(out), force=force, ours=PRUNED_FILES)
    if flops is not None and not 0 < flops < 1:
        raise ArgumentError(f"`flops` must be in (0, 1), got {flops}.")
    if [rate, flops, target].count(None) != 2:
        raise ArgumentError("give one of `rate`, `flops` and `target`.")
    budget = Budget(**target) if target is not None else None
    if budget is not None and ranking != "group":
        raise ArgumentError("a target ranks groups by itself: leave `ranking` at 'group'.")
    if budget is not None and couple != "stream":
        raise ArgumentError("a target needs coupled streams: leave `couple` at 'stream'.")
    source = get_criterion(criterion).source
    if source in ("statistics", "gradients") and data is None:
        raise ArgumentError(f"criterion {criterion!r} needs data: name a data set with --data.")
    model, example, config = open_checkpoint(checkpoint, **network)
    statistics = _calibrate(model, example, source, couple, data, data_dir) if data is not None else None
    options = {"criterion": criterion, "ranking": ranking, "couple": couple, "mask_norm": mask_norm, "ignore": tuple(ignore)}
    found: dict[str, Any] = {}
    if budget is not None:
        groups = channel_groups(model, example)
        chosen = not_ignored(prunable(groups), ignore)
        scores = {group.name: group_scores(model, group, criterion, statistics=statistics) for group in chosen}
        found = fit_widths(model, example, groups, scores, budget, threads=threads, batch=batch).as_dict()
        found |= {"threads": threads, "batch": batch}
        how: dict[str, Any] = {"widths": found["kept"]}
    else:
        how = {"rate": rate if flops is None else _rate_for(model, example, flops, {**options, "statistics": statistics})}
    mask = prune(model, example, statistics=statistics, **how, **options)  # type: ignore[arg-type]
    report = {
        "rate": how.get("rate"),
        **({"allocation": found} if found else {}),
        **options,
        "groups": [{"name": name, "size": len(closed), "closed": int(closed.sum())} for name, closed in mask.closed().items()],
        "flops": {"dense": count(model, example).flops, "realisable": _flops_once_cut(model, example)},
    }
    with atomic_folder(Path(out), force=force, ours=PRUNED_FILES) as folder:
        write_tensors(folder / "model.safetensors", model.state_dict())
        write_json(folder / "config.json", config)
        write_json(folder / "report.json", report)
    return report


def _flops_once_cut(model: nn.Module, example: Tensor) -> int:
    small = copy.deepcopy(model)
    plan: Plan = runnable_plan(small, example)
    return count(plan.apply(small), example).flops


def _rate_for(model: nn.Module, example: Tensor, flops: float, options: Mapping[str, Any]) -> float:
    """The least rate (to a thousandth) at which the network, once cut, has this share of its FLOPs, by bisection.

    Raises:
        ArgumentError: if even the highest rate leaves more.
    """
    dense = count(model, example).flops

    def share(rate: float) -> float:
        trial = copy.deepcopy(model)
        for old, new in zip(model.parameters(), trial.parameters(), strict=True):
            new.grad = old.grad
        prune(trial, example, rate=rate, **options)
        return _flops_once_cut(trial, example) / dense

    low, high = 0.0, HIGHEST_RATE
    least = share(high)
    if least > flops:
        raise ArgumentError(
            f"`flops` {flops} cannot be reached: the least share that pruning these groups leaves is {least:.4f}."
        )
    while high - low > RATE_STEP:
        middle = (low + high) / 2
        low, high = (middle, high) if share(middle) > flops else (low, middle)
    return high


def _calibrate(
    model: nn.Module, example: Tensor, source: str, couple: Couple, data: str | None, data_dir: str | None
) -> ClassStatistics | None:
    """Class statistics (for "cs"), or gradients left on the parameters (for "taylor")."""
    from slimnet.data import load_data

    loaded = load_data(str(data), data_dir=data_dir, image_size=example.shape[-1])
    if loaded.image_shape[0] != example.shape[1]:
        raise DataError(f"{data} has images of {loaded.image_shape[0]} channels, the network takes {example.shape[1]}.")
    batches = list(_batches(loaded))
    if source == "statistics":
        groups = prunable(channel_groups(model, example, couple=couple))
        modules = list(dict.fromkeys(module for group in groups for module in statistics_modules(group)))
        return collect_class_statistics(model, modules, batches, loaded.num_classes)
    if source == "gradients":
        for images, labels in batches:
            torch.nn.functional.cross_entropy(model(images), labels).backward()  # type: ignore[no-untyped-call]
    return None


def _batches(loaded: Any) -> Iterator[tuple[Tensor, Tensor]]:
    from slimnet.data import Batches, stratified_indices

    chosen = stratified_indices(loaded.train.labels, min(CALIBRATION_IMAGES, len(loaded.train)), torch.Generator().manual_seed(0))
    return Batches(loaded.train.subset(chosen), 100, mean=loaded.mean, std=loaded.std).epoch(0)

"""Weights that are stored in parts, put together: what `torch.nn.utils` makes of a weight by masks and reparametrisations."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import torch
from torch import Tensor

from slimnet.errors import FileFormatError

State = dict[str, Tensor]
_NEW = ".parametrizations."
Made = tuple[str, tuple[str, ...], Tensor]


def baked(path: Path, state: Mapping[str, Tensor]) -> tuple[State, tuple[str, ...]]:
    """The state dict with plain weights, and what was done, a line each.

    ``prune``: ``weight_orig · weight_mask``. ``weight_norm``: ``g · v / ‖v‖``, the norm over the dimensions in which
    g is 1. ``spectral_norm``: the weight divided by ``uᵀ W v``, as in eval mode.
    Each in its form of today (``parametrizations.weight.…``) and of before.

    Raises:
        FileFormatError: if a weight is parametrised by a function that the file does not hold.
    """
    found, notes = dict(state), []
    for what, parts in (("pruning masks", _pruned), ("weight norms", _weight_normed), ("spectral norms", _spectral)):
        count = 0
        for name, gone, tensor in list(parts(found)):
            count += 1
            for each in gone:
                del found[each]
            found[name] = tensor
        if count:
            notes.append(f"{count} {what} put into the weights")
    left = next((name for name in found if _NEW in name), None)
    if left is not None:
        raise FileFormatError(
            f"{path} holds {left}, parametrised by a function that is not in the file: call "
            "torch.nn.utils.parametrize.remove_parametrizations(layer, NAME) before you save."
        )
    return found, tuple(notes)


def _pairs(state: Mapping[str, Tensor], *ends: str) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Names that, with each of the ends behind them, are in the state."""
    for name in state:
        if name.endswith(ends[0]):
            stem = name.removesuffix(ends[0])
            names = tuple(stem + end for end in ends)
            if all(each in state for each in names):
                yield stem, names


def _new(state: Mapping[str, Tensor], *ends: str) -> Iterator[tuple[str, tuple[str, ...]]]:
    """The same of ``layer.parametrizations.weight.…``: the name is ``layer.weight``."""
    for stem, names in _pairs(state, *ends):
        if _NEW in f".{stem}":
            layer, _, weight = f".{stem}".rpartition(_NEW)
            others = [name for name in state if name.startswith(f"{stem}.") and name not in names]
            if not others:
                yield f"{layer}.{weight}".lstrip("."), names


def _pruned(state: Mapping[str, Tensor]) -> Iterator[Made]:
    for name, names in _pairs(state, "_orig", "_mask"):
        weight, mask = (state[each] for each in names)
        if weight.shape == mask.shape:
            yield name, names, weight * mask.to(weight.dtype)


def _weight_normed(state: Mapping[str, Tensor]) -> Iterator[Made]:
    old = _pairs(state, "_g", "_v")
    for name, names in (*old, *_new(state, ".original0", ".original1")):
        g, v = (state[each] for each in names)
        if v.is_floating_point() and (g.dim() == 0 or _is_column(g, v)):
            dims = [dim for dim in range(v.dim()) if g.dim() == 0 or g.shape[dim] == 1]
            yield name, names, v * (g / torch.linalg.vector_norm(v, dim=dims, keepdim=g.dim() > 0))


def _is_column(g: Tensor, v: Tensor) -> bool:
    return g.dim() == v.dim() and all(one in (1, all_) for one, all_ in zip(g.shape, v.shape, strict=True))


def _spectral(state: Mapping[str, Tensor]) -> Iterator[Made]:
    new: Callable[..., Iterator[tuple[str, tuple[str, ...]]]] = _new
    for name, names in (*_pairs(state, "_orig", "_u", "_v"), *new(state, ".original", ".0._u", ".0._v")):
        weight, u, v = (state[each] for each in names)
        sigmas = list(_sigmas(weight, u, v))
        if sigmas:
            yield name, names, weight / max(sigmas, key=abs)


def _sigmas(weight: Tensor, u: Tensor, v: Tensor) -> Iterator[Tensor]:
    """uᵀ W v for the dimension that u is along: the second of transposed convolutions. The vectors fit the right one best."""
    for dim in (0, 1)[: weight.dim()]:
        flat = weight.movedim(dim, 0).flatten(1)
        if weight.is_floating_point() and flat.dim() == 2 and flat.shape == (u.numel(), v.numel()):
            yield torch.dot(u.to(flat.dtype), torch.mv(flat, v.to(flat.dtype)))

"""Bring a state dict from elsewhere to the names and shapes of a network: by order, from RGB to grey, without its head.

What a network allows stands in two attributes of its class. ``layout``: the names of its entries in the order of its layers;
such a network has no norms, so that weight and bias alternate and shapes tell them apart. ``new_head``: the modules that start
afresh where the file's have other shapes, or that the network does not have. Of other networks the head is what changes its shape
with the number of classes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn

State = Mapping[str, Tensor]
Heads = Callable[[], Sequence[str]]
"""Names of the modules whose shapes go with the number of classes; asked for where a file does not fit."""


def by_order(model: nn.Module, state: State) -> tuple[State, tuple[str, ...]]:
    """The entries renamed by their order, where no name fits and every shape does (but for a new head's, and RGB)."""
    layout: tuple[str, ...] = getattr(model, "layout", ())
    if not layout or len(state) != len(layout) or any(name in layout for name in state):
        return state, ()
    renamed = dict(zip(layout, state.values(), strict=True))
    heads = getattr(model, "new_head", ())
    wanted = {name: tensor for name, tensor in model.state_dict().items() if name.rpartition(".")[0] not in heads}
    folded, _ = folded_to_grey(model, renamed)
    if any(folded[name].shape != tensor.shape for name, tensor in wanted.items()):
        return state, ()
    if any(tensor.dim() == 1 for tensor in list(state.values())[::2]):
        return state, ()
    return renamed, (f"its {len(layout)} entries have other names: loaded by order and shape",)


def folded_to_grey(model: nn.Module, state: State) -> tuple[State, tuple[str, ...]]:
    """The first kernel summed over red, green and blue, where the network takes grey images: the same as three equal planes."""
    first = next((name for name, module in model.named_modules() if isinstance(module, nn.Conv2d)), "")
    name = f"{first}.weight"
    wanted, given = model.state_dict().get(name), state.get(name)
    if wanted is None or given is None or given.dim() != 4 or wanted.shape[1] != 1 or given.shape[1] != 3:
        return state, ()
    summed = given.sum(dim=1, keepdim=True, dtype=torch.float64).to(given.dtype)
    return {**state, name: summed}, (f"{first} reads grey images: its kernel is summed over red, green and blue",)


def with_new_head(model: nn.Module, state: State, heads: Heads | None = None) -> tuple[State, tuple[str, ...]]:
    """The model's own entries for what its class names as ``new_head``, or ``heads`` does, where the file's do not fit."""
    own, notes, found = model.state_dict(), [], dict(state)
    fits = all(name not in found or found[name].shape == tensor.shape for name, tensor in own.items())
    for head in getattr(model, "new_head", None) or (() if fits or heads is None else heads()):
        mine = {name: tensor for name, tensor in own.items() if name.startswith(f"{head}.")}
        theirs = [name for name in found if name.startswith(f"{head}.")]
        if set(theirs) == set(mine) and all(found[name].shape == mine[name].shape for name in theirs):
            continue
        had = tuple(found[f"{head}.weight"].shape) if f"{head}.weight" in found else None
        for name in theirs:
            del found[name]
        found |= mine
        notes.append(_account(head, mine.get(f"{head}.weight"), had))
    return found, tuple(notes)


def _account(head: str, mine: Tensor | None, had: tuple[int, ...] | None) -> str:
    if mine is None:
        return f"{head} left out: the model has none"
    return f"{head} starts afresh: {'it is missing' if had is None else f'it is {had} there'}, {tuple(mine.shape)} in the model"

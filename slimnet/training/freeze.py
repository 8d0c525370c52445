"""Layers that a run leaves as they are, and how much its dropout drops."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase

from torch import nn

from slimnet.errors import ArgumentError

_DROPOUT = nn.modules.dropout._DropoutNd


def frozen_modules(model: nn.Module, patterns: Sequence[str]) -> tuple[nn.Module, ...]:
    """The modules whose name, or the name of a module around them, is like a pattern (``conv_*``)."""
    return tuple(module for name, module in model.named_modules() if _is_named(name, patterns))


def freeze(model: nn.Module, patterns: Sequence[str]) -> None:
    """Take what patterns name out of training, in place: its weights get no gradient.

    Raises:
        ArgumentError: if a pattern names nothing that has weights, or nothing is left to be trained.
    """
    for pattern in patterns:
        weights = [weight for module in frozen_modules(model, (pattern,)) for weight in module.parameters()]
        if not weights:
            names = [name for name, module in model.named_modules() if name and list(module.parameters(recurse=False))]
            shown = ", ".join(names[:6]) + (" …" if len(names) > 6 else "")
            raise ArgumentError(f"`freeze` names {pattern!r}, like which no layer with weights is named; there are {shown}.")
        for weight in weights:
            weight.requires_grad_(False)
    if patterns and not any(weight.requires_grad for weight in model.parameters()):
        raise ArgumentError(f"`freeze` names {', '.join(patterns)}: nothing is left to be trained.")


def train_mode(model: nn.Module, patterns: Sequence[str]) -> None:
    """Put ``model`` in training mode, in place, but what is frozen in eval mode: its norms keep their statistics."""
    model.train()
    for module in frozen_modules(model, patterns):
        module.eval()


def set_dropout(model: nn.Module, share: float | None) -> None:
    """Let every dropout of ``model`` leave out this share in training, in place; None leaves them as they are.

    Raises:
        ArgumentError: if the network has no dropout module.
    """
    if share is None:
        return
    found = [module for module in model.modules() if isinstance(module, _DROPOUT)]
    if not found:
        raise ArgumentError(f"`dropout` is {share}, but the network has no dropout layer: leave it out.")
    for module in found:
        module.p = share


def _is_named(name: str, patterns: Sequence[str]) -> bool:
    parts = name.split(".")
    outer = [".".join(parts[: i + 1]) for i in range(len(parts))] if name else []
    return any(fnmatchcase(each, pattern) for each in outer for pattern in patterns)

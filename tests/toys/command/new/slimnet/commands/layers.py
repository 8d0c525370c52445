"""How many layers of a checkpoint have weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from slimnet.commands.opening import open_checkpoint


def count_layers(checkpoint: Path | str, **network: Any) -> int:
    """How many layers have a weight of two dimensions or more: norms are none.

    Args:
        checkpoint: the weights.
        **network: see :func:`open_checkpoint`.
    """
    model, _, _ = open_checkpoint(checkpoint, **network)
    return sum(parameter.dim() > 1 for parameter in model.parameters())

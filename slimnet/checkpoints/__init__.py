"""The compositions behind ``prune``, ``slim`` and ``inspect``: any checkpoint in, whoever made it."""

from slimnet.checkpoints.inspection import inspect_checkpoint
from slimnet.checkpoints.opening import open_checkpoint
from slimnet.checkpoints.pruning import prune_checkpoint
from slimnet.checkpoints.slimming import slim_checkpoint

__all__ = ["inspect_checkpoint", "open_checkpoint", "prune_checkpoint", "slim_checkpoint"]

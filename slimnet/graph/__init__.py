"""Channel groups of any PyTorch model."""

from slimnet.graph.groups import ChannelGroup, Couple, Rows, prunable

__all__ = ["ChannelGroup", "Couple", "Rows", "prunable"]

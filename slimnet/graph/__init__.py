"""Channel groups of any PyTorch model."""

from slimnet._modes import in_eval_mode
from slimnet.graph.analysis import analyse
from slimnet.graph.branches import branches_around, residual_branches
from slimnet.graph.capture import ExampleInputs, as_inputs, check_model
from slimnet.graph.findings import Analysis, MovesChannels, Number, Pieces, Reader, Summand
from slimnet.graph.groups import ChannelGroup, Rows, channel_groups, not_ignored, prunable, stream_groups
from slimnet.graph.traced import free_dims, tensor_operators, trace
from slimnet.names import Couple

__all__ = [
    "Analysis",
    "ChannelGroup",
    "Couple",
    "ExampleInputs",
    "MovesChannels",
    "Number",
    "Pieces",
    "Reader",
    "Rows",
    "Summand",
    "analyse",
    "as_inputs",
    "branches_around",
    "channel_groups",
    "check_model",
    "free_dims",
    "in_eval_mode",
    "not_ignored",
    "prunable",
    "residual_branches",
    "stream_groups",
    "tensor_operators",
    "trace",
]

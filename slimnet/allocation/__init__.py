"""How wide each channel group is to be: costs measured on the target machine against what its filters are worth."""

from __future__ import annotations

from slimnet.allocation.budget import Budget
from slimnet.allocation.choose import Allocation, allocate
from slimnet.allocation.cost import NetworkCost
from slimnet.allocation.fit import fit_widths
from slimnet.allocation.layers import Layer, network_layers

__all__ = ["Allocation", "Budget", "Layer", "NetworkCost", "allocate", "fit_widths", "network_layers"]

"""How wide each channel group is to be: costs measured on the target machine against what its filters are worth."""

from __future__ import annotations

from slimnet.allocation.aligned import slim_aligned
from slimnet.allocation.choose import Allocation, allocate
from slimnet.allocation.cost import NetworkCost, branches_of
from slimnet.allocation.fit import fit_padding, fit_widths
from slimnet.allocation.layers import Layer, LiveFlops, network_layers
from slimnet.allocation.pad import padded_widths
from slimnet.allocation.sensitivity import LossByWidth, Sensitivity, measure_sensitivity
from slimnet.settings import Budget

__all__ = [
    "Allocation",
    "Budget",
    "Layer",
    "LiveFlops",
    "LossByWidth",
    "NetworkCost",
    "Sensitivity",
    "allocate",
    "branches_of",
    "fit_padding",
    "fit_widths",
    "measure_sensitivity",
    "network_layers",
    "padded_widths",
    "slim_aligned",
]

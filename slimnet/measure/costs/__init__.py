"""What a layer costs on this machine: times measured once, kept, and interpolated. No torch here."""

from __future__ import annotations

from slimnet.measure.costs.profile import NodeTimes, profile_network, profile_nodes
from slimnet.measure.costs.site import Site
from slimnet.measure.costs.store import Target, default_folder
from slimnet.measure.costs.table import CostTable
from slimnet.measure.costs.timer import Timer

__all__ = ["CostTable", "NodeTimes", "Site", "Target", "Timer", "default_folder", "profile_network", "profile_nodes"]

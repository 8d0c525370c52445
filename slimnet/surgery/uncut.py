"""The way back: the weights of a cut network in the shapes of the network that it was cut from."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping

import torch
from torch import Tensor

from slimnet.errors import SurgeryError
from slimnet.surgery.operations import Cut
from slimnet.surgery.plan import Plan


def uncut(plan: Plan, small: Mapping[str, Tensor], full: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Put the tensors of a cut network back to where they were; what was cut out is zero (variances: one).

    The network of full size then computes what the cut one does, if what was cut out emitted zeros: its norms' γ and β are zero.

    Args:
        plan: how the network was cut; it must move no constant that is not zero.
        small: the state dict of the cut network.
        full: name → tensor of the right shape (also on the meta device), for every entry that is wanted.

    Returns:
        The state dict of the network of full size, on the device of ``small``.

    Raises:
        SurgeryError: if the plan moves constants, is for an exported program, or a tensor does not fit it.
    """
    if plan.graph is not None:
        raise SurgeryError("the slim network is an exported program, which is for inference.")
    if moves_constants(plan):
        raise SurgeryError("the plan moves constants into other layers: the network of full size cannot be made again.")
    cuts: dict[str, list[Cut]] = defaultdict(list)
    for cut in plan.cuts:
        cuts[cut.name].append(cut)
    return {name: _put_back(name, small.get(name), shape, cuts[name]) for name, shape in full.items()}


def moves_constants(plan: Plan) -> bool:
    """Whether channels or branches leave something behind other than zeros."""
    return bool(plan.folds or plan.expansions) or any(any(shut.values) for shut in plan.shuts)


def _put_back(name: str, part: Tensor | None, full: Tensor, cuts: list[Cut]) -> Tensor:
    device = torch.device("cpu") if part is None else part.device
    whole = (torch.ones if name.endswith("running_var") else torch.zeros)(full.shape, dtype=full.dtype, device=device)
    if part is None:  # of a branch that was shut
        return whole
    kept = {cut.dim: torch.tensor(cut.kept, device=device) for cut in cuts}
    index = [kept.get(dim, torch.arange(size, device=device)) for dim, size in enumerate(full.shape)]
    if tuple(len(entries) for entries in index) != tuple(part.shape):
        raise SurgeryError(f"{name} has shape {tuple(part.shape)}, which does not fit the plan: it was made for another network.")
    if not index:
        return part.detach().clone()
    whole[torch.meshgrid(*index, indexing="ij")] = part.detach()
    return whole

"""Take an optimiser along when its parameters are cut."""

from __future__ import annotations

from collections import defaultdict

import torch
from torch import Tensor, nn

from slimnet.errors import SurgeryError
from slimnet.surgery.plan import Cut, Plan


def move_optimizer(optimizer: torch.optim.Optimizer, before: nn.Module, after: nn.Module, plan: Plan) -> None:
    """Point ``optimizer``, in place, at the parameters of the slim model and cut its state along with them.

    Args:
        optimizer: holds parameters of ``before``.
        before: the model that was trained.
        after: the slim model.
        plan: how ``after`` was cut from ``before``.

    Raises:
        SurgeryError: if the optimiser holds a parameter that is not in the model.
    """
    names = {id(parameter): name for name, parameter in before.named_parameters()}
    new = dict(after.named_parameters())
    cuts: dict[str, list[Cut]] = defaultdict(list)
    for cut in plan.cuts:
        cuts[cut.name].append(cut)
    gained = {fold.weight: fold.bias for fold in plan.folds if fold.carrier < 0}
    had = {name for name, _ in before.named_parameters()}
    moved = {expansion.module: f"{expansion.module}.0" for expansion in plan.expansions}
    for group in optimizer.param_groups:
        parameters = []
        for old in group["params"]:
            name = names.get(id(old))
            if name is None:
                raise SurgeryError("the optimiser holds a parameter that the model does not have.")
            module, _, entry = name.rpartition(".")
            small = new.get(f"{moved.get(module, module)}.{entry}".removeprefix("."))
            state = optimizer.state.pop(old, {})
            if small is None:
                continue  # of a branch that was shut down
            parameters.append(small)
            if state:
                optimizer.state[small] = {key: _cut(value, old, cuts[name]) for key, value in state.items()}
            if gained.get(name) and gained[name] not in had:
                parameters.append(new[gained[name]])
        group["params"] = parameters


def _cut(value: object, old: Tensor, cuts: list[Cut]) -> object:
    if not isinstance(value, Tensor) or value.shape != old.shape:
        return value
    for cut in cuts:
        value = value.index_select(cut.dim, torch.tensor(cut.kept, device=value.device))
    return value

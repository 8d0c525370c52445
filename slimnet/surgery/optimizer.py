"""Take an optimiser along when its parameters are cut."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from slimnet.errors import SurgeryError
from slimnet.surgery.operations import Cut
from slimnet.surgery.plan import Plan


def check_optimizer(optimizer: torch.optim.Optimizer, model: nn.Module) -> None:
    """Refuse an optimiser that cannot be taken along, before anything is changed.

    Raises:
        SurgeryError: if it holds a parameter that is not in the model.
    """
    known = {id(parameter) for parameter in model.parameters()}
    if any(id(parameter) not in known for group in optimizer.param_groups for parameter in group["params"]):
        raise SurgeryError("the optimiser holds a parameter that the model does not have.")


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
    check_optimizer(optimizer, before)
    names = {id(parameter): name for name, parameter in before.named_parameters()}
    new = dict(after.named_parameters())
    cuts: dict[str, list[Cut]] = defaultdict(list)
    for cut in plan.cuts:
        cuts[cut.name].append(cut)
    moved = {expansion.module: f"{expansion.module}.0" for expansion in plan.expansions}
    gained = {fold.weight: fold.bias for fold in plan.folds if fold.carrier < 0}
    had = {_plain(name, new) for name in names.values()}
    for group in optimizer.param_groups:
        found: dict[str, Tensor] = {}
        for old in group["params"]:
            name = _plain(names[id(old)], new)
            small = new.get(_moved(name, moved))
            state = optimizer.state.pop(old, {})
            if small is None:
                continue  # of a branch that was shut down
            found[_moved(name, moved)] = small
            if state and (name == names[id(old)] or names[id(old)].endswith(("_orig", ".original"))):
                optimizer.state[small] = {key: _cut(value, old, cuts[name]) for key, value in state.items()}
            bias = gained.get(name, "")
            if bias and bias not in had:
                found[_moved(bias, moved)] = new[_moved(bias, moved)]
        group["params"] = list(found.values())
        if "param_names" in group:
            group["param_names"] = list(found)


def _plain(name: str, new: Mapping[str, Tensor]) -> str:
    """Name, in the slim model, of a parameter, or of the weight that torch computed from it (a mask, a weight norm)."""
    head, parametrised, tail = name.partition("parametrizations.")
    plain = head + tail.rpartition(".")[0] if parametrised else name.rpartition("_")[0]
    return plain if name not in new and plain in new else name


def _moved(name: str, moved: dict[str, str]) -> str:
    module, _, entry = name.rpartition(".")
    return f"{moved.get(module, module)}.{entry}".removeprefix(".")


def _cut(value: Any, old: Tensor, cuts: list[Cut]) -> Any:
    if not isinstance(value, Tensor) or value.shape != old.shape:
        return value
    for cut in cuts:
        value = value.index_select(cut.dim, torch.tensor(cut.kept, device=value.device))
    return value.detach()

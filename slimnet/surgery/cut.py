"""Cut a network, in place, as a plan says."""

from __future__ import annotations

from collections import defaultdict
from functools import singledispatch

import torch
from torch import Tensor, nn

from slimnet.errors import SurgeryError
from slimnet.graph import MovesChannels
from slimnet.surgery.bake import bake
from slimnet.surgery.modules import Constant, Expand, Stub
from slimnet.surgery.plan import Cut, Expansion, Fold, Move, Plan, Shut

CHUNK = 2**22  # numbers converted to float64 at a time


def apply_plan(plan: Plan, model: nn.Module) -> None:
    """Cut ``model`` in place.

    Raises:
        SurgeryError: if a tensor or module that the plan names is missing or has another size.
    """
    bake(model)
    made = {fold.bias for fold in plan.folds if fold.carrier < 0}  # biases that may not be there yet
    for item in plan.cuts:
        if item.name not in made:
            _check(model, item)
    for fold in plan.folds:
        _fold(model, fold)
    owners = _owners(model)
    by_name: dict[str, list[Cut]] = defaultdict(list)
    for item in plan.cuts:
        by_name[item.name].append(item)
    for name, cuts in by_name.items():
        _slice(owners, _tensor(model, name), cuts)
    for move in plan.moves:
        _move(model, move)
    touched = {name.rpartition(".")[0] for name in by_name} | {fold.weight.rpartition(".")[0] for fold in plan.folds}
    for path in touched:
        resize(_module(model, path))
    like = next((p.detach() for p in model.parameters() if p.is_floating_point()), torch.empty(0))
    for expansion in plan.expansions:
        _expand(model, expansion, like)
    for shut in plan.shuts:
        _shut(model, shut, like)


def _expand(model: nn.Module, expansion: Expansion, like: Tensor) -> None:
    inner = _module(model, expansion.module)
    size = len(expansion.values)
    index = torch.full((size,), len(expansion.live), device=like.device)
    index[list(expansion.live)] = torch.arange(len(expansion.live), device=like.device)
    constant = _channels(expansion.values, expansion.dims, like) if any(expansion.values) else None
    _replace(model, expansion.module, Expand(inner, index, constant))


def _shut(model: nn.Module, shut: Shut, like: Tensor) -> None:
    for path in shut.others:
        _replace(model, path, _idle(_module(model, path)))
    last = _idle(_module(model, shut.module))
    constant = Constant(_channels(shut.values, shut.dims, like), full=shut.full)
    _replace(model, shut.module, nn.Sequential(last, constant) if isinstance(last, Stub) and shut.full else constant)


def _idle(module: nn.Module) -> nn.Module:
    """What stands for a module of a branch that is shut down: only the size of the map matters."""
    return Stub(module) if isinstance(module, nn.Conv1d | nn.Conv2d | nn.Conv3d) else nn.Identity()


def _channels(values: tuple[float, ...], dims: int, like: Tensor) -> Tensor:
    """A number a channel, (1, C, 1, …), of the kind and on the device of another tensor."""
    return torch.tensor(values, dtype=torch.float64).to(like).reshape(1, -1, *[1] * (dims - 2))


def _replace(model: nn.Module, path: str, module: nn.Module) -> None:
    old = _module(model, path)
    parent, _, name = path.rpartition(".")
    setattr(_module(model, parent), name, module.train(old.training))


def _module(model: nn.Module, path: str) -> nn.Module:
    try:
        return model.get_submodule(path)
    except AttributeError:
        raise SurgeryError(f"the network has no module {path!r}: the plan was made for another network.") from None


def _tensor(model: nn.Module, name: str) -> Tensor:
    path, _, attribute = name.rpartition(".")
    value = getattr(_module(model, path), attribute, None)
    if not isinstance(value, Tensor):
        raise SurgeryError(f"the network has no tensor {name!r}: the plan was made for another network.")
    return value


def _check(model: nn.Module, cut: Cut) -> None:
    tensor = _tensor(model, cut.name)
    if tensor.dim() <= cut.dim or tensor.shape[cut.dim] != cut.size:
        raise SurgeryError(
            f"{cut.name} has shape {tuple(tensor.shape)}, the plan expects {cut.size} along dimension {cut.dim}: "
            "the plan was made for another network."
        )


Owners = dict[int, list[tuple[nn.Module, str]]]


def _owners(model: nn.Module) -> Owners:
    """Every place where a tensor is registered, by the tensor's identity."""
    owners: Owners = defaultdict(list)
    for module in model.modules():
        for name, tensor in (*module._parameters.items(), *module._buffers.items()):
            if tensor is not None:
                owners[id(tensor)].append((module, name))
    return owners


def _slice(owners: Owners, old: Tensor, cuts: list[Cut]) -> None:
    new = old.detach()
    for cut in cuts:
        new = new.index_select(cut.dim, torch.tensor(cut.kept, dtype=torch.int64, device=new.device))
    replacement = nn.Parameter(new, requires_grad=old.requires_grad) if isinstance(old, nn.Parameter) else new
    for module, name in owners[id(old)]:
        (module._parameters if isinstance(old, nn.Parameter) else module._buffers)[name] = replacement  # type: ignore[assignment]


def _fold(model: nn.Module, fold: Fold) -> None:
    """Add Σ_j W[:, j]·k_j to the bias, or to the carrier's column divided by the carrier's own constant."""
    path = fold.weight.rpartition(".")[0]
    module, weight = _module(model, path), _tensor(model, fold.weight)
    moved = _contribution(weight.detach().movedim(fold.in_dim, 1), fold)  # (C_out, kernel…)
    if fold.carrier >= 0:
        changed = weight.detach().clone()
        column = changed.movedim(fold.in_dim, 1)[:, fold.carrier]
        column.copy_(column.to(torch.float64) + moved / fold.carrier_value)
        weight.data = changed
        return
    shift = moved.flatten(1).sum(dim=1) if moved.dim() > 1 else moved
    name = fold.bias.rpartition(".")[2]
    bias = getattr(module, name, None) if fold.bias.rpartition(".")[0] == path else _tensor(model, fold.bias)
    if bias is None:
        module._parameters[name] = nn.Parameter(shift.to(weight.dtype), requires_grad=weight.requires_grad)
    else:
        bias.data = (bias.detach().to(torch.float64) + shift).to(bias.dtype)


def _contribution(weight: Tensor, fold: Fold) -> Tensor:
    """What the removed columns of a weight (C_out, C_in, …) add up to: (C_out, …) float64."""
    constants = torch.tensor(fold.constants, dtype=torch.float64, device=weight.device)
    columns = torch.tensor(fold.columns, device=weight.device)
    step = max(1, CHUNK // max(1, weight[0].numel()))  # in pieces: float64 takes twice the memory
    pieces = [weight[start : start + step] for start in range(0, len(weight), step)]
    return torch.cat([_weighted(piece.index_select(1, columns), constants) for piece in pieces])


def _weighted(weight: Tensor, constants: Tensor) -> Tensor:
    return torch.einsum("oc...,c->o...", weight.to(torch.float64), constants)


def _move(model: nn.Module, move: Move) -> None:
    module = _module(model, move.module)
    if not isinstance(module, MovesChannels):
        raise SurgeryError(f"{move.module} has no `keep_channels`: the plan was made for another network.")
    with torch.device("cpu"):  # whatever device the caller builds networks on
        module.keep_channels(_flags(move.in_size, move.inputs), _flags(move.out_size, move.outputs))


def _flags(size: int, chosen: tuple[int, ...]) -> Tensor:
    flags = torch.zeros(size, dtype=torch.bool)
    flags[list(chosen)] = True
    return flags


@singledispatch
def resize(module: nn.Module) -> None:
    """Make a module's own numbers agree with its tensors, in place.

    Register a rule for a layer of your own with ``resize.register``; a module without a rule has no such numbers.
    """


@resize.register(nn.Conv1d)
@resize.register(nn.Conv2d)
@resize.register(nn.Conv3d)
def _(module: nn.Conv2d) -> None:
    columns = module.weight.shape[1]
    depth = module.in_channels // module.groups  # input channels a convolution group
    per_group = module.out_channels // module.groups
    module.out_channels = module.weight.shape[0]
    if module.groups > 1:
        module.groups = module.out_channels // per_group
        module.in_channels = module.groups * depth
    else:
        module.in_channels = columns


@resize.register(nn.ConvTranspose1d)
@resize.register(nn.ConvTranspose2d)
@resize.register(nn.ConvTranspose3d)
def _(module: nn.ConvTranspose2d) -> None:
    module.in_channels, module.out_channels = module.weight.shape[0], module.weight.shape[1] * module.groups


@resize.register
def _(module: nn.Linear) -> None:
    module.out_features, module.in_features = module.weight.shape


@resize.register(nn.modules.batchnorm._NormBase)
def _(module: nn.modules.batchnorm._NormBase) -> None:
    tensor = module.weight if module.weight is not None else module.running_mean
    if tensor is not None:
        module.num_features = len(tensor)


@resize.register
def _(module: nn.PReLU) -> None:
    module.num_parameters = len(module.weight)

"""Write masks and parametrisations of other tools into the weights."""

from __future__ import annotations

import copy

from torch import Tensor, nn
from torch.nn.utils import parametrize, prune


def bake(model: nn.Module) -> nn.Module:
    """Make ``torch.nn.utils.prune`` masks and ``torch.nn.utils.parametrize`` results permanent, in place."""
    for module in model.modules():
        for name in [name.removesuffix("_orig") for name in module._parameters if name.endswith("_orig")]:
            if f"{name}_mask" in module._buffers:
                prune.remove(module, name)  # type: ignore[no-untyped-call]
        if parametrize.is_parametrized(module):
            for name in list(module.parametrizations):  # type: ignore[arg-type]
                parametrize.remove_parametrizations(module, str(name), leave_parametrized=True)
    return model


def baked_copy(model: nn.Module) -> nn.Module:
    """A copy of ``model`` with all masks and parametrisations written into its weights."""
    derived = [
        tensor
        for module in model.modules()
        for tensor in vars(module).values()
        if isinstance(tensor, Tensor) and not tensor.is_leaf
    ]  # torch refuses to copy what a mask computed; the copy computes it again
    memo = {id(tensor): tensor.detach().clone() for tensor in derived}
    return bake(copy.deepcopy(model, memo))

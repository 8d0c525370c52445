"""Write masks and parametrisations of other tools into the weights."""

from __future__ import annotations

from torch import nn
from torch.nn.utils import parametrize, prune


def bake(model: nn.Module) -> nn.Module:
    """Make ``torch.nn.utils.prune`` masks and ``torch.nn.utils.parametrize`` results permanent, in place."""
    for module in model.modules():
        for name in [name.removesuffix("_orig") for name in module._parameters if name.endswith("_orig")]:
            if f"{name}_mask" in module._buffers:
                prune.remove(module, name)
        if parametrize.is_parametrized(module):
            for name in list(module.parametrizations):  # type: ignore[arg-type]
                parametrize.remove_parametrizations(module, str(name), leave_parametrized=True)
    return model

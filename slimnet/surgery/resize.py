"""A layer's own numbers, such as ``in_channels``, after its tensors were cut."""

from __future__ import annotations

from functools import singledispatch

from torch import nn


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
    depth = module.in_channels // module.groups  # input channels a convolution group
    module.in_channels = module.weight.shape[0]
    if module.groups > 1:
        module.groups = module.in_channels // depth
    module.out_channels = module.weight.shape[1] * module.groups


@resize.register
def _(module: nn.Linear) -> None:
    module.out_features, module.in_features = module.weight.shape


@resize.register(nn.modules.batchnorm._NormBase)
def _(module: nn.modules.batchnorm._NormBase) -> None:
    tensor = module.weight if module.weight is not None else module.running_mean
    if tensor is not None:
        module.num_features = len(tensor)


@resize.register
def _(module: nn.GroupNorm) -> None:
    if module.weight is not None:
        depth = module.num_channels // module.num_groups  # channels a norm group
        module.num_channels = len(module.weight)
        module.num_groups = module.num_channels // depth


@resize.register
def _(module: nn.PReLU) -> None:
    module.num_parameters = len(module.weight)

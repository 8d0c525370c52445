"""Networks for pictures of another number of channels than they were written for."""

from __future__ import annotations

from torch import nn

from slimnet.errors import ModelError


def channels_read(model: nn.Module) -> int | None:
    """Channels of the first convolution, in the order of the modules; None where there is none, or it is grouped."""
    first = next((module for module in model.modules() if isinstance(module, nn.Conv2d)), None)
    return None if first is None or first.groups != 1 else first.in_channels


def replace_stem(model: nn.Module, name: str, in_channels: int) -> None:
    """Put, in place, a first convolution that reads ``in_channels``, initialised as the old one's kind is.

    A first convolution that reads as many already is left as it is.

    Args:
        model: a network for pictures of three channels, or of ``in_channels``.
        name: what an error calls it.
        in_channels: channels of the pictures that it is to take.

    Raises:
        ModelError: if it has no first convolution that reads three channels, or ``in_channels``.
    """
    if channels_read(model) == in_channels:
        return
    found = next((item for item in model.named_modules() if isinstance(item[1], nn.Conv2d)), None)
    if found is None or not found[0] or found[1].in_channels != 3 or found[1].groups != 1:
        raise ModelError(f"{name} has no first convolution that reads 3 channels: it cannot take {in_channels}.")
    path, old = found
    assert isinstance(old, nn.Conv2d)
    new = nn.Conv2d(
        in_channels,
        old.out_channels,
        old.kernel_size,  # type: ignore[arg-type]  # torch annotates the attribute as tuple[int, ...]
        stride=old.stride,  # type: ignore[arg-type]
        padding=old.padding,  # type: ignore[arg-type]
        dilation=old.dilation,  # type: ignore[arg-type]
        bias=old.bias is not None,
        padding_mode=old.padding_mode,
    )
    nn.init.kaiming_normal_(new.weight, mode="fan_out", nonlinearity="relu")
    if new.bias is not None:
        nn.init.zeros_(new.bias)
    parent, _, child = path.rpartition(".")
    setattr(model.get_submodule(parent), child, new)

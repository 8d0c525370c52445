"""How many classes and input channels a network has in a file of weights, by building it and comparing shapes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import torch
from torch import nn

from slimnet.errors import ModelError
from slimnet.models._stem import channels_read
from slimnet.models.weights import read_state_dict, read_weights

Build = Callable[[int, int], nn.Module]
"""Builds the network for a number of classes and of input channels."""
_CLASSES, _OTHER_CLASSES = 1009, 1013  # primes: no layer inside of a network is as wide by chance
_CHANNELS, _OTHER_CHANNELS, _MOST_CHANNELS = 3, 1, 4
Shapes = Mapping[str, torch.Size]


def find_sizes(build: Build, path: Path, *, key: str | None = None) -> tuple[int, int]:
    """Classes and input channels of the network whose weights a file holds.

    The network is built thrice without memory (on ``meta``): entries whose shapes change with the number of classes, or of
    channels, tell it by their shapes in the file. Where nothing changes, it is the network's own number of channels, and the
    length of the last weight.

    Args:
        build: of the network, for a number of classes and channels.
        path: of the weights.
        key: see `load_weights`.

    Raises:
        FileFormatError: as in `load_weights`.
        ModelError: if the network cannot be built.
    """
    network = _network(build, _CLASSES, _CHANNELS)
    first = network.state_dict()
    given = {name: tensor.shape for name, tensor in read_weights(path, first, key=key).tensors.items()}
    usual = {name: tensor.shape for name, tensor in first.items()}
    classes = _solved(given, usual, _shapes(build, _OTHER_CLASSES, _CHANNELS), (_CLASSES, _OTHER_CLASSES))
    channels = _solved(given, usual, _shapes(build, _CLASSES, _OTHER_CHANNELS), (_CHANNELS, _OTHER_CHANNELS))
    return classes or _last(given, path), channels or _own_channels(network)


def find_heads(build: Build, classes: int, channels: int) -> tuple[str, ...]:
    """Names of the modules whose shapes change with the number of classes."""
    one, other = (_shapes(build, number, channels) for number in (classes, classes + 1))
    changed = (name.rpartition(".")[0] for name in one if name in other and one[name] != other[name])
    return tuple(dict.fromkeys(changed))


def _shapes(build: Build, classes: int, channels: int) -> Shapes:
    """Of a network of another size; none where it can only be built in one."""
    try:
        return {name: tensor.shape for name, tensor in _network(build, classes, channels).state_dict().items()}
    except ModelError:
        return {}


def _own_channels(network: nn.Module) -> int:
    """Channels of the pictures that it reads: three, unless its first convolution is for other pictures."""
    read = channels_read(network)
    return read if read is not None and read <= _MOST_CHANNELS else _CHANNELS


def _network(build: Build, classes: int, channels: int) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        try:
            with torch.device("meta"):
                return build(classes, channels)
        except (ModelError, NotImplementedError, RuntimeError):  # a factory that looks at values, which there are none of
            return build(classes, channels)


def _solved(given: Shapes, one: Shapes, other: Shapes, numbers: tuple[int, int]) -> int:
    """The number for which the network has the given shapes, by most entries; 0 where none tells."""
    votes = Counter(number for name in given for number in _numbers(given[name], one.get(name), other.get(name), numbers))
    return votes.most_common(1)[0][0] if votes else 0


def _numbers(given: torch.Size, one: torch.Size | None, other: torch.Size | None, numbers: tuple[int, int]) -> Iterator[int]:
    """From each length that goes with the number in a straight line: a · number + b."""
    if one is None or other is None or not len(given) == len(one) == len(other):
        return
    for length, first, second in zip(given, one, other, strict=True):
        if first != second:
            slope, rest = divmod(second - first, numbers[1] - numbers[0])
            number, more = divmod(length - first, slope) if not rest else (0, 1)
            if not more and number + numbers[0] > 0:
                yield number + numbers[0]


def _last(given: Shapes, path: Path) -> int:
    lengths = [shape[0] for shape in given.values() if len(shape) >= 2]
    lengths = lengths or [tensor.shape[0] for tensor in read_state_dict(path).values() if tensor.dim() >= 2]
    return lengths[-1] if lengths else 1

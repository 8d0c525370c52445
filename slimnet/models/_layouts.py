"""Where in a checkpoint the state dicts are, and which of them is meant."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from slimnet.errors import FileFormatError, did_you_mean
from slimnet.models._unpickled import Aside, code_in, kind_of

PLAIN = ("state_dict", "model_state_dict", "model", "net", "network", "module", "model_state", "weights", "params", "student")
"""Keys of plain weights, the likeliest first. What is unknown comes after them."""
AVERAGED = ("ema", "average", "avg", "swa", "teacher", "momentum", "target_encoder")
"""Words in the key of an average of the weights, or of a network that follows."""
_NOT_WEIGHTS = ("optim", "scheduler", "scaler", "loss", "criterion", "callback", "loops", "rng", "sampler")
_DEPTH, _SHOWN = 4, 3


@dataclass(frozen=True)
class StateDict:
    """A state dict in a file.

    Attributes:
        key: where it is: ``"state_dict"``, ``"model.ema"``; empty where it is all of the file.
        tensors: by name.
    """

    key: str
    tensors: dict[str, Tensor]

    @property
    def is_average(self) -> bool:
        """Whether its key says that it is no plain weights."""
        return any(word in self.key.lower() for word in AVERAGED)

    @property
    def rank(self) -> tuple[bool, int]:
        """The less, the likelier it is meant."""
        last = self.key.rpartition(".")[2]
        return self.is_average, PLAIN.index(last) if last in PLAIN else len(PLAIN) * bool(self.key)


def state_dicts(path: Path, value: Any) -> tuple[StateDict, ...]:
    """All that a file holds, the likeliest first.

    Raises:
        FileFormatError: if there is none, saying what there is instead.
    """
    found = sorted(_found(value, "", _DEPTH), key=lambda each: each.rank)
    if not found:
        raise FileFormatError(_reason(path, value))
    return tuple(found)


def _found(value: Any, key: str, depth: int) -> Iterator[StateDict]:
    """Mappings from names to tensors; a list that holds itself ends at the depth."""
    if not isinstance(value, Mapping) or not depth:
        return
    if value and all(isinstance(entry, Tensor) or _is_extra(name) for name, entry in value.items()):
        tensors = {str(name): entry for name, entry in value.items() if isinstance(entry, Tensor)}
        if tensors:
            yield StateDict(key, tensors)
        return
    for name, entry in value.items():
        if isinstance(name, str) and not any(word in name.lower() for word in _NOT_WEIGHTS):
            yield from _found(entry, f"{key}.{name}" if key else name, depth - 1)


def _is_extra(name: Any) -> bool:
    """Of a state dict, what modules keep beside tensors."""
    return isinstance(name, str) and name.endswith("_extra_state")


def choose(path: Path, found: Sequence[StateDict], key: str | None) -> StateDict | None:
    """The state dict under a key, or whose names begin with it; None where no key is given.

    Raises:
        FileFormatError: if nothing is there.
    """
    if key is None:
        return None
    for each in found:
        if each.key == key or each.key.endswith(f".{key}"):
            return each
    for each in found:
        inner = {name.removeprefix(f"{key}."): tensor for name, tensor in each.tensors.items() if name.startswith(f"{key}.")}
        if inner:
            return StateDict(f"{each.key}.{key}" if each.key else key, inner)
    known = [each.key for each in found if each.key]
    raise FileFormatError(f"{path} holds no weights under {key!r}" + did_you_mean(key, known, _known(known)))


def _known(keys: Sequence[str]) -> str:
    return f": it holds {', '.join(keys)}." if keys else ": it is one state dict, leave the key out."


def _reason(path: Path, value: Any) -> str:
    """Why there is no state dict in it."""
    if isinstance(value, Aside):
        return code_in(path, kind_of(value))
    if not isinstance(value, Mapping) or not value:
        return f"{path} holds no state dict (it holds a {kind_of(value)})."
    whole = [name for name, entry in value.items() if isinstance(entry, Aside) and str(name) in (*PLAIN, "ema", "model_ema")]
    if whole:
        return f"{code_in(path, kind_of(value[whole[0]]))} It is under {str(whole[0])!r}."
    if _deepest(value) is not value:
        return f"{path} holds no state dict: " + few([f"{name} ({kind_of(entry)})" for name, entry in value.items()]) + "."
    other = [f"{name} ({kind_of(entry)})" for name, entry in value.items() if not isinstance(entry, Tensor)]
    return f"{path} is not a plain state dict: not tensors are {few(other)}."


def _deepest(value: Mapping[Any, Any]) -> Mapping[Any, Any]:
    return next((entry for entry in value.values() if isinstance(entry, Mapping)), value)


def few(names: Sequence[str]) -> str:
    """The first names, and how many more there are."""
    rest = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {rest} more" if rest > 0 else "")

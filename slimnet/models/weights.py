"""Initial weights from files, without running any code that a file may hold."""

from __future__ import annotations

import pickle
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from slimnet.errors import FileFormatError, ModelError
from slimnet.files import read_tensors
from slimnet.models._bounds import check_archive, check_tensors
from slimnet.models._fitting import by_order, folded_to_grey, with_new_head

SUFFIXES = (".safetensors", ".pth", ".th", ".pt")
_NESTED = ("state_dict", "model", "model_state_dict")
_SHOWN = 3


def load_weights(model: nn.Module, path: str | Path, *, new_head: bool = False) -> tuple[str, ...]:
    """Load weights into ``model``, in place; all or nothing.

    A first kernel for RGB is summed where the model takes grey images. Into VGG-Face, whose entries have as many names as there
    are converters, a file loads by order too: where no name fits, and the number of entries and every shape do.

    Args:
        model: the network that the weights are for.
        path: a .safetensors, .pth, .th or .pt file. The last three hold a state dict, or a dict with it under
            ``state_dict``, ``model`` or ``model_state_dict``, read with ``weights_only=True``. A prefix
            ``module.`` on all names (DataParallel) is dropped.
        new_head: leave the model's own head where the file's has other shapes, for networks that say which modules that
            is (VGG-Face).

    Returns:
        What was adapted, a line each; empty where the file fits as it is.

    Raises:
        FileFormatError: if the file is missing, corrupt, of another kind, or holds pickled objects.
        ModelError: if names or shapes do not fit the model, or a value is not finite.
    """
    path = Path(path)
    state: Mapping[str, Tensor] = _without_prefix(read_state_dict(path), "module.")
    notes: tuple[str, ...] = ()
    for step in (by_order, folded_to_grey, *((with_new_head,) if new_head else ())):
        state, said = step(model, state)
        notes += said
    problem = _misfit(model, state)
    if problem:
        raise ModelError(f"{path} does not fit the model: {problem}.")
    bad = [name for name, tensor in state.items() if tensor.is_floating_point() and not _is_finite(tensor)]
    if bad:
        raise ModelError(f"{path} holds values that are NaN or infinite in {_few(bad)}.")
    model.load_state_dict(state)
    return tuple(f"{path.name}: {note}" for note in notes)


def _is_finite(tensor: Tensor) -> bool:
    wide = tensor.float() if tensor.itemsize == 1 else tensor  # torch asks this of no number of 8 bits
    return bool(wide.isfinite().all())


def first_and_last(path: Path) -> tuple[int, int]:
    """Channels that the network in a file of weights takes, and outputs that it gives, by its first and last weight.

    Raises:
        FileFormatError: if the file is missing, corrupt, not a plain state dict, or holds no weights.
    """
    shapes = [tuple(tensor.shape) for tensor in read_state_dict(path).values() if tensor.dim() >= 2]
    if not shapes:
        raise FileFormatError(f"{path} holds no weights of layers.")
    return shapes[0][1], shapes[-1][0]


def check_file(path: str | Path) -> None:
    """Refuse what cannot be a file of weights, without reading it.

    Raises:
        FileFormatError: if the file is missing, or of no kind that is known.
    """
    path = Path(path)
    if path.suffix not in SUFFIXES:
        raise FileFormatError(f"{path} is not a file of weights: known are {', '.join(SUFFIXES)}.")
    if not path.is_file():
        raise FileFormatError(f"{path} does not exist.")


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """Read the tensors of a file of weights, by name, on the CPU. They take about as much memory as the file is long.

    Raises:
        FileFormatError: as in `load_weights`.
    """
    check_file(path)
    if path.suffix == ".safetensors":
        return read_tensors(path)
    check_archive(path)
    value = _torch_load(path)
    for key in _NESTED:
        if isinstance(value, Mapping) and isinstance(value.get(key), Mapping):
            value = value[key]
    if not isinstance(value, Mapping) or not value:
        raise FileFormatError(f"{path} holds no state dict (it holds a {type(value).__name__}).")
    other = [f"{name} ({type(entry).__name__})" for name, entry in value.items() if not isinstance(entry, Tensor)]
    if other:
        raise FileFormatError(f"{path} is not a plain state dict: not tensors are {_few(other)}.")
    tensors = {str(name): tensor for name, tensor in value.items()}
    check_tensors(path, tensors)
    return tensors


def _torch_load(path: Path) -> Any:
    try:
        with warnings.catch_warnings(action="ignore"):  # torch warns of pickle protocols before it refuses the file
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if "GLOBAL" not in str(error):
            raise FileFormatError(f"{path} is not a readable file of weights: it may be corrupt or truncated.") from None
        raise FileFormatError(
            f"{path} holds pickled objects, not a plain state dict: reading it could run code. "
            "Save model.state_dict() instead of the model."
        ) from None
    except Exception:  # torch raises nearly anything on a damaged file: RuntimeError, EOFError, KeyError, struct.error …
        raise FileFormatError(f"{path} is not a readable file of weights: it may be corrupt or truncated.") from None


def _without_prefix(state: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    if not all(name.startswith(prefix) for name in state):
        return state
    return {name.removeprefix(prefix): tensor for name, tensor in state.items()}


def _misfit(model: nn.Module, state: Mapping[str, Tensor]) -> str:
    """Why ``state`` cannot be loaded; empty where it can."""
    wanted = model.state_dict()
    shapes = [name for name in wanted if name in state and wanted[name].shape != state[name].shape]
    # Files older than torch 0.4.1 have no such counters; load_state_dict starts them at zero.
    missing = [name for name in wanted if name not in state and not name.endswith("num_batches_tracked")]
    unexpected = [name for name in state if name not in wanted]
    head = _head(model)
    if shapes and not missing and not unexpected and {name.rpartition(".")[0] for name in shapes} == {head}:
        return _head_misfit(wanted[f"{head}.weight"], state[f"{head}.weight"])
    shown = [f"{name} {tuple(state[name].shape)} for {tuple(wanted[name].shape)}" for name in shapes]
    parts = (("missing", missing), ("unexpected", unexpected), ("of another shape", shown))
    return "; ".join(f"{len(names)} {label}: {_few(names)}" for label, names in parts if names)


def _head(model: nn.Module) -> str:
    layers = [name for name, module in model.named_modules() if isinstance(module, nn.Linear | nn.Conv2d)]
    return layers[-1] if layers else ""


def _head_misfit(wanted: Tensor, given: Tensor) -> str:
    if wanted.shape[1:] == given.shape[1:]:
        return f"it was trained for {given.shape[0]} classes, the model has {wanted.shape[0]}"
    return f"its last layer reads {given.shape[1]} features, the model's reads {wanted.shape[1]}"


def _few(names: Sequence[str]) -> str:
    rest = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {rest} more" if rest > 0 else "")

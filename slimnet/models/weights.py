"""Weights from the files that people have, without running any code that a file may hold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from torch import Tensor, nn

from slimnet.errors import ModelError
from slimnet.files import read_tensors
from slimnet.models._baking import baked
from slimnet.models._bounds import check_archive, check_tensors
from slimnet.models._fitting import Heads, by_order, folded_to_grey, with_new_head
from slimnet.models._folders import is_index, read_shards, weights_file
from slimnet.models._kinds import kind_of_file
from slimnet.models._layouts import StateDict, choose, few, state_dicts
from slimnet.models._naming import find_naming, renamed
from slimnet.models._unpickled import torch_load

_MOST_TRIED = 16


def load_weights(
    model: nn.Module, path: str | Path, *, new_head: bool | Heads = False, key: str | None = None
) -> tuple[str, ...]:
    """Load weights into ``model``, in place; all or nothing.

    Which of several state dicts is meant, and what stands before its names, is found by what fits the model. Masks and
    parametrisations of `torch.nn.utils` are put into the weights. A first kernel for RGB is summed where the model takes grey
    images. Into VGG-Face, whose entries have as many names as there are converters, a file loads by order too: where no name
    fits, and the number of entries and every shape do.

    Args:
        model: the network that the weights are for.
        path: a file of torch's or of safetensors, whatever its suffix, or a folder with one (a run, or as accelerate and
            transformers save it, in shards too); see docs/checkpoints.md. Read with ``weights_only=True``.
        new_head: leave the model's own head where the file's has other shapes: True for networks that say which modules that
            is (VGG-Face), or a function that says it of others.
        key: of the state dict that is meant (``"state_dict_ema"``), or what the names of its entries begin with
            (``"student"``). Default: the plain weights; an average only where there are no others.

    Returns:
        What was chosen and adapted, a line each; empty where the file fits as it is.

    Raises:
        FileFormatError: if the file is missing, corrupt, of another kind, or holds a pickled model.
        ModelError: if names or shapes do not fit the model, or a value is not finite.
    """
    path = Path(path)
    weights = read_weights(path, model.state_dict(), key=key)
    state: Mapping[str, Tensor] = weights.tensors
    notes = weights.notes
    head = partial(with_new_head, heads=new_head if callable(new_head) else None)
    for step in (by_order, folded_to_grey, *((head,) if new_head else ())):
        state, said = step(model, state)
        notes += said
    problem = _misfit(model, state)
    if problem:
        raise ModelError(f"{path} does not fit the model: {problem}.")
    _check_values(path, model.state_dict(), state)
    model.load_state_dict(state)
    return tuple(f"{path.name}: {note}" for note in notes)


def _check_values(path: Path, wanted: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> None:
    """Refuse what would be no finite number in the model, and numbers of another kind than its weights."""
    other = [f"{name} ({tensor.dtype})" for name, tensor in state.items() if name in wanted
             and wanted[name].is_floating_point() and not tensor.is_floating_point()]  # fmt: skip
    if other:
        raise ModelError(f"{path} does not fit the model: not floating-point numbers are {few(other)}.")
    bad = [name for name, tensor in state.items() if tensor.is_floating_point() and not _is_finite(tensor.to(wanted[name].dtype))]
    if bad:
        raise ModelError(f"{path} holds values that are NaN or infinite in {few(bad)}.")


def _is_finite(tensor: Tensor) -> bool:
    wide = tensor.float() if tensor.itemsize == 1 else tensor  # torch asks this of no number of 8 bits
    return bool(wide.isfinite().all())


@dataclass(frozen=True)
class Weights:
    """What was read.

    Attributes:
        tensors: by the network's names.
        notes: what was chosen and adapted, a line each.
    """

    tensors: Mapping[str, Tensor]
    notes: tuple[str, ...]


def read_weights(path: str | Path, wanted: Mapping[str, Tensor], *, key: str | None = None) -> Weights:
    """The state dict of a file that is meant for a network, by the network's names.

    Args:
        path: see `load_weights`.
        wanted: the state dict of the network; its names are looked at, not its values.
        key: see `load_weights`.

    Raises:
        FileFormatError: as in `load_weights`.
    """
    path = Path(path)
    found = _read(path)
    chosen = choose(path, found, key)
    notes = () if chosen is None or chosen in found else (f"took what is under {key!r}",)
    made = [(each, *_plain(path, each, wanted)) for each in ((chosen,) if chosen else _likely(found))]
    first, state, done = max(made, key=lambda one: find_naming(wanted, one[1]).hits)
    if len(found) > 1:
        others = [each.key for each in found if each is not first]
        notes = (f"took {first.key!r}; it holds {few(others)} too (--weights-key)",)
    tensors, said = renamed(wanted, state)
    return Weights(tensors, (*notes, *done, *said))


def _plain(path: Path, each: StateDict, wanted: Mapping[str, Tensor]) -> tuple[Mapping[str, Tensor], tuple[str, ...]]:
    """The tensors with plain weights, and what was done; as they are where the network has its weights in such parts too."""
    if find_naming(wanted, each.tensors).hits == len(wanted) == len(each.tensors):
        return each.tensors, ()
    return baked(path, each.tensors)


def _likely(found: Sequence[StateDict]) -> list[StateDict]:
    """The plain weights, or the averages where there are no others."""
    return [each for each in found if each.is_average == found[0].is_average][:_MOST_TRIED]


def check_file(path: str | Path) -> None:
    """Refuse what cannot be weights, by its first bytes.

    Raises:
        FileFormatError: if the file is missing, or of no kind that is known.
    """
    file = weights_file(Path(path))
    if not is_index(file):
        kind_of_file(file)


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """Read the tensors of a file of weights, by name, on the CPU: the likeliest state dict of several.

    They take about as much memory as the file is long.

    Raises:
        FileFormatError: as in `load_weights`.
    """
    return _read(path)[0].tensors


def _read(path: Path) -> tuple[StateDict, ...]:
    """All state dicts of a file, the likeliest first."""
    file = weights_file(path)
    if is_index(file):
        return (StateDict("", read_shards(file, _read_file)),)
    return _read_file(file)


def _read_file(path: Path) -> tuple[StateDict, ...]:
    if kind_of_file(path) == "safetensors":
        tensors = read_tensors(path)
        return (StateDict("", tensors),)
    check_archive(path)
    found = state_dicts(path, torch_load(path))
    for each in found:
        check_tensors(path, each.tensors)
    return found


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
    return "; ".join(f"{len(names)} {label}: {few(names)}" for label, names in parts if names)


def _head(model: nn.Module) -> str:
    layers = [name for name, module in model.named_modules() if isinstance(module, nn.Linear | nn.Conv2d)]
    return layers[-1] if layers else ""


def _head_misfit(wanted: Tensor, given: Tensor) -> str:
    if wanted.shape[1:] == given.shape[1:]:
        return f"it was trained for {given.shape[0]} classes, the model has {wanted.shape[0]}"
    return f"its last layer reads {given.shape[1]} features, the model's reads {wanted.shape[1]}"

"""A run that begins with a slim network: its weights at full size, cut again before the first step."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor, nn

from slimnet.data import recorded_classes
from slimnet.errors import ArgumentError, FileFormatError, ModelError, SurgeryError
from slimnet.files import read_json, read_tensors
from slimnet.files.untrusted import holds, member, refuse_links
from slimnet.methods import Dense
from slimnet.models import Trust, check_trusted
from slimnet.surgery import Plan, uncut
from slimnet.training.config import TrainConfig
from slimnet.training.state import State

CONFIG, PLAN, SLIM = "config.json", "plan.json", "slim.safetensors"


def is_slim_folder(path: Any) -> bool:
    """Whether a folder holds a slim network: what ``slimnet slim`` writes, or a bundle."""
    return isinstance(path, str | Path) and any((Path(path) / name).is_file() for name in (PLAN, "model.json"))


def slim_network(path: Path | str, trust_code: Trust) -> dict[str, Any]:
    """The settings ``model`` and, where there are some, ``model_args`` of the network that a slim one was cut from.

    Raises:
        FileFormatError: if the folder lacks a file, or holds links.
        ModelError: if a factory is to build it that is not trusted.
    """
    folder = Path(path)
    network = {name: value for name, value in _network(folder).items() if name in ("model", "model_args")}
    check_trusted(network["model"], folder / CONFIG, trust_code, network.get("model_args"))
    return network


def check_slim_start(config: TrainConfig) -> None:
    """Refuse settings that do not go with a slim network to begin with.

    Raises:
        ArgumentError: naming the setting.
    """
    folder = Path(str(config.init))
    found = _network(folder)["model"]
    if config.model != found:
        raise ArgumentError(f"`model` is {config.model!r}, the slim network in {folder} was cut from {found}: leave it out.")
    if not isinstance(config.method, Dense):
        raise ArgumentError(
            f"a slim network is trained on as it is, with method dense, not {config.method.name}: leave `method` out, "
            "or prune it further with `slimnet prune --finetune`."
        )
    if config.cut == "never":
        raise ArgumentError("`cut` 'never' does not go with a slim network to begin with: leave it out.")


def load_slim_start(model: nn.Module, path: Path | str) -> tuple[str, ...] | None:
    """Put the weights of a slim network into ``model``, which is of full size, in place: what was cut out is zero.

    Returns:
        The names of its outputs, in their order, where they are known.

    Raises:
        FileFormatError: if a file is missing, corrupt, or does not fit the others.
        ModelError: if the network of full size cannot be made again.
    """
    folder = Path(path)
    _network(folder)
    plan, tensors = _plan(folder), read_tensors(member(folder, SLIM))
    full = model.state_dict()
    if unknown := [name for name in tensors if name not in full]:
        raise FileFormatError(f"{folder / SLIM} does not fit the network: it holds {unknown[0]!r}.")
    try:
        model.load_state_dict(uncut(plan, tensors, full))
    except (SurgeryError, RuntimeError, LookupError) as error:
        raise ModelError(f"the slim network in {folder} cannot be trained on: {error}") from None
    if holds(folder, "model.json"):
        labels = read_json(member(folder, "model.json")).get("labels")
        return tuple(map(str, labels)) if isinstance(labels, list) else None
    return recorded_classes(folder / SLIM)


def cut_at_once(state: State, example: Tensor) -> None:
    """Cut what is zero out before the first step, in place.

    Args:
        state: a run before its first step.
        example: (N, C, H, W) on the device of its network.

    Raises:
        ModelError: if that would not compute the same.
    """
    plan = state.plan_cut(example)
    if isinstance(plan, str):
        raise ModelError(f"the slim network cannot be cut again: {plan}.")
    state.cut(plan)


def _network(folder: Path) -> dict[str, Any]:
    """``config.json`` of a slim network, once all its files are there."""
    refuse_links(folder)
    if missing := next((name for name in (CONFIG, PLAN, SLIM) if not holds(folder, name)), None):
        raise FileFormatError(f"{folder} is no slim network to be trained on: it holds no {missing}.")
    return read_json(member(folder, CONFIG), "network")


def _plan(folder: Path) -> Plan:
    try:
        return Plan.from_dict(read_json(member(folder, PLAN)))
    except FileFormatError as error:
        text = str(error)
        raise FileFormatError(text if str(folder) in text else f"{folder / PLAN}: {text}") from None

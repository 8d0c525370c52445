"""The small network of a bundle again, in PyTorch and without pickle."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slimnet.errors import ArgumentError, FileFormatError, GraphError, ModelError, SurgeryError, whole_text

if TYPE_CHECKING:
    from torch import nn

    from slimnet.models import Trust


def load_slim(path: Path | str, *, trust_code: Trust = False) -> nn.Module:
    """Build the small network of a bundle again in PyTorch, without pickle.

    Args:
        path: a bundle, or any folder with ``config.json``, ``plan.json`` and ``slim.safetensors``.
        trust_code: True, or ``"package.module:function"``: let a factory of the user's own that ``config.json`` names build the
            network, any or this one alone. Without it, only networks of slimnet, torchvision and timm are built.

    Returns:
        The slim model in eval mode, on the CPU. Of a plan that was made with ``as_graph`` it is a ``torch.fx.GraphModule``: the
        network is built and exported again, and the plan's numbers are written into it.

    Raises:
        FileFormatError: if a file is missing, corrupt, or does not fit the others; or if the folder holds a link.
        ModelError: if a factory is to build the network that is not trusted.
    """
    import torch

    from slimnet.bundle.manifest import is_compact
    from slimnet.files import read_json, read_tensors
    from slimnet.files.untrusted import holds, member, refuse_links
    from slimnet.surgery import Plan

    folder = Path(path)
    if folder.is_dir():
        refuse_links(folder)
    if holds(folder, "model.json") and is_compact(read_json(member(folder, "model.json"))):
        raise FileFormatError(f"{folder} is compact: it holds no weights for PyTorch. Run its ONNX file, or export all of it.")
    files = {name: member(folder, name) for name in ("config.json", "slim.safetensors", "plan.json")}
    config, tensors = read_json(files["config.json"], "network"), read_tensors(files["slim.safetensors"])
    described = read_json(files["plan.json"])
    is_graph = isinstance(described, dict) and "graph" in described  # torch.export notes the device in what it makes
    with torch.random.fork_rng(devices=[]):
        model = _bare_model(files["config.json"], config, trust_code, device="cpu" if is_graph else "meta")
    try:
        model = Plan.from_dict(described).apply(model)
    except (FileFormatError, GraphError, SurgeryError, LookupError, TypeError, ValueError, RuntimeError) as error:
        raise FileFormatError(f"{folder / 'plan.json'} does not fit {config['model']}: {error}") from None
    try:
        model.load_state_dict(tensors, assign=True)
    except RuntimeError as error:
        reason = whole_text(error)
        raise FileFormatError(f"{folder / 'slim.safetensors'} does not fit plan.json: {reason}") from None
    return model.eval()


def load_dense_shape(path: Path | str, *, trust_code: Trust = False) -> nn.Module:
    """The dense network of a bundle in PyTorch with fresh weights, the same every time: for its cost, not for its answers.

    A bundle holds the dense network's trained weights only inside ``dense.onnx``.

    Args:
        path: a bundle, or any folder with ``config.json``.
        trust_code: as for :func:`load_slim`.

    Raises:
        FileFormatError: if the file is missing or does not describe a network.
        ModelError: if a factory is to build it that is not trusted.
    """
    import torch

    from slimnet.files import read_json
    from slimnet.files.untrusted import member

    file = member(Path(path), "config.json")
    config = read_json(file, "network")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return _bare_model(file, config, trust_code, device="cpu").eval()


def _bare_model(file: Path, config: Mapping[str, Any], trust_code: Trust, device: str = "meta") -> nn.Module:
    """The network that ``config.json`` describes: without weights, or on another device with fresh ones."""
    import torch

    from slimnet.models import build_model, check_trusted

    name, arguments = config["model"], config.get("model_args", {})
    check_trusted(name, file, trust_code, arguments)
    build = partial(build_model, name, model_args=arguments, num_classes=config["num_classes"], in_channels=config["in_channels"])
    try:
        with torch.device(device):
            model = build()
        if device != "meta" or not _makes_tensors(model):
            return model
        with torch.random.fork_rng(devices=[]):  # on the meta device they have no values, and no file has them
            return build()
    except (ArgumentError, ModelError) as error:
        raise FileFormatError(f"{file}: {error}") from None


def _makes_tensors(model: nn.Module) -> bool:
    """Whether a network makes tensors when it is built that are in no file of its weights."""
    import torch

    held = model.state_dict().keys()
    if any(name not in held for name, _ in model.named_buffers()):
        return True
    return any(isinstance(value, torch.Tensor) for module in model.modules() for value in vars(module).values())

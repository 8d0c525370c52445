"""A network whose tensors and modules are exchanged by name, in place."""

from __future__ import annotations

from collections import defaultdict

import torch
from torch import Tensor, nn

from slimnet.errors import SurgeryError

OTHER = "the plan was made for another network"


class Parts:
    """The modules and tensors of a network that is operated on, by name.

    Attributes:
        model: the network.
        like: a floating-point parameter, for the kind and the device of what is made; an empty tensor where there is none.
    """

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.like = next((p.detach() for p in model.parameters() if p.is_floating_point()), torch.empty(0))
        self._places: dict[int, list[tuple[nn.Module, str]]] = defaultdict(list)
        for module in model.modules():
            for name, tensor in (*module._parameters.items(), *module._buffers.items()):
                if tensor is not None:
                    self._places[id(tensor)].append((module, name))

    def module(self, path: str) -> nn.Module:
        """A module by its path.

        Raises:
            SurgeryError: if there is none.
        """
        try:
            return self.model.get_submodule(path)
        except AttributeError:
            raise SurgeryError(f"the network has no module {path!r}: {OTHER}.") from None

    def has_tensor(self, name: str) -> bool:
        """Whether there is a parameter or buffer of this name, set."""
        path, _, attribute = name.rpartition(".")
        return isinstance(getattr(self.module(path), attribute, None), Tensor)

    def tensor(self, name: str) -> Tensor:
        """A parameter or buffer by its name.

        Raises:
            SurgeryError: if there is none.
        """
        path, _, attribute = name.rpartition(".")
        value = getattr(self.module(path), attribute, None)
        if not isinstance(value, Tensor):
            raise SurgeryError(f"the network has no tensor {name!r}: {OTHER}.")
        return value

    def put(self, name: str, new: Tensor) -> None:
        """Register ``new`` in place of a tensor, wherever that is registered; as a parameter where that is one."""
        old = self.tensor(name)
        is_parameter = isinstance(old, nn.Parameter)
        made = nn.Parameter(new, requires_grad=old.requires_grad) if is_parameter else new
        places = self._places.pop(id(old), [])
        for module, attribute in places:
            (module._parameters if is_parameter else module._buffers)[attribute] = made  # type: ignore[assignment]
        self._places[id(made)] = places

    def add_parameter(self, name: str, value: nn.Parameter) -> None:
        """Register a parameter where there was none."""
        path, _, attribute = name.rpartition(".")
        module = self.module(path)
        module._parameters[attribute] = value
        self._places[id(value)].append((module, attribute))

    def replace(self, path: str, module: nn.Module) -> None:
        """Put another module at a path, in the mode of the old one."""
        old = self.module(path)
        parent, _, name = path.rpartition(".")
        setattr(self.module(parent), name, module.train(old.training))

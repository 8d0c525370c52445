"""Networks from the user's own code: ``package.module:function``. To build one runs that code; see `slimnet.models.trust`."""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch import nn

from slimnet._foreign import no_exit
from slimnet.errors import ModelError, whole_text


def build(name: str, *, num_classes: int, in_channels: int) -> nn.Module:
    """Call the factory ``name`` with those of the two arguments that it takes.

    Raises:
        ModelError: if there is no such factory, it fails, it returns no ``nn.Module``, or it takes no
            ``in_channels`` and a number other than 3 was asked for.
    """
    factory = find(name)
    with _current_directory_last():
        arguments = {"num_classes": num_classes, "in_channels": in_channels}
        taken = _taken(factory, arguments)
        if in_channels != 3 and "in_channels" not in taken:
            raise ModelError(f"{name} takes no `in_channels`: it cannot be built for {in_channels} input channels.")
        try:
            with no_exit(name):
                model = factory(**taken)
        except Exception as error:
            raise ModelError(f"{name} failed: {_line(error)}") from error
    if not isinstance(model, nn.Module):
        raise ModelError(f"{name} must return an nn.Module, it returned a {type(model).__name__}.")
    return model


def find(name: str) -> Callable[..., Any]:
    """The factory of that name.

    Raises:
        ModelError: if there is none.
    """
    with _current_directory_last():
        return _find(name)


def _find(name: str) -> Callable[..., Any]:
    module_name, _, function_name = name.partition(":")
    if not module_name or not function_name or module_name.startswith("."):
        raise ModelError(f"{name!r} is not of the form package.module:function.")
    try:
        with no_exit(module_name):
            found = importlib.import_module(module_name)
    except Exception as error:
        raise ModelError(f"Cannot import {module_name} for the model {name!r}: {_line(error)}") from error
    factory = getattr(found, function_name, None)
    if not callable(factory):
        raise ModelError(f"{module_name} has no function {function_name!r}: the model {name!r} cannot be built.")
    return factory  # type: ignore[no-any-return]


def _taken(factory: Callable[..., Any], arguments: dict[str, int]) -> dict[str, int]:
    """The arguments that the factory has a parameter for, or all where it takes any keyword."""
    parameters = inspect.signature(factory).parameters
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
        return arguments
    return {key: value for key, value in arguments.items() if key in parameters}


@contextmanager
def _current_directory_last() -> Iterator[None]:
    """Modules may lie in the current directory, but none there takes the place of an installed one."""
    here = str(Path.cwd())
    if here in sys.path:
        yield
        return
    sys.path.append(here)
    try:
        yield
    finally:
        sys.path.remove(here)


def _line(error: Exception) -> str:
    name, text = type(error).__name__, whole_text(error)
    return text if text == name else f"{name}: {text}"

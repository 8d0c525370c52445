"""Networks from the user's own code: ``FILE.py:function`` and ``package.module:function``.

To build one runs that code; see `slimnet.models.trust`.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import inspect
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import nn

from slimnet._foreign import no_exit
from slimnet.errors import ModelError, SlimnetError, did_you_mean, whole_text
from slimnet.models._stem import replace_stem
from slimnet.models.trust import is_factory

_CHANNELS = ("in_channels", "in_chans")
_UNEXPECTED = re.compile(r"unexpected keyword argument '(\w+)'")


def build(name: str, arguments: Mapping[str, Any], *, num_classes: int, in_channels: int) -> nn.Module:
    """Call the factory ``name`` with those of the two numbers that it takes, and with ``arguments``.

    Raises:
        ModelError: if there is no such factory, it fails, it returns no ``nn.Module``, it does not take an argument; or it takes
            neither ``in_channels`` nor ``in_chans``, and its network has no first convolution that can be replaced.
    """
    with _also_from(Path.cwd(), *([_file(name).parent] if is_file(name) else [])):
        return call(name, _find(name), arguments, num_classes=num_classes, in_channels=in_channels)


def call(
    name: str, factory: Callable[..., Any], arguments: Mapping[str, Any], *, num_classes: int, in_channels: int
) -> nn.Module:
    """The same for a factory that was found.

    Raises:
        ModelError: as in :func:`build`.
    """
    takes, is_open = _parameters(factory)
    for argument in arguments:
        if not is_open and argument not in takes:
            raise ModelError(f"{name} takes no argument `{argument}`{did_you_mean(argument, takes)}")
    spelled = next((spelling for spelling in _CHANNELS if spelling in takes), _CHANNELS[0])
    offered = {key: value for key, value in (("num_classes", num_classes), (spelled, in_channels)) if is_open or key in takes}
    try:
        with no_exit(name):
            model, taken = _called(factory, offered, arguments)
    except Exception as error:
        if isinstance(error, SlimnetError) and not is_factory(name):  # of slimnet's own network: it says what to do
            raise
        raise ModelError(f"{name} failed: {_line(error)}") from error
    if not isinstance(model, nn.Module):
        raise ModelError(f"{name} must return an nn.Module, it returned a {type(model).__name__}.")
    if in_channels != 3 and not taken & {*_CHANNELS}:
        replace_stem(model, name, in_channels)
    return model


def _called(factory: Callable[..., Any], offered: dict[str, int], arguments: Mapping[str, Any]) -> tuple[Any, set[str]]:
    """What the factory makes, and which of the numbers it took: one that takes any keyword may hand them on to another."""
    while True:
        try:
            return factory(**offered, **arguments), set(offered)
        except TypeError as error:
            refused = _UNEXPECTED.search(str(error))
            if refused is None or refused[1] not in offered:
                raise
            value = offered.pop(refused[1])
            if refused[1] == _CHANNELS[0]:
                offered[_CHANNELS[1]] = value


def _parameters(factory: Callable[..., Any]) -> tuple[tuple[str, ...], bool]:
    """Names of the parameters of a factory, and whether it takes any keyword."""
    try:
        parameters = inspect.signature(factory).parameters.values()
    except (TypeError, ValueError):  # one that is not written in Python
        return (), True
    named = tuple(one.name for one in parameters if one.kind in (one.POSITIONAL_OR_KEYWORD, one.KEYWORD_ONLY))
    return named, any(one.kind is one.VAR_KEYWORD for one in parameters)


def is_file(name: str) -> bool:
    """Whether the name is of a factory in a file: ``FILE.py:function``."""
    return name.rpartition(":")[0].endswith(".py")


def find(name: str) -> Callable[..., Any]:
    """The factory of that name.

    Raises:
        ModelError: if there is none.
    """
    with _also_from(Path.cwd(), *([_file(name).parent] if is_file(name) else [])):
        return _find(name)


def _find(name: str) -> Callable[..., Any]:
    module_name, _, function_name = name.rpartition(":") if is_file(name) else name.partition(":")
    if not module_name or not function_name or (module_name.startswith(".") and not is_file(name)):
        raise ModelError(f"{name!r} is not of the form package.module:function or FILE.py:function.")
    if is_file(name) and not _file(name).is_file():
        raise ModelError(f"{module_name} does not exist: the model {name!r} cannot be built.")
    try:
        with no_exit(module_name):
            found = _from_file(_file(name)) if is_file(name) else importlib.import_module(module_name)
    except Exception as error:
        raise ModelError(f"Cannot import {module_name} for the model {name!r}: {_line(error)}") from error
    factory = getattr(found, function_name, None)
    if not callable(factory):
        near = did_you_mean(function_name, [key for key, value in vars(found).items() if callable(value)], ".")
        raise ModelError(f"{module_name} has no function {function_name!r}: the model {name!r} cannot be built{near}")
    return factory  # type: ignore[no-any-return]


def _file(name: str) -> Path:
    return Path(name.rpartition(":")[0]).resolve()


def _from_file(path: Path) -> ModuleType:
    """The module in a file, under a name of its own for what the file holds now."""
    source = path.read_bytes()
    digest = hashlib.sha256(str(path).encode() + source).hexdigest()[:16]
    name = f"_slimnet_model_{path.stem}_{digest}"
    if name in sys.modules:
        return sys.modules[name]
    loader = SourceFileLoader(name, str(path))
    spec = importlib.util.spec_from_file_location(name, path, loader=loader)
    assert spec is not None
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    try:
        # Not by the loader: compiled code beside the file counts as the same for a second, where the length is the same too.
        exec(loader.source_to_code(source, str(path)), module.__dict__)
    except BaseException:
        del sys.modules[name]
        raise
    return module


@contextmanager
def _also_from(*folders: Path) -> Iterator[None]:
    """Modules may lie in these folders, but none there takes the place of an installed one."""
    added = [text for text in dict.fromkeys(map(str, folders)) if text not in sys.path]
    sys.path.extend(added)
    try:
        yield
    finally:
        for text in added:
            if text in sys.path:
                sys.path.remove(text)


def _line(error: Exception) -> str:
    name, text = type(error).__name__, whole_text(error)
    return text if text == name else f"{name}: {text}"

"""What torch saved, without running any code that it may hold: tensors, plain containers, and stand-ins for all else.

Beside the weights, people keep options (``argparse.Namespace``), numpy scalars, paths, meters of their own. torch refuses a file
with any of these, although none is needed. So each such name gets a *stand-in*, told to torch as ``(class, "its.name")``: the
name is never looked up, no module of it is imported, and what would have been called is a class of ours that takes no notice of
its arguments. A file gains nothing by naming a class that does harm: it gets the same empty object. Nor memory: numpy's
``_reconstruct`` would make an array as large as the file asks for; its stand-in makes none.
"""

from __future__ import annotations

import pickle
import re
import warnings
from collections import OrderedDict
from pathlib import Path
from typing import Any

import torch

from slimnet.errors import FileFormatError

DAMAGED = "is not a readable file of weights: it may be corrupt or truncated"


class Aside:
    """Something beside the weights that was not read: made of nothing, keeps nothing."""

    def __new__(cls, *_: Any, **__: Any) -> Any:
        """Without its arguments."""
        return object.__new__(cls)

    def __init__(self, *_: Any, **__: Any) -> None: ...

    def __setstate__(self, _: Any) -> None:
        """Keep nothing."""


class _Dict(Aside):
    """Of a kind of dictionary: the plain one, whose entries torch itself puts in."""

    def __new__(cls, *_: Any, **__: Any) -> Any:
        """Without its arguments."""
        return OrderedDict()


class _List(Aside):
    """Of a kind of list, likewise."""

    def __new__(cls, *_: Any, **__: Any) -> Any:
        """Without its arguments."""
        return []


_USUAL: dict[str, type[Aside]] = {
    "argparse.Namespace": Aside,  # timm, torchvision's references, he-y's pruning: the options of the command line
    **{f"numpy.{core}.multiarray.{name}": Aside for core in ("core", "_core") for name in ("scalar", "_reconstruct")},
    "numpy.dtype": Aside,  # numpy's scalars and arrays: best_acc, the state of a random generator
    "numpy.ndarray": Aside,
    **{f"pathlib.{local}{kind}Path": Aside for local in ("", "_local.") for kind in ("Posix", "Windows", "PurePosix")},
    **{f"datetime.{name}": Aside for name in ("datetime", "date", "timedelta", "timezone")},
    **{
        f"builtins.{name}": Aside
        for name in ("dict", "list", "tuple", "int", "float", "bool", "str", "frozenset", "range", "slice")
    },
    "collections.defaultdict": _Dict,
    "collections.deque": _List,
    "lightning.pytorch.utilities.parsing.AttributeDict": _Dict,  # Lightning: save_hyperparameters
    "pytorch_lightning.utilities.parsing.AttributeDict": _Dict,
}
"""What is found so often that it is stood in for at once. Other names are learnt from torch's refusal, one a try."""
_MOST_KINDS = 40
_UNKNOWN = re.compile(r"Unsupported global: GLOBAL (\S+) was not an allowed global")
_CONTAINER = re.compile(r"Can only (SETITEM|SETITEMS|append) .*but got <class '([^']+)'>", re.DOTALL)
_RUNS_CODE = re.compile(r"(builtins\.)?(eval|exec|compile|open|getattr|setattr|delattr|input|breakpoint|globals|vars|__import__)")


def torch_load(path: Path) -> Any:
    """What torch saved in a file: what is no tensor and no plain container is an `Aside`.

    Raises:
        FileFormatError: if the file is corrupt, or asks for a function that runs code.
    """
    kinds, encoding = dict(_USUAL), "utf-8"
    for _ in range(_MOST_KINDS):
        try:
            with warnings.catch_warnings(action="ignore"), torch.serialization.safe_globals(_stand_ins(kinds)):
                return torch.load(path, map_location="cpu", weights_only=True, encoding=encoding)
        except pickle.UnpicklingError as error:
            if not _learns(path, kinds, str(error)):
                raise FileFormatError(f"{path} {DAMAGED}.") from None
        except UnicodeDecodeError:  # bytes of Python 2: numpy's scalars
            if encoding == "latin1":
                raise FileFormatError(f"{path} {DAMAGED}.") from None
            encoding = "latin1"
        except Exception:  # torch raises nearly anything on a damaged file: RuntimeError, EOFError, KeyError, struct.error …
            raise FileFormatError(f"{path} {DAMAGED}.") from None
    raise FileFormatError(f"{path} holds pickled objects of more than {_MOST_KINDS} kinds: save model.state_dict() alone.")


def _stand_ins(kinds: dict[str, type[Aside]]) -> list[Any]:
    return [(type(name, (base,), {"__module__": None}), name) for name, base in kinds.items()]


def _learns(path: Path, kinds: dict[str, type[Aside]], refusal: str) -> bool:
    """Whether torch may be asked again, with a stand-in more, or one of another kind.

    Raises:
        FileFormatError: if the file asks for a function that runs code.
    """
    if "is blocked" in refusal:  # os, sys: torch lets nobody stand in for them
        raise FileFormatError(code_in(path, refusal.partition("GLOBAL ")[2].partition(" ")[0]))
    if (unknown := _UNKNOWN.search(refusal)) is not None:
        name = unknown[1]
        if _RUNS_CODE.fullmatch(name):
            raise FileFormatError(code_in(path, name))
        # torch leaves "builtins" away in what it says
        known = name if "." in name else f"builtins.{name}"
        if known in kinds:
            return False
        kinds[known] = Aside
        return True
    if (container := _CONTAINER.search(refusal)) is not None:
        name, base = container[2], _List if container[1] == "append" else _Dict
        if kinds.get(name) is Aside:
            kinds[name] = base
            return True
    return False


def code_in(path: Path, name: str) -> str:
    """That a file would run code, and what to do."""
    return (
        f"{path} holds pickled objects, not a plain state dict: reading it with {name} could run code. "
        "Save model.state_dict() instead of the model."
    )


def kind_of(value: Any) -> str:
    """What a value is called in a message."""
    return type(value).__name__

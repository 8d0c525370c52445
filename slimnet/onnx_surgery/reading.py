"""An ONNX file as a module that torch.export can follow: what can be followed of it, and where that ends."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from slimnet.errors import ArgumentError, FileFormatError, GraphError, one_line
from slimnet.onnx.file import MAX_GIVEN
from slimnet.onnx.program import Document, Input, OnnxModel, Op, Program
from slimnet.onnx.save import contents
from slimnet.onnx_surgery.layers import Origin, steps_of
from slimnet.onnx_surgery.modules import Reshape
from slimnet.onnx_surgery.operators import NotFollowedError

BATCH = 2
_KINDS = ("float16", "float32", "float64", "int8", "int32", "int64", "uint8", "bool")
SIDE = 224
"""Sides of pictures where neither the file nor the caller says any."""


@dataclass(frozen=True, eq=False)
class Place:
    """A module and the node that it computes."""

    path: str
    op: Op
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    origins: dict[str, Origin]
    attributes: dict[str, Any]


class OnnxNetwork(nn.Module):
    """What an ONNX file computes, a module a node. It takes the file's inputs in order; its outputs are the file's, and what
    nodes read that are not followed.

    Attributes:
        places: what computes what, in order.
        outputs: names of the values that come out.
        beyond: nodes that are not followed → why.
    """

    def __init__(self, document: Document, program: Program, refused: Mapping[str, str] | None = None) -> None:
        """``refused``: nodes that turned out not to be followed as the network ran → why."""
        super().__init__()
        self.document = document
        self.places: list[Place] = []
        self.beyond: dict[str, str] = {}
        self._inputs = tuple(each.name for each in program.inputs)
        self._names: set[str] = set()
        self.outputs: tuple[str, ...] = ()  # no node's module may take the name
        self._build(program, refused or {})

    def _build(self, program: Program, refused: Mapping[str, str]) -> None:
        followed, watched = set(self._inputs), []
        for op in program.ops:
            open_ = [name for name in op.reads if name not in program.constants]
            behind = [name for name in open_ if name not in followed]
            try:
                if behind or op.name in refused:
                    raise NotFollowedError("" if behind else refused[op.name])
                steps = steps_of(op, program.constants, program.opset)
            except NotFollowedError as error:
                if str(error):
                    self.beyond[f"{op.kind} ({op.name})"] = str(error)
                watched += [name for name in open_ if name in followed]
                continue
            for step in steps:
                path = self._path(op, step.suffix)
                self.add_module(path, step.module)
                self.places.append(Place(path, op, step.inputs, step.outputs, dict(step.origins), dict(step.attributes)))
            followed.update(op.outputs)
        wanted = [name for name in (*program.outputs, *watched) if name in followed and name not in self._inputs]
        self.outputs = tuple(dict.fromkeys(wanted))

    def _path(self, op: Op, suffix: str) -> str:
        """A name for the module: the node's, as Python can have it."""
        plain = re.sub(r"\W+", "_", f"{op.name}_{suffix}" if suffix else op.name).strip("_") or "node"
        name, count = plain, 0
        while name in self._names or hasattr(self, name):
            count += 1
            name = f"{plain}_{count}"
        self._names.add(name)
        return name

    def forward(self, *inputs: Any) -> Any:
        """The outputs, a tuple where there are several."""
        found = tuple(self.run(inputs).values())
        return found[0] if len(found) == 1 else found

    def write_original(self, path: Path) -> None:
        """Write the file that was read, as it was: to be timed, whatever the weights are by now."""
        path.write_bytes(contents(self.document.proto))

    def run(self, inputs: Sequence[Any]) -> dict[str, Any]:
        """The outputs by name."""
        values: dict[str, Any] = dict(zip(self._inputs, inputs, strict=True))
        for place in self.places:
            found = self.get_submodule(place.path)(*[values[name] for name in place.inputs])
            made = found if isinstance(found, tuple | list) else (found,)
            _check_size(place, made)
            values.update(zip(place.outputs, made, strict=False))
        return {name: values[name] for name in self.outputs}


def _check_size(place: Place, made: Sequence[Any]) -> None:
    """Refuse a tensor that no honest network makes.

    Raises:
        FileFormatError: naming the node.
    """
    for value in made:
        if isinstance(value, Tensor) and value.numel() > MAX_GIVEN:
            what = f"node {place.op.name!r} ({place.op.kind}) makes a tensor of {value.numel():,} values"
            raise FileFormatError(f"{what}: at most {MAX_GIVEN:,} are made.")


def _try_sizes(model: OnnxNetwork, inputs: tuple[Tensor, ...]) -> None:
    """Run it without numbers: what would take too much memory is found before it does.

    Raises:
        FileFormatError: naming the node.
    """
    with FakeTensorMode(allow_non_fake_inputs=True) as mode, torch.no_grad():
        try:
            model.run(tuple(mode.from_tensor(value) for value in inputs))
        except FileFormatError:
            raise
        except Exception:  # what it cannot do without numbers, it does with them next
            return


class OneInputNetwork(OnnxNetwork):
    """The same with one input, by position: exporters name it."""

    def forward(self, x: Any) -> Any:
        """The outputs, a tuple where there are several."""
        return super().forward(x)


@dataclass(frozen=True, eq=False)
class Reading:
    """An ONNX file that was read.

    Attributes:
        document: the file.
        program: what it computes.
        model: the same as a module, in eval mode.
        inputs: example inputs, random.
        is_rounded: whether some of its weights are computed from others, and are stored anew.
    """

    document: Document
    program: Program
    model: OnnxNetwork
    inputs: tuple[Tensor, ...]
    is_rounded: bool = False

    @property
    def batch(self) -> int | None:
        """Images a run, where the file fixes them."""
        shape = self.program.inputs[0].shape if self.program.inputs else None
        return shape[0] if shape else None

    @property
    def is_coarse(self) -> bool:
        """Whether it has weights of half precision."""
        return any(parameter.dtype == torch.float16 for parameter in self.model.parameters())


def read_onnx(
    source: Path | str | bytes | OnnxModel,
    inputs: tuple[Tensor, ...] | None = None,
    *,
    image_size: int | None = None,
    name: str | None = None,
) -> Reading:
    """Read an ONNX file into a module.

    Args:
        source: the file, its content, or an ``onnx.ModelProto``.
        inputs: example inputs; None: random ones, of the shapes that the file declares.
        image_size: sides of pictures where the file leaves them open; default 224.
        name: what an error calls it.

    Raises:
        ArgumentError: if it does not take so many inputs, or pictures of this size.
        FileFormatError: if it is no ONNX file, or asks for more than is allowed.
        GraphError: if it is quantised, nothing in it can be followed, or it does not run.
    """
    document = Document(Path(source) if isinstance(source, str) else source, name)
    quantised = document.quantised()
    if quantised:
        raise GraphError(
            f"{document.name} is quantised ({quantised}): give the floating-point file, and quantise what comes out of it."
        )
    program = document.program()
    if inputs is not None and len(inputs) != len(program.inputs):
        names = ", ".join(each.name for each in program.inputs)
        raise ArgumentError(f"{document.name} takes {len(program.inputs)} inputs ({names}), got {len(inputs)}.")
    _check_side(program, document.name, image_size)
    try:
        return _settled(document, program, inputs or _declared(program.inputs, image_size or SIDE, BATCH))
    except _NotRunningError as error:
        first = error
    _check_side(program, document.name, image_size)
    try:
        return _settled(document, program, inputs or _declared(program.inputs, image_size or SIDE, 1))
    except _NotRunningError:
        is_open = inputs is None and any(None in (each.shape or ())[1:] for each in program.inputs)
        hint = ": the file leaves the size open, give it (--image-size, `image_size` in Python)" if is_open else ""
        raise GraphError(f"{document.name} {first}{hint}.") from None


def _check_side(program: Program, name: str, side: int | None) -> None:
    """Refuse a size of pictures that the file does not take."""
    sizes = [size for given in program.inputs for size in (given.shape or (None,))[1:]]
    if side is not None and None not in sizes and side not in sizes:
        shapes = ", ".join(str(given.shape) for given in program.inputs).replace("None", "N")
        raise ArgumentError(f"{name} takes inputs of shape {shapes}: leave --image-size (`image_size`) out, it says {side}.")


class _NotRunningError(Exception):
    """A network that does not run on inputs of these shapes."""


def _settled(document: Document, program: Program, inputs: tuple[Tensor, ...]) -> Reading:
    """The module, once it has run: Reshapes know then what they count, and what is not followed has been found."""
    refused: dict[str, str] = {}
    while True:
        kind = OneInputNetwork if len(program.inputs) == 1 else OnnxNetwork
        model = kind(document, program, refused).eval()
        if not model.outputs:
            why = next(iter(f"{node}: {reason}" for node, reason in model.beyond.items()), "no output is computed")
            raise GraphError(f"nothing of {document.name} can be followed ({why}).")
        try:
            _try_sizes(model, inputs)
            with torch.no_grad():
                made = model.run(inputs)
            break
        except FileFormatError as error:
            raise FileFormatError(f"{document.name}: {error}") from None
        except NotFollowedError as error:
            if not error.node or error.node in refused:
                raise GraphError(f"{document.name} has {error}, which cannot be followed.") from None
            refused[error.node] = str(error)
        except Exception as error:
            shapes = ", ".join(str(tuple(value.shape)) for value in inputs)
            raise _NotRunningError(f"does not run on inputs of shape {shapes} ({one_line(error)})") from None
    model.outputs = tuple(name for name, value in made.items() if isinstance(value, Tensor))
    for module in model.modules():
        if isinstance(module, Reshape):
            module.settle()
    return Reading(document, program, model, inputs, document.computes_weights)


def _declared(inputs: Sequence[Input], side: int, batch: int) -> tuple[Tensor, ...]:
    """Random inputs of the shapes that a file declares.

    Raises:
        ArgumentError: if an input's number of dimensions is open.
    """
    shapes = []
    for given in inputs:
        if given.shape is None:
            raise ArgumentError(f"input {given.name!r} declares no shape: give the file one (onnx.tools.update_model_dims).")
        sizes = enumerate(given.shape)
        shapes.append([size or (batch if dim == 0 else _open_size(given.shape, dim, side)) for dim, size in sizes])
    return random_inputs(inputs, shapes)


def random_inputs(inputs: Sequence[Input], shapes: Sequence[Sequence[int]]) -> tuple[Tensor, ...]:
    """Random inputs of these shapes: normal, or whole numbers.

    Raises:
        GraphError: if an input takes numbers of a kind that is not known here.
    """
    generator = torch.Generator().manual_seed(0)
    return tuple(_random(given, shape, generator) for given, shape in zip(inputs, shapes, strict=True))


def _random(given: Input, shape: Sequence[int], generator: torch.Generator) -> Tensor:
    if given.dtype.name not in _KINDS:
        raise GraphError(f"input {given.name!r} takes numbers of kind {given.dtype.name}: it must be one of {', '.join(_KINDS)}.")
    kind = torch.from_numpy(np.zeros(1, given.dtype)).dtype
    if kind.is_floating_point:
        return torch.randn(list(shape), generator=generator, dtype=torch.float32).to(kind)
    high = 256 if kind == torch.uint8 else 2
    return torch.randint(0, high, list(shape), generator=generator).to(kind)


def _open_size(shape: Sequence[int | None], dim: int, side: int) -> int:
    """Three channels where those are open, else a side."""
    return 3 if dim == 1 and len(shape) == 4 and shape[2] and shape[3] else side

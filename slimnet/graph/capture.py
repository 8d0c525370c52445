"""The operators that a model runs, as ``torch.export`` sees them."""

from __future__ import annotations

import functools
import io
import linecache
import os
import re
import traceback
import warnings
from collections.abc import Callable, Mapping
from contextlib import redirect_stderr
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx import Node

from slimnet._clean import clean
from slimnet._foreign import no_exit, no_logs
from slimnet._modes import in_eval_mode, kept_attributes, with_flat_outputs
from slimnet.errors import ArgumentError, GraphError, one_line

_TORCH, _OURS = f"{Path(torch.__file__).parent}{os.sep}", f"{Path(__file__).parents[1]}{os.sep}"
_FRAME = re.compile(r'^\s*File "([^"\n]+)", line (\d+), in', re.MULTILINE)
_NOISY = ("torch.export", "torch.fx.experimental.symbolic_shapes")
ExampleInputs = Tensor | tuple[Tensor, ...]


@dataclass(frozen=True, eq=False)
class Program:
    """The operators of a model in the order in which they run.

    Attributes:
        nodes: the nodes of the exported graph.
        tensors: node name of a placeholder → full name and value of the parameter or buffer behind it.
        inputs: node names of the network's own inputs.
        lifted: node names of tensors that the model makes in its forward pass (neither parameters nor buffers).
        runs: how many runs of the network it was recorded in, where its control flow depends on data; 0: it holds for all inputs.
    """

    nodes: tuple[Node, ...]
    tensors: Mapping[str, tuple[str, Tensor]]
    inputs: frozenset[str]
    lifted: frozenset[str]
    runs: int = 0


class NotFollowedError(GraphError):
    """A network that ``torch.export`` does not get through.

    Attributes:
        why: where it stops.
        instead: what the user can do, to put behind; "" where nothing is known.
    """

    def __init__(self, why: str, instead: str) -> None:
        super().__init__(why + instead)
        self.why, self.instead = why, instead


def as_inputs(example_inputs: ExampleInputs) -> tuple[Tensor, ...]:
    """The example inputs as a tuple.

    Raises:
        ArgumentError: if they are not a tensor or a tuple of tensors, or there is nothing in one.
    """
    inputs = (example_inputs,) if isinstance(example_inputs, Tensor) else example_inputs
    inputs = tuple(inputs) if isinstance(inputs, list | tuple) else ()
    if not inputs or not all(isinstance(value, Tensor) for value in inputs):
        raise ArgumentError("`example_inputs` must be a tensor or a tuple of tensors.")
    for value in inputs:
        if not value.numel():
            raise ArgumentError(f"`example_inputs` holds a tensor without entries, of shape {tuple(value.shape)}.")
    return inputs


def check_model(model: nn.Module) -> None:
    """Refuse what has no weights to look at.

    Raises:
        GraphError: if the model was compiled by ``torch.jit``, or has weights that are not there yet.
    """
    if any(isinstance(module, torch.jit.ScriptModule) for module in model.modules()):
        raise GraphError(f"{type(model).__name__} was compiled by torch.jit: take the nn.Module that it was made from.")
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        if nn.parameter.is_lazy(tensor):
            raise GraphError(f"{name} is not initialised yet: run the network once on example inputs.")
        if tensor.is_meta:
            raise GraphError(f"{name} has no values (it is on the meta device): load weights first.")


def capture(model: nn.Module, example_inputs: ExampleInputs) -> Program:
    """Export ``model`` in eval mode; the model itself is left as it was.

    Args:
        model: any module that ``torch.export`` can follow.
        example_inputs: a tensor or tuple of tensors, batch first.

    Raises:
        NotFollowedError: if the model cannot run on the inputs, or its control flow depends on data.
        GraphError: if it has no weights to look at.
    """
    inputs = as_inputs(example_inputs)
    check_model(model)
    with in_eval_mode(model), torch.no_grad(), no_logs(*_NOISY), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            with no_exit(type(model).__name__), redirect_stderr(io.StringIO()):  # it prints graphs
                exported = export(model, inputs)
        except Exception as error:
            text = one_line(error).partition(" (unhinted")[0]  # torch's longer form of an expression
            raise NotFollowedError(
                f"{type(model).__name__} cannot be analysed with inputs of shape "
                f"{[tuple(value.shape) for value in inputs]}: {text}{_stopped_at(error, model)}",
                _parts_of(model),
            ) from error
    for node in exported.graph.nodes:
        if _depends_on_data(node):
            raise NotFollowedError(
                placed(
                    node,
                    f"{type(model).__name__} cannot be analysed: the size of what {operator_in(node)} gives depends on the data",
                ),
                _parts_of(model),
            )
    return _program(model, exported)


def _depends_on_data(node: Node) -> bool:
    """Whether the size of what a node makes is known only once it has run."""
    value = node.meta.get("val")
    made = value if isinstance(value, list | tuple) else [value]
    return any(isinstance(size, torch.SymInt) for each in made if isinstance(each, Tensor) for size in each.shape)


def export(model: nn.Module, inputs: tuple[Tensor, ...], dynamic_shapes: Any = None) -> Any:
    """The network as torch sees it; its outputs are flattened where torch does not know what holds them."""
    fast_attention = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)  # it is one operator, which hides the layers in it
    try:
        with kept_attributes(model):
            return torch.export.export(model, inputs, dynamic_shapes=dynamic_shapes)
    except Exception:
        with kept_attributes(model), with_flat_outputs(model):
            return torch.export.export(model, inputs, dynamic_shapes=dynamic_shapes)
    finally:
        torch.backends.mha.set_fastpath_enabled(fast_attention)


def _stopped_at(error: BaseException, model: nn.Module) -> str:
    """The operator, the module and the line of the network's own code at which torch stopped, as far as its error tells:
    `` (aten.nonzero, in roi_heads, at net.py:12: x[x > 0])``."""
    operator, place, module = "", "", ""
    names = {id(each): name for name, each in model.named_modules()}
    for frame, line in traceback.walk_tb(error.__traceback__):
        path = frame.f_code.co_filename
        module = names.get(id(frame.f_locals.get("self"))) or module
        if isinstance(frame.f_locals.get("func"), torch._ops.OpOverload):
            operator = str(frame.f_locals["func"]).removesuffix(".default")
        elif not path.startswith((_TORCH, _OURS)) and Path(path).is_file() and Path(path).suffix == ".py":
            place = f"{Path(path).name}:{line}: {linecache.getline(path, line).strip()[:100]}"
    found = [operator, f"in {module}" if module else "", f"at {place}"]
    return f" ({', '.join(filter(None, found))})" if place else ""


def _parts_of(model: nn.Module) -> str:
    """What could be cut in the place of the whole: the children that have weights."""
    names = [name for name, child in model.named_children() if any(True for _ in child.parameters())]
    if len(names) < 2:
        return ""
    shown = ", ".join(names[:8]) + (" …" if len(names) > 8 else "")
    return f"; a part can be cut by itself: --part {names[0]} (`part` in Python), of {shown}"


def named_tensors(model: nn.Module) -> dict[str, tuple[str, Tensor]]:
    """Full name of each parameter and buffer → the first name that it has (a shared tensor has several), and the tensor."""
    by_name: dict[str, Tensor] = {**dict(model.named_parameters(remove_duplicate=False))}
    by_name.update(dict(model.named_buffers(remove_duplicate=False)))
    first = {id(tensor): name for name, tensor in reversed(by_name.items())}
    return {name: (first[id(tensor)], tensor) for name, tensor in by_name.items()}


def _program(model: nn.Module, exported: Any) -> Program:
    signature = exported.graph_signature
    by_name = named_tensors(model)
    names = {**signature.inputs_to_parameters, **signature.inputs_to_buffers}
    tensors = {node: by_name[name] for node, name in names.items() if name in by_name}
    exported.graph.eliminate_dead_code()  # what nobody asks for (the weights of an attention, say) ties nothing
    nodes = tuple(exported.graph.nodes)
    placeholders = [node.name for node in nodes if node.op == "placeholder"]
    inputs = frozenset(signature.user_inputs) & frozenset(placeholders)
    lifted = frozenset(name for name in placeholders if name not in tensors and name not in inputs)
    return Program(nodes, tensors, inputs, lifted)


def module_path(node: Node) -> str:
    """Full name of the innermost module whose forward pass holds ``node`` ("" for the model itself)."""
    stack = node.meta.get("nn_module_stack") or {}
    return str(list(stack.values())[-1][0]) if stack else ""


def shape_of(node: Node) -> tuple[int, ...]:
    """Shape of the tensor that ``node`` makes; () where it makes none."""
    value = node.meta.get("val")
    return tuple(int(size) for size in value.shape) if isinstance(value, Tensor) else ()


def is_told(node: Node) -> bool:
    """Whether the numbers that an operator is given may depend on data: it was recorded behind one that reads some."""
    return bool(node.meta.get("told"))


def is_empty(node: Node) -> bool:
    """Whether a node makes tensors without entries alone: of no box, say."""
    value = node.meta.get("val")
    held = [item for item in (value if isinstance(value, list | tuple) else [value]) if isinstance(item, Tensor)]
    return bool(held) and not any(item.numel() for item in held)


Rule = Callable[..., Any]


def operator_in(node: Node) -> str:
    """The operator of a node, as messages name it: with what it runs over where that are channels."""
    name = str(node.target).removesuffix(".default")
    schema = getattr(node.target, "_schema", None)
    names = [argument.name for argument in schema.arguments] if schema is not None else []
    given = [value for label, value in zip(names, node.args, strict=False) if label == "dim"] or [node.kwargs.get("dim")]
    over = given[0] if isinstance(given[0], list | tuple) else [given[0]]
    size = len(shape_of(node.args[0])) if node.args and isinstance(node.args[0], Node) else 0
    channels = size > 2 and any(isinstance(dim, int) and dim % size == 1 for dim in over)
    return f"operator {name}" + (" over channels" if channels else "")


def placed(node: Node, reason: str) -> str:
    """A reason with the module of the operator that gives it, and the line of the network's code: ``… (cbam.spatial, at
    net.py:42)``, in the place of the node's own name."""
    module = module_path(node)
    for name in filter(None, (node.name, module)):
        reason = reason.removesuffix(f" ({name})")
    line = line_of(node)
    place = ", ".join(filter(None, (clean(module), f"at {line}" if line else "")))
    return f"{reason} ({place})" if place else reason


def line_of(node: Node) -> str:
    """File and line of the network's own code that an operator comes from, "" where nothing tells: ``net.py:42``.

    The file is named from the package that it lies in, and not by its whole path.
    """
    frames = _FRAME.findall(node.meta.get("stack_trace") or "")
    own = [(path, line) for path, line in frames if not path.startswith((_TORCH, _OURS)) and not path.startswith("<")]
    return f"{clean(_within_package(own[-1][0]))}:{own[-1][1]}" if own else ""


@functools.cache
def _within_package(path: str) -> str:
    file = Path(path)
    parts = [file.name]
    for folder in file.parents:
        if not (folder / "__init__.py").is_file():
            break
        parts.insert(0, folder.name)
    return "/".join(parts)

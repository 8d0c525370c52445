"""The operators that a model runs, as ``torch.export`` sees them."""

from __future__ import annotations

import io
import linecache
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

from slimnet._foreign import no_exit, no_logs
from slimnet._modes import in_eval_mode, with_flat_outputs
from slimnet.errors import ArgumentError, GraphError, one_line

_TORCH, _OURS = str(Path(torch.__file__).parent), str(Path(__file__).parents[1])
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
    """

    nodes: tuple[Node, ...]
    tensors: Mapping[str, tuple[str, Tensor]]
    inputs: frozenset[str]
    lifted: frozenset[str]


def as_inputs(example_inputs: ExampleInputs) -> tuple[Tensor, ...]:
    """The example inputs as a tuple.

    Raises:
        ArgumentError: if they are not a tensor or a tuple of tensors, or there is nothing in one.
    """
    inputs = (example_inputs,) if isinstance(example_inputs, Tensor) else tuple(example_inputs)
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
        GraphError: if the model cannot run on the inputs, or its control flow depends on data.
    """
    inputs = as_inputs(example_inputs)
    check_model(model)
    with in_eval_mode(model), torch.no_grad(), no_logs(*_NOISY), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            with no_exit(type(model).__name__), redirect_stderr(io.StringIO()):  # it prints graphs
                exported = _exported(model, inputs)
        except Exception as error:
            raise GraphError(
                f"{type(model).__name__} cannot be analysed with inputs of shape "
                f"{[tuple(value.shape) for value in inputs]}: {one_line(error)}{_stopped_at(error)}"
            ) from error
    return _program(model, exported)


def _exported(model: nn.Module, inputs: tuple[Tensor, ...]) -> Any:
    """The network as torch sees it; its outputs are flattened where torch does not know what holds them."""
    fast_attention = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)  # it is one operator, which hides the layers in it
    try:
        return torch.export.export(model, inputs)
    except Exception:
        with with_flat_outputs(model):
            return torch.export.export(model, inputs)
    finally:
        torch.backends.mha.set_fastpath_enabled(fast_attention)


def _stopped_at(error: BaseException) -> str:
    """The operator and the line of the network's own code at which torch stopped, as far as its error tells: `` (aten.nonzero,
    at net.py:12: x[x > 0])``."""
    operator, place = "", ""
    for frame, line in traceback.walk_tb(error.__traceback__):
        path = frame.f_code.co_filename
        if isinstance(frame.f_locals.get("func"), torch._ops.OpOverload):
            operator = str(frame.f_locals["func"]).removesuffix(".default")
        elif not path.startswith((_TORCH, _OURS)) and Path(path).is_file() and Path(path).suffix == ".py":
            place = f"{Path(path).name}:{line}: {linecache.getline(path, line).strip()[:100]}"
    found = ", at ".join(part for part in (operator, place) if part)
    return f" ({'at ' if not operator else ''}{found})" if place else ""


def _program(model: nn.Module, exported: Any) -> Program:
    signature = exported.graph_signature
    by_name: dict[str, Tensor] = {**dict(model.named_parameters(remove_duplicate=False))}
    by_name.update(dict(model.named_buffers(remove_duplicate=False)))
    names = {**signature.inputs_to_parameters, **signature.inputs_to_buffers}
    tensors = {node: (_canonical(by_name, name), by_name[name]) for node, name in names.items() if name in by_name}
    exported.graph.eliminate_dead_code()  # what nobody asks for (the weights of an attention, say) ties nothing
    nodes = tuple(exported.graph.nodes)
    placeholders = [node.name for node in nodes if node.op == "placeholder"]
    inputs = frozenset(signature.user_inputs) & frozenset(placeholders)
    lifted = frozenset(name for name in placeholders if name not in tensors and name not in inputs)
    return Program(nodes, tensors, inputs, lifted)


def _canonical(by_name: Mapping[str, Tensor], name: str) -> str:
    """The first name under which a shared tensor is known."""
    wanted = by_name[name]
    return next(other for other, tensor in by_name.items() if tensor is wanted)


def module_path(node: Node) -> str:
    """Full name of the innermost module whose forward pass holds ``node`` ("" for the model itself)."""
    stack = node.meta.get("nn_module_stack") or {}
    return str(list(stack.values())[-1][0]) if stack else ""


def shape_of(node: Node) -> tuple[int, ...]:
    """Shape of the tensor that ``node`` makes; () where it makes none."""
    value = node.meta.get("val")
    return tuple(int(size) for size in value.shape) if isinstance(value, Tensor) else ()


Rule = Callable[..., Any]


def operator_in(node: Node) -> str:
    """The operator of a node and the module where it stands, as messages name them."""
    name = str(node.target).removesuffix(".default")
    where = module_path(node)
    return f"operator {name}" + (f" in {where}" if where else "")

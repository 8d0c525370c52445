"""A model as a ``torch.fx.GraphModule``: the program that ``torch.export`` makes of it, its tensors under their own names."""

from __future__ import annotations

import inspect
import io
import sys
import warnings
from collections.abc import Collection, Iterable
from contextlib import redirect_stderr
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx import GraphModule, Node

from slimnet._foreign import no_exit, no_logs
from slimnet._modes import in_eval_mode
from slimnet.errors import GraphError, one_line
from slimnet.graph.capture import export

_NOISY = ("torch.export", "torch.fx.experimental.symbolic_shapes")


def trace(model: nn.Module, inputs: tuple[Tensor, ...], free: Collection[int] = ()) -> GraphModule:
    """The exported program of ``model`` in eval mode as a module; it shares the model's parameters and buffers.

    It refuses inputs of another size than it was made for, along all dimensions that are not free.

    Args:
        model: any module that ``torch.export`` can follow.
        inputs: batch first; where dimension 0 is free, of at least 2 rows.
        free: the dimensions of the inputs whose size is left open, as far as the network's code allows it.

    Raises:
        GraphError: if the model cannot be exported so.
    """
    shapes: Any = tuple({dim: torch.export.Dim.AUTO for dim in free if dim < value.dim()} for value in inputs)
    kinds = [parameter.kind for parameter in inspect.signature(model.forward).parameters.values()]
    if inspect.Parameter.VAR_POSITIONAL in kinds:  # what `*inputs` takes is one tuple
        first = kinds.index(inspect.Parameter.VAR_POSITIONAL)
        shapes = (*shapes[:first], *([shapes[first:]] if shapes[first:] else []))
    with in_eval_mode(model), torch.no_grad(), no_logs(*_NOISY), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            with no_exit(type(model).__name__), redirect_stderr(io.StringIO()):
                module = export(model, inputs, shapes if free else None).module()
        except Exception as error:  # whatever its tracing runs into
            raise GraphError(f"{type(model).__name__} cannot be made a graph: {one_line(error)}") from error
        module.graph.eliminate_dead_code(lambda node: node.op == "call_module" or bool(node.is_impure()))
        return GraphModule(module, module.graph, type(model).__name__).eval()


def tensor_operators(nodes: Iterable[Node]) -> list[Node]:
    """The operators that make tensors, in the order in which they run: the same whatever sizes are open.

    Sizes that are computed are none of them, nor what leaves nothing out (slices, aliases): whether torch has these
    depends on which sizes are open.
    """
    made = (node for node in nodes if node.op == "call_function" and _makes_tensors(node.meta.get("val")))
    return [node for node in made if not _leaves_all(node)]


def _leaves_all(node: Node) -> bool:
    if str(node.target) == "aten.alias.default":
        return True
    given: Any = (*node.args, *[None, 0, 0, sys.maxsize, 1][len(node.args) :])
    if str(node.target) != "aten.slice.Tensor":
        return False
    return given[2] in (0, None) and given[3] in (None, sys.maxsize) and bool(given[4] == 1)


def _makes_tensors(value: Any) -> bool:
    held = value if isinstance(value, list | tuple) else [value]
    return any(isinstance(item, Tensor) for item in held)


def free_dims(module: GraphModule) -> frozenset[int]:
    """The dimensions of the inputs of which the size is open in every input that has them."""
    values = [node.meta["val"] for node in module.graph.nodes if node.op == "placeholder" and "val" in node.meta]
    most = max((value.dim() for value in values), default=0)
    return frozenset(dim for dim in range(most) if all(isinstance(v.shape[dim], torch.SymInt) for v in values if dim < v.dim()))

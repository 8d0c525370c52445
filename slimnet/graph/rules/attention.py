"""Attention: what a head computes lives and goes as a whole.

A head is a position of the batch dimensions of ``q @ kᵀ`` and of what follows. All channels of q, k and v there are tied: one
label a head. What comes out of a head is constant where its values are: the weights of a softmax add up to one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.fx import Node

from slimnet.graph.capture import module_path, shape_of
from slimnet.graph.findings import Attention, Param
from slimnet.graph.interpreter import Interpreter
from slimnet.graph.rules.products import matrices
from slimnet.graph.rules.registry import opaque, rule
from slimnet.graph.values import NONE, Value, compact, live

SAME = frozenset("dropout clone contiguous detach alias to _to_copy type_as view reshape expand".split())
"""Operators behind which the last dimension is as it was."""


@rule("scaled_dot_product_attention")
def _attention(
    run: Interpreter,
    node: Node,
    q: Any,
    k: Any,
    v: Any,
    mask: Any = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    *,
    attn_mask: Any = None,
    enable_gqa: bool = False,
    **_: Any,
) -> Any:
    mask = attn_mask if mask is None else mask
    operands = [q, k, v] if mask is None else [q, k, v, mask]
    if not all(isinstance(operand, Value) for operand in (q, k, v)) or isinstance(mask, Param):
        return opaque(run, node, *operands)
    if enable_gqa:
        k, v = (_repeated(operand, q.shape[-3]) for operand in (k, v))
    heads = _heads([q, k, v] if mask is None else [q, k, v, mask])
    if heads is None:
        return opaque(run, node, *operands)
    asked = [_of_heads(value, heads) for value in ([q, k] if mask is None else [q, k, mask])]
    return _out(run, node, asked, v, heads, exact=mask is None and not dropout_p)


@rule("matmul", "bmm")
def _product(run: Interpreter, node: Node, a: Any, b: Any) -> Any:
    """Of activations that have heads: the heads of both operands are the same. Of others: a product of matrices."""
    if not isinstance(a, Value) or not isinstance(b, Value) or min(len(a.shape), len(b.shape)) < 3:
        return matrices(run, node, a, b)
    heads = _heads([a, b])
    if heads is None:
        return matrices(run, node, a, b)
    both = [_of_heads(value, heads) for value in (a, b)]
    if _reaches_softmax(node):
        tied = run.tie(_side_by_side(both), silent=True)
        return Value(shape_of(node), _spread(tied, heads), live(shape_of(node)))
    if _is_softmax(node.args[0], -1):
        return _out(run, node, both[:1], b, heads, exact=True)
    if _is_softmax(node.args[1], -2):
        return _out(run, node, both[1:], a, heads, exact=True, tokens=-1)
    tied = run.tie(_side_by_side(both), silent=False)
    run.analysis.attentions.append(Attention(module_path(node), tied))
    return Value(shape_of(node), _spread(tied, heads), _zeros(b, -2))


def _heads(values: Sequence[Value]) -> tuple[int, ...] | None:
    """The batch dimensions of a product, of size 1 where labels do not vary along them.

    None if labels vary along none of them: what has no heads.
    """
    shape: tuple[int, ...] = torch.broadcast_shapes(*[tuple(value.labels.shape[:-2]) for value in values])  # type: ignore[no-untyped-call]
    return shape if any(size > 1 for size in shape) else None


def _of_heads(value: Value, heads: tuple[int, ...]) -> Tensor:
    """(heads, k) labels of a value, all of its last two dimensions together."""
    labels = value.labels.expand(*heads, *value.labels.shape[-2:])
    return labels.reshape(math.prod(heads), -1)


def _side_by_side(labels: Sequence[Tensor]) -> Tensor:
    """Labels of several operands, without columns that belong to no channel."""
    joined = torch.cat(list(labels), dim=1)
    return joined[:, (joined != NONE).any(dim=0)]


def _spread(labels: Tensor, heads: tuple[int, ...]) -> Tensor:
    return compact(labels.reshape(*heads, 1, 1))


def _out(
    run: Interpreter, node: Node, asked: Sequence[Tensor], v: Value, heads: tuple[int, ...], *, exact: bool, tokens: int = -2
) -> Value:
    """What the heads put out: weighted means of their values, which belong to their head.

    Args:
        asked: labels of queries and keys, (heads, k) each.
        v: the values; ``tokens`` is the dimension that the mean is taken over.
        exact: whether weights always add up to one; else constants other than 0 vary.
    """
    values = _of_heads(v, heads)
    run.tie(_side_by_side([*asked, values[:, :1]]), silent=True)
    tied = run.tie(_side_by_side([values]), silent=False)
    run.analysis.attentions.append(Attention(module_path(node), tied))
    keeps = run.blocks is None and v.labels.shape[tokens] == 1
    constant = v.constant if exact and v.constant.shape[tokens] == 1 else _zeros(v, tokens)
    return Value(shape_of(node), v.labels if keeps else _spread(tied, heads), constant)


def _zeros(v: Value, summed: int) -> Tensor:
    """Constants of sums over a dimension of ``v``: 0 where it is 0."""
    zero = (v.constant == 0).all(dim=summed, keepdim=True)
    return compact(torch.where(zero, 0.0, torch.nan).to(torch.float64))


def _repeated(value: Value, heads: int) -> Value:
    """Keys or values that several heads share (grouped-query attention), once for each of them."""
    times = heads // value.shape[-3]
    shape = (*value.shape[:-3], heads, *value.shape[-2:])

    def repeat(tensor: Tensor) -> Tensor:
        return tensor if tensor.shape[-3] == 1 else tensor.repeat_interleave(times, dim=-3)

    return Value(shape, repeat(value.labels), repeat(value.constant))


def _name(node: Node) -> str:
    return str(node.target).removeprefix("aten.").split(".")[0]


def _is_softmax(node: Any, dim: int) -> bool:
    """Whether what a node makes adds up to one along a dimension, -1 or -2: a softmax, or one transposed."""
    while isinstance(node, Node) and node.op == "call_function" and isinstance(node.args[0], Node):
        name, source, dims = _name(node), node.args[0], len(shape_of(node))
        if name in ("softmax", "_softmax"):
            return isinstance(node.args[1], int) and node.args[1] % dims == dims + dim
        is_turned = name == "transpose" and {dims - 1, dims - 2} == {int(str(d)) % dims for d in node.args[1:3]}
        drops = name == "dropout" and bool(node.args[2])
        if not is_turned and (drops or name not in SAME or shape_of(node)[-2:] != shape_of(source)[-2:]):
            return False
        node, dim = source, -3 - dim if is_turned else dim
    return False


def _reaches_softmax(node: Node) -> bool:
    """Whether a softmax takes what a product makes, with no other product or layer in between."""
    queue, seen = [node], {node}
    while queue:
        for user in queue.pop().users:
            name = _name(user)
            if name in ("softmax", "_softmax"):
                return True
            if name not in ("matmul", "bmm", "linear") and "conv" not in name and user not in seen:
                seen.add(user)
                queue.append(user)
    return False

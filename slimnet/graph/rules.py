"""What each operator does to labels and constants. An operator without a rule pins what it touches."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.fx import Node

from slimnet.graph.analysis import Interpreter, Param, Reader
from slimnet.graph.capture import module_path, shape_of
from slimnet.graph.values import NONE, Value, compact, live

Rule = Callable[..., Any]
_RULES: dict[str, Rule] = {}
_POINTWISE = frozenset(
    "relu sigmoid tanh silu gelu elu celu selu leaky_relu mish softplus softsign hardswish hardsigmoid hardtanh relu6 "
    "hardshrink softshrink threshold log_sigmoid rrelu clamp clamp_min clamp_max exp log sqrt rsqrt abs neg pow square "
    "reciprocal erf sin cos add sub rsub mul div maximum minimum where tanhshrink".split()
)


def rule(*names: str) -> Callable[[Rule], Rule]:
    """Register a rule for the operators ``aten.<name>`` and ``aten.<name>_``, all overloads."""

    def register(function: Rule) -> Rule:
        for name in names:
            _RULES[name] = function
        return function

    return register


def rule_for(node: Node) -> Rule | None:
    """The rule for a node's operator, None where there is none."""
    if node.target is operator.getitem:
        return _getitem
    if not isinstance(node.target, torch._ops.OpOverload) or node.target.namespace != "aten":
        return None
    name = node.target._schema.name.removeprefix("aten::")
    plain = name if name in _RULES or name in _POINTWISE else name.removesuffix("_")
    if plain in _RULES:
        return _RULES[plain]
    if plain in _POINTWISE or torch.Tag.pointwise in node.target.tags:
        return pointwise
    return None


def _getitem(_: Interpreter, node: Node, values: Sequence[Any], index: int) -> Any:
    return values[index]


def _channel_value(shape: tuple[int, ...], dim: int, labels: Tensor, constant: Tensor) -> Value:
    view = [1] * len(shape)
    view[dim] = len(labels)
    return Value(shape, labels.reshape(view), compact(constant.to(torch.float64).reshape(view)))


def _number(param: Param) -> Tensor:
    return param.tensor.detach().to("cpu", torch.float64)


# --- consumers and producers -----------------------------------------------------------------------------------------


def _produce(
    run: Interpreter, node: Node, x: Value, weight: Param, bias: Param | None, *, dim: int, in_dim: int, foldable: bool
) -> Value:
    """A dense linear map over the channels of ``x`` along ``dim``: new labels come out."""
    inputs = x.along(dim)
    if inputs is None:
        run.pin(x, f"{weight.name} reads channels that differ from place to place")
        inputs = torch.full((weight.shape[in_dim],), NONE)
        constants = torch.full((weight.shape[in_dim],), torch.nan, dtype=torch.float64)
    else:
        constants = x.constant_along(dim)
    out_dim = 1 - in_dim
    outputs = run.labels.fresh(weight.shape[out_dim])
    run.analysis.note(weight, in_dim, inputs, "input")
    run.analysis.note(weight, out_dim, outputs, "filter")
    if bias is not None:
        run.analysis.note(bias, 0, outputs, "filter")
    run.analysis.readers.append(
        Reader(
            weight=weight.name,
            bias=bias.name if bias else "",
            out_dim=out_dim,
            in_dim=in_dim,
            outputs=outputs,
            inputs=inputs,
            constants=constants,
            foldable=foldable,
            sources=run.sources[node.name],
        )
    )
    run.sources[node.name] = frozenset({weight.name})
    constant = _linear_constant(weight, bias, constants, in_dim=in_dim, foldable=foldable)
    return _channel_value(shape_of(node), dim, outputs, constant)


def _linear_constant(weight: Param, bias: Param | None, constants: Tensor, *, in_dim: int, foldable: bool) -> Tensor:
    """(C_out,) constants: rows that read live channels with zero weights only."""
    w = weight.tensor.detach().cpu().movedim(in_dim, 1)
    w = w.unsqueeze(2) if w.dim() == 2 else w.flatten(2)  # (C_out, C_in, k)
    known = ~constants.isnan() if foldable else constants == 0
    fixed = ~(w != 0).any(dim=2)[:, ~known].any(dim=1)
    total = torch.full((len(w),), torch.nan, dtype=torch.float64)
    total[fixed] = w[fixed][:, known].to(torch.float64).sum(dim=2) @ constants[known]
    return total if bias is None else total + _number(bias)


@rule("linear")
def _linear(run: Interpreter, node: Node, x: Any, weight: Any, bias: Param | None = None) -> Any:
    if not (isinstance(x, Value) and isinstance(weight, Param)):
        return _opaque(run, node, x, weight)
    return _produce(run, node, x, weight, bias, dim=-1 + len(x.shape), in_dim=1, foldable=True)


@rule("conv1d", "conv2d", "conv3d")
def _conv(
    run: Interpreter,
    node: Node,
    x: Any,
    weight: Any,
    bias: Param | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Any:
    if not (isinstance(x, Value) and isinstance(weight, Param)):
        return _opaque(run, node, x, weight)
    padded = padding != "valid" and any(_sizes(padding)) if padding != "same" else max(weight.shape[2:]) > 1
    if groups == 1:
        return _produce(run, node, x, weight, bias, dim=1, in_dim=1, foldable=not padded)
    return _grouped(run, node, x, weight, bias, groups=groups, foldable=not padded)


@rule("conv_transpose1d", "conv_transpose2d", "conv_transpose3d")
def _conv_transpose(
    run: Interpreter,
    node: Node,
    x: Any,
    weight: Any,
    bias: Param | None = None,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    groups: int = 1,
    dilation: Any = 1,
) -> Value:
    if groups != 1 or not (isinstance(x, Value) and isinstance(weight, Param)):
        return _opaque(run, node, x, weight)
    return _produce(run, node, x, weight, bias, dim=1, in_dim=0, foldable=False)


def _grouped(run: Interpreter, node: Node, x: Value, weight: Param, bias: Param | None, *, groups: int, foldable: bool) -> Value:
    """Depthwise: one label goes through. Otherwise all channels of a convolution group live and go together."""
    inputs = x.along(1)
    if inputs is None:
        return _opaque(run, node, x, weight)
    per_in, per_out = len(inputs) // groups, weight.shape[0] // groups
    blocks = inputs.reshape(groups, per_in)
    for column in range(1, per_in):
        run.labels.unite(blocks[:, 0], blocks[:, column])
    outputs = blocks[:, :1].expand(groups, per_out).reshape(-1).clone()
    if bool((outputs == NONE).any()):
        return _opaque(run, node, x, weight)
    run.analysis.note(weight, 0, outputs, "filter")
    if bias is not None:
        run.analysis.note(bias, 0, outputs, "filter")
    run.sources[node.name] = frozenset({weight.name})
    constant = _grouped_constant(weight, bias, x.constant_along(1).reshape(groups, per_in), per_out, foldable)
    return _channel_value(shape_of(node), 1, outputs, constant)


def _grouped_constant(weight: Param, bias: Param | None, constants: Tensor, per_out: int, foldable: bool) -> Tensor:
    w = _number(weight).flatten(2)  # (C_out, C_in / groups, k)
    ks = constants.repeat_interleave(per_out, dim=0)  # (C_out, C_in / groups)
    known = ~ks.isnan() if foldable else ks == 0
    reads_live = ((w != 0).any(dim=2) & ~known).any(dim=1)
    offset = _number(bias) if bias is not None else torch.zeros(len(w), dtype=torch.float64)
    total = offset + (w.sum(dim=2) * torch.where(known, ks, 0.0)).sum(dim=1)
    return torch.where(reads_live, torch.nan, total)


# --- norms -----------------------------------------------------------------------------------------------------------


@rule("batch_norm", "instance_norm")
def _batch_norm(
    run: Interpreter,
    node: Node,
    x: Any,
    weight: Param | None,
    bias: Param | None,
    mean: Param | None,
    var: Param | None,
    use_input_stats: bool,
    momentum: float,
    eps: float,
    cudnn: bool = False,
) -> Any:
    params = [param for param in (weight, bias, mean, var) if param is not None]
    if not isinstance(x, Value) or not all(isinstance(param, Param) for param in params):
        return _opaque(run, node, x)
    labels = x.along(1)
    if labels is None:
        run.pin(x, f"{module_path(node)} normalises channels that differ from place to place")
        return Value(x.shape, x.labels, live(x.shape))
    for param in params:
        run.analysis.note(param, 0, labels, "norm")
    _note_norm_behind(run, node)
    constant = _norm_constant(x.constant_along(1), weight, bias, mean, var, eps)
    if use_input_stats:  # instance statistics: a constant channel is centred to zero
        constant = _norm_constant(x.constant_along(1) * 0, weight, bias, None, None, eps)
    return _channel_value(x.shape, 1, labels, constant)


def _note_norm_behind(run: Interpreter, node: Node) -> None:
    source = node.args[0]
    if not (isinstance(source, Node) and len(source.users) == 1 and len(source.args) > 1):
        return
    weight = run.env.get(getattr(source.args[1], "name", ""))
    if isinstance(weight, Param):
        run.analysis.norm_behind[weight.name] = module_path(node)


def _norm_constant(
    u: Tensor, weight: Param | None, bias: Param | None, mean: Param | None, var: Param | None, eps: float
) -> Tensor:
    """(C,) constants behind a norm: β + γ(u − μ)/√(σ² + ε); γ = 0 makes any channel the constant β."""

    def number(param: Param | None, default: float) -> Tensor:
        if param is None:
            return torch.full_like(u, default, dtype=torch.float64)
        return _number(param)

    gamma, beta = number(weight, 1.0), number(bias, 0.0)
    normal = (u - number(mean, 0.0)) / torch.sqrt(number(var, 1.0) + eps)
    return torch.where(gamma == 0, beta, beta + gamma * normal)


@rule("layer_norm")
def _layer_norm(run: Interpreter, node: Node, x: Value, shape: Sequence[int], *_: Any, **__: Any) -> Value:
    return _mixing(run, node, x, "LayerNorm mixes channels")


@rule("group_norm")
def _group_norm(run: Interpreter, node: Node, x: Value, groups: int, *_: Any, **__: Any) -> Value:
    return _mixing(run, node, x, "GroupNorm mixes channels")


def _mixing(run: Interpreter, node: Node, x: Value, reason: str) -> Value:
    run.pin(x, f"{reason} ({module_path(node)})")
    return Value(x.shape, x.labels, live(x.shape))


# --- element by element ----------------------------------------------------------------------------------------------


def pointwise(run: Interpreter, node: Node, *arguments: Any, **keywords: Any) -> Any:
    """Labels that meet become one; a position is constant where all that it is made of is."""
    shape = shape_of(node)
    values = [_as_value(run, argument, shape) for argument in arguments]
    known = [value for value in values if value is not None]
    if not known or not shape:
        return _opaque(run, node, *arguments)
    labels = _meet(run, known, shape, node)
    return Value(shape, compact(labels), _evaluate(node, arguments, values, keywords, shape))


def _as_value(run: Interpreter, argument: Any, shape: tuple[int, ...]) -> Value | None:
    """A value, or a parameter whose entries become channels; None for a number."""
    if isinstance(argument, Value):
        return argument
    if not isinstance(argument, Param):
        return None
    tensor = _number(argument)
    wide = [dim for dim, size in enumerate(tensor.shape) if size > 1]
    labels = torch.full((1,) * tensor.dim(), NONE)
    if len(wide) == 1:
        made = run.labels.fresh(tensor.numel())
        labels = made.reshape(tensor.shape)
        run.analysis.note(argument, wide[0], made, "other")
    elif wide:
        labels = run.labels.fresh(1).reshape((1,) * tensor.dim())
        run.labels.pin(labels, f"{argument.name} has more than one wide dimension")
    return Value(argument.shape, labels, compact(tensor))


def _meet(run: Interpreter, values: Sequence[Value], shape: tuple[int, ...], node: Node) -> Tensor:
    """Unite the labels of operands after broadcasting; an operand spread over channels is pinned instead."""
    wide = [_spread(value.labels, len(shape)) for value in values]
    target = torch.broadcast_shapes(*[tuple(labels.shape) for labels in wide])  # type: ignore[no-untyped-call]
    result = torch.full(target, NONE)
    for value, labels in zip(values, wide, strict=True):
        padded = (1,) * (len(shape) - len(value.shape)) + value.shape
        over = [d for d in range(len(shape)) if target[d] > 1 and padded[d] == 1 and shape[d] > 1]
        if over and bool((labels != NONE).any()):
            run.labels.pin(labels, f"spread over channels by {node.name}")
            continue
        full = labels.expand(target)
        run.labels.unite(result, full)
        result = torch.where(result == NONE, full, result)
    return result


def _spread(tensor: Tensor, dims: int) -> Tensor:
    return tensor.reshape((1,) * (dims - tensor.dim()) + tuple(tensor.shape))


def _evaluate(
    node: Node, arguments: Sequence[Any], values: Sequence[Value | None], keywords: dict[str, Any], shape: tuple[int, ...]
) -> Tensor:
    constants = [_spread(value.constant, len(shape)) for value in values if value is not None]
    unknown = torch.zeros((1,) * len(shape), dtype=torch.bool)
    for constant in constants:
        unknown = unknown | constant.isnan()
    given = [
        argument if value is None else _spread(value.constant, len(shape)).nan_to_num(1.0)
        for argument, value in zip(arguments, values, strict=True)
    ]
    name = str(node.target)
    if "mul" in name:
        zero = torch.zeros((1,) * len(shape), dtype=torch.bool)
        for constant in constants:
            zero = zero | (constant == 0)
        return compact(torch.where(zero, 0.0, torch.where(unknown, torch.nan, _product(given))))
    try:
        result = node.target(*given, **keywords)  # type: ignore[operator]
    except Exception:
        return live(shape)
    return compact(torch.where(unknown | ~result.isfinite(), torch.nan, result.to(torch.float64)))


def _product(given: Sequence[Any]) -> Tensor:
    result = torch.ones((), dtype=torch.float64)
    for item in given:
        result = result * item
    return result


@rule("prelu")
def _prelu(run: Interpreter, node: Node, x: Any, weight: Any) -> Any:
    labels = x.along(1) if isinstance(x, Value) and isinstance(weight, Param) else None
    if labels is None:
        return _opaque(run, node, x, weight)
    slope = _number(weight)
    if weight.tensor.numel() > 1:
        run.analysis.note(weight, 0, labels, "other")
    u = x.constant_along(1)
    return _channel_value(x.shape, 1, labels, torch.where(u >= 0, u, u * slope))


@rule(
    "dropout", "feature_dropout", "alpha_dropout", "contiguous", "clone", "detach", "alias", "to", "_to_copy", "lift_fresh_copy"
)
def _same(run: Interpreter, node: Node, x: Any, *_: Any, **__: Any) -> Any:
    return x


# --- over space ------------------------------------------------------------------------------------------------------


@rule(
    "max_pool1d", "max_pool2d", "max_pool3d", "adaptive_avg_pool1d", "adaptive_avg_pool2d", "adaptive_avg_pool3d",
    "adaptive_max_pool2d", "upsample_nearest2d", "upsample_bilinear2d", "upsample_nearest1d", "upsample_nearest3d",
)  # fmt: skip
def _pool(run: Interpreter, node: Node, x: Any, *_: Any, **__: Any) -> Any:
    """A constant channel stays what it is; labels must not differ over space."""
    return _over_space(run, node, x, keeps_constant=True)


@rule("avg_pool1d", "avg_pool2d", "avg_pool3d")
def _avg_pool(
    run: Interpreter,
    node: Node,
    x: Any,
    kernel: Any,
    stride: Any = (),
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Any:
    exact = divisor_override is None and (not any(_sizes(padding)) or not count_include_pad)
    return _over_space(run, node, x, keeps_constant=exact)


def _over_space(run: Interpreter, node: Node, x: Any, *, keeps_constant: bool) -> Any:
    shape = shape_of(node)
    labels = x.along(1) if isinstance(x, Value) and shape else None
    if labels is None:
        return _opaque(run, node, x)
    constant = x.constant_along(1)
    if not keeps_constant:
        constant = torch.where(constant == 0, constant, torch.nan)
    return _channel_value(shape, 1, labels, constant)


@rule("mean", "amax", "amin", "sum")
def _reduce(run: Interpreter, node: Node, x: Any, dims: Any = None, keepdim: bool = False, **_: Any) -> Any:
    if not isinstance(x, Value) or dims is None:
        return _opaque(run, node, x)
    axes = sorted({dim % len(x.shape) for dim in _sizes(dims)})
    if any(dim in x.varying for dim in axes):
        return _opaque(run, node, x)
    factor = float(math.prod(x.shape[dim] for dim in axes)) if "sum" in str(node.target) else 1.0
    uniform = all(x.constant.shape[dim] == 1 for dim in axes)
    constant = x.constant * factor if uniform else live(x.shape)
    labels = x.labels
    if not keepdim:
        for dim in reversed(axes):
            labels, constant = labels.squeeze(dim), constant.squeeze(dim)
    return Value(shape_of(node), labels, compact(constant))


# --- moving data -----------------------------------------------------------------------------------------------------


@rule("flatten", "permute", "transpose", "unsqueeze", "squeeze", "t", "numpy_T", "view", "reshape", "_unsafe_view")
def _move(run: Interpreter, node: Node, x: Any, *arguments: Any, **keywords: Any) -> Any:
    """Run on the labels. What cannot be followed when channels go is pinned."""
    if not isinstance(x, Value):
        return _opaque(run, node, x)
    target: Any = torch.ops.aten.reshape.default if "view" in str(node.target) else node.target
    moved = x.map(lambda tensor: target(tensor, *arguments, **keywords))
    if (len(x.varying) == 1 and len(moved.varying) != 1) or len(x.varying) > 1:
        run.pin(x, f"reshaped in a way that fixes channel counts ({node.name})")
    return moved


@rule("cat", "concat", "concatenate")
def _cat(run: Interpreter, node: Node, values: Sequence[Any], dim: int = 0) -> Any:
    if not all(isinstance(value, Value) for value in values):
        return _opaque(run, node, *values)
    axis = dim % len(values[0].shape)

    def join(tensors: Sequence[Tensor]) -> Tensor:
        shapes = torch.broadcast_shapes(*[(*t.shape[:axis], 1, *t.shape[axis + 1 :]) for t in tensors])  # type: ignore[no-untyped-call]
        sizes = [value.shape[axis] for value in values]
        wide = [t.expand(*shapes[:axis], n, *shapes[axis + 1 :]) for t, n in zip(tensors, sizes, strict=True)]
        return torch.cat(wide, dim=axis)

    labels = compact(join([value.labels for value in values]))
    if any(axis not in value.varying and value.varying for value in values):
        run.pin(list(values), f"concatenated along another dimension than its channels ({node.name})")
    return Value(shape_of(node), labels, compact(join([value.constant for value in values])))


@rule(
    "slice",
    "select",
    "chunk",
    "split",
    "split_with_sizes",
    "narrow",
    "index_select",
    "flip",
    "roll",
    "expand",
    "repeat",
    "unbind",
)
def _pick(run: Interpreter, node: Node, x: Any, *arguments: Any, **keywords: Any) -> Any:
    """Run on the labels. Picking channels by number stays right only inside a module that can be told what remains."""
    if not isinstance(x, Value) or any(isinstance(argument, Value | Param) for argument in arguments):
        return _opaque(run, node, x, *arguments)

    def apply(tensor: Tensor) -> Any:
        return node.target(tensor, *arguments, **keywords)  # type: ignore[operator]

    labels, constants = apply(x.labels.expand(x.shape)), apply(x.constant.expand(x.shape))
    many = isinstance(labels, list | tuple)
    pairs = zip(labels, constants, strict=True) if many else [(labels, constants)]
    results = [Value(tuple(label.shape), compact(label), compact(constant)) for label, constant in pairs]
    if any(not _same_channels(x, result) for result in results) and not run.mover(node):
        run.pin(x, f"picked by channel number ({node.name})")
    return results if many else results[0]


def _same_channels(x: Value, result: Value) -> bool:
    return torch.equal(x.labels.reshape(-1), result.labels.reshape(-1))


@rule("pad", "constant_pad_nd")
def _pad(run: Interpreter, node: Node, x: Any, pads: Sequence[int], *arguments: Any, **keywords: Any) -> Any:
    if not isinstance(x, Value):
        return _opaque(run, node, x)
    mode = next((item for item in arguments if isinstance(item, str)), keywords.get("mode", "constant"))
    fill = next((item for item in arguments if isinstance(item, int | float)), keywords.get("value")) or 0.0
    last = len(x.shape) - 1
    touched = [last - i // 2 for i, amount in enumerate(pads) if amount]
    if not any(dim in x.varying for dim in touched):
        constant = x.constant if mode != "constant" else torch.where(x.constant == fill, x.constant, torch.nan)
        if any(x.constant.shape[dim] > 1 for dim in touched):
            constant = live(x.shape)
        return Value(shape_of(node), x.labels, compact(constant)) if touched else x
    if mode != "constant" or x.varying != (1,) or set(touched) != {1} or not run.mover(node):
        run.pin(x, f"padded with a fixed number of channels ({node.name})")
        return _opaque(run, node, x)
    index = 2 * (last - 1)
    before, after = run.labels.fresh(pads[index]), run.labels.fresh(pads[index + 1])
    constant = torch.nn.functional.pad(x.constant_along(1), (len(before), len(after)), value=float(fill))
    return _channel_value(shape_of(node), 1, torch.cat([before, x.labels.reshape(-1), after]), constant)


def _opaque(run: Interpreter, node: Node, *arguments: Any) -> Any:
    where = module_path(node)
    name = str(node.target).removesuffix(".default")
    run.pin(list(arguments), f"operator {name}" + (f" in {where}" if where else ""))
    return run.opaque(node)


def _sizes(value: Any) -> Sequence[int]:
    return list(value) if isinstance(value, list | tuple) else [value]

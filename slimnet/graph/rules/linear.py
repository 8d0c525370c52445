"""Convolutions and linear layers: they read labels and make new ones."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.fx import Node

from slimnet.graph.capture import module_path, shape_of
from slimnet.graph.findings import Param, Reader
from slimnet.graph.interpreter import Interpreter
from slimnet.graph.rules.registry import channel_value, number, numbers_vary, opaque, rule, sizes
from slimnet.graph.values import NONE, Value, any_along

LAYERS = (
    nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d,
)  # fmt: skip


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
        faded = x.faded if dim == 1 else None
        constants = x.constant_along(dim) if faded is None else faded
        foldable = foldable and faded is None
    out_dim = 1 - in_dim
    outputs = run.fresh_rows(weight, bias) if out_dim == 0 else run.labels.fresh(weight.shape[out_dim])
    run.analysis.note(weight, in_dim, inputs, "input")
    run.analysis.note(weight, out_dim, outputs, "filter")
    if bias is not None:
        run.analysis.note(bias, 0, outputs, "bias")
    used = _used(weight.tensor, in_dim)
    run.analysis.readers.append(
        Reader(
            weight=weight.name,
            bias=bias.name if bias else "",
            out_dim=out_dim,
            in_dim=in_dim,
            outputs=outputs,
            inputs=inputs,
            used=used,
            constants=constants,
            foldable=foldable,
            has_bias=bias is not None or _takes_bias(run, node, weight),
            sources=run.sources[node.name],
        )
    )
    run.sources[node.name] = frozenset({weight.name})
    if not foldable:  # at the border, a constant channel adds something else
        constants = torch.where(constants == 0, constants, torch.nan)
    constant = _linear_constant(weight, bias, used, constants, in_dim)
    return channel_value(shape_of(node), dim, outputs, constant)


def _takes_bias(run: Interpreter, node: Node, weight: Param) -> bool:
    """Whether the layer that owns the weight would add a bias if it were given one: torch's own do."""
    path, _, name = weight.name.rpartition(".")
    owner = run.analysis.model.get_submodule(path)
    plain = [kind for kind in LAYERS if isinstance(owner, kind) and type(owner).forward is kind.forward]
    return bool(plain) and name == "weight" and owner.bias is None and module_path(node).partition("@")[0] == path


def _used(weight: Tensor, in_dim: int) -> Tensor:
    """(C_out, C_in) bool: whether an output row reads an input column with a weight other than zero."""
    used = (weight.detach().movedim(in_dim, 1) != 0).cpu()
    return any_along(used.flatten(2), 2) if used.dim() > 2 else used


def _linear_constant(weight: Param, bias: Param | None, used: Tensor, constants: Tensor, in_dim: int) -> Tensor:
    """(C_out,) constants of the rows that read channels of known constants only; NaN for the rest."""
    known = ~constants.isnan()
    total = torch.where(any_along(used & ~known, 1), torch.nan, 0.0).to(torch.float64)
    fixed = (any_along(used, 1) & ~total.isnan()).nonzero().flatten()
    if len(fixed):
        w = weight.tensor.detach().movedim(in_dim, 1)[fixed.to(weight.tensor.device)].to("cpu", torch.float64)
        w = w.flatten(2).sum(dim=2) if w.dim() > 2 else w
        total[fixed] = w[:, known] @ constants[known]
    return total if bias is None else total + number(bias)


@rule("linear")
def _linear(run: Interpreter, node: Node, x: Any, weight: Any, bias: Param | None = None) -> Any:
    if not (isinstance(x, Value) and isinstance(weight, Param) and len(weight.shape) == 2 and isinstance(bias, Param | None)):
        return opaque(run, node, x, weight, bias)
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
    if not (isinstance(x, Value) and isinstance(weight, Param) and len(x.shape) == len(weight.shape)):
        return opaque(run, node, x, weight)
    padded = padding != "valid" and any(sizes(padding)) if padding != "same" else max(weight.shape[2:]) > 1
    padded = padded or (not isinstance(padding, str) and numbers_vary(run, node))
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
) -> Any:
    if not (isinstance(x, Value) and isinstance(weight, Param) and len(x.shape) == len(weight.shape)):
        return opaque(run, node, x, weight)
    if groups == 1:
        return _produce(run, node, x, weight, bias, dim=1, in_dim=0, foldable=False)
    return _grouped(run, node, x, weight, bias, groups=groups, foldable=False, transposed=True)


def _grouped(
    run: Interpreter,
    node: Node,
    x: Value,
    weight: Param,
    bias: Param | None,
    *,
    groups: int,
    foldable: bool,
    transposed: bool = False,
) -> Any:
    """Depthwise: one label goes through. Otherwise all channels of a convolution group live and go together.

    The weight of a transposed convolution has the input channels along its first dimension, so that they are what is cut.
    """
    inputs = x.along(1)
    if inputs is None or bool((inputs == NONE).any()):
        return opaque(run, node, x, weight)
    per_in, per_out = len(inputs) // groups, weight.shape[1] if transposed else weight.shape[0] // groups
    blocks = inputs.reshape(groups, per_in)
    for column in range(1, per_in):
        run.labels.unite(blocks[:, 0], blocks[:, column])
    outputs = blocks[:, :1].expand(groups, per_out).reshape(-1).clone()
    run.analysis.note(weight, 0, inputs if transposed else outputs, "filter")
    if bias is not None:
        run.analysis.note(bias, 0, outputs, "bias")
    run.sources[node.name] = frozenset({weight.name})
    constants = x.constant_along(1).reshape(groups, per_in)
    w = number(weight).flatten(2)  # (C_out, C_in / groups, k)
    if transposed:
        w = w.reshape(groups, per_in, per_out, -1).transpose(1, 2).reshape(groups * per_out, per_in, -1)
    constant = _grouped_constant(w, bias, constants, per_out, foldable)
    lost = ~constants.isnan() & (constants != 0) & constant.isnan().reshape(groups, per_out).any(dim=1, keepdim=True)
    where = "beside live channels of its convolution group" if foldable else "at the border of zero padding"
    run.labels.lose(inputs.reshape(groups, per_in)[lost], f"constant, but not {where} ({module_path(node)})")
    return channel_value(shape_of(node), 1, outputs, constant)


def _grouped_constant(w: Tensor, bias: Param | None, constants: Tensor, per_out: int, foldable: bool) -> Tensor:
    """(C_out,) constants behind a grouped convolution with the weight ``w``, (C_out, C_in / groups, k)."""
    ks = constants.repeat_interleave(per_out, dim=0)  # (C_out, C_in / groups)
    known = ~ks.isnan() if foldable else ks == 0
    reads_live = ((w != 0).any(dim=2) & ~known).any(dim=1)
    offset = number(bias) if bias is not None else torch.zeros(len(w), dtype=torch.float64)
    total = offset + (w.sum(dim=2) * torch.where(known, ks, 0.0)).sum(dim=1)
    return torch.where(reads_live, torch.nan, total)

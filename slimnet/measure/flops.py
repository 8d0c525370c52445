"""Multiply-adds, parameters and bytes of a model. The only importer of fvcore."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from slimnet._foreign import no_exit
from slimnet._modes import in_eval_mode, unwrapped, with_flat_outputs
from slimnet.errors import ArgumentError, MeasureError, one_line
from slimnet.measure.cost import Cost

with warnings.catch_warnings():  # fvcore scripts two functions on import, which torch deprecates
    warnings.filterwarnings("ignore", message=".*torch.jit.script.*")
    from fvcore.nn import FlopCountAnalysis

COUNTED = (
    "_convolution",
    "addmm",
    "bmm",
    "einsum",
    "linear",
    "matmul",
    "mm",
    "scaled_dot_product_attention",
)
"""Operators that multiply and add. Everything else is in ``FREE``, or is reported as unknown."""

_FREE = {
    "norms, folded into the convolution before them or a few operations a value": """
        batch_norm group_norm instance_norm layer_norm rms_norm""",
    "pooling and resampling, which have no weights": """
        adaptive_avg_pool1d adaptive_avg_pool2d adaptive_max_pool2d amax avg_pool1d avg_pool2d max max_pool1d
        max_pool2d max_pool2d_with_indices mean sum upsample_bilinear2d upsample_nearest2d""",
    "element-wise arithmetic": """
        abs add add_ clamp_max clamp_min div div_ exp log maximum minimum mul mul_ ne neg pow rsqrt rsub sqrt
        square sub sub_ where""",
    "activations": """
        celu elu elu_ gelu glu hardsigmoid hardsigmoid_ hardswish hardswish_ hardtanh hardtanh_ leaky_relu
        leaky_relu_ log_softmax mish prelu relu relu_ relu6 relu6_ selu sigmoid sigmoid_ silu silu_ softmax
        softplus tanh tanh_""",
    "not there at inference": "alpha_dropout dropout dropout_ feature_dropout",
    "data movement (view, reshape, cat, slice and their like fvcore leaves out by itself)": """
        alias channel_shuffle clone fill_ lift_fresh movedim pad pixel_shuffle pixel_unshuffle repeat
        repeat_interleave resolve_conj resolve_neg swapaxes unflatten""",
}
FREE = tuple(name for names in _FREE.values() for name in names.split())
"""Operators left out on purpose: the figure is that of layers with weights, as in the papers."""


def _attention(inputs: list[Any], outputs: list[Any]) -> int:
    """Q·Kᵀ and its product with V: (…, L, E), (…, S, E), (…, S, Ev)."""
    query, value = (v.type().sizes() for v in (inputs[0], inputs[2]))
    heads = 1
    for size in query[:-2]:
        heads *= size
    return int(heads * query[-2] * value[-2] * (query[-1] + value[-1]))


_GUARDS = "_guards_fn"
"""What torch calls the submodule of an exported program that looks at the sizes of inputs; fvcore's tracer hands it tensors."""


def _no_guard(*_: object, **__: object) -> None:
    return None


@contextmanager
def _left_as_found(model: nn.Module) -> Iterator[None]:
    """Evaluation mode inside; outside, the same modes and hooks as before, whatever happened.

    fvcore leaves its hooks behind when the forward pass fails.
    """
    hooks = {m: (set(m._forward_pre_hooks), set(m._forward_hooks)) for m in model.modules()}
    fast_attention = torch.backends.mha.get_fastpath_enabled()
    guards = [module for name, module in model.named_modules() if name.rpartition(".")[2] == _GUARDS]
    try:
        for guard in guards:
            vars(guard)["forward"] = _no_guard
        torch.backends.mha.set_fastpath_enabled(False)  # one fused operator that hides its products
        with in_eval_mode(model), with_flat_outputs(model):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast_attention)
        for guard in guards:
            del vars(guard)["forward"]
        for module, before in hooks.items():
            for kept, held in zip(before, (module._forward_pre_hooks, module._forward_hooks), strict=True):
                for key in set(held) - kept:
                    del held[key]


def count(model: nn.Module, example_inputs: Tensor | tuple[Tensor, ...]) -> Cost:
    """Count what the model costs for one image.

    Convolutions, linear layers, matrix products and attention are counted, one multiply-add as one. Norms,
    pooling, element-wise operators and data movement are free by decision (see ``FREE``). Everything else is
    listed as unknown. The model is left as it was found: mode, hooks and gradients.

    Args:
        model: any module; traced in evaluation mode.
        example_inputs: (N, …) tensor, or a tuple of such; only the first sample is used,
            on the model's device.

    Returns:
        The cost of one sample.

    Raises:
        ArgumentError: if an example is not a tensor with at least one sample.
        MeasureError: if the model does not run on the example.

    Example:
        >>> count(nn.Linear(10, 3), torch.zeros(4, 10)).flops
        30
    """
    model = unwrapped(model)
    device = next((tensor.device for tensor in (*model.parameters(), *model.buffers())), None)
    first = tuple(_first_sample(x).to(device) for x in _as_tuple(example_inputs))
    handles: dict[str, Callable[..., Any] | None] = {f"aten::{name}": None for name in FREE}
    handles["aten::scaled_dot_product_attention"] = _attention
    with _left_as_found(model), torch.no_grad():
        analysis = FlopCountAnalysis(model, first).set_op_handle(**handles)
        for name in FREE:  # an operator that fvcore counts and we do not
            analysis._op_handles.pop(f"aten::{name}", None)
        analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
        try:
            with no_exit(type(model).__name__):
                by_module = {name: int(flops) for name, flops in analysis.by_module().items()}
            unknown = {name: int(times) for name, times in analysis.unsupported_ops().items()}
        except Exception as error:
            raise MeasureError(f"{type(model).__name__} does not run on the example: {one_line(error)}") from error
    tensors = [*model.parameters(), *model.buffers()]
    return Cost(
        flops=by_module[""],
        params=sum(p.numel() for p in model.parameters()),
        bytes=sum(t.numel() * t.element_size() for t in tensors),
        unknown=dict(sorted(unknown.items())),
        by_module=by_module,
    )


def _as_tuple(example_inputs: Tensor | tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return (example_inputs,) if isinstance(example_inputs, Tensor) else tuple(example_inputs)


def _first_sample(x: Tensor) -> Tensor:
    if not isinstance(x, Tensor) or x.dim() == 0 or len(x) == 0:
        shown = tuple(x.shape) if isinstance(x, Tensor) else type(x).__name__
        raise ArgumentError(f"`example_inputs` must be tensors of shape (N, …) with N ≥ 1, got {shown}.")
    return x[:1]

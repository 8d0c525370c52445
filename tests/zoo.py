"""The networks of the coverage table, two ways to close half of their filters, and what is measured of each.

Shared by ``tests/test_coverage.py``, ``tests/test_peer.py`` and the scripts in ``benchmarks/``.
"""

from __future__ import annotations

import copy
import importlib.util
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from slimnet.graph import channel_groups, prunable
from slimnet.measure import count
from slimnet.models import build_model
from slimnet.surgery import SlimResult, slim

Mode = Literal["independent", "coupled"]
MODES: tuple[Mode, ...] = ("independent", "coupled")
HAS_TIMM = importlib.util.find_spec("timm") is not None


@dataclass(frozen=True)
class Case:
    """A network: its name, the side of the square input, where it comes from, and whether CI runs it."""

    name: str
    size: int = 64
    source: Literal["torchvision", "timm"] = "torchvision"
    light: bool = False

    @property
    def missing(self) -> bool:
        """Whether the package that holds the network is not installed."""
        return self.source == "timm" and not HAS_TIMM


CASES = (
    Case("alexnet"),
    Case("vgg11"),
    Case("vgg11_bn"),
    Case("vgg16_bn"),
    Case("resnet18", light=True),
    Case("resnet50"),
    Case("wide_resnet50_2"),
    Case("resnext50_32x4d"),
    Case("squeezenet1_0", light=True),
    Case("densenet121"),
    Case("googlenet"),
    Case("inception_v3", size=96),
    Case("shufflenet_v2_x0_5", light=True),
    Case("mobilenet_v2"),
    Case("mobilenet_v3_small", light=True),
    Case("mnasnet0_5", light=True),
    Case("efficientnet_b0"),
    Case("regnet_y_400mf"),
    Case("convnext_tiny"),
    Case("resnet26d", source="timm"),
    Case("repvgg_a0", source="timm", light=True),
    Case("efficientnet_lite0", source="timm"),
)
BY_NAME = {case.name: case for case in CASES}


def build(case: Case, seed: int = 0) -> nn.Module:
    """The network in eval mode, with random weights."""
    torch.manual_seed(seed)
    if case.source == "timm":
        import timm

        model: nn.Module = timm.create_model(case.name)
    else:
        model = build_model(case.name, num_classes=1000)
    return model.eval()


@torch.no_grad()
def roughen(model: nn.Module, x: Tensor, generator: torch.Generator) -> nn.Module:
    """Give every norm and bias random values, in place: a closed filter leaves a constant behind.

    Running statistics are those of ``x``, disturbed, and the outputs of every layer have unit scale: a deep network with half of
    its filters closed would otherwise say the same whatever it sees. Norms divide by more than the spread of what they get: at
    equal size, random layers one behind another amplify the rounding of float32 beyond what a comparison allows.
    """

    def normal(tensor: Tensor, scale: float) -> Tensor:
        return scale * torch.randn(tensor.shape, generator=generator)

    def uniform(tensor: Tensor) -> Tensor:
        return 0.5 + torch.rand(tensor.shape, generator=generator)

    def before_norm(norm: nn.BatchNorm2d, inputs: tuple[Tensor]) -> None:
        channels = inputs[0].movedim(1, 0).flatten(1)
        spread = channels.std(dim=1).clamp(min=0.5)  # what hardly varies must not be blown up
        norm.running_mean.copy_(channels.mean(dim=1) + normal(spread, 0.3) * spread)
        norm.running_var.copy_((6 * spread) ** 2 * uniform(spread))
        norm.weight.copy_(uniform(spread))
        norm.bias.copy_(normal(spread, 0.3))

    def behind_layer(layer: nn.Conv2d, _: Any, output: Tensor) -> Tensor:
        scale = output.std().clamp(min=1e-3)
        layer.weight.div_(scale)
        if layer.bias is None:
            return output / scale
        old = layer.bias.clone()
        layer.bias.copy_(normal(old, 0.1))
        view = [1, -1, *[1] * (output.dim() - 2)] if isinstance(layer, nn.Conv2d) else [-1]
        return (output - old.view(view)) / scale + layer.bias.view(view)

    hooks = [m.register_forward_hook(behind_layer) for _, m in makers(model)]
    norms = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    hooks += [norm.register_forward_pre_hook(before_norm) for norm in norms]
    model(x)
    for hook in hooks:
        hook.remove()
    return model


def example(case: Case, batch: int = 2) -> Tensor:
    """Random images."""
    return torch.randn(batch, 3, case.size, case.size, generator=torch.Generator().manual_seed(1))


def makers(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """The layers that have filters, in the order in which they are registered."""
    for name, module in model.named_modules():
        if isinstance(module, nn.modules.conv._ConvNd | nn.Linear):
            yield name, module


def close(model: nn.Module, x: Tensor, mode: Mode, share: float = 0.5) -> None:
    """Set a share of the filters to zero, in place; norms and biases stay live.

    ``"independent"``: of every layer but the last, each for itself. ``"coupled"``: of every channel group, in all its layers.
    """
    generator = torch.Generator().manual_seed(2)
    if mode == "independent":
        for _, module in list(makers(model))[:-1]:
            rows = len(module.weight)
            module.weight.data[torch.randperm(rows, generator=generator)[: int(share * rows)]] = 0
        return
    for group in prunable(channel_groups(model, x)):
        chosen = torch.randperm(group.size, generator=generator)[: int(share * group.size)]
        for rows in group.weights:
            model.get_parameter(rows.name).data.movedim(rows.dim, 0)[rows.index[chosen].flatten()] = 0


def masked(case: Case, mode: Mode) -> tuple[nn.Module, Tensor]:
    """A network of the table with half of its filters closed, and an input."""
    model, x = build(case), example(case)
    close(model, x, mode)
    return roughen(model, example(case, batch=8), torch.Generator().manual_seed(0)), x


def zero_filters(model: nn.Module) -> dict[str, set[int]]:
    """Layer → its filters that are exactly zero."""
    return {name: set((m.weight.flatten(1) == 0).all(dim=1).nonzero().flatten().tolist()) for name, m in makers(model)}


def zero_filters_left(model: nn.Module, result: SlimResult) -> int:
    """How many of the zero filters of ``model`` are still there in the slim model."""
    kept = {cut.name.removesuffix(".weight"): set(cut.kept) for cut in result.plan.cuts if cut.dim == 0}
    gone = {path for shut in result.plan.shuts for path in (shut.module, *shut.others)}
    zero = zero_filters(model)
    return sum(len(rows & kept.get(name, rows)) for name, rows in zero.items() if name not in gone)


@torch.no_grad()
def sensitivity(model: nn.Module, x: Tensor) -> float:
    """max |f(x₀) − f(x₁)| ÷ max |f(x)|: near 0, a network says the same whatever it sees, and parity means little."""
    out = copy.deepcopy(model).double()(x.double())
    return float((out[0] - out[1]).abs().max() / out.abs().max())


def reasons(result: SlimResult, most: int = 3) -> dict[str, int]:
    """The main reasons why closed or partly closed channels stay, with how many."""
    total: Counter[str] = Counter()
    for group in result.plan.groups:
        for reason, channels in group.reasons.items():
            total[reason.partition(" (")[0]] += channels
    return dict(total.most_common(most))


def measure(case: Case, mode: Mode) -> tuple[dict[str, Any], nn.Module, SlimResult, Tensor]:
    """Cut a network of the table: the row of numbers, the masked network, the result, the input."""
    model, x = masked(case, mode)
    result = slim(model, x)
    report = result.report
    found = sum(len(rows) for rows in zero_filters(model).values())
    row = {
        "network": case.name,
        "source": case.source,
        "mode": mode,
        "image": case.size,
        "parity": report.verification.worst,
        "parity_stored": report.verification.worst_stored,
        "sensitivity": sensitivity(model, x),
        "zero_filters": found,
        "zero_filters_removed": found - zero_filters_left(model, result),
        "flops": {"before": count(model, x).flops, "after": count(result.model, x).flops},
        "params": {"before": report.params_before, "after": report.params_after},
        "seconds": report.seconds,
        "verify_seconds": report.verify_seconds,
        "reasons": reasons(result),
    }
    return row, model, result, x

"""The networks of the coverage table, two ways to close half of their filters, and what is measured of each.

Shared by ``tests/test_coverage.py``, ``tests/test_peer.py`` and the scripts in ``benchmarks/``.
"""

from __future__ import annotations

import copy
import importlib.util
import signal
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, nn

from own_nets import NETS
from slimnet._modes import flatten_outputs
from slimnet.errors import one_line
from slimnet.graph import channel_groups, prunable
from slimnet.graph.dependency import peer_slice
from slimnet.measure import count
from slimnet.models import build_model
from slimnet.surgery import SlimResult, slim

Mode = Literal["independent", "coupled"]
MODES: tuple[Mode, ...] = ("independent", "coupled")
HAS_TIMM = importlib.util.find_spec("timm") is not None


@dataclass(frozen=True)
class Case:
    """A network.

    Attributes:
        name: of it.
        family: what it is one of.
        size: side of the square input.
        source: the package, and which part of it; ``own`` is ``own_nets.py``.
        light: whether CI runs it.
        arguments: of what builds it.
        left: the largest share of the zero filters that stays with coupled masks: what carries constants past zero padding, what
            keeps counted pieces in proportion, and what the network's code does not let go.
    """

    name: str
    family: str
    size: int = 64
    source: Literal["torchvision", "segmentation", "detection", "timm", "own"] = "torchvision"
    light: bool = False
    arguments: dict[str, Any] = field(default_factory=dict, hash=False)
    left: float = 0.06

    @property
    def missing(self) -> bool:
        """Whether the package that holds the network is not installed."""
        return self.source == "timm" and not HAS_TIMM


def _timm(name: str, family: str, size: int = 64, **arguments: Any) -> Case:
    return Case(name, family, size, "timm", arguments=arguments)


PEER_SECONDS = 60
"""What torch-pruning is given to cut a network: on one of them it does not come to an end."""
OWN_LEFT = {"espcn_4x": 0.7, "selective_kernel": 0.75, "diffusion_blocks": 0.25}
CASES = (
    Case("alexnet", "AlexNet"),
    Case("vgg11", "VGG"),
    Case("vgg11_bn", "VGG"),
    Case("vgg16_bn", "VGG"),
    Case("resnet18", "ResNet", light=True),
    Case("resnet50", "ResNet"),
    Case("wide_resnet50_2", "ResNet"),
    Case("resnext50_32x4d", "ResNeXt"),
    Case("squeezenet1_0", "SqueezeNet", light=True),
    Case("densenet121", "DenseNet"),
    Case("googlenet", "Inception"),
    Case("inception_v3", "Inception", size=96),
    Case("shufflenet_v2_x0_5", "ShuffleNet", light=True),
    Case("mobilenet_v2", "MobileNet"),
    Case("mobilenet_v3_small", "MobileNet", light=True),
    Case("mnasnet0_5", "MNASNet", light=True),
    Case("efficientnet_b0", "EfficientNet"),
    Case("regnet_y_400mf", "RegNet"),
    Case("convnext_tiny", "ConvNeXt"),
    Case("vit_b_16", "ViT", arguments={"image_size": 64}),
    Case("swin_t", "Swin"),
    Case("fcn_resnet50", "FCN", source="segmentation"),
    Case("deeplabv3_mobilenet_v3_large", "DeepLab", source="segmentation"),
    Case("lraspp_mobilenet_v3_large", "LR-ASPP", source="segmentation"),
    Case("ssdlite320_mobilenet_v3_large", "SSD", 128, "detection"),
    Case("retinanet_resnet50_fpn", "RetinaNet", source="detection"),
    Case("resnet26d", "ResNet", source="timm"),
    Case("repvgg_a0", "RepVGG", source="timm", light=True),
    Case("efficientnet_lite0", "EfficientNet", source="timm"),
    _timm("legacy_seresnet18", "SENet"),
    _timm("eca_resnext26ts", "ECA"),
    _timm("skresnet18", "SKNet"),
    _timm("resnest14d", "ResNeSt"),
    _timm("res2net50_26w_4s", "Res2Net"),
    _timm("dpn48b", "DPN"),
    _timm("dla34", "DLA"),
    _timm("hrnet_w18_small", "HRNet"),
    _timm("selecsls42", "SelecSLS"),
    _timm("ese_vovnet19b_slim", "VoVNet"),
    _timm("cspresnet50", "CSPNet"),
    _timm("gernet_s", "GerNet"),
    _timm("mobileone_s0", "MobileOne"),
    _timm("legacy_xception", "Xception"),
    _timm("inception_next_atto", "InceptionNeXt"),
    _timm("mobilenetv4_conv_small_050", "MobileNet"),
    _timm("mixnet_s", "MixNet"),
    _timm("hgnetv2_b0", "HGNet"),
    _timm("ghostnet_050", "GhostNet"),
    _timm("rexnet_100", "ReXNet"),
    _timm("nf_resnet26", "NFNet"),
    _timm("starnet_s1", "StarNet"),
    _timm("convnextv2_atto", "ConvNeXt"),
    _timm("convmixer_768_32", "ConvMixer"),
    _timm("mambaout_femto", "MambaOut"),
    _timm("poolformer_s12", "PoolFormer"),
    _timm("edgenext_xx_small", "EdgeNeXt"),
    _timm("fastvit_t8", "FastViT"),
    _timm("repvit_m0_9", "RepViT"),
    _timm("mobilevit_xxs", "MobileViT"),
    _timm("efficientvit_b0", "EfficientViT"),
    _timm("efficientformer_l1", "EfficientFormer", 224),
    _timm("levit_128s", "LeViT", 224),
    _timm("pvt_v2_b0", "PVT"),
    _timm("vit_tiny_patch16_224", "ViT", img_size=64),
    _timm("deit_tiny_patch16_224", "DeiT", img_size=64),
    _timm("swin_tiny_patch4_window7_224", "Swin", img_size=64, window_size=4),
    _timm("maxvit_rmlp_pico_rw_256", "MaxViT", 256),
    *(Case(name, "own", source="own", light=True, left=OWN_LEFT.get(name, 0.06)) for name in NETS),
)
BY_NAME = {case.name: case for case in CASES}


class _Traced(nn.Module):
    """The part of a detector that computes: its backbone and its head, without anchors, boxes and suppression."""

    def __init__(self, detector: nn.Module) -> None:
        super().__init__()
        self.backbone, self.head = detector.backbone, detector.head

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        found: dict[str, Tensor] = self.head(list(self.backbone(x).values()))
        return found


def build(case: Case, seed: int = 0) -> nn.Module:
    """The network in eval mode, with random weights."""
    torch.manual_seed(seed)
    if case.source == "timm":
        import timm

        model: nn.Module = timm.create_model(case.name, **case.arguments)
    elif case.source == "own":
        model = NETS[case.name]()
    elif case.source in ("segmentation", "detection"):
        import torchvision

        module = getattr(torchvision.models, case.source)
        model = getattr(module, case.name)(weights=None, weights_backbone=None, **case.arguments)
        model = _Traced(model) if case.source == "detection" else model
    else:
        model = build_model(case.name, num_classes=1000, model_args=case.arguments)
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
        view = [1, -1, *[1] * (output.dim() - 2)] if isinstance(layer, nn.modules.conv._ConvNd) else [-1]
        return (output - old.view(view)) / scale + layer.bias.view(view)

    for norm in model.modules():
        if isinstance(norm, nn.LayerNorm | nn.GroupNorm) and norm.weight is not None:
            norm.weight.mul_(uniform(norm.weight))
            if norm.bias is not None:
                norm.bias.add_(normal(norm.bias, 0.1))
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


def filters(layer: nn.Module) -> Tensor:
    """(filters, weights of each) of a layer, also of a transposed convolution; a copy for those."""
    weight: Tensor = layer.weight.detach()
    if isinstance(layer, nn.modules.conv._ConvTransposeNd):
        weight = weight.unflatten(0, (layer.groups, -1)).transpose(1, 2).flatten(0, 1)
    return weight.flatten(1)


def zero(layer: nn.Module, rows: Tensor) -> None:
    """Set filters of a layer to zero, in place."""
    if isinstance(layer, nn.modules.conv._ConvTransposeNd):
        weight = layer.weight.data.unflatten(0, (layer.groups, -1))
        each = weight.shape[2]
        weight[rows // each, :, rows % each] = 0
    else:
        layer.weight.data[rows] = 0


def close(model: nn.Module, x: Tensor, mode: Mode, share: float = 0.5) -> None:
    """Set a share of the filters to zero, in place; norms and biases stay live.

    ``"independent"``: of every layer but the last, each for itself. ``"coupled"``: of every channel group, in all its layers.
    """
    generator = torch.Generator().manual_seed(2)
    if mode == "independent":
        for _, module in list(makers(model))[:-1]:
            count = len(filters(module))
            zero(module, torch.randperm(count, generator=generator)[: int(share * count)])
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
    return {name: set((filters(m) == 0).all(dim=1).nonzero().flatten().tolist()) for name, m in makers(model)}


def zero_filters_left(model: nn.Module, result: SlimResult) -> int:
    """How many of the zero filters of ``model`` are still there in the slim model."""
    outputs = {name: int(isinstance(m, nn.modules.conv._ConvTransposeNd)) for name, m in makers(model)}
    kept = {
        layer: set(cut.kept) for cut in result.plan.cuts if cut.dim == outputs.get(layer := cut.name.removesuffix(".weight"), 0)
    }
    gone = {path for shut in result.plan.shuts for path in (shut.module, *shut.others)}
    zero = zero_filters(model)
    return sum(len(rows & kept.get(name, rows)) for name, rows in zero.items() if name not in gone)


@torch.no_grad()
def sensitivity(model: nn.Module, x: Tensor) -> float:
    """max |f(x₀) − f(x₁)| ÷ max |f(x)|: near 0, a network says the same whatever it sees, and parity means little."""
    outs = flatten_outputs(copy.deepcopy(model).double()(x.double()))
    return min(float((out[0] - out[1]).abs().max() / out.abs().max()) for out in outs)


def reasons(result: SlimResult, most: int = 3) -> dict[str, int]:
    """The main reasons why closed or partly closed channels stay, with how many."""
    total: Counter[str] = Counter()
    for group in result.plan.groups:
        for reason, channels in group.reasons.items():
            total[reason.partition(" (")[0]] += channels
    return dict(total.most_common(most))


@torch.no_grad()
def peer(model: nn.Module, x: Tensor) -> dict[str, Any]:
    """What torch-pruning makes of the closed channels: max |Δ| ÷ max |output|, or why it has no answer."""
    channels: dict[str, list[int]] = {}
    for group in prunable(channel_groups(model, x)):
        closed = torch.ones(group.size, dtype=torch.bool)
        for rows in group.weights:
            weight = model.get_parameter(rows.name).movedim(rows.dim, 0).flatten(1)
            closed &= (weight == 0).all(dim=1)[rows.index].flatten(1).all(dim=1)
        first = group.weights[0]
        channels.setdefault(first.module, []).extend(first.index[closed].flatten().tolist())
    before = signal.signal(signal.SIGALRM, _too_long)
    signal.alarm(PEER_SECONDS)
    try:
        sliced = peer_slice(model, x, channels)
        pairs = list(zip(flatten_outputs(model(x)), flatten_outputs(sliced(x)), strict=True))
        return {"relative": max(float((a - b).abs().max() / a.abs().max()) for a, b in pairs)}
    except Exception as error:  # of torch-pruning, of the network that it leaves
        return {"error": one_line(error)}
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def _too_long(*_: object) -> None:
    raise TimeoutError(f"no answer in {PEER_SECONDS} seconds")


def measure(case: Case, mode: Mode) -> tuple[dict[str, Any], nn.Module, SlimResult, Tensor]:
    """Cut a network of the table: the row of numbers, the masked network, the result, the input."""
    model, x = masked(case, mode)
    result = slim(model, x)
    report = result.report
    found = sum(len(rows) for rows in zero_filters(model).values())
    row = {
        "network": case.name,
        "family": case.family,
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

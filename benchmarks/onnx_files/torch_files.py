"""ONNX files of torch.onnx.export, the old exporter (TorchScript) and the new one: ``python torch_files.py FOLDER``.

Norms get scales and shifts by chance and the statistics of what they see, so that an error in folding them shows.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torchvision
from _files import make_files
from torch import nn

TV = torchvision.models


def randomise(model: nn.Module, shape: tuple[int, ...], *, seed: int = 0) -> nn.Module:
    """Scales and shifts of norms by chance, biases too; running statistics from two batches of noise. In place."""
    torch.manual_seed(seed)
    norms = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm | nn.GroupNorm | nn.LayerNorm)]
    for norm in norms:
        if norm.weight is not None:
            nn.init.uniform_(norm.weight, 0.5, 1.5)
            nn.init.normal_(norm.bias, 0.0, 0.3)
    batch_norms = [m for m in norms if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    momenta = [m.momentum for m in batch_norms]
    for norm in batch_norms:
        norm.reset_running_stats()
        norm.momentum = None
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.Conv2d | nn.Linear | nn.ConvTranspose2d) and module.bias is not None:
                module.bias.normal_(0.0, 0.1)
        if batch_norms:
            model.train()
            for _ in range(2):
                model(torch.randn(8, *shape[1:]))
    for norm, momentum in zip(batch_norms, momenta, strict=True):
        norm.momentum = momentum
    return model.eval()


@dataclass(frozen=True)
class Case:
    """A network, its input, and how it is exported."""

    build: Callable[[], nn.Module]
    size: int
    opset: int
    special: str = ""
    dynamic: bool = True
    options: dict[str, Any] = field(default_factory=dict)
    channels: int = 3

    def write(self, path: Path, *, dynamo: bool) -> dict[str, Any]:
        torch.manual_seed(0)
        shape = (2, self.channels, self.size, self.size)
        model = randomise(self.build(), shape)
        options: dict[str, Any] = {"input_names": ["input"], "output_names": ["output"]} | self.options
        if self.dynamic and dynamo:
            options["dynamic_shapes"] = ({0: torch.export.Dim("batch", min=1, max=64)},)
        elif self.dynamic:
            options["dynamic_axes"] = {"input": {0: "batch"}, "output": {0: "batch"}}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.onnx.export(model, (torch.randn(shape),), path, dynamo=dynamo, opset_version=self.opset, **options)
        batch = "N" if self.dynamic else 2
        return {"opset": self.opset, "special": self.special, "shape": [batch, *shape[1:]]}


def tv(name: str, **settings: Any) -> Callable[[], nn.Module]:
    return partial(getattr(TV, name), weights=None, num_classes=10, **settings)


def own(name: str) -> Callable[[], nn.Module]:
    def build() -> nn.Module:
        from slimnet.models import build_model

        return build_model(name, num_classes=10)

    return build


def of_timm(name: str) -> Callable[[], nn.Module]:
    def build() -> nn.Module:
        import timm

        return timm.create_model(name, num_classes=10)

    return build


def small_vgg() -> nn.Module:
    """vgg11_bn with a head of 64 units instead of 4096, which would be 0.5 GB."""
    model = TV.vgg11_bn(weights=None, num_classes=10)
    model.avgpool = nn.Identity()
    model.classifier = nn.Sequential(
        nn.Linear(512 * 4, 64), nn.ReLU(True), nn.Dropout(), nn.Linear(64, 64), nn.ReLU(True), nn.Dropout(), nn.Linear(64, 10)
    )
    return model


def googlenet() -> nn.Module:
    return TV.googlenet(weights=None, num_classes=10, aux_logits=False, init_weights=False)


def inception() -> nn.Module:
    return TV.inception_v3(weights=None, num_classes=10, aux_logits=False, init_weights=False)


class UNet(nn.Module):
    """A small U-Net: strided and transposed convolutions, up-sampling to the size of another tensor, concatenation."""

    def __init__(self) -> None:
        super().__init__()
        self.down1, self.down2, self.middle = self.block(3, 16), self.block(16, 32), self.block(32, 48)
        self.up2 = nn.ConvTranspose2d(48, 32, 2, stride=2)
        self.mix2, self.mix1 = self.block(64, 32), self.block(48, 16)
        self.head = nn.Conv2d(16, 2, 1)

    @staticmethod
    def block(inside: int, outside: int) -> nn.Sequential:
        return nn.Sequential(
            nn.Conv2d(inside, outside, 3, padding=1, bias=False), nn.BatchNorm2d(outside), nn.LeakyReLU(0.1),
            nn.Conv2d(outside, outside, 3, padding=1, padding_mode="reflect"), nn.PReLU(outside),
        )  # fmt: skip

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        a = self.down1(x)
        b = self.down2(nn.functional.max_pool2d(a, 2))
        c = self.middle(nn.functional.avg_pool2d(b, 2))
        d = self.mix2(torch.cat([self.up2(c), b], 1))
        e = nn.functional.interpolate(d, size=a.shape[-2:], mode="bilinear", align_corners=False)
        return self.head(self.mix1(torch.cat([e, a], 1)))


class Twice(nn.Module):
    """One convolution used twice, a norm without scale, a flatten by the shape, heads with softmax: two outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.again = nn.Conv2d(3, 16, 3, padding=1), nn.Conv2d(16, 16, 3, padding=1)
        self.norm, self.plain = nn.BatchNorm2d(16), nn.BatchNorm2d(16, affine=False)
        self.wide = nn.Conv2d(16, 24, 3, padding=1)
        self.classes, self.score = nn.Linear(24 * 16, 10), nn.Linear(24, 1)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        y = self.stem(x).relu()
        y = self.norm(self.again(y)).relu()
        y = self.wide(self.plain(self.again(y)).relu()).relu()
        z = nn.functional.adaptive_avg_pool2d(y, 4)
        return self.classes(z.view(z.size(0), -1)).softmax(1), self.score(y.mean((2, 3))).sigmoid()


class Mobile(nn.Module):
    """An inverted residual with squeeze-excite, a channel shuffle, a flatten and two linear layers."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm = nn.Conv2d(3, 12, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(12)
        self.wide, self.norm1 = nn.Conv2d(12, 32, 1, bias=False), nn.BatchNorm2d(32)
        self.deep, self.norm2 = nn.Conv2d(32, 32, 3, padding=1, groups=32, bias=False), nn.BatchNorm2d(32)
        self.narrow, self.norm3 = nn.Conv2d(32, 12, 1, bias=False), nn.BatchNorm2d(12)
        self.press, self.open = nn.Conv2d(32, 8, 1), nn.Conv2d(8, 32, 1)
        self.grouped, self.mix = nn.Conv2d(12, 16, 3, padding=1, groups=2), nn.Conv2d(16, 20, 3)
        self.dense, self.head = nn.Linear(20 * 9, 24), nn.Linear(24, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        f = nn.functional
        stream = f.hardswish(self.norm(self.stem(x)))
        y = f.relu6(self.norm2(self.deep(f.relu6(self.norm1(self.wide(stream))))))
        y = y * f.hardsigmoid(self.open(self.press(f.adaptive_avg_pool2d(y, 1)).relu()))
        y = self.grouped(self.norm3(self.narrow(y)) + stream)
        y = y.view(y.size(0), 2, 8, y.size(2), y.size(3)).transpose(1, 2).flatten(1, 2)
        y = f.avg_pool2d(f.silu(self.mix(y)), 2)
        return self.head(f.relu(self.dense(torch.flatten(y, 1))))


UNFOLDED = {"training": torch.onnx.TrainingMode.PRESERVE, "do_constant_folding": False}
OLD = {
    "mobile-op9": Case(Mobile, 16, 9, "small: squeeze-excite, shuffle, grouped, depthwise"),
    "mobile-op10-unfolded": Case(Mobile, 16, 10, "small, norms unfolded", options=UNFOLDED),
    "mobile-op11": Case(Mobile, 16, 11, "small"),
    "mobile-op12-inputs": Case(Mobile, 16, 12, "small, initializers are inputs", options={"keep_initializers_as_inputs": True}),
    "mobile-op14-static": Case(Mobile, 16, 14, "small, static batch", dynamic=False),
    "mobile-op16-unfolded": Case(Mobile, 16, 16, "small, norms unfolded", options=UNFOLDED),
    "mobile-op17": Case(Mobile, 16, 17, "small"),
    "resnet18-op9": Case(tv("resnet18"), 64, 9, "oldest opset"),
    "resnet18-op11-static": Case(tv("resnet18"), 64, 11, "static batch", dynamic=False),
    "resnet18-op13-preserve": Case(
        tv("resnet18"), 64, 13, "norms unfolded (training=PRESERVE)", options=UNFOLDED,
    ),
    "resnet50-op12-inputs": Case(
        tv("resnet50"), 64, 12, "initializers are inputs", options={"keep_initializers_as_inputs": True}
    ),
    "mobilenet_v2-op10": Case(tv("mobilenet_v2"), 64, 10, "Clip with attributes (opset 10)"),
    "mobilenet_v2-op17-preserve": Case(
        tv("mobilenet_v2"), 64, 17, "norms unfolded", options=UNFOLDED,
    ),
    "mobilenet_v3_small-op14": Case(tv("mobilenet_v3_small"), 64, 14, "HardSwish, squeeze-excite"),
    "mobilenet_v3_small-op11": Case(tv("mobilenet_v3_small"), 64, 11, "hard swish written out, squeeze-excite"),
    "efficientnet_b0-op13": Case(tv("efficientnet_b0"), 64, 13, "SiLU as Sigmoid and Mul, squeeze-excite"),
    "vgg11_bn-op9-nofold": Case(small_vgg, 64, 9, "no constant folding", options={"do_constant_folding": False}),
    "densenet121-op12": Case(tv("densenet121"), 64, 12, "concatenations, norms before convolutions"),
    "squeezenet1_1-op11": Case(tv("squeezenet1_1"), 64, 11, "no norms, ceil-mode pools"),
    "shufflenet_v2_x0_5-op13": Case(tv("shufflenet_v2_x0_5"), 64, 13, "channel shuffle: Split, Reshape, Transpose"),
    "shufflenet_v2_x0_5-op11": Case(tv("shufflenet_v2_x0_5"), 64, 11, "Split with attribute"),
    "googlenet-op16": Case(googlenet, 64, 16, "inception blocks"),
    "inception_v3-op15": Case(inception, 96, 15, "inception blocks, asymmetric kernels"),
    "mnasnet0_5-op13": Case(tv("mnasnet0_5"), 64, 13, "depthwise"),
    "regnet_y_400mf-op15": Case(tv("regnet_y_400mf"), 64, 15, "grouped convolutions, squeeze-excite"),
    "resnext-op14": Case(partial(TV.ResNet, TV.resnet.Bottleneck, [1, 1, 1, 1], num_classes=10, groups=8, width_per_group=8), 64,
                         14, "grouped convolutions"),
    "convnext_tiny-op17": Case(
        partial(TV.ConvNeXt, [TV.convnext.CNBlockConfig(32, 64, 2), TV.convnext.CNBlockConfig(64, None, 2)], num_classes=10),
        64, 17, "LayerNormalization, layer scale, permutes",
    ),
    "resnet20-op13": Case(own("resnet20"), 32, 13, "option-A shortcuts: slices and Pad"),
    "resnet20-op11-preserve": Case(
        own("resnet20"), 32, 11, "option-A shortcuts, norms unfolded",
        options=UNFOLDED,
    ),
    "vgg9_face-op9": Case(own("vgg9_face"), 64, 9, "slimnet's own"),
    "timm-mobilenetv4_conv_small-op17": Case(of_timm("mobilenetv4_conv_small_050"), 64, 17, "timm"),
    "timm-ghostnet_050-op13": Case(of_timm("ghostnet_050"), 64, 13, "timm: concatenations of depthwise parts"),
    "timm-tf_efficientnet_lite0-op13": Case(of_timm("tf_efficientnet_lite0"), 64, 13, "timm: Pad apart (SAME)"),
    "timm-repvgg_a0-op13": Case(of_timm("repvgg_a0"), 64, 13, "timm: parallel branches"),
    "unet-op13": Case(UNet, 32, 13, "transposed convolution, Resize, reflect Pad, PRelu, concatenation"),
    "unet-op11": Case(UNet, 32, 11, "the same, opset 11"),
    "twice-op13": Case(Twice, 16, 13, "a convolution used twice, norm without scale, two outputs",
                       options={"output_names": ["classes", "score"]}),
}  # fmt: skip
NEW = {
    "mobile-op18": Case(Mobile, 16, 18, "small: squeeze-excite, shuffle, grouped, depthwise"),
    "mobile-op20-external": Case(Mobile, 16, 20, "small, external data", options={"external_data": True}),
    "mobile-op21-static": Case(Mobile, 16, 21, "small, static batch", dynamic=False),
    "mobile-op18-unoptimised": Case(Mobile, 16, 18, "small, unoptimised: norms unfolded", options={"optimize": False}),
    "resnet18-op18": Case(tv("resnet18"), 64, 18, ""),
    "resnet18-op20-external": Case(tv("resnet18"), 64, 20, "external data", options={"external_data": True}),
    "resnet18-op18-static": Case(tv("resnet18"), 64, 18, "static batch", dynamic=False),
    "resnet18-op18-unoptimised": Case(tv("resnet18"), 64, 18, "unoptimised: norms unfolded", options={"optimize": False}),
    "mobilenet_v2-op18": Case(tv("mobilenet_v2"), 64, 18, "depthwise"),
    "mobilenet_v3_small-op21": Case(tv("mobilenet_v3_small"), 64, 21, "HardSwish, squeeze-excite"),
    "efficientnet_b0-op20": Case(tv("efficientnet_b0"), 64, 20, "SiLU, squeeze-excite"),
    "densenet121-op18": Case(tv("densenet121"), 64, 18, "concatenations"),
    "squeezenet1_1-op18": Case(tv("squeezenet1_1"), 64, 18, "no norms"),
    "shufflenet_v2_x0_5-op18": Case(tv("shufflenet_v2_x0_5"), 64, 18, "channel shuffle"),
    "googlenet-op18": Case(googlenet, 64, 18, "inception blocks"),
    "regnet_y_400mf-op18": Case(tv("regnet_y_400mf"), 64, 18, "grouped convolutions, squeeze-excite"),
    "convnext_tiny-op20": Case(OLD["convnext_tiny-op17"].build, 64, 20, "LayerNormalization, Gelu"),
    "resnet20-op18": Case(own("resnet20"), 32, 18, "option-A shortcuts"),
    "vgg9_face-op18": Case(own("vgg9_face"), 64, 18, "slimnet's own"),
    "unet-op18": Case(UNet, 32, 18, "transposed convolution, Resize, reflect Pad, PRelu"),
    "twice-op18": Case(Twice, 16, 18, "a convolution used twice, two outputs", options={"output_names": ["classes", "score"]}),
}


def main() -> int:
    old = {name: partial(case.write, dynamo=False) for name, case in OLD.items()}
    new = {name: partial(case.write, dynamo=True) for name, case in NEW.items()}
    packages = ("torch", "torchvision", "timm", "onnxscript", "onnx")
    return make_files("torch_old", packages[:-2], old) or make_files("torch_new", packages, new)


if __name__ == "__main__":
    sys.exit(main())

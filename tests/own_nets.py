"""Small networks of the kinds that people cut, written as they write them: for the coverage table."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def conv(in_width: int, width: int, side: int = 3, stride: int = 1) -> nn.Sequential:
    """A convolution, a norm, SiLU."""
    return nn.Sequential(
        nn.Conv2d(in_width, width, side, stride, side // 2, bias=False), nn.BatchNorm2d(width), nn.SiLU(inplace=True)
    )


class Bottleneck(nn.Module):
    """Two convolutions with a shortcut."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.cv1, self.cv2 = conv(width, width), conv(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """(N, width, H, W) → the same."""
        y: Tensor = x + self.cv2(self.cv1(x))
        return y


class C2f(nn.Module):
    """The block of YOLOv8: one convolution whose output is chunked in two; all that follows is concatenated."""

    def __init__(self, in_width: int, width: int, count: int = 1) -> None:
        super().__init__()
        self.cv1, self.cv2 = conv(in_width, width, 1), conv((2 + count) * (width // 2), width, 1)
        self.m = nn.ModuleList(Bottleneck(width // 2) for _ in range(count))

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_width, H, W) → (N, width, H, W)."""
        y = list(self.cv1(x).chunk(2, 1))
        y.extend(block(y[-1]) for block in self.m)
        out: Tensor = self.cv2(torch.cat(y, 1))
        return out


class SPPF(nn.Module):
    """Pools of three sizes beside each other."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.cv1, self.cv2 = conv(width, width // 2, 1), conv(2 * width, width, 1)
        self.m = nn.MaxPool2d(5, 1, 2)

    def forward(self, x: Tensor) -> Tensor:
        """(N, width, H, W) → the same."""
        y = [self.cv1(x)]
        y.extend(self.m(y[-1]) for _ in range(3))
        out: Tensor = self.cv2(torch.cat(y, 1))
        return out


class YoloLike(nn.Module):
    """A detector of two scales after YOLOv8: C2f blocks, a pyramid with up-sampling, heads for boxes and classes apart."""

    def __init__(self, classes: int = 8, bins: int = 4) -> None:
        super().__init__()
        self.stem = nn.Sequential(conv(3, 16, stride=2), conv(16, 32, stride=2), C2f(32, 32))
        self.p3 = nn.Sequential(conv(32, 64, stride=2), C2f(64, 64))
        self.p4 = nn.Sequential(conv(64, 96, stride=2), C2f(96, 96), SPPF(96))
        self.up = C2f(96 + 64, 64)
        self.box = nn.ModuleList(nn.Sequential(conv(width, 32), nn.Conv2d(32, 4 * bins, 1)) for width in (64, 96))
        self.cls = nn.ModuleList(nn.Sequential(conv(width, 32), nn.Conv2d(32, classes, 1)) for width in (64, 96))

    def forward(self, x: Tensor) -> list[Tensor]:
        """Images (N, 3, H, W) → one (N, 4 · bins + classes, h, w) a scale."""
        p3 = self.p3(self.stem(x))
        p4 = self.p4(p3)
        p3 = self.up(torch.cat((F.interpolate(p4, scale_factor=2.0), p3), 1))
        return [torch.cat((box(p), cls(p)), 1) for p, box, cls in zip((p3, p4), self.box, self.cls, strict=True)]


class UNet(nn.Module):
    """Three levels, transposed convolutions upwards, skip connections by concatenation."""

    def __init__(self, classes: int = 3, width: int = 16) -> None:
        super().__init__()
        w = width
        self.down = nn.ModuleList(nn.Sequential(conv(a, b), conv(b, b)) for a, b in ((3, w), (w, 2 * w), (2 * w, 4 * w)))
        self.up = nn.ModuleList(nn.ConvTranspose2d(a, a // 2, 2, 2) for a in (4 * w, 2 * w))
        self.join = nn.ModuleList(nn.Sequential(conv(a, a // 2), conv(a // 2, a // 2)) for a in (4 * w, 2 * w))
        self.head = nn.Conv2d(w, classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Images (N, 3, H, W) → (N, classes, H, W)."""
        a = self.down[0](x)
        b = self.down[1](F.max_pool2d(a, 2))
        y = self.down[2](F.max_pool2d(b, 2))
        for up, join, skip in zip(self.up, self.join, (b, a), strict=True):
            y = join(torch.cat((skip, up(y)), 1))
        out: Tensor = self.head(y)
        return out


class Espcn(nn.Module):
    """Super-resolution with sub-pixel convolutions, twice: 4×."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, width, 5, padding=2), nn.Tanh(), nn.Conv2d(width, width, 3, padding=1), nn.Tanh())
        self.up1, self.up2 = nn.Conv2d(width, 4 * width, 3, padding=1), nn.Conv2d(width, 12, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Images (N, 3, H, W) → (N, 3, 4 H, 4 W)."""
        y = torch.tanh(F.pixel_shuffle(self.up1(self.body(x)), 2))
        return F.pixel_shuffle(self.up2(y), 2)


class SelectiveKernel(nn.Module):
    """Two branches of other kernel sizes, weighed against each other by a softmax (SKNet)."""

    def __init__(self, width: int = 32, classes: int = 10) -> None:
        super().__init__()
        self.stem = conv(3, width, stride=2)
        self.three, self.five = conv(width, width, 3), conv(width, width, 5)
        self.squeeze = nn.Sequential(nn.Conv2d(width, 16, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU())
        self.select = nn.Conv2d(16, 2 * width, 1)
        self.head = nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Images (N, 3, H, W) → logits (N, classes)."""
        x = self.stem(x)
        y = torch.stack((self.three(x), self.five(x)), 1)  # (N, 2, C, H, W)
        s = self.select(self.squeeze(y.sum(1).mean((2, 3), keepdim=True)))
        y = (y * s.view(s.shape[0], 2, -1, 1, 1).softmax(1)).sum(1)
        out: Tensor = self.head(y.mean((2, 3)))
        return out


class Siamese(nn.Module):
    """One trunk, used on both halves of the picture; the distance between what it says."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.trunk = nn.Sequential(conv(3, width, stride=2), conv(width, 2 * width, stride=2), conv(2 * width, 2 * width))
        self.embed = nn.Linear(2 * width, 24)
        self.head = nn.Linear(24, 2)

    def forward(self, x: Tensor) -> Tensor:
        """Images (N, 3, H, W) → logits (N, 2)."""
        left, right = (self.embed(self.trunk(half).mean((2, 3))) for half in x.chunk(2, 3))
        out: Tensor = self.head((left - right).abs())
        return out


class MultiTask(nn.Module):
    """A face network with three heads: expression, age, landmarks."""

    def __init__(self, width: int = 24) -> None:
        super().__init__()
        self.trunk = nn.Sequential(
            conv(3, width, stride=2), conv(width, 2 * width, stride=2), Bottleneck(2 * width), conv(2 * width, 96)
        )
        self.neck = nn.ModuleDict({"expression": nn.Linear(96, 32), "age": nn.Linear(96, 16)})
        self.out = nn.ModuleDict({"expression": nn.Linear(32, 7), "age": nn.Linear(16, 1)})
        self.landmarks = nn.Linear(96, 10)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Images (N, 3, H, W) → a tensor a task."""
        y = self.trunk(x).mean((2, 3))
        tasks: dict[str, Tensor] = {name: self.out[name](F.relu(neck(y))) for name, neck in self.neck.items()}
        return tasks | {"landmarks": self.landmarks(y)}


class TokenMixer(nn.Module):
    """A small transformer of one's own: patches, a class token, scaled dot-product attention from one fused layer."""

    def __init__(self, width: int = 48, heads: int = 4, depth: int = 2, classes: int = 10) -> None:
        super().__init__()
        self.patch = nn.Conv2d(3, width, 8, 8)
        self.token = nn.Parameter(torch.zeros(1, 1, width))
        self.blocks = nn.ModuleList(TransformerBlock(width, heads) for _ in range(depth))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Images (N, 3, H, W) → logits (N, classes)."""
        y = self.patch(x).flatten(2).transpose(1, 2)
        y = torch.cat((self.token.expand(y.shape[0], -1, -1), y), 1)
        for block in self.blocks:
            y = block(y)
        out: Tensor = self.head(self.norm(y)[:, 0])
        return out


class TransformerBlock(nn.Module):
    """Attention and a hidden layer, each behind a norm and beside a shortcut."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.num_heads, self.head_dim = heads, width // heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        """(N, tokens, width) → the same."""
        n, tokens, _ = x.shape
        qkv = self.qkv(self.norm1(x)).reshape(n, tokens, 3, self.num_heads, self.head_dim).permute(2, 0, 3, 1, 4)
        y = F.scaled_dot_product_attention(*qkv.unbind(0))
        x = x + self.proj(y.transpose(1, 2).reshape(n, tokens, -1))
        out: Tensor = x + self.mlp(self.norm2(x))
        return out


class DiffusionBlocks(nn.Module):
    """Residual blocks with group norms and a time embedding, down and up again, as in diffusion models."""

    def __init__(self, width: int = 32, groups: int = 8) -> None:
        super().__init__()
        self.inp, self.out = nn.Conv2d(3, width, 3, padding=1), nn.Conv2d(width, 3, 3, padding=1)
        self.time = nn.Sequential(nn.Linear(8, width), nn.SiLU())
        self.norms = nn.ModuleList(nn.GroupNorm(groups, width) for _ in range(4))
        self.convs = nn.ModuleList(nn.Conv2d(width, width, 3, padding=1) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        """Images (N, 3, H, W) → the same; the time is taken from the image's means, so that one input does."""
        t = self.time(F.adaptive_avg_pool2d(x, (2, 2))[:, :2].flatten(1))[:, :, None, None]
        y = self.inp(x)
        for i in (0, 2):
            h = self.convs[i](F.silu(self.norms[i](y))) + t
            y = y + self.convs[i + 1](F.silu(self.norms[i + 1](h)))
        out: Tensor = self.out(y)
        return out


NETS: dict[str, Callable[[], nn.Module]] = {
    "yolo_like": YoloLike,
    "unet": UNet,
    "espcn_4x": Espcn,
    "selective_kernel": SelectiveKernel,
    "siamese": Siamese,
    "multi_task": MultiTask,
    "token_mixer": TokenMixer,
    "diffusion_blocks": DiffusionBlocks,
}

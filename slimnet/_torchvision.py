"""What is taken of torchvision, which is imported when it is first asked. The façade over it."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, cast

from torch import Tensor, nn

Mixer = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


@cache
def classifier_names() -> tuple[str, ...]:
    """Names of its image classifiers."""
    from torchvision import models

    return tuple(models.list_models(module=models))


def classifier(name: str, *, num_classes: int, **options: Any) -> nn.Module:
    """An image classifier with random weights."""
    from torchvision import models

    model: nn.Module = models.get_model(name, weights=None, num_classes=num_classes, **options)
    return model


def cifar(name: str) -> Any:
    """The class that reads ``cifar10`` or ``cifar100``."""
    from torchvision import datasets

    return {"cifar10": datasets.CIFAR10, "cifar100": datasets.CIFAR100}[name]


def has_checksum(path: Any, md5: str) -> bool:
    """Whether a file is there and has this MD5."""
    from torchvision.datasets.utils import check_integrity

    return bool(check_integrity(path, md5))


def mixer(*, mixup: float, cutmix: float, classes: int) -> Mixer | None:
    """MixUp or CutMix of these α; where both are above 0, one of them is drawn for each batch; None where neither is."""
    if not (mixup or cutmix):
        return None
    from torchvision.transforms import v2

    asked = [(v2.MixUp, mixup), (v2.CutMix, cutmix)]
    chosen = [kind(alpha=alpha, num_classes=classes) for kind, alpha in asked if alpha]
    return cast(Mixer, v2.RandomChoice(chosen) if len(chosen) > 1 else chosen[0])


def decoded_jpeg(data: bytes, channels: int) -> Tensor | None:
    """A JPEG as uint8 (channels, H, W), grey or RGB; None where it cannot be decoded here."""
    import torch

    try:
        import torchvision.io  # noqa: F401 – brings the operator, which does not warn; a release without it has Pillow instead

        content = torch.frombuffer(bytearray(data), dtype=torch.uint8)
        return cast(Tensor, torch.ops.image.decode_jpeg(content, channels, False))  # 1 is grey, 3 RGB
    except (ImportError, AttributeError, RuntimeError):
        return None

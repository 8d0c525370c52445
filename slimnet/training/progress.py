"""What training shows of an epoch."""

from __future__ import annotations

from collections.abc import Mapping

_SHOWN = {
    "lr": "lr {:.4g}",
    "train_loss": "loss {:.4f}",
    "train_accuracy": "acc {:.2%}",
    "val_loss": "val loss {:.4f}",
    "val_accuracy": "val acc {:.2%}",
    "rate": "rate {:.3f}",
    "zeta": "scale {:.4f}",
    "live_flops": "live {:.4g} FLOPs",
}


def shown(numbers: Mapping[str, float]) -> str:
    """Some numbers of an epoch, by the names of ``metrics.jsonl``, on one line."""
    return "  ".join(form.format(numbers[name]) for name, form in _SHOWN.items() if name in numbers)

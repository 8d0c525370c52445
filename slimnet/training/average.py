"""The running average of a run's weights.

References:
    Polyak & Juditsky, *Acceleration of Stochastic Approximation by Averaging*, 1992.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn


def make_average(model: nn.Module, decay: float) -> AveragedModel | None:
    r"""The exponential moving average of parameters and buffers; None for a decay of 0.

    After n steps the decay is :math:`\min(d, (1 + n) / (10 + n))`, so that short runs do not remember where they began.
    """
    if not decay:
        return None

    def update(means: Any, values: Any, count: Any) -> None:
        if not means[0].is_floating_point():  # counts and tables of indices have no average
            torch._foreach_copy_(means, values)
            return
        steps = int(average.n_averaged)  # on the CPU, where `count` is on the device
        get_ema_multi_avg_fn(min(decay, (1 + steps) / (10 + steps)))(means, values, count)  # type: ignore[no-untyped-call]

    average = AveragedModel(model, multi_avg_fn=update, use_buffers=True)
    return average


@torch.no_grad()
def close_average(average: AveragedModel, model: nn.Module) -> None:
    """Set what is exactly 0 in ``model`` to 0 in its average too, in place: a closed filter has no past."""
    for mean, now in zip(average.module.parameters(), model.parameters(), strict=True):
        mean.masked_fill_(now == 0, 0.0)

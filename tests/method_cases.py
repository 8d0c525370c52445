"""The table of methods, and the hooks of the engine on a tiny network: what tests of methods share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn

from slimnet.criteria import ClassStatistics
from slimnet.methods import (
    ASFP,
    ASRFP,
    DSD,
    FPGM,
    FSDP,
    SFP,
    SRFP,
    Dense,
    Method,
    NetworkSlimming,
    OneShot,
    Stages,
    StructuredDSD,
)
from tiny_net import tiny_groups, tiny_net

EPOCHS = 8


@dataclass(frozen=True)
class Case:
    """A method, and what it must leave behind after 8 epochs on groups of 8 and 10 channels, worked out by hand.

    Attributes:
        closed_from: the first epoch that may be the result.
        closed: channels of the 18 that are closed at the end.
        holds: whether closed channels stay at zero during the steps after ``closed_from``.
    """

    method: Method
    closed_from: int
    closed: int
    holds: bool = True

    def __str__(self) -> str:
        return repr(self.method).split("(")[0]


WIDTHS = (("stem", 7), ("conv1", 3))
SHUT = (("stem", 7), ("conv1", 0))
CASES = [
    Case(Dense(), 0, 0),
    Case(FSDP(rate_cs=0.2, rate_gm=0.3), 5, 4 + 5),
    Case(FSDP(faithful=True), 7, (0 + 3) + (1 + 4)),  # two floors
    Case(FSDP(couple="none", tau=4.0, attenuation=0.2), 5, 4 + 5),
    Case(SFP(0.4), 5, 3 + 4),
    Case(SFP(0.4, faithful=True), 0, 3 + 4, holds=False),  # filters regrow until the end
    Case(ASFP(0.4), 5, 3 + 4),
    Case(ASFP(0.4, faithful=True), 7, 3 + 4),
    Case(FPGM(0.4), 5, 3 + 4),
    Case(FPGM(0.4, rate_norm=0.1), 5, 3 + 4),
    Case(FPGM(0.4, faithful=True), 0, 3 + 4, holds=False),
    Case(FSDP(rate_cs=0.2, rate_gm=0.3, widths=WIDTHS), 5, 1 + 7),  # so many each, whatever the rate
    Case(SFP(0.4, widths=WIDTHS), 5, 1 + 7),
    Case(ASFP(0.4, widths=WIDTHS), 5, 1 + 7),
    Case(FPGM(0.4, rate_norm=0.1, widths=WIDTHS), 5, 1 + 7),
    Case(ASRFP(0.4, widths=WIDTHS), 5, 1 + 7),
    Case(FSDP(rate_cs=0.2, rate_gm=0.3, widths=SHUT), 5, 1 + 10),  # the second group whole
    Case(FSDP(rate_cs=0.2, rate_gm=0.3, tau=1.5, cs_every=1, widths=SHUT), 5, 1 + 10),
    Case(SFP(0.4, widths=SHUT), 5, 1 + 10),
    Case(ASFP(0.4, widths=SHUT), 5, 1 + 10),
    Case(FPGM(0.4, rate_norm=0.1, widths=SHUT), 5, 1 + 10),
    Case(SRFP(0.4, widths=SHUT), 5, 1 + 10),
    Case(ASRFP(0.4, widths=SHUT), 5, 1 + 10),
    Case(OneShot(0.4), 0, 3 + 4),
    Case(OneShot(score="cs", widths=SHUT), 0, 1 + 10),
    Case(SRFP(0.4), 5, 3 + 4),
    Case(ASRFP(0.4), 5, 3 + 4),
    Case(NetworkSlimming(0.4, penalty=1e-3), 3, 7),  # ⌊18 · 0.4⌋, half of the epochs fine-tune
    Case(NetworkSlimming(0.4, ranking="group"), 3, 3 + 4),
    Case(DSD(), 6, 0),  # phases begin at 0, 4, 6
    Case(DSD(phases="D-S-D-S-D", lengths=(4, 1, 1, 1, 1)), 7, 0),
    Case(StructuredDSD(sparsity=0.4), 6, 3 + 4),  # phases begin at 0, 3, 5, 6
    Case(Stages((DSD(), 0.5), (FSDP(), 0.5)), 6, 4 + 5),
    Case(Stages((Dense(), 0.25), (FPGM(0.4), 0.75)), 6, 3 + 4),
]


def sgd(parameters):
    return torch.optim.SGD(parameters, lr=0.05, momentum=0.9, weight_decay=5e-4, nesterov=True)


def adamw(parameters):
    return torch.optim.AdamW(parameters, lr=0.01, weight_decay=0.1)


OPTIMIZERS = [sgd, adamw]


class Statistics:
    """Class statistics made up from a seed; remembers when it was asked, and for what."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.asked: list[Sequence[str]] = []

    def __call__(self, modules: Sequence[str]) -> ClassStatistics:
        self.asked.append(list(modules))
        generator = torch.Generator().manual_seed(len(self.asked))
        sums = {
            name: torch.rand(3, self.model.get_submodule(name).weight.shape[0], generator=generator).double() for name in modules
        }
        return ClassStatistics(sums, torch.ones(3, dtype=torch.int64))


def step(model, pruner, optimizer, seed):
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn(8, 1, 6, 6, generator=generator)
    labels = torch.randint(0, 3, (8,), generator=generator)
    optimizer.zero_grad()
    nn.functional.cross_entropy(model(images), labels).backward()
    pruner.after_backward()
    optimizer.step()
    pruner.after_step(optimizer)


def run_epoch(model, pruner, optimizer, epoch, statistics, *, steps=3):
    pruner.before_epoch(epoch)
    for number in range(steps):
        step(model, pruner, optimizer, 100 * epoch + number)
    pruner.after_epoch(epoch, statistics)


def start(method, *, epochs, optimizer=sgd, **net):
    model = tiny_net(**({"width": 8, "inner": 10} | net))
    pruner, statistics = method.start(model, tiny_groups(model), epochs=epochs), Statistics(model)
    pruner.begin(statistics)
    return model, pruner, optimizer(model.parameters()), statistics


def on_a_line(method, epochs):
    """A pruner of six filters that lie on a line, filter f at f + 1, alone in their group."""
    model = tiny_net(width=4, inner=6)
    with torch.no_grad():
        for f in range(6):
            model.conv1.weight[f] = 0.0
            model.conv1.weight[f, 0, 1, 1] = f + 1.0
    pruner = method.start(model, [tiny_groups(model)[1]], epochs=epochs)
    return model, pruner


def places(model):
    """Where the filters of :func:`on_a_line` are now."""
    return model.conv1.weight[:, 0, 1, 1].tolist()


def closed_are_zero(model, pruner):
    """Whether all that the mask closes is exactly zero, norms included where they are masked."""
    mask = getattr(pruner, "mask", None)
    if mask is None:
        return True
    for name, closed in mask.closed().items():
        group = mask.groups[name]
        for rows in (*group.filters, *(group.norms if mask.mask_norm else ())):
            if "running" not in rows.name:
                assert (model.get_parameter(rows.name)[closed] == 0).all(), rows.name
    return True

"""What goes wrong in a loop of one's own is said in one line, at once, and nothing is changed by it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

import slimnet
from loops import EPOCHS, IMAGES, LABELS, loader, plain_step, sgd, train
from method_cases import adamw
from slimnet.methods import ASFP, FPGM, FSDP, OneShot
from tiny_net import tiny_net


class Loop:
    """A pruner between two of its epochs."""

    def __init__(self, method: Any = None, **options: Any) -> None:
        self.model = tiny_net(8, 10)
        self.optimizer = sgd(self.model.parameters())
        self.pruner = slimnet.attach(self.model, IMAGES[:2], method or FPGM(0.4), epochs=EPOCHS, **options)

    def epoch(self, number: int) -> None:
        with self.pruner.epoch(number):
            plain_step(self.model, self.optimizer, IMAGES, LABELS)


def nested(loop: Loop) -> None:
    with loop.pruner.epoch(0):
        loop.epoch(0)


def slim_inside(loop: Loop) -> None:
    with loop.pruner.epoch(0):
        loop.pruner.slim()


def another_tensor(loop: Loop) -> None:
    loop.model.conv1 = nn.Conv2d(8, 10, 3, padding=1)
    loop.epoch(0)


def after_detach(loop: Loop) -> None:
    loop.pruner.detach()
    loop.epoch(0)


def twice(loop: Loop) -> None:
    loop.epoch(0)
    loop.epoch(0)


def on_another_device(loop: Loop) -> None:
    """As if it had been there, since tests have but one device."""
    loop.pruner._seen = {name: (number, torch.device("cuda:0")) for name, (number, _) in loop.pruner._seen.items()}
    loop.epoch(0)


def no_step(loop: Loop) -> None:
    with loop.pruner.epoch(0):
        pass


def two_kinds(loop: Loop) -> None:
    with loop.pruner.epoch(0):
        plain_step(loop.model, loop.optimizer, IMAGES, LABELS)
        plain_step(loop.model, adamw(loop.model.parameters()), IMAGES, LABELS)


def lbfgs(loop: Loop) -> None:
    with loop.pruner.epoch(0):
        torch.optim.LBFGS(loop.model.parameters()).step(lambda: torch.zeros(()))


def other_method(loop: Loop) -> None:
    loop.pruner.load_state_dict(Loop(FPGM(0.3)).pruner.state_dict())


def odd_state(loop: Loop) -> None:
    loop.pruner.load_state_dict(loop.pruner.state_dict() | {"pruner": {}})


WRONG: list[tuple[Callable[[Loop], None], str]] = [
    (lambda loop: loop.epoch(1), r"epoch\(1\) is not next: .* 0 comes now"),
    (twice, r"epoch\(0\) is not next: .* 1 comes now"),
    (nested, r"epoch\(0\) comes within epoch 0"),
    (slim_inside, r"slim\(\) comes within epoch 0"),
    (lambda loop: loop.pruner.slim(), "nothing can be cut yet: after 0 of 8 epochs"),
    (after_detach, r"epoch\(0\) comes after detach\(\)"),
    (another_tensor, r"changed since it was attached: conv1\.weight"),
    (on_another_device, "attached on cuda:0 and is on cpu: move it first"),
    (no_step, "in epoch 0 no optimiser made a step"),
    (two_kinds, "AdamW and SGD both train this network"),
    (lbfgs, "LBFGS moves weights several times"),
    (other_method, "the state is of FPGM.*attach the same method"),
    (odd_state, "no state of a pruner of this network"),
    (lambda loop: loop.pruner.load_state_dict({}), "its format is None"),
]


@pytest.mark.parametrize(("do", "message"), WRONG)
def test_wrong_turns(do: Callable[[Loop], None], message: str) -> None:
    with pytest.raises(slimnet.SlimnetError, match=message) as caught:
        do(Loop())
    assert "\n" not in str(caught.value)


GIVEN: list[tuple[dict[str, Any], str]] = [
    ({"method": "fpgm"}, "`method` must be a method such as"),
    ({"epochs": 0}, "`epochs` must be a whole number, at least 1"),
    ({"epochs": "3"}, "`epochs` must be a whole number, at least 1, got '3'"),
    ({"epochs": True}, "`epochs` must be a whole number, at least 1, got True"),
    ({"method": FPGM(0.4, widths=(("conv1", 4),)), "target": slimnet.Budget(flops=0.5)}, "either a `target` or a method with"),
    ({"method": OneShot()}, "nothing would be closed"),
    ({"method": slimnet.DSD(), "target": slimnet.Budget(flops=0.5)}, "`target` needs a soft filter method"),
    ({"method": ASFP(0.4, couple="none"), "target": slimnet.Budget(flops=0.5)}, "`target` needs coupled streams"),
    ({"optimizer": sgd(nn.Linear(2, 2).parameters())}, "SGD holds no parameter of the network"),
    ({"example_inputs": IMAGES[:1], "target": slimnet.Budget(flops=0.5)}, "of two images at least"),
    ({"target": slimnet.Budget(speedup=500)}, "the target cannot be met"),
]


@pytest.mark.parametrize(("given", "message"), GIVEN)
def test_wrong_arguments(given: dict[str, Any], message: str) -> None:
    options: dict[str, Any] = {"example_inputs": IMAGES[:2], "method": FPGM(0.4), "epochs": EPOCHS} | given
    with pytest.raises(slimnet.SlimnetError, match=message):
        slimnet.attach(tiny_net(8, 10), **options)


def test_statistics_that_nobody_gave() -> None:
    loop = Loop(FSDP(rate_cs=0.2, rate_gm=0.3, cs_from_start=True))
    with pytest.raises(slimnet.SlimnetError, match=r"by labelled images: give attach\(…, data=loader\)"):
        loop.epoch(0)


@pytest.mark.parametrize(("data", "message"), [
    ([IMAGES], "pairs of tensors"), ([(IMAGES, LABELS + 7)], "labels must be in"), ([], "there was no batch"),
])  # fmt: skip
def test_odd_data(data: Any, message: str) -> None:
    loop = Loop(FSDP(rate_cs=0.2, rate_gm=0.3, cs_from_start=True), data=data)
    with pytest.raises(slimnet.SlimnetError, match=message):
        loop.epoch(0)


def test_an_optimizer_of_another_network() -> None:
    _, pruner, _ = train(FPGM(0.4))
    with pytest.raises(slimnet.SlimnetError, match="SGD holds no parameter of the network"):
        pruner.slim(optimizer=sgd(tiny_net(8, 10).parameters()))
    assert pruner.slim().report.removed == 7


def test_an_epoch_that_broke_is_begun_again() -> None:
    loop = Loop()
    with pytest.raises(KeyboardInterrupt), loop.pruner.epoch(0):
        plain_step(loop.model, loop.optimizer, IMAGES, LABELS)
        raise KeyboardInterrupt
    assert loop.pruner.log()["selected_share"] == 0
    loop.epoch(0)
    assert loop.pruner.log()["selected_share"] > 0


def test_data_leave_random_numbers_alone() -> None:
    shuffled = torch.utils.data.DataLoader(loader().dataset, batch_size=16, shuffle=True)
    loop = Loop(FSDP(rate_cs=0.2, rate_gm=0.3, cs_from_start=True), data=shuffled)
    torch.manual_seed(3)
    loop.epoch(0)
    drawn = torch.rand(1)
    torch.manual_seed(3)
    assert torch.equal(drawn, torch.rand(1))


def test_an_optimizer_that_was_replaced() -> None:
    """The one that was named makes no more steps: the masks would hold nothing."""
    model = tiny_net(8, 10)
    given, other = sgd(model.parameters()), sgd(model.parameters())
    pruner = slimnet.attach(model, IMAGES[:2], FPGM(0.4), epochs=EPOCHS, optimizer=given)
    with pruner.epoch(0):
        plain_step(model, given, IMAGES, LABELS)
    with (
        pytest.raises(slimnet.SlimnetError, match=r"given to attach made no step: .* attach it again with that one"),
        pruner.epoch(1),
    ):
        plain_step(model, other, IMAGES, LABELS)


def test_what_is_closed_at_first_is_closed_after_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """A loader that failed while statistics were taken: the same cell again closes what it did not the first time."""
    model, fails = tiny_net(8, 10), [True]

    def data() -> Any:
        if fails.pop() if fails else False:
            raise OSError("the disk is gone")
        return loader()

    pruner = slimnet.attach(model, IMAGES[:2], OneShot(0.5, score="cs"), epochs=2, data=data)
    with pytest.raises(OSError, match="the disk is gone"), pruner.epoch(0):
        pass
    with pruner.epoch(0):
        plain_step(model, sgd(model.parameters()), IMAGES, LABELS)
    assert pruner.log()["closed_share"] > 0.3

"""Code that does something else at another batch or resolution than that of the example."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import slimnet
from slimnet.graph.recorded import taken, trials
from test_surgery import roughen, zero_filters
from written_networks import reasons

ELSEWHERE = "without these channels the network does something else at another batch or size"


class Between(nn.Module):
    """Something that is done to maps between two convolutions; closed channels leave constants behind."""

    def __init__(self, does: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.a, self.na = nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.b, self.head = nn.Conv2d(8, 8, 3, bias=False), nn.Linear(8, 5)
        self.does = does

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(F.relu(self.b(self.does(F.relu(self.na(self.a(x)))))).mean((2, 3)))
        return out


def between(does: Callable[[Tensor], Tensor]) -> nn.Module:
    torch.manual_seed(0)
    model = roughen(Between(does)).double()
    zero_filters(model)
    return model


def _bordered(x: Tensor) -> Tensor:
    return F.pad(x, (1, 1, 1, 1))


def _multiples_of_16(x: Tensor) -> Tensor:
    assert x.shape[2] % 16 == x.shape[3] % 16 == 0
    return x + 1 / (x.shape[2] * x.shape[3])


def _squares(x: Tensor) -> Tensor:
    assert x.shape[2] == x.shape[3]
    return _bordered(x) if x.shape[2] % 4 else x


CASES: dict[str, tuple[Callable[[Tensor], Tensor], tuple[int, ...]]] = {
    "higher than wide": (lambda x: _bordered(x) if x.shape[2] > x.shape[3] else x, (1, 3, 20, 10)),
    "small": (lambda x: _bordered(x) if x.shape[2] < 12 else x, (2, 3, 8, 16)),
    "one picture": (lambda x: 2 * x if x.shape[0] == 1 else x, (1, 3, 16, 16)),
    "mean over the batch": (lambda x: x / x.shape[0], (5, 3, 16, 16)),
    "takes multiples of 16": (_multiples_of_16, (2, 3, 48, 48)),
    "takes squares": (_squares, (2, 3, 21, 21)),
    "fails at one picture": (lambda x: x.view(-1, 8, *x.shape[2:]) if x.shape[0] == 1 else x, (1, 3, 16, 16)),
}


@pytest.mark.parametrize("case", CASES)
def test_what_the_size_decides(case: str) -> None:
    does, shape = CASES[case]
    model = between(does)
    result = slimnet.slim(model, torch.randn(2, 3, 16, 16, dtype=torch.float64))
    for size in ((2, 3, 16, 16), shape):
        x = torch.randn(size, dtype=torch.float64)
        torch.testing.assert_close(result.model(x), model(x), rtol=1e-9, atol=1e-12)
    assert ELSEWHERE in reasons(result)
    assert result.report.removed == 4  # those of the other convolution


def test_inputs_of_which_other_sizes_are_found() -> None:
    """Of each kind one is enough; what has channels last, or none, is of other lengths, too."""

    def shapes(given: Tensor, takes: Callable[[Tensor], bool]) -> dict[str, tuple[int, ...]]:
        found = taken(trials((given,), None), lambda _, trial: True if takes(trial[0]) else None)
        return {name: tuple(trial[0].shape) for name, trial, _ in found if name not in ("given", "random")}

    kinds = ("random, larger", "random, uneven", "random, smaller")
    image = torch.zeros(2, 3, 32, 32)
    assert shapes(image, lambda x: True) == dict(zip(kinds, [(2, 3, 40, 40), (2, 3, 35, 37), (1, 3, 16, 8)], strict=True))
    assert shapes(image, lambda x: x.shape[2] % 32 == 0) == {kinds[0]: (1, 3, 64, 64), kinds[2]: (1, 3, 32, 16)}
    assert shapes(image, lambda x: x.shape[2] == x.shape[3])[kinds[1]] == (1, 3, 37, 37)
    assert shapes(torch.zeros(2, 10, 6), lambda x: x.shape[2] == 6) == dict(
        zip(kinds, [(1, 18, 6), (1, 13, 6), (1, 5, 6)], strict=True)
    )
    assert shapes(torch.zeros(2, 12, dtype=torch.int64), lambda x: True)[kinds[0]] == (2, 20)
    assert not shapes(torch.zeros(2, 12), lambda x: x.shape[1] == 12)


def test_channels_that_come_last() -> None:
    """Sequences of features: the length is the dimension behind the batch."""

    class Last(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.head = nn.Linear(6, 8), nn.Linear(8, 8), nn.Linear(8, 5)

        def forward(self, x: Tensor) -> Tensor:
            y = torch.sigmoid(self.a(x)) / x.shape[1]
            out: Tensor = self.head(F.relu(self.b(y)).mean(1))
            return out

    torch.manual_seed(0)
    model = roughen(Last()).double()
    zero_filters(model)
    result = slimnet.slim(model, torch.randn(2, 12, 6, dtype=torch.float64))
    x = torch.randn(2, 30, 6, dtype=torch.float64)
    torch.testing.assert_close(result.model(x), model(x), rtol=1e-9, atol=1e-12)
    assert ELSEWHERE in reasons(result)

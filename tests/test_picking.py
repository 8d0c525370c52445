"""Numbers, sizes and places that depend on data, in networks that are recorded: what example inputs did not show stays right."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import roi_align

import slimnet
from slimnet.errors import VerificationError
from written_networks import reasons

X = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
RARE = torch.tensor(100.0)  # above what any example input, or one made of it, has


class Net(nn.Module):
    """A stem whose closed channels are constant, but not zero, and what reads it."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.head = nn.Conv2d(3, 8, 3, padding=1), nn.Linear(8, 5)

    def features(self, x: Tensor) -> Tensor:
        return F.relu(self.stem(x)).mean((2, 3))


class AddsCount(Net):
    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(self.features(x) + int((x > RARE).sum()))
        return out


class AddsTruth(Net):
    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(self.features(x) + float((x > RARE).any()))
        return out


class AddsLength(Net):
    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(self.features(x) + len(x[x > RARE]))
        return out


class Fills(Net):
    def forward(self, x: Tensor) -> Tensor:
        h = self.features(x)
        out: Tensor = self.head(h + torch.full_like(h, 0.5 + int((x > RARE).sum())))
        return out


class Picks(Net):
    def forward(self, x: Tensor) -> Tensor:
        h = self.features(x)
        out: Tensor = self.head(h) + h[:, 6 + int((x > RARE).any())][:, None]
        return out


class Slices(Net):
    def forward(self, x: Tensor) -> Tensor:
        h = self.features(x)
        return h[:, : 2 + int((x > RARE).any())].sum(1) + self.head(x.new_zeros(len(x), 8)).sum(1)


class Accumulates(Net):
    """Nothing is added to in any recorded run."""

    def forward(self, x: Tensor) -> Tensor:
        h = self.features(x)
        at = torch.nonzero(x.mean((1, 2, 3)) > RARE)[:, 0]
        out: Tensor = self.head(h.index_put((at,), h[at], accumulate=True))
        return out


class Written(Net):
    """Zeros, but for a row that is written through a view; images are copied into them."""

    def forward(self, x: Tensor) -> Tensor:
        h = F.relu(self.stem(x))
        z = h.new_zeros(h.shape)
        z[:, :, 0] = float((x > RARE).any())
        at = torch.nonzero(x.mean((1, 2, 3)) > 0)[:, 0]
        z[at] = h[at]
        out: Tensor = self.head(z.mean((2, 3)))
        return out


class Moves(Net):
    """Of no image at all: views, stacks, halves and layers."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Linear(8, 8), nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        h = self.features(x)
        e = h[x.mean((1, 2, 3)) > RARE]
        u = torch.stack([self.one(e), self.two(e)], 1).view(len(e), 2, 8).permute(1, 0, 2).reshape(-1, 8)
        k = torch.cat([e, self.two(e)], 0).transpose(0, 1).t().unsqueeze(0).squeeze(0).repeat(2, 1)
        first, second = (self.one(h) * self.two(h)).split([4, 4], 1)
        out: Tensor = self.head(h) + self.head(u).sum(0) + self.head(k).sum(0) + (first * second).sum(1, keepdim=True)
        return out + self.head(self.two(e.reshape(-1, 2, 4).flatten(1))).sum(0)


class Levels(nn.Module):
    """Boxes of two maps, of which no recorded run takes the second."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.down = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3, stride=2, padding=1)
        self.head = nn.Linear(8 * 4, 3)

    def forward(self, x: Tensor) -> list[Tensor]:
        fine = F.relu(self.stem(x))
        coarse = F.relu(self.down(fine))
        answers = []
        for number, image in enumerate(x):
            at = torch.nonzero(image[0].flatten() > 0.8)[:, 0]
            corner = torch.stack([at % x.shape[3], at // x.shape[3]], 1).to(x)
            boxes = torch.cat([corner, corner + 3], 1)
            is_large = image[1].flatten()[at] > RARE
            found = fine.new_zeros((len(at), fine.shape[1], 2, 2))
            for which, maps, scale in ((~is_large, fine, 1.0), (is_large, coarse, 0.5)):
                found[which] = roi_align(maps[number : number + 1], [boxes[which]], 2, scale)
            answers.append(self.head(found.flatten(1)))
        return answers


class Numbers(Net):
    """An operator is given a number that is zero, or below it, in every recorded run."""

    def __init__(self, operator: Callable[[Tensor, int, Callable[[str], Tensor]], Tensor]) -> None:
        super().__init__()
        self.operator = operator
        self.register_buffer("kernel", torch.randn(8, 8, 3, 3))
        self.register_buffer("offset", torch.zeros(8))

    def forward(self, x: Tensor) -> Tensor:
        maps = self.operator(F.relu(self.stem(x)), int((x > RARE).sum()), self.get_buffer)
        out: Tensor = self.head(maps.mean((2, 3)))
        return out


def closed(kind: Callable[[], nn.Module]) -> nn.Module:
    """Half of the stem's filters are zero, and their biases are not; of the second map, the other half."""
    torch.manual_seed(0)
    model = kind().double().eval()
    with torch.no_grad():
        model.stem.weight[4:] = 0  # type: ignore[union-attr, operator, index]
        model.stem.bias[4:] = torch.tensor([0.3, 0.5, 0.7, 0.9])  # type: ignore[union-attr, operator, index]
        if isinstance(model, Levels | Written):
            model.stem.bias[4:] = 0  # type: ignore[union-attr, operator, index]
        if isinstance(model, Levels):
            model.down.weight[:4], model.down.bias[:4] = 0, 0
    return model


@pytest.mark.parametrize(
    "kind",
    [AddsCount, AddsTruth, AddsLength, Fills, Picks, Slices, Accumulates, Written, Moves, Levels],
    ids=lambda kind: kind.__name__,
)
def test_what_no_example_showed(kind: Callable[[], nn.Module]) -> None:
    """The same operators run on other inputs, with other numbers, sizes and places."""
    model = closed(kind)
    result = slimnet.slim(model, X)
    assert result.plan.runs
    for x in (X, X * 3, X + 200, X * 300, X.abs() * 300):
        with torch.no_grad():
            torch.testing.assert_close(copy.deepcopy(result.model)(x), copy.deepcopy(model)(x), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    "operator",
    [
        pytest.param(lambda maps, n, _: maps.clamp(min=n - 0.5), id="clamp"),
        pytest.param(lambda maps, n, _: maps.clamp(min=n), id="clamp at zero"),
        pytest.param(lambda maps, n, _: F.hardtanh(maps, n - 0.5, n + 1000), id="hardtanh"),
        pytest.param(lambda maps, n, _: F.threshold(maps, n - 0.5, 7.0), id="threshold"),
        pytest.param(lambda maps, n, _: torch.where(maps < n - 0.5, torch.ones_like(maps), maps), id="compare"),
        pytest.param(lambda maps, n, _: maps.masked_fill(maps < n - 0.5, 7.0), id="masked_fill"),
        pytest.param(lambda maps, n, _: F.pad(maps, (0, n)), id="pad"),
        pytest.param(lambda maps, n, _: F.avg_pool2d(maps, 3, 1, padding=min(n, 1)), id="avg_pool"),
        pytest.param(lambda maps, n, held: F.conv2d(maps, held("kernel"), held("offset"), padding=min(n, 1)), id="conv"),
        pytest.param(lambda maps, n, _: maps.roll(n, 1), id="roll"),
    ],
)
def test_numbers_that_no_example_showed(operator: Callable[[Tensor, int, Callable[[str], Tensor]], Tensor]) -> None:
    test_what_no_example_showed(lambda: Numbers(operator))


@pytest.mark.parametrize("skipped", [False, True])
def test_padding_that_no_size_of_the_examples_shows(skipped: bool) -> None:
    """Up to a multiple of 32: nothing at 64 and 96, where the network is exported; perhaps no operator is there to be seen."""

    class Pads(Net):
        def forward(self, x: Tensor) -> Tensor:
            maps = F.relu(self.stem(x))
            by = (0, -maps.shape[3] % 32, 0, -maps.shape[2] % 32)
            maps = F.pad(maps, by) if any(by) or not skipped else maps
            out: Tensor = self.head(maps.mean((2, 3)))
            return out

    model, example = closed(Pads), torch.randn(2, 3, 64, 64, dtype=torch.float64)
    result = slimnet.slim(model, example)
    assert not result.plan.runs
    assert ("without these channels the network does something else at another batch or size" in reasons(result)) == skipped
    for size in (64, 70):
        x = torch.randn(1, 3, size, size, dtype=torch.float64)
        torch.testing.assert_close(result.model(x), model(x), rtol=1e-9, atol=1e-9)
    model.stem.bias.data[4:] = 0  # type: ignore[union-attr, operator, index]
    assert slimnet.slim(model, example).model.get_submodule("stem").weight.shape[0] == 4  # zeros among zeros


def test_numbers_of_modules_are_no_data() -> None:
    """Behind a number that depends on data, activations, pads and convolutions of torch's classes still have their own."""

    class Modules(Net):
        def __init__(self) -> None:
            super().__init__()
            self.body = nn.Sequential(nn.ReLU6(), nn.LeakyReLU(0.1), nn.AvgPool2d(2), nn.Conv2d(8, 8, 3))

        def forward(self, x: Tensor) -> Tensor:
            count = int((x > RARE).sum())
            out: Tensor = self.head(self.body(self.stem(x)).mean((2, 3)))
            return out + count

    result = slimnet.slim(closed(Modules), X)
    assert result.plan.runs and result.model.get_submodule("stem").weight.shape[0] == 4


class Tables(Net):
    """Rows of a table, one for each channel."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.randn(2, 8))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(self.table[(self.features(x) > 0.6).long()].sum(1))
        return out


class Entries(Net):
    """Single entries of a table, by a truth value for each."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.randn(8, 4))
        self.register_buffer("which", torch.arange(32).reshape(8, 4) % 4 == 0)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(self.features(x) * self.table[self.which])
        return out


@pytest.mark.parametrize("kind", [Tables, Entries])
def test_what_picks_from_a_table_stays(kind: Callable[[], nn.Module]) -> None:
    model = closed(kind)
    result = slimnet.slim(model, X)
    torch.testing.assert_close(result.model(X), model(X), rtol=1e-9, atol=1e-9)
    (reason,) = {group.name: group.reasons for group in result.plan.groups}["stem"]
    assert reason.startswith("operator aten.index")


def test_whole_numbers_are_not_what_they_are_filled_with() -> None:
    """Also where nothing depends on data: 1.7 as a whole number is 1."""

    class Whole(Net):
        def forward(self, x: Tensor) -> Tensor:
            h = self.features(x)
            out: Tensor = self.head(torch.full_like(h, 1.7, dtype=torch.int32).to(h.dtype) + h)
            return out

    model = closed(Whole)
    torch.testing.assert_close(slimnet.slim(model, X).model(X), model(X))


def test_numbers_that_are_no_data_still_fold() -> None:
    """What decides is read, but no number is made of it: a constant channel goes."""

    class Decides(Net):
        def forward(self, x: Tensor) -> Tensor:
            h = self.features(x)
            out: Tensor = self.head(h * 0.5 + 1) if x.mean() > 0 else self.head(h)
            return out

    class Adds(Net):
        def forward(self, x: Tensor) -> Tensor:
            h = self.features(x) * 0.5 + 1
            out: Tensor = self.head(h) + x.mean().item()
            return out if len(x[x > RARE]) < 3 else out * 2

    assert slimnet.slim(closed(Adds), X).model.get_submodule("stem").weight.shape[0] == 4
    reasons = {group.name: list(group.reasons) for group in slimnet.slim(closed(Decides), X).plan.groups}
    assert reasons["stem"] == ["constant, but head.weight is used twice and reads other constants there"]


def test_a_forward_pass_that_writes_and_draws() -> None:
    """Buffers and random numbers of the network are left as they were, in a network of float64, too."""

    class Writes(Net):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("memory", torch.zeros(8))
            self.register_buffer("count", torch.zeros((), dtype=torch.int64))

        def forward(self, x: Tensor) -> Tensor:
            h = self.features(x)
            self.memory[:] = h[0]  # type: ignore[index, operator]
            self.count += 1  # type: ignore[has-type]
            torch.rand(1)
            out: Tensor = self.head(h + self.memory)
            return out if len(x[x > 0]) < 3 else out * 2

    model = closed(Writes)
    state, random = copy.deepcopy(model.state_dict()), torch.get_rng_state()
    slimnet.slim(model, X)
    torch.testing.assert_close(model.state_dict(), state)
    assert torch.equal(torch.get_rng_state(), random)


def test_answers_of_random_size() -> None:
    class Draws(Net):
        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.head(self.features(x)).flatten()
            return out[: int(torch.randint(2, 18, ()))]

    with pytest.raises(VerificationError, match=r"^the slim model gives .* \(does it draw random numbers, or keep"):
        slimnet.slim(closed(Draws), X)


def test_a_network_that_draws_random_numbers_on_one_path() -> None:
    class Draws(Net):
        def forward(self, x: Tensor) -> Tensor:
            h = self.features(x)
            out: Tensor = self.head(h + torch.rand(1) if x.mean() > 0 else h)
            return out

    with pytest.raises(VerificationError, match=r"^the slim model differs on .* \(does it draw random numbers, or keep"):
        slimnet.slim(closed(Draws), X)

"""slimnet's channel groups against torch-pruning's: the same wherever that is right, and the rest listed and explained."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from skips import skip_without
from slimnet.errors import GraphError
from slimnet.graph import channel_groups, prunable
from slimnet.graph.dependency import Partition, cells, peer_cells, peer_slice
from slimnet.models import build_model
from zoo import CASES, Case, build, example

pytestmark = pytest.mark.filterwarnings("ignore")  # of torch-pruning

LIGHT = ("resnet18", "squeezenet1_0", "mobilenet_v3_small", "shufflenet_v2_x0_5", "repvgg_a0")
THINNED = (
    "torch-pruning thins every convolution group by the same number of channels and so ties channels only across groups, when it "
    "cuts; slimnet closes whole convolution groups, whose channels live and go together"
)
EXPLAINED = {
    "resnext50_32x4d": THINNED,
    "regnet_y_400mf": THINNED,
    "shufflenet_v2_x0_5": "torch-pruning divides by zero on the channel shuffle; slimnet pins what is shuffled",
    "convnext_tiny": "torch-pruning cuts streams that a LayerNorm reads, whose statistics then change; slimnet pins them",
}


def both(model: nn.Module, x: torch.Tensor) -> tuple[Partition, Partition, set[str]]:
    """slimnet's cells, torch-pruning's as far as slimnet would cut them, and the layers of the rest."""
    groups = channel_groups(model, x)
    mine, pinned = cells(prunable(groups)), cells(group for group in groups if group.pinned)
    fixed = frozenset().union(*pinned)
    theirs = peer_cells(model, x)
    refused = {name for cell in theirs if cell <= fixed for name, _ in cell}
    return mine, frozenset(cell for cell in theirs if not cell <= fixed), refused


@pytest.mark.parametrize(
    "case", [pytest.param(case, id=case.name, marks=() if case.name in LIGHT else pytest.mark.slow) for case in CASES]
)
def test_groups_agree_or_the_difference_is_explained(case: Case) -> None:
    if case.missing:
        skip_without("timm")
    model, x = build(case), example(case)
    last = [name for name, module in model.named_modules() if isinstance(module, nn.Linear | nn.Conv2d)][-1]
    why = EXPLAINED.get(case.name)
    if case.name == "shufflenet_v2_x0_5":
        with pytest.raises(GraphError, match="ZeroDivisionError"):
            peer_cells(model, x)
        return
    mine, theirs, refused = both(model, x)
    if why is None:
        assert mine == theirs and refused == {last}
    elif why == THINNED:
        whole = {one: cell for cell in mine for one in cell}
        assert mine != theirs and all(cell <= whole[next(iter(cell))] for cell in theirs)
    else:
        assert mine == theirs and refused > {last}


def test_a_padded_shortcut_shifts_channels_which_torch_pruning_does_not_see() -> None:
    """Option A puts zero channels on both sides of a stream: channel 0 goes on as channel 8, then 24."""
    model, x = build_model("resnet20", num_classes=10).eval(), torch.randn(2, 3, 32, 32)
    mine, theirs, _ = both(model, x)
    stem = next(cell for cell in mine if ("conv1", 0) in cell)
    assert {("layer1.0.conv2", 0), ("layer2.0.conv2", 8), ("layer3.0.conv2", 24)} < stem
    shifted = mine - theirs
    assert len(shifted) == 64 and mine - shifted == theirs & mine
    assert ("layer2.0.conv2", 0) in next(cell for cell in theirs if ("conv1", 0) in cell)
    assert all(not name.endswith("conv1") for cell in shifted for name, _ in cell if name != "conv1")


def test_torch_pruning_cuts_on_the_side() -> None:
    model, x = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Conv2d(8, 4, 1)).eval(), torch.randn(2, 3, 8, 8)
    small = peer_slice(model, x, {"0": [1, 5]})
    assert small[0].out_channels == small[1].num_features == small[2].in_channels == 6
    assert model[0].out_channels == 8

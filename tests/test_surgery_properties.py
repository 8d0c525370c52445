"""Removed equals masked, in float64 to 1e-12, for networks, masks, norms and outputs drawn at random.

``SLIMNET_PROPERTY_EXAMPLES=1000 pytest --hypothesis-seed=1 tests/test_surgery_properties.py`` draws others, and more.
"""

from __future__ import annotations

import copy
import os
import sys
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from drawn_nets import ACTIVATIONS, FORMS, KINDS, TAPS, build
from slimnet._distance import relative as difference
from slimnet.errors import VerificationError
from slimnet.graph.interpreter import Interpreter
from slimnet.surgery import SlimResult, find, slim
from slimnet.surgery.verify import Verification
from written_networks import reasons

EXAMPLES = os.environ.get("SLIMNET_PROPERTY_EXAMPLES")

layers = st.fixed_dictionaries(
    {
        "kind": st.sampled_from(KINDS),
        "width": st.sampled_from([4, 6, 8]),
        "kernel": st.sampled_from([1, 3]),
        "padding": st.sampled_from(["none", "zeros", "reflect", "replicate", "circular"]),
        "norm": st.booleans(),
        "bias": st.booleans(),
        "act": st.sampled_from(ACTIVATIONS),
    }
)
outputs = st.fixed_dictionaries(
    {
        "form": st.sampled_from(FORMS),
        "taps": st.lists(st.tuples(st.sampled_from(TAPS), st.integers(0, 5)), max_size=3),
        "logits": st.sampled_from(["first", "last", "none"]),
    }
)
drawn = {
    "expand": st.booleans(),
    "specs": st.lists(layers, min_size=1, max_size=4),
    "flatten": st.booleans(),
    "seed": st.integers(0, 10_000),
    "share": st.sampled_from([0.2, 0.5, 0.8, 1.0]),
    "outputs": outputs,
}


def cut(*, expand: bool, seed: int, **network: Any) -> tuple[SlimResult, float]:
    """What slim makes of a network that was drawn, and how far its plan is from the masked network, see `farthest`."""
    model = build(seed=seed, **network)
    x = torch.randn(2, 3, 17, 17, generator=torch.Generator().manual_seed(seed))
    result = slim(model, x, expand=expand)
    assert "at another batch or size" not in reasons(result)  # they have no code for it: the analysis would be at fault
    return result, max(result.report.verification.worst, farthest(model, result, x))


def farthest(model: nn.Module, result: SlimResult, x: Tensor) -> float:
    """Max |Δ| ÷ max |masked| over all outputs, in float64, in the shape in which the network gives them; infinity if it differs.

    It does not trust ``slimnet.surgery.verify``, which reads outputs with code of its own.
    """
    masked = copy.deepcopy(model).double()
    small = result.plan.apply(copy.deepcopy(model).double())
    with torch.no_grad():
        (want, form), (got, same) = (pytree.tree_flatten(net(x.double())) for net in (masked, small))
    if form != same or [type(value) for value in want] != [type(value) for value in got]:
        return float("inf")
    pairs = [(one, other) for one, other in zip(want, got, strict=True) if one is not None]
    return max(difference(one, other) if one.shape == other.shape else float("inf") for one, other in pairs)


@settings(
    max_examples=int(EXAMPLES or 300), derandomize=not EXAMPLES, database=None, deadline=None,
    suppress_health_check=list(HealthCheck),
)  # fmt: skip
@given(**drawn)
def test_removed_equals_masked(**network: Any) -> None:
    assert cut(**network)[1] <= 1e-12


PLAIN = {"kind": "conv", "width": 8, "kernel": 3, "padding": "zeros", "norm": True, "bias": False, "act": "sigmoid"}


def test_the_property_fails_when_the_carrier_is_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    """The oracle sees a carrier that is chosen and never given its column."""
    model = build([PLAIN, PLAIN], False, 3, 0.5)
    x = torch.randn(2, 3, 17, 17)
    assert slim(model, x).report.verification.worst <= 1e-12
    good = find.Search.dropped_constants

    def without_carried(self: find.Search, link: find.Link) -> Tensor:
        return good(self, link) & ~link.carried

    monkeypatch.setattr(find.Search, "dropped_constants", without_carried)
    with pytest.raises(VerificationError, match=r"group 'first\.0\.conv' cannot be cut"):
        slim(model, x)


@pytest.mark.parametrize("form", FORMS[1:])
def test_the_property_fails_when_a_tapped_output_is_cut(form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both oracles see that a map is cut which the network gives beside its logits."""
    network = {"specs": [PLAIN | {"act": "relu"}] * 2, "flatten": False, "seed": 3, "share": 0.5, "expand": False}
    network["outputs"] = {"form": form, "taps": [("map", 1)], "logits": "first"}
    assert cut(**network)[1] <= 1e-12

    def only_the_first(self: Interpreter, node: Any) -> None:
        found = [value for value in self.value(node.args[0]) if value is not None]
        self.pin(found[:1], "output of the network")

    monkeypatch.setattr(Interpreter, "_output", only_the_first)
    with pytest.raises(VerificationError, match=r"gives \(2, 7, 17, 17\) in output [a-z_0-9.]+ for given input"):
        cut(**network)
    monkeypatch.setattr(sys.modules[slim.__module__], "_verified", lambda *_: Verification(()))
    assert cut(**network)[1] == float("inf")

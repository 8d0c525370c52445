from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from slimnet.errors import ArgumentError
from slimnet.masks import SoftMask
from tiny_net import part_groups, tiny_groups, tiny_net

STREAM = torch.tensor([1.0, 0.0, 0.5, 1.0])
INNER = torch.tensor([0.0, 1.0, 1.0, 0.25, 0.0, 1.0])


def _state(model):
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def _backward(model):
    model(torch.randn(4, 1, 5, 5, generator=torch.Generator().manual_seed(3))).square().sum().backward()


def test_every_masked_tensor_is_scaled_once_and_nothing_else():
    model = tiny_net(bias=True)
    before = _state(model)
    mask = SoftMask(model, tiny_groups(model))
    mask.set("stem", STREAM)
    mask.set("conv1", INNER)
    mask.apply()
    for name, tensor in model.state_dict().items():
        module, _, entry = name.rpartition(".")
        scale = {"conv1": INNER, "bn1": INNER, "head": None}.get(module, STREAM)
        if scale is None or entry == "num_batches_tracked" or entry.startswith("running"):
            assert torch.equal(tensor, before[name]), name
            continue
        expected = before[name] * scale.view(-1, *[1] * (tensor.dim() - 1))
        assert torch.equal(tensor, expected), name


@pytest.mark.parametrize("training", [False, True])
def test_behind_a_masked_norm_the_feature_map_is_exactly_scaled(training):
    model = tiny_net().double().train(training)
    images = torch.randn(2, 1, 6, 6, dtype=torch.float64)
    before, filters = model.bn(model.stem(images)), model.stem.weight.detach().clone()
    stream = replace(tiny_groups(model)[0], normed=frozenset({"stem.weight", "conv2.weight"}))
    mask = SoftMask(model, [stream])
    mask.set("stem", STREAM)
    mask.apply()
    assert torch.allclose(model.bn(model.stem(images)), before * STREAM.view(1, -1, 1, 1), atol=1e-12)
    keep = (STREAM != 0).double().view(-1, 1, 1, 1)
    assert torch.equal(model.stem.weight, filters * keep)  # they keep their size until they close


def test_groups_that_share_a_tensor_scale_their_own_rows():
    model = tiny_net()
    before = model.conv1.weight.clone()
    mask = SoftMask(model, part_groups(model, 2))
    mask.set("low", torch.tensor([0.0, 0.5]))
    mask.set("high", torch.tensor([1.0, 0.25, 1.0, 0.0]))
    mask.apply()
    expected = before * torch.tensor([0.0, 0.5, 1.0, 0.25, 1.0, 0.0]).view(-1, 1, 1, 1)
    assert torch.equal(model.conv1.weight, expected)


def test_a_tied_weight_is_scaled_once():
    model = tiny_net(width=4, inner=4)
    model.conv2.weight = model.conv1.weight
    inner = tiny_groups(model)[1]
    alias = replace(inner.filters[0], name="conv2.weight")
    before = model.conv1.weight.detach().clone()
    mask = SoftMask(model, [replace(inner, filters=(*inner.filters, alias))])
    mask.set("conv1", torch.full((4,), 0.5))
    mask.apply()
    assert torch.equal(model.conv1.weight, before * 0.5)


def test_norms_stay_without_mask_norm():
    model = tiny_net()
    before = _state(model)
    mask = SoftMask(model, tiny_groups(model), mask_norm=False)
    mask.set("conv1", INNER)
    mask.apply()
    changed = {name for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])}
    assert changed == {"conv1.weight"}


def test_closing_leaves_positive_zeros_whatever_was_there():
    model = tiny_net()
    with torch.no_grad():
        model.conv1.weight[0, 0, 0] = torch.tensor([torch.inf, torch.nan, -1.0])
    mask = SoftMask(model, tiny_groups(model))
    mask.set("conv1", INNER)
    mask.apply()
    assert (model.conv1.weight[INNER == 0] == 0).all()
    assert not torch.signbit(model.conv1.weight[INNER == 0]).any()


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_gradients_are_scaled_like_the_filters(memory_format):
    model = tiny_net().to(memory_format=memory_format)
    _backward(model)
    before = {name: parameter.grad.clone() for name, parameter in model.named_parameters()}
    mask = SoftMask(model, tiny_groups(model))
    mask.mask_gradients()
    assert all(torch.equal(parameter.grad, before[name]) for name, parameter in model.named_parameters())
    mask.set("conv1", INNER)
    mask.mask_gradients()
    for name, parameter in model.named_parameters():
        inner = name.startswith(("conv1", "bn1"))
        scale = INNER.view(-1, *[1] * (parameter.dim() - 1)) if inner else 1.0
        assert torch.equal(parameter.grad, before[name] * scale), name


@pytest.mark.parametrize(
    ("make", "powers"),
    [
        (lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True), {"momentum_buffer": 1}),
        (
            lambda p: torch.optim.AdamW(p, lr=0.1, amsgrad=True),
            {"exp_avg": 1, "exp_avg_sq": 2, "max_exp_avg_sq": 2},
        ),
        (lambda p: torch.optim.SGD(p, lr=0.1), {}),
    ],
)
def test_momentum_is_scaled_like_the_filters(make, powers):
    model = tiny_net()
    optimizer = make(model.parameters())
    _backward(model)
    optimizer.step()
    state = optimizer.state[model.conv1.weight]
    before = {key: state[key].clone() for key in powers}
    mask = SoftMask(model, tiny_groups(model))
    mask.set("conv1", INNER)
    mask.mask_momentum(optimizer)
    for key, power in powers.items():
        assert torch.allclose(state[key], before[key] * INNER.view(-1, 1, 1, 1) ** power), key


def test_an_update_is_scaled_to_zeta_of_itself():
    model = tiny_net()
    mask = SoftMask(model, tiny_groups(model))
    mask.set("conv1", INNER)
    mask.apply()
    before = _state(model)
    mask.hold()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(1.0)
    mask.mask_update()
    moved = (model.conv1.weight - before["conv1.weight"])[:, 0, 0, 0]
    assert torch.allclose(moved, INNER, atol=1e-6)
    assert (model.conv1.weight[INNER == 0] == 0).all()
    assert torch.equal(model.stem.weight, before["stem.weight"] + 1)


def test_enforce_closes_again_and_leaves_the_rest():
    model = tiny_net()
    mask = SoftMask(model, tiny_groups(model))
    mask.set("conv1", INNER)
    before = _state(model)
    mask.enforce()
    assert (model.conv1.weight[INNER == 0] == 0).all()
    assert (model.bn1.bias[INNER == 0] == 0).all()
    assert torch.equal(model.conv1.weight[INNER != 0], before["conv1.weight"][INNER != 0])


def test_a_factor_of_its_own_and_what_is_closed():
    model = tiny_net()
    before = model.conv1.weight.detach().clone()
    mask = SoftMask(model, tiny_groups(model))
    mask.set("conv1", INNER, factor=torch.full((6,), 3.0))
    mask.apply()
    assert torch.equal(model.conv1.weight, before * 3)
    assert mask.closed()["conv1"].tolist() == (INNER == 0).tolist()
    assert mask.closed_share() == 2 / 10


def test_a_saved_mask_goes_on_without_scaling_again():
    model = tiny_net()
    first = SoftMask(model, tiny_groups(model))
    first.set("conv1", INNER)
    first.apply()
    before = _state(model)
    second = SoftMask(model, tiny_groups(model))
    second.load_state_dict(first.state_dict())
    second.apply()
    assert torch.equal(model.conv1.weight, before["conv1.weight"])
    _backward(model)
    second.mask_gradients()
    assert (model.conv1.weight.grad[INNER == 0] == 0).all()
    with pytest.raises(ArgumentError, match="other groups"):
        second.load_state_dict({"conv1": INNER})


@pytest.mark.parametrize(
    ("name", "scale", "message"),
    [
        ("nose", INNER, "no group 'nose' under the mask; there are: stem, conv1"),
        ("conv1", STREAM, r"'conv1' has 6 channels, got values of shape \(4,\)"),
        ("conv1", INNER * 2, r"finite and in \[0, 1.0\]"),
        ("conv1", INNER - 1, "finite and in"),
        ("conv1", INNER * torch.nan, "finite and in"),
    ],
)
def test_bad_scales_are_refused(name, scale, message):
    model = tiny_net()
    with pytest.raises(ArgumentError, match=message):
        SoftMask(model, tiny_groups(model)).set(name, scale)


def test_a_group_of_another_model_is_refused():
    model = tiny_net()
    groups = tiny_groups(model)
    with pytest.raises(ArgumentError, match=r"names 'stem.weight', which the model does not have"):
        SoftMask(model.bn, groups)

"""Checkpoints as libraries write them: each layout gives the network that was saved, and says what was chosen."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from checkpoint_cases import CHANGES, LAYOUTS, Tiny, other, state, tiny, torch_saved, torchvision_reference, with_prefix
from slimnet.commands import open_checkpoint
from slimnet.errors import FileFormatError, SlimnetError
from slimnet.models import load_weights

pytestmark = [
    pytest.mark.filterwarnings("ignore::FutureWarning"),  # weight_norm and spectral_norm of before
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning:lightning"),
    pytest.mark.filterwarnings("ignore:.*log directory.*:UserWarning"),
]
PAGE = Path(__file__).parents[1] / "docs" / "checkpoints.md"


def answer(model: nn.Module) -> Tensor:
    images = torch.randn(3, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        return model.eval()(images)


@pytest.mark.parametrize("name", LAYOUTS)
def test_every_layout_gives_the_network(tmp_path: Path, name: str) -> None:
    torch.manual_seed(0)
    path = LAYOUTS[name](tmp_path)
    expected = tiny()
    if (change := CHANGES.get(name.partition(": ")[2])) is not None:
        torch.manual_seed(0)
        expected = tiny()
        change(expected)
    model, example, config = open_checkpoint(path, model="checkpoint_cases:Tiny", image_size=8)
    loose = 0.05 if "half" in name or "bfloat" in name else 1e-5 if change else 0
    assert torch.allclose(answer(model), answer(expected), rtol=0, atol=loose)
    assert (config["num_classes"], config["in_channels"], tuple(example.shape)) == (5, 1, (2, 1, 8, 8))


def test_the_page_lists_every_layout() -> None:
    part = PAGE.read_text(encoding="utf-8").partition("<!-- layouts -->")[2]
    assert re.findall(r"^- (.+)$", part, re.MULTILINE) == list(LAYOUTS)
    assert f"{len(LAYOUTS)} layouts" in PAGE.read_text(encoding="utf-8")


NOTES: list[tuple[Callable[[], Any], str | None, tuple[str, ...], bool]] = [
    (state, None, (), False),
    (lambda: {"state_dict": state(), "epoch": 1}, None, (), False),
    (with_prefix("module._orig_mod."), None, ("x: dropped 'module._orig_mod.' before 13 names",), False),
    (torchvision_reference, None, ("x: took 'model'; it holds model_ema too (--weights-key)",), False),
    (torchvision_reference, "model_ema", ("x: took 'model_ema'; it holds model too (--weights-key)",
     "x: dropped 'module.' before 13 names", "x: left out bookkeeping: n_averaged"), True),
    (lambda: {"model": {"ema": other(), "net": state()}}, "ema",
     ("x: took 'model.ema'; it holds model.net too (--weights-key)",), True),
    (lambda: with_prefix("a.")() | {f"ema.{name}": tensor for name, tensor in other().items()}, "ema",
     ("x: took what is under 'ema'",),
     True),
    (lambda: with_prefix("model.")() | {"loss.weight": torch.ones(5)}, None,
     ("x: dropped 'model.' before 13 names", "x: left out what is not of the network: loss.weight"), False),
]  # fmt: skip


@pytest.mark.parametrize(("make", "key", "notes", "is_other"), NOTES)
def test_what_was_chosen_is_said(
    tmp_path: Path, make: Callable[[], Any], key: str | None, notes: tuple[str, ...], is_other: bool
) -> None:
    model = Tiny()
    assert load_weights(model, torch_saved(make)(tmp_path), key=key) == notes
    wanted = other() if is_other else state()
    assert all(torch.equal(tensor, wanted[name]) for name, tensor in model.state_dict().items())


REFUSED: list[tuple[Callable[[], Any], str | None, str]] = [
    (torchvision_reference, "model_emma", "holds no weights under 'model_emma': did you mean `model_ema`"),
    (state, "ema", "holds no weights under 'ema': it is one state dict, leave the key out"),
    (tiny, None, r"holds pickled objects.*checkpoint_cases.Tiny.*Save model.state_dict\(\) instead"),
    (lambda: {"model": tiny(), "epoch": 1}, None, r"holds pickled objects.*checkpoint_cases.Tiny.*It is under 'model'"),
    (lambda: state() | {"fc.parametrizations.weight.original": torch.ones(5, 6)}, None, "function that is not in the file"),
    (lambda: {n: t.to(torch.complex64) for n, t in state().items()}, None, "not floating-point numbers are token"),
    (lambda: state() | {"fc.bias": torch.full((5,), 1e300, dtype=torch.float64)}, None, r"NaN or infinite in fc\.bias"),
]


@pytest.mark.parametrize(("make", "key", "message"), REFUSED)
def test_what_does_not_do_is_refused_in_one_line(tmp_path: Path, make: Callable[[], Any], key: str | None, message: str) -> None:
    with pytest.raises(SlimnetError, match=message) as caught:
        load_weights(Tiny(), torch_saved(make)(tmp_path), key=key)
    assert "\n" not in str(caught.value)


def test_a_file_alone_needs_the_name_of_its_network(tmp_path: Path) -> None:
    with pytest.raises(SlimnetError, match="name it with --model"):
        open_checkpoint(torch_saved(state)(tmp_path))


def test_sizes_are_found_by_shapes_of_torchvisions_networks(tmp_path: Path) -> None:
    from slimnet.models import build_model, find_sizes

    for name in ("squeezenet1_0", "vit_b_16", "shufflenet_v2_x0_5"):
        with torch.device("meta"):
            made = {k: torch.empty_like(v) for k, v in build_model(name, num_classes=7).state_dict().items()}
        kept = {k: v for k, v in made.items() if v.numel() < 10_000 or "head" in k or "classifier" in k or "conv_proj" in k}
        path = tmp_path / name
        torch.save({k: torch.zeros(v.shape) for k, v in kept.items()}, path)
        assert find_sizes(lambda classes, channels, n=name: build_model(n, num_classes=classes, in_channels=channels), path) == (
            7,
            3,
        )


def test_the_error_of_a_folder_names_what_it_lacks(tmp_path: Path) -> None:
    with pytest.raises(FileFormatError, match=r"holds no weights: neither model\.safetensors"):
        load_weights(Tiny(), tmp_path)

"""Every kind of name of a network: a library's, the hub's, a function in a file; the arguments that reach it; what is refused."""

from __future__ import annotations

import json
import logging
import os
import sys
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import pytest
import timm
import torch
from torch import nn

from command import slimnet_cli
from slimnet.errors import ArgumentError, ModelError, SlimnetError
from slimnet.models import build_model, check_model, check_trusted, defaults_of, resolved
from slimnet.training import TrainConfig
from slimnet.training.known import with_known_size

TINY = "test_resnet"
"""One of the networks that timm has for tests: 0.5 million parameters."""

FACTORIES = """
from torch import nn
def both(num_classes, in_channels): return nn.Conv2d(in_channels, num_classes, 1)
def timms(num_classes, in_chans=3): return nn.Conv2d(in_chans, num_classes, 1)
def neither(num_classes, width=4): return nn.Sequential(nn.Conv2d(3, width, 1), nn.Conv2d(width, num_classes, 1))
def onwards(**options): return timms(**options)
def on_to_neither(**options): return neither(**options)
def nobody(width=4): return nn.Sequential(nn.Conv2d(3, width, 1))
def none_to_fold(num_classes): return nn.Linear(3, num_classes)
"""


@pytest.fixture
def nets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "nets.py").write_text(FACTORIES)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "nets", raising=False)
    return tmp_path / "nets.py"


def convolutions(model: nn.Module) -> list[tuple[int, int]]:
    return [(m.in_channels, m.out_channels) for m in model.modules() if isinstance(m, nn.Conv2d)]


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("function", ["both", "timms", "neither", "onwards", "on_to_neither"])
@pytest.mark.parametrize("where", ["nets", "nets.py", "{}"])
def test_factories_get_what_they_understand(nets: Path, where: str, function: str, channels: int) -> None:
    before = list(sys.path)
    found = convolutions(build_model(f"{where.format(nets)}:{function}", num_classes=5, in_channels=channels))
    assert (found[0][0], found[-1][1]) == (channels, 5)
    assert sys.path == before


def test_a_file_that_changed_is_read_again(nets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    nets.write_text("from torch import nn\ndef net(): return nn.Conv2d(3, 3, 1)")
    os.utime(nets, (1e9, 1e9))
    assert convolutions(build_model("nets.py:net", num_classes=5)) == [(3, 3)]
    nets.write_text("from torch import nn\ndef net(): return nn.Conv2d(3, 7, 1)")
    os.utime(nets, (1e9, 1e9))  # within the same second, of the same length
    assert convolutions(build_model("nets.py:net", num_classes=5)) == [(3, 7)]


@pytest.mark.parametrize("name", ["nets:neither", "nets:on_to_neither", "nets.py:nobody"])
def test_arguments_reach_the_factory(nets: Path, name: str) -> None:
    assert convolutions(build_model(name, num_classes=5, model_args={"width": 9}))[0] == (3, 9)


@pytest.mark.parametrize(
    ("name", "channels", "kind"),
    [(f"timm:{TINY}", 1, timm.models.ResNet), (f"timm:{TINY}.r160_in1k", 3, timm.models.ResNet),
     ("timm.models:resnet10t", 1, timm.models.ResNet), ("torchvision:squeezenet1_1", 1, nn.Module),
     ("torchvision.models:squeezenet1_1", 1, nn.Module)],
)  # fmt: skip
def test_networks_of_libraries(name: str, channels: int, kind: type) -> None:
    model = build_model(name, num_classes=5, in_channels=channels).eval()
    assert isinstance(model, kind)
    assert model(torch.randn(2, channels, 64, 64)).shape == (2, 5)


def test_arguments_reach_the_libraries() -> None:
    assert build_model(f"timm:{TINY}", num_classes=5, model_args={"drop_rate": 0.25}).drop_rate == 0.25
    dropout = next(m for m in build_model("squeezenet1_1", num_classes=5, model_args={"dropout": 0.1}).modules()
                   if isinstance(m, nn.Dropout))  # fmt: skip
    assert dropout.p == 0.1
    assert build_model("vgg9_face", num_classes=5, model_args={"dropout": 0.2}).classifier[0].p == 0.2


def test_what_timm_says() -> None:
    known = defaults_of("timm:inception_v3")
    assert known is not None
    assert (known.size, known.mean, known.std, known.num_classes) == (299, (0.5,) * 3, (0.5,) * 3, 1000)
    assert defaults_of(f"timm:{TINY}").size == 160  # type: ignore[union-attr]
    assert defaults_of("timm:vit_tiny_patch16_224", {"img_size": 64}).size == 64  # type: ignore[union-attr]
    assert defaults_of("resnet20") is None
    assert build_model(f"timm:{TINY}").num_classes == 1000
    with pytest.raises(ArgumentError, match="`num_classes` is missing"):
        build_model("resnet20")


def test_size_is_timms_where_nobody_says_one() -> None:
    said: list[str] = []
    config = TrainConfig(model=f"timm:{TINY}", data="folder")
    assert with_known_size(config, said.append).image_size == 160
    assert len(said) == 1
    assert "160×160, as timm does" in said[0]
    for other in (TrainConfig(model=f"timm:{TINY}", data="digits"), TrainConfig(model="resnet20", data="folder"),
                  TrainConfig(model=f"timm:{TINY}", data="folder", image_size=48)):  # fmt: skip
        assert with_known_size(other, said.append) == other
    assert len(said) == 1


HUB = {"architecture": TINY, "num_classes": 7, "pretrained_cfg": {"tag": "r160_in1k"}, "model_args": {"drop_rate": 0.5}}


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)


def test_a_folder_in_the_hubs_form(tmp_path: Path) -> None:
    timm.models.save_for_hf(timm.create_model(TINY, num_classes=7), tmp_path / "saved", safe_serialization=True)
    assert resolved(f"hf-hub:{tmp_path / 'saved'}")[0].startswith(f"timm:{TINY}")
    (tmp_path / "config.json").write_text(json.dumps(HUB))
    assert resolved(f"hf-hub:{tmp_path}") == (f"timm:{TINY}.r160_in1k", {"drop_rate": 0.5})
    assert resolved(f"hf-hub:{tmp_path}", {"drop_rate": 0.1})[1] == {"drop_rate": 0.1}
    model = build_model(f"hf-hub:{tmp_path}", num_classes=3, in_channels=1)
    assert (model.num_classes, model.drop_rate) == (3, 0.5)


def test_what_is_cached_of_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, offline: None) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    repository = tmp_path / "models--somebody--net"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text("0" * 40)
    (repository / "snapshots" / ("0" * 40)).mkdir(parents=True)
    (repository / "snapshots" / ("0" * 40) / "config.json").write_text(json.dumps(HUB))
    assert resolved("hf-hub:somebody/net") == (f"timm:{TINY}.r160_in1k", {"drop_rate": 0.5})


@pytest.mark.parametrize(
    ("said", "message"),
    [({"architecture": "bert"}, "no network of timm's.*'bert'"), ({"architecture": 3}, "no network of timm's"),
     ({**HUB, "model_args": {"checkpoint_path": "x"}}, "without `checkpoint_path`"),
     ({**HUB, "architecture": "local-dir:/etc"}, "no network of timm's")],
)  # fmt: skip
def test_folders_of_other_networks(tmp_path: Path, said: dict[str, Any], message: str) -> None:
    (tmp_path / "config.json").write_text(json.dumps(said))
    with pytest.raises(ModelError, match=message):
        build_model(f"hf-hub:{tmp_path}", num_classes=5)


BAD = [
    ("timm:tset_resnet", {}, "Did you mean timm:test_resnet"),
    ("convnextv2_ato", {}, r"Did you mean timm:convnextv2_atto\? Known: resnet8, .*timm:NAME"),
    ("torchvision:resnet_18", {}, r"Did you mean torchvision:resnet18\?"),
    ("timm:", {}, "Unknown model 'timm:'"),
    ("timm:local-dir:/etc", {}, "Unknown model"),
    ("timm:../x", {}, "Unknown model"),
    ("hf-hub:somebody/no-such-net", {}, "no folder, and cannot be read"),
    ("no_such_file.py:net", {}, "no_such_file.py does not exist"),
    ("nets.py:nieghter", {}, r"no function 'nieghter'.*did you mean `neither`"),
    ("nets.py:", {}, "not of the form"),
    ("nets:none_to_fold", {"in_channels": 1}, "no first convolution that reads 3 channels: it cannot take 1"),
    ("nets:neither", {"model_args": {"widht": 3}}, "takes no argument `widht`: did you mean `width`"),
    ("resnet20", {"model_args": {"depth": 3}}, "resnet20 takes no argument `depth`"),
    ("nets:neither", {"model_args": {"num_classes": 3}}, "`model_args` has `num_classes`"),
    (f"timm:{TINY}", {"model_args": {"widht": 3}}, "unexpected keyword argument 'widht'"),
    ("torchvision:resnet18", {"model_args": {"widht": 3}}, "unexpected keyword argument 'widht'"),
    *((f"timm:{TINY}", {"model_args": {name: "x"}}, f"without `{name}`") for name in
      ("pretrained", "checkpoint_path", "pretrained_cfg", "pretrained_cfg_overlay", "cache_dir", "pretrained_model_args")),
    ("torchvision:resnet18", {"model_args": {"weights": "DEFAULT"}}, "without `weights`"),
    ("resnet18", {"model_args": {"weights_backbone": "DEFAULT"}}, "without `weights_backbone`"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "options", "message"), BAD)
def test_bad_names_and_arguments(nets: Path, offline: None, name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(SlimnetError, match=message) as caught:
        build_model(name, **{"num_classes": 5, **options})
    assert "\n" not in str(caught.value)


def test_a_hub_that_is_away_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its library logs every try."""
    heard: list[bool] = []

    def away(name: str) -> None:
        heard.append(logging.getLogger("huggingface_hub.utils._http").isEnabledFor(logging.WARNING))
        raise OSError("no network")

    monkeypatch.setattr("timm.models.load_model_config_from_hf", away)
    with pytest.raises(ModelError, match=r"cannot be read from the Hugging Face hub .*: OSError: no network"):
        check_model("hf-hub:somebody/net")
    assert heard == [False]


def test_size_is_bounded_before_memory_is_taken() -> None:
    """Arguments may stand in a file."""
    with pytest.raises(ModelError, match=r"has [\d,]+ parameters with the arguments given: at most 1,073,741,824"):
        build_model(f"timm:{TINY}", num_classes=5, model_args={"channels": [16_384] * 4})


@pytest.mark.parametrize("name", ["timm:tset_resnet", "torchvision:resnet_18", "no_such_file.py:net"])
def test_a_name_is_checked_without_building(name: str) -> None:
    with pytest.raises(ModelError):
        check_model(name)


@pytest.mark.parametrize("name", [f"timm:{TINY}", "tset_resnet", "hf-hub:somebody/net"])
def test_without_timm(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    message = r"not installed: pip install 'slimnet\[timm\]'" if ":" in name else "Unknown model"
    with pytest.raises(ModelError, match=message) as caught:
        build_model(name, num_classes=5)
    assert "\n" not in str(caught.value)


TRUSTED = [
    (f"timm:{TINY}", {}),
    ("torchvision:resnet18", {}),
    ("resnet20", {}),
    (f"timm:{TINY}", {"drop_rate": 0.1, "x": [1, "a"]}),
]
DISTRUSTED = [
    ("nets:net", {}, "allow it with --trust-code"),
    ("some/nets.py:net", {}, "allow it with --trust-code"),
    ("timm.models:resnet18", {}, "allow it with --trust-code"),
    ("hf-hub:somebody/net", {}, "only you may"),
    (f"timm:{TINY}", {"pretrained": True}, "without `pretrained`"),
    (f"timm:{TINY}", {"a": {"checkpoint_path": "x"}}, "without `checkpoint_path`"),
    (f"timm:{TINY}", {"width": 10**6}, "plain small values alone"),
    (f"timm:{TINY}", {"layers": [1] * 65}, "plain small values alone"),
    (f"timm:{TINY}", {"stem": "/etc/passwd"}, "plain small values alone"),
    (f"timm:{TINY}", {"stem": [[[[[1]]]]]}, "plain small values alone"),
]


@pytest.mark.parametrize(("name", "arguments"), TRUSTED)
def test_what_a_file_may_name(name: str, arguments: dict[str, Any]) -> None:
    check_trusted(name, Path("config.json"), False, arguments)


@pytest.mark.parametrize(("name", "arguments", "message"), DISTRUSTED)
def test_what_a_file_may_not_name(name: str, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        check_trusted(name, Path("config.json"), False, arguments)


@pytest.mark.parametrize(
    ("given", "message"),
    [("width", "takes NAME=VALUE, got 'width'"), ("=3", "takes NAME=VALUE"), ("a-b=3", "takes NAME=VALUE"),
     (("width=1", "width=2"), "gives 'width' twice")],
)  # fmt: skip
def test_malformed_arguments(given: Any, message: str) -> None:
    pairs = (given,) if isinstance(given, str) else given
    done = slimnet_cli("inspect", "no.pth", "--model", "resnet20", *(word for pair in pairs for word in ("--model-arg", pair)))
    assert done.status == 2
    assert message in done.err


def test_values_of_arguments() -> None:
    from slimnet_cli._options import read_arguments

    pairs = (
        "a=1",
        "b=0.5",
        "c=true",
        "d=False",
        "e=None",
        "f=silu",
        "g=(1, 2)",
        "h={'x': [1]}",
        "i='1'",
        "j=",
        "k=a=b",
        "l={1,2}",
    )
    found = read_arguments(None, None, pairs)  # type: ignore[arg-type]
    assert list(found.values()) == [1, 0.5, True, False, None, "silu", (1, 2), {"x": [1]}, "1", "", "a=b", "{1,2}"]


def test_arguments_are_recorded_only_where_they_are_given() -> None:
    assert "model_args" not in TrainConfig(model="resnet20").as_dict()
    config = TrainConfig(model="m:f", model_args={"sizes": (1, 2)})
    assert config.as_dict()["model_args"] == {"sizes": [1, 2]}
    assert TrainConfig.from_dict(config.as_dict()) == config
    with pytest.raises(ArgumentError, match="`model_args` must be names of arguments"):
        TrainConfig(model="m:f", model_args={"act": nn.ReLU})

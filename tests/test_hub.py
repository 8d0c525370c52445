"""Bundles on the Hugging Face Hub: the real library against a server of our own, and what its card says."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from hub_server import Hub, hub_server
from slimnet.bundle.front_matter import front_matter
from slimnet.errors import ArgumentError, FileFormatError, SlimnetError
from slimnet.export import Bundle
from slimnet.ready import ready_bundle

REPO = "somebody/expressions"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    from huggingface_hub import constants, utils

    monkeypatch.setattr(constants, "HF_HOME", str(tmp_path / "home"))
    utils.disable_progress_bars()
    with hub_server() as running:
        yield running


def pushed(server: Hub, **options: Any) -> Bundle:
    bundle = Bundle.from_pretrained(ready_bundle("expressions"))
    bundle.push_to_hub(REPO, endpoint=server.address, token="hf_" + "a" * 34, **options)
    return bundle


def pulled(server: Hub, cache: Path, repo: str = REPO, **options: Any) -> Bundle:
    return Bundle.from_pretrained(repo, endpoint=server.address, cache_dir=cache, **options)


def yaml_of(card: str) -> dict[str, Any]:
    head, fence, _ = card.removeprefix("---\n").partition("\n---\n")
    assert card.startswith("---\n") and fence
    found: dict[str, Any] = yaml.safe_load(head)
    return found


def test_a_bundle_goes_there_and_comes_back(server: Hub, tmp_path: Path) -> None:
    bundle = pushed(server, licence="other")
    held = server.repos[REPO]
    files = {entry.name: entry.read_bytes() for entry in bundle.path.iterdir() if entry.is_file()}
    assert {name: data for name, data in held.items() if name != "README.md"} == files
    assert server.tokens == {"Bearer hf_" + "a" * 34}
    found = yaml_of(held["README.md"].decode())
    assert (found["license"], found["library_name"], found["pipeline_tag"]) == ("other", "slimnet", "image-classification")
    assert {"slimnet", "onnx", "resnet12_face", "one-shot"} <= set(found["tags"])
    (entry,) = found["model-index"]
    assert entry["results"][0]["dataset"] == {"name": "fer2013", "type": "fer2013", "split": "test"}
    accuracy = bundle.model["precisions"]["int8"]["accuracy"]["value"]
    assert entry["results"][0]["metrics"][0] == {"type": "accuracy", "name": "accuracy, int8", "value": round(accuracy, 4)}
    own, there = (
        text.split("\n---\n", 1)[1]
        for text in (bundle.path.joinpath("MODEL_CARD.md").read_text("utf-8"), held["README.md"].decode())
    )
    assert own == there and "## Limits" in own

    held["evil.py"], held["README.md"] = b"1 / 0", b"another page"
    got = pulled(server, tmp_path / "cache")
    assert got.model == bundle.model
    assert {path.name: path.read_bytes() for path in got.path.iterdir()} == files
    assert not [path for path in got.path.iterdir() if path.is_symlink()]
    assert got.path == tmp_path / "home/slimnet/somebody--expressions" / server.sha(REPO)
    assert pulled(server, tmp_path / "cache").path == got.path
    assert pulled(server, tmp_path / "cache", local_files_only=True).path == got.path
    assert pulled(server, tmp_path / "cache", folder=tmp_path / "mine").path == tmp_path / "mine"
    with pytest.raises(ArgumentError, match="mine exists already"):
        pulled(server, tmp_path / "cache", folder=tmp_path / "mine")
    assert server.unknown == []


@pytest.mark.parametrize("name", ["model.int8.onnx", "model.json", "report.json", "infer.py"])
def test_what_was_changed_there_is_refused_here(name: str, server: Hub, tmp_path: Path) -> None:
    pushed(server)
    held = server.repos[REPO]
    held[name] = held[name][:-2] + b"\n\n"
    with pytest.raises(FileFormatError, match=name.replace(".", r"\.")):
        pulled(server, tmp_path / "cache", folder=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_what_is_missing_there_is_told(server: Hub, tmp_path: Path) -> None:
    pushed(server)
    del server.repos[REPO]["model.int8.onnx"]
    with pytest.raises(FileFormatError, match=r"model\.int8\.onnx does not exist"):
        pulled(server, tmp_path / "cache")
    server.repos["somebody/empty"] = {"README.md": b""}
    with pytest.raises(FileFormatError, match="is not a bundle"):
        pulled(server, tmp_path / "cache", "somebody/empty")


def test_a_link_out_of_the_cache_is_not_followed(server: Hub, tmp_path: Path) -> None:
    pushed(server)
    got = pulled(server, tmp_path / "cache")
    (tmp_path / "secret").write_text("secret")
    (snapshot,) = (tmp_path / "cache").glob("models--*/snapshots/*")
    (snapshot / "report.json").unlink()
    (snapshot / "report.json").symlink_to(tmp_path / "secret")
    shutil.rmtree(got.path)
    with pytest.raises(FileFormatError, match="leads out of the cache"):
        pulled(server, tmp_path / "cache", local_files_only=True)


WRONG = ["a/b/c", "../x", "a\x1b[31m/b", "nobody/nothing", "", "x" * 300]


@pytest.mark.parametrize("repo", WRONG)
def test_a_wrong_name_is_one_line(repo: str, server: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SlimnetError, match=r"cannot be fetched from the Hub|is not a bundle") as error:
        pulled(server, tmp_path / "cache", repo)
    assert "\n" not in str(error.value) and "\x1b" not in str(error.value)


def test_a_changed_bundle_is_not_sent(server: Hub, tmp_path: Path) -> None:
    bundle = Bundle.from_pretrained(shutil.copytree(ready_bundle("expressions"), tmp_path / "b"))
    (bundle.path / "infer.py").write_text("")
    with pytest.raises(FileFormatError, match="is not the file that was exported"):
        bundle.push_to_hub(REPO, endpoint=server.address)
    assert server.repos == {}


def test_a_missing_library(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(SlimnetError, match=r"needs huggingface_hub: pip install 'slimnet\[hub\]'\."):
        Bundle.from_pretrained("a/b", cache_dir=tmp_path)


ODD = [
    "a: b",
    "- x",
    "'\"",
    "---\nlicense: mit\n---",
    "#",
    "{}",
    "no",
    "é 😀",
    "\x00\x1b[31m\x7f\x85",
    "\u2028\u2029\ufeff",
    "%TAG",
]


@pytest.mark.parametrize("text", ODD)
def test_a_name_is_never_more_than_a_text(text: str) -> None:
    accuracy = {"split": text, "count": 1, "slim": 0.5, "dense": 0.5}
    entry = {"accuracy": {"split": text, "count": 1, "value": 0.00001}}
    model = {"accuracy": accuracy, "precisions": {"fp32": entry}}
    found = yaml_of(front_matter(model, {"data": {"name": text}, "method": {"name": text}}, {"model": text}, licence=text))
    assert found.keys() == {"license", "library_name", "pipeline_tag", "tags", "metrics", "model-index"}
    assert found["license"] == text and text in found["tags"]
    result = found["model-index"][0]["results"][0]
    assert result["dataset"] == {"name": text, "type": text, "split": text}
    assert result["metrics"][0]["value"] == 0.0


def test_the_library_reads_the_card() -> None:
    from huggingface_hub import ModelCard

    bundle = Bundle.from_pretrained(ready_bundle("expressions"))
    config = {"model": "vgg9_face"}
    card = ModelCard(front_matter(bundle.model, bundle.report, config, licence="other") + "# x\n")
    assert card.data.library_name == "slimnet"
    assert card.data.eval_results is not None
    assert [one.metric_type for one in card.data.eval_results] == ["accuracy"]

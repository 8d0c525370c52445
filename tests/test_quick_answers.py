"""What can be refused from names and paths alone is refused before torch is imported."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from slimnet.known import torchvision_names
from slimnet.models import model_names
from slimnet.names import MODELS

BLOCKED = """
import sys
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "onnxruntime"):
            raise AssertionError("imports " + name)
sys.meta_path.insert(0, Block())
import slimnet_cli
slimnet_cli.main()
"""
PRUNE = "prune w.pth --model resnet8 --rate 0.4"
CASES = [
    ("train --model resnet9 --out o", "Unknown model 'resnet9'. Did you mean resnet8?"),
    ("train --model resnet-18 --out o", "Unknown model 'resnet-18'. Did you mean resnet18?"),
    ("train --model resnet8 --data digit --out o", "Unknown data set 'digit'. Did you mean digits?"),
    ("train --model resnet8 --method fdsp --out o", "unknown method 'fdsp'; known: asfp"),
    ("train --model resnet8 --init no.pth --out o", "no.pth does not exist."),
    ("train --model resnet8 --teacher no --out o", "no does not exist: the teacher is a finished run"),
    ("train --model resnet8 --data folder --data-dir no --out o", "no does not exist: --data-dir must be"),
    ("train --model resnet8 --out full", "full exists already: choose another output"),
    ("train --recipe frob --out o", "unknown recipe 'frob'."),
    ("train --recipe fsdp-resnet20-cifar10 --out full", "full exists already"),
    ("train --resume --out no", "there is nothing to resume: no is not a run: there is no such folder."),
    ("prune no.pth --model resnet8 --rate 0.4 --out o", "no.pth does not exist."),
    ("prune w.pth --model resnet9 --rate 0.4 --out o", "Unknown model 'resnet9'."),
    (f"{PRUNE} --criterion l3 --out o", "unknown `criterion` 'l3'; known: l1, l2"),
    (f"{PRUNE} --data digit --out o", "Unknown data set 'digit'."),
    (f"{PRUNE} --out full", "full exists already"),
    (f"{PRUNE} --finetune 2 --data digits --out full", "full exists already"),
    ("slim no.pth --model resnet8 --out o", "no.pth does not exist."),
    ("slim w.pth --model resnet9 --out o", "Unknown model 'resnet9'."),
    ("slim w.pth --model resnet8 --out full", "full exists already"),
    ("inspect no.pth --model resnet8", "no.pth does not exist."),
    ("inspect w.pth --model resnet9", "Unknown model 'resnet9'."),
    ("export no --out o", "no is not a run: there is no such folder."),
    ("export full --out o", "full is not a run: it holds no config.json."),
    ("report no", "no is not a run: there is no such folder."),
    ("evaluate no", "no does not exist: give a run, a bundle, or an ONNX file."),
    ("evaluate full --data digit", "Unknown data set 'digit'."),
    ("bench no", "no does not exist: give a bundle"),
    ("bench no.onnx", "no.onnx does not exist."),
    ("verify no", "no does not exist: give a bundle"),
    ("predict no x.png", "no does not exist: give a bundle"),
    ("web no --out o", "no does not exist: give a bundle"),
    ("web expressions --out full", "full exists already"),
    ("recipes frob", "unknown recipe 'frob'."),
]


@pytest.mark.parametrize(("command", "words"), CASES)
def test_it_is_refused_without_torch(command: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "w.pth").touch()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").touch()
    arguments = [sys.executable, "-c", BLOCKED, *command.split()]
    done = subprocess.run(arguments, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"slimnet: error: {words}") and done.stderr.count("\n") == 1, done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["full", "w.pth"]


def test_train_without_a_model_names_them(tmp_path: Path) -> None:
    arguments = [sys.executable, "-c", BLOCKED, "train", "--out", "o"]
    done = subprocess.run(arguments, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 2
    assert f"name {', '.join(MODELS)}, one of torchvision's, timm:NAME" in done.stderr


def test_the_names_that_are_read_are_the_ones_that_torchvision_knows() -> None:
    assert set(MODELS) | set(torchvision_names()) == set(model_names())

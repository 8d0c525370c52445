"""slimnet train: what is printed and written, and what bad input gets."""

from __future__ import annotations

import pickle
import re
import shutil
from pathlib import Path

import torch
from torch import nn

from cli.cases import (
    Bad,
    Made,
    copied,
    cut,
    holding,
    nothing,
    refused,
    without_result,
    wrong_usage,
)
from command import slimnet_cli

RUN = {"config.json", "metrics.jsonl", "selection.jsonl", "checkpoint.safetensors", "checkpoint.json", "model.safetensors"}


# --- what works -----------------------------------------------------------------------------------------------------------


def test_train_leaves_a_run_and_prints_one_table(made: Made) -> None:
    assert {path.name for path in made.run.iterdir()} == RUN
    head, rule, row = made.trained.out.splitlines()
    assert head.split("  ")[0] == "run"
    assert set(rule) == {"-", " "}
    assert row.startswith(str(made.run))
    assert re.search(r"of 2 +\d+\.\d\d % +\d+\.\d\d % +50\.00 %$", row)


def test_train_prints_json(made: Made) -> None:
    printed = slimnet_cli("train", "--resume", "--out", made.run, "--json")  # finished: nothing is left to do
    assert printed.status == 0
    assert printed.json.keys() >= {"run", "best_epoch", "val_accuracy", "test_accuracy", "test_images"}
    assert printed.json["test_images"] == 359


def test_quiet_leaves_stderr_empty(here: Path) -> None:
    done = slimnet_cli("train", "--model", "small_nets:two_layers", "--method", "dense", "--epochs", "1", "--out", "o", "--quiet")
    assert (done.status, done.err) == (0, "")


def test_what_the_published_recipe_overrides_is_said(here: Path) -> None:
    how = ("train", "--model", "resnet8", "--epochs", "1", "--batch-size", "64", "--precision", "fp32", "--faithful")
    said = slimnet_cli(*how, "--couple", "stream", "--finetune-epochs", "0", "--out", "o")
    assert said.status == 0
    note = '`couple` does nothing here: `faithful` sets it to "none"; --set faithful=false lets it stand'
    assert [line for line in said.err.splitlines() if "does nothing" in line] == [note]
    silent = slimnet_cli(*how, "--couple", "stream", "--out", "p", "--quiet")
    assert (silent.status, silent.err) == (0, "")


# --- bad input ------------------------------------------------------------------------------------------------------------

TRAIN = "train --out new --precision fp32 --model resnet8"

TRAINING: list[Bad] = [
    (f"{TRAIN} --model resnet9", r"Unknown model 'resnet9'\. Did you mean resnet8\? Known: resnet8, resnet20,", nothing),
    (f"{TRAIN} --weights-key ema", "`weights_key` chooses among initial weights: give `init`, or leave it out", nothing),
    (f"{TRAIN} --data mnist", "Unknown data set 'mnist'. Known: digits, cifar10, cifar100, folder", nothing),
    (f"{TRAIN} --method foo", "unknown method 'foo'; known: asfp, asrfp, dense, dsd, fpgm, fsdp", nothing),
    (f"{TRAIN} --data cifar10", r"cifar10 needs a data folder: .* \(--data-dir\)", nothing),
    (f"{TRAIN} --data cifar10 --data-dir no", "no does not exist: --data-dir must be where the data set lies", nothing),
    (f"{TRAIN} --data folder --data-dir .", "must hold a folder a split", nothing),
    (f"{TRAIN} --data-dir .", r"digits lies in no folder, got \.", nothing),
    (f"{TRAIN} --rate-cs 1", r"`rate_cs` must be in \[0, 1\), got 1.0", nothing),
    (f"{TRAIN} --rate-gm -0.1", r"`rate_gm` must be in \[0, 1\), got -0.1", nothing),
    (f"{TRAIN} --rate-gm nan", r"`rate_gm` must be in \[0, 1\), got nan", nothing),
    (f"{TRAIN} --rate-cs 0.6 --rate-gm 0.6", r"`rate_cs` \+ `rate_gm` must be in \(0, 1\), got 1.2", nothing),
    (f"{TRAIN} --shut-branches", "`shut_branches` is for a target: give one, or leave it out", nothing),
    (f"{TRAIN} --tau 1.3333333", r"`tau` must be above 4/3, got 1.3333333", nothing),
    (f"{TRAIN} --lr 1e300", "`lr` must be at most 1,000,000, got 1e\\+300", nothing),
    (f"{TRAIN} --weight-decay 1e300", "`weight_decay` must be at most 1,000,000, got 1e\\+300", nothing),
    (f"{TRAIN} --mixup 1e300", "`mixup` must be at most 1,000,000, got 1e\\+300", nothing),
    (f"{TRAIN} --cutmix 1e300", "`cutmix` must be at most 1,000,000, got 1e\\+300", nothing),
    (f"{TRAIN} --set distill_temperature=1e300", "`distill_temperature` must be at most 1,000,000, got 1e\\+300", nothing),
    (f"{TRAIN} --method network-slimming --set penalty=1e300", "`penalty` must be at most 1,000,000, got 1e\\+300", nothing),
    (f"{TRAIN} --tau nan", "`tau` must be above 4/3, got nan", nothing),
    (f"{TRAIN} --attenuation 0", r"`attenuation` must be in \(0, 1\], got 0.0", nothing),
    (f"{TRAIN} --couple some", "`couple` must be one of stream, none, got 'some'", nothing),
    (f"{TRAIN} --method dense --tau 5", "method 'dense' has no hyper-parameter 'tau'", nothing),
    (f"{TRAIN} --finetune-epochs 30", "`finetune_epochs` must be less than 30 epochs, got 30", nothing),
    (f"{TRAIN} --epochs 0", "`epochs` must be a whole number of at least 1, got 0", nothing),
    (f"{TRAIN} --batch-size 0", "`batch_size` must be .*, got 0", nothing),
    (f"{TRAIN} --batch-size 5000", "`batch_size` must not exceed the 1294 training images, got 5000", nothing),
    (f"{TRAIN} --lr -1", "`lr` must be a positive number, got -1.0", nothing),
    (f"{TRAIN} --lr nan", "`lr` must be a positive number, got nan", nothing),
    (f"{TRAIN} --weight-decay inf", "`weight_decay` must be .*, got inf", nothing),
    (f"{TRAIN} --seed 99999999999999999999", "`seed` must be a whole number from 0 to", nothing),
    (f"{TRAIN} --device meta", "`device` must be 'auto', 'cpu' or 'cuda', got 'meta'", nothing),
    (f"{TRAIN} --image-size 0", "`image_size` must be .*, got 0", nothing),
    (f"{TRAIN} --normalise imagenet", "needs 3 channels, the images have 1", nothing),
    (f"{TRAIN} --model vgg11 --image-size 9", r"vgg11 cannot take images of shape \(1, 9, 9\)", nothing),
    (f"{TRAIN} --model small_nets:seven", r"must give logits of shape \(2, 10\) for digits, it gives \(2, 7\)", nothing),
    (f"{TRAIN} --model small_nets:eight", "small_nets has no function 'eight'", nothing),
    (f"{TRAIN} --model no_such_module:f", "Cannot import no_such_module", nothing),
    (f"{TRAIN} --init no.pth", "no.pth does not exist", nothing),
    (f"{TRAIN} --data cifar10 --data-dir no --model resnet9", "Unknown model 'resnet9'", nothing),  # before the data
    (f"{TRAIN} --data cifar10 --data-dir no --init no.pth", "no.pth does not exist", nothing),
    (f"{TRAIN} --init x.bin", "x.bin is empty", holding("x.bin", Path.touch)),
    (
        f"{TRAIN} --init x.pth",
        "x.pth holds pickled objects, not a plain state dict",
        holding("x.pth", lambda p: torch.save(nn.ReLU(), p)),
    ),
    (
        f"{TRAIN} --init x.pth",
        "x.pth is not a readable file of weights",
        holding("x.pth", lambda p: p.write_bytes(pickle.dumps({"a": 1}, protocol=4))),
    ),
    (
        f"{TRAIN} --init x.pth",
        r"x.pth is not a plain state dict: not tensors are epoch \(int\)",
        holding("x.pth", lambda p: torch.save({"epoch": 3}, p)),
    ),
    (
        f"{TRAIN} --init x.safetensors",
        "x.safetensors is not a readable safetensors file .* truncated",
        lambda here, made: (shutil.copy(made.run / "model.safetensors", here / "x.safetensors"), cut(here / "x.safetensors")),
    ),
    (
        f"{TRAIN} --init x.safetensors --model resnet20",
        "x.safetensors does not fit the model: .* missing: layer1.1.conv1.weight",
        lambda here, made: shutil.copy(made.run / "model.safetensors", here / "x.safetensors"),
    ),
    (f"{TRAIN} --out x", "x exists already: .*--force", copied("run", lambda folder: None)),
    (f"{TRAIN} --out x", "x is a file, not a folder", holding("x", Path.touch)),
    (f"{TRAIN} --out x/y/z", r"x/y/z cannot be written \(Not a directory", holding("x", Path.touch)),
    (f"{TRAIN} --out /proc/x/y", "/proc/x/y cannot be written", nothing),
]

RESUMING: list[Bad] = [
    ("train --resume --out x", "nothing to resume: x is not a run: there is no such folder", nothing),
    ("train --resume --out x", "nothing to resume: x is not a run: it holds no config.json", holding("x", Path.mkdir)),
    ("train --resume --out x", "nothing to resume: x/config.json does not describe a run", copied("bundle", lambda f: None)),
    ("train --resume --out x --lr 0.5", "`lr` was 0.05 when the run in x began, got 0.5", copied("run", lambda f: None)),
    ("train --resume --out x", "x/config.json is not readable JSON", without_result(lambda f: cut(f / "config.json"))),
    (
        "train --resume --quiet --out x",
        "x/checkpoint.safetensors is not a readable safetensors file .* --force",
        without_result(lambda f: cut(f / "checkpoint.safetensors")),
    ),
    (
        "train --resume --quiet --out x",
        "x/checkpoint.json is not readable JSON",
        without_result(lambda f: cut(f / "checkpoint.json")),
    ),
    ("train --resume --quiet --out x", "x/metrics.jsonl, line ", without_result(lambda f: cut(f / "metrics.jsonl"))),
    (
        "train --resume --quiet --out x",
        "x/metrics.jsonl holds 0 of the 2 epochs",
        without_result(lambda f: (f / "metrics.jsonl").write_text("")),
    ),
]


test_bad_input_gets_one_line_and_nothing_is_written = refused([*TRAINING, *RESUMING], TRAIN)


USAGE = [
    ("train --out o", "Missing option '--model'"),
    ("train --model resnet8", "Missing option '--out'"),
    ("train --model resnet8 --out o --epochs two", "'two' is not a valid integer"),
    ("train --model resnet8 --out o --rates 0.5", "No such option '--rates'"),
    ("train --resume --force --out o", "--resume goes on with a run, --force starts it again"),
]


test_wrong_usage_exits_2 = wrong_usage(USAGE)

"""slimnet inspect: bad input."""

from __future__ import annotations

import torch
from torch import nn

from cli.cases import WEIGHTS, Bad, holding, nothing, refused, weights, wrong_usage

BAD: list[Bad] = [
    ("inspect x.pth --model resnet8", "x.pth does not exist", nothing),
    ("inspect x.pth --model resnet8", "x.pth holds pickled objects", holding("x.pth", lambda p: torch.save(nn.ReLU(), p))),
    ("inspect {bundle}/model.onnx --cross-check", "torch-pruning does not read ONNX files", nothing),
    (f"inspect {WEIGHTS}8", "Unknown model 'resnet88'", weights),
]


test_bad_input_gets_one_line_and_nothing_is_written = refused(BAD)
test_wrong_usage_exits_2 = wrong_usage(
    [
        ("inspect x.pth --model resnet8 --cross-check-seconds 9", "--cross-check-seconds is for --cross-check"),
        ("inspect x.pth --model resnet8 --cross-check --cross-check-seconds 0", "0.0 is not in the range x>0"),
    ]
)

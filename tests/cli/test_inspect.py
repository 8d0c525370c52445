"""slimnet inspect: bad input."""

from __future__ import annotations

import torch
from torch import nn

from cli.cases import WEIGHTS, Bad, holding, nothing, refused, weights

BAD: list[Bad] = [
    ("inspect x.pth --model resnet8", "x.pth does not exist", nothing),
    ("inspect x.pth --model resnet8", "x.pth holds pickled objects", holding("x.pth", lambda p: torch.save(nn.ReLU(), p))),
    ("inspect {bundle}/model.onnx --cross-check", "torch-pruning does not read ONNX files", nothing),
    ("inspect x.pth --model resnet8 --cross-check-seconds 9", "--cross-check-seconds is for --cross-check", nothing),
    (f"inspect {WEIGHTS}8", "Unknown model 'resnet88'", weights),
]


test_bad_input_gets_one_line_and_nothing_is_written = refused(BAD)

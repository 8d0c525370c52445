"""A network that needs the step is exported: the step is kept, and the graph has one node fewer."""

from pathlib import Path

import torch
from torch import nn
from toy_use import library

from slimnet.onnx.graph import operators

torch.manual_seed(0)
model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 3)).eval()
report = library.export_onnx(model, torch.randn(2, 1, 8, 8), "network.onnx")
assert report.passed
assert operators(Path("network.onnx").read_bytes()).count("Relu") == 1

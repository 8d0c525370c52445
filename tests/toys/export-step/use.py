"""A network that needs the step is exported: the step is kept, and the graph has one node fewer."""

import torch
from torch import nn

from slimnet.export.exporter import build
from slimnet.export.gate import Examples
from slimnet.onnx.graph import operators

torch.manual_seed(0)
model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Sigmoid(), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 3)).eval()
images = torch.randn(2, 1, 8, 8)
built = build(model, Examples.of(images, [images]))
assert "idle-relu" in built.steps.kept
assert operators(built.data).count("Relu") == 0

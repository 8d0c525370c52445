"""Filters closed by the name of the criterion: those whose largest weight is smallest."""

from pathlib import Path

import torch
from toy_use import slimnet

from slimnet.files import write_tensors
from slimnet.models import build_model

torch.manual_seed(0)
model = build_model("resnet8", num_classes=10)
write_tensors(Path("dense.safetensors"), model.state_dict())
slimnet("prune", "dense.safetensors", "--model", "resnet8", "--criterion", "linf", "--couple", "none", "--rate", "0.5",
        "--out", "pruned")  # fmt: skip
pruned = build_model("resnet8", num_classes=10, weights="pruned/model.safetensors")
before, after = (network.get_parameter("layer1.0.conv1.weight").flatten(1).abs().amax(1) for network in (model, pruned))
assert set((after == 0).nonzero().flatten().tolist()) == set(before.argsort()[:8].tolist())

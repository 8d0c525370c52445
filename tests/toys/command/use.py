"""The command, as a user calls it."""

from pathlib import Path

from toy_use import slimnet

from slimnet.files import write_tensors
from slimnet.models import build_model

write_tensors(Path("x.safetensors"), build_model("resnet8", num_classes=10).state_dict())
assert slimnet("layers", "x.safetensors", "--model", "resnet8") == "8\n"

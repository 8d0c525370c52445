"""A tiny network, and how libraries save it: each layout by the library that makes it."""

from __future__ import annotations

import argparse
import collections
import datetime
import json
import pathlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import accelerate
import lightning
import numpy as np
import timm.utils
import torch
import transformers
from lightning.pytorch.loggers.logger import DummyLogger
from safetensors.torch import save_file
from torch import nn
from torch.nn.utils import parametrizations, prune, spectral_norm, weight_norm


class Tiny(nn.Module):
    """Its second head comes last in the file, as a class token comes first: neither says how many classes there are."""

    def __init__(self, num_classes: int = 5, in_channels: int = 1) -> None:
        super().__init__()
        self.token = nn.Parameter(torch.randn(1, 9))
        self.conv1 = nn.Conv2d(in_channels, 4, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(4)
        self.conv2 = nn.Conv2d(4, 6, 3)
        self.fc = nn.Linear(6, num_classes)
        self.side = nn.Linear(6, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.conv2(torch.relu(self.bn1(self.conv1(x)))).mean((2, 3))
        return self.fc(x) + 0 * self.side(x).sum() + 0 * self.token.sum()


def tiny(seed: int = 3) -> Tiny:
    torch.manual_seed(seed)
    model = Tiny()
    model.bn1.running_mean.normal_()
    return model.eval()


class RecorderMeter:
    """As in he-y's utils.py: a class of the training script beside the weights."""

    def __init__(self) -> None:
        self.losses, self.dict = np.zeros((3, 2)), {"a": [1]}


class Settings(dict):
    """A kind of dictionary of the training script's own."""


class Lit(lightning.LightningModule):
    def __init__(self, width: int = 3, where: Any = None, *, compiled: bool = False) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.model = torch.compile(tiny()) if compiled else tiny()
        self.criterion = nn.CrossEntropyLoss(weight=torch.ones(5))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), 0.1, momentum=0.9)

    def training_step(self, batch: Any, _: int) -> torch.Tensor:
        return 0 * self.model(batch).sum()


class Pretrained(transformers.PreTrainedModel):
    config_class = transformers.PretrainedConfig
    main_input_name = "x"

    def __init__(self, config: transformers.PretrainedConfig) -> None:
        super().__init__(config)
        self.backbone = tiny()
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None: ...


def options() -> argparse.Namespace:
    return argparse.Namespace(lr=0.1, out=pathlib.Path("x"), best=np.float64(0.5), when=datetime.datetime(2026, 1, 1), names=None)


def state() -> dict[str, torch.Tensor]:
    return dict(tiny().state_dict())


def other() -> dict[str, torch.Tensor]:
    return dict(tiny(seed=9).state_dict())


def torch_saved(make: Callable[[], Any], **how: Any) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        torch.save(make(), folder / "x", **how)
        return folder / "x"

    return write


def trained(model: nn.Module) -> torch.optim.Optimizer:
    optimizer = torch.optim.AdamW(model.parameters(), 0.0, weight_decay=0.0)
    model(torch.zeros(1, 1, 8, 8)).sum().backward()
    optimizer.step()
    return optimizer


def lightning_file(folder: Path, *, compiled: bool = False) -> Path:
    trainer = lightning.Trainer(
        max_epochs=1, accelerator="cpu", logger=DummyLogger(), enable_progress_bar=False, enable_checkpointing=False,
        enable_model_summary=False, default_root_dir=folder, callbacks=[],
    )  # fmt: skip
    module = Lit(where=options(), compiled=compiled)
    if compiled:
        trainer.strategy.connect(module)  # to train it would compile it, which takes long
    else:
        trainer.fit(module, torch.utils.data.DataLoader(torch.zeros(1, 1, 8, 8)))
        module.model.load_state_dict(state())  # the step has moved its norm
    trainer.save_checkpoint(folder / "last.ckpt")
    return folder / "last.ckpt"


def timm_folder(folder: Path) -> Path:
    model = tiny()
    ema = timm.utils.ModelEmaV3(model, decay=0.9)
    ema.module.load_state_dict(other())
    args = options()
    args.model = "tiny"
    saver = timm.utils.CheckpointSaver(
        model, trained(model), args=args, model_ema=ema, checkpoint_dir=str(folder), recovery_dir=str(folder)
    )
    saver.save_checkpoint(0, metric=0.5)
    (path,) = folder.glob("checkpoint-0.pth.tar")
    return path


def torchvision_reference() -> dict[str, Any]:
    """What references/classification/train.py saves."""
    model = tiny()
    average = torch.optim.swa_utils.AveragedModel(tiny(seed=9), use_buffers=True)
    optimizer = trained(model)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 3)
    return {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "lr_scheduler": scheduler.state_dict(),
            "epoch": 3, "args": options(), "model_ema": average.state_dict()}  # fmt: skip


def fpgm() -> dict[str, Any]:
    """What he-y's pruning_train.py saves."""
    model = nn.DataParallel(tiny())
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
    return {"epoch": 4, "arch": "tiny", "state_dict": model.state_dict(), "best_prec1": np.float64(0.7),
            "recorder": RecorderMeter(), "optimizer": optimizer.state_dict()}  # fmt: skip


def counted() -> dict[str, torch.Tensor]:
    """As thop leaves a network."""
    model = tiny()
    for module in model.modules():
        module.register_buffer("total_ops", torch.zeros(1, dtype=torch.float64))
        module.register_buffer("total_params", torch.zeros(1, dtype=torch.float64))
    return model.state_dict()


def parallel_part() -> dict[str, torch.Tensor]:
    """As ImageNet's example wraps a part of a network."""
    model = tiny()
    model.conv1 = nn.DataParallel(model.conv1)
    return model.state_dict()


def accelerate_state(folder: Path) -> Path:
    accelerator = accelerate.Accelerator(cpu=True)
    accelerator.prepare(tiny(), torch.optim.SGD(tiny().parameters(), 0.1))
    accelerator.save_state(folder / "state")
    return folder / "state"


def accelerate_model(folder: Path, **how: Any) -> Path:
    accelerate.Accelerator(cpu=True).save_model(tiny(), str(folder / "saved"), **how)
    return folder / "saved"


def transformers_folder(folder: Path, **how: Any) -> Path:
    Pretrained(transformers.PretrainedConfig()).save_pretrained(folder / "hf", **how)
    return folder / "hf"


def sharded_bin(folder: Path) -> Path:
    """As transformers saved before safetensors."""
    whole = list(state().items())
    parts = {"pytorch_model-00001-of-00002.bin": dict(whole[:4]), "pytorch_model-00002-of-00002.bin": dict(whole[4:])}
    for name, part in parts.items():
        torch.save(part, folder / name)
    index = {"metadata": {}, "weight_map": {key: name for name, part in parts.items() for key in part}}
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps(index))
    return folder


def in_safetensors(folder: Path) -> Path:
    save_file(state(), folder / "weights.bin")
    return folder / "weights.bin"


def cast(dtype: torch.dtype) -> Callable[[], Any]:
    return lambda: {name: tensor.to(dtype) if tensor.is_floating_point() else tensor for name, tensor in state().items()}


def with_prefix(prefix: str) -> Callable[[], Any]:
    return lambda: {prefix + name: tensor for name, tensor in state().items()}


def changed(change: Callable[[nn.Module], object]) -> Callable[[], Any]:
    """The state dict of the network, once a function of torch.nn.utils has changed it. The oracle is its own answer."""

    def make() -> Any:
        model = tiny()
        change(model)
        return {"state_dict": model.state_dict()}

    return make


def train_once(model: nn.Module) -> None:
    model.train()(torch.randn(2, 1, 8, 8))


CHANGES: dict[str, Callable[[nn.Module], object]] = {
    "torch.nn.utils.prune": lambda m: [prune.l1_unstructured(m.conv1, "weight", 0.5),
                                       prune.ln_structured(m.conv2, "weight", 0.5, 2, 0),
                                       prune.random_unstructured(m.conv2, "bias", 0.5)],
    "weight_norm, before": lambda m: [weight_norm(m.conv1), weight_norm(m.fc, dim=None)],
    "weight_norm": lambda m: [parametrizations.weight_norm(m.conv2), parametrizations.weight_norm(m.fc, dim=1)],
    "spectral_norm, before": lambda m: [spectral_norm(m.conv2), spectral_norm(m.fc)],
    "spectral_norm": lambda m: [parametrizations.spectral_norm(m.conv1), parametrizations.spectral_norm(m.fc)],
}  # fmt: skip

LAYOUTS: dict[str, Callable[[Path], Path]] = {
    "torch: state dict": torch_saved(state),
    "torch: state dict, before 1.6": torch_saved(state, _use_new_zipfile_serialization=False),
    "torch: state dict under `state_dict`": torch_saved(lambda: {"state_dict": state(), "epoch": 3}),
    "torch: under `model_state_dict`, as its tutorial": torch_saved(lambda: {"model_state_dict": state(), "loss": 0.1}),
    "torch: under `net` with `acc`, as kuangliu": torch_saved(lambda: {"net": with_prefix("module.")(), "acc": 93.1, "epoch": 9}),
    "torch: under a name of one's own": torch_saved(lambda: {"my_weights": state(), "note": "x"}),
    "torch: only an average, `ema_state_dict`": torch_saved(lambda: {"ema_state_dict": state(), "step": 5}),
    "torch: DataParallel": torch_saved(lambda: nn.DataParallel(tiny()).state_dict()),
    "torch: DataParallel of a part": torch_saved(parallel_part),
    "torch: torch.compile": torch_saved(lambda: torch.compile(tiny()).state_dict()),
    "torch: DataParallel of torch.compile": torch_saved(lambda: nn.DataParallel(torch.compile(tiny())).state_dict()),
    "torch: AveragedModel": torch_saved(lambda: torch.optim.swa_utils.AveragedModel(tiny()).state_dict()),
    **{f"torch: prefix `{prefix}`": torch_saved(with_prefix(prefix)) for prefix in ("backbone.", "network.", "encoder.")},
    "torch: prefixes `student.` and `teacher.`": torch_saved(
        lambda: with_prefix("student.")() | {f"teacher.{name}": tensor for name, tensor in other().items()}
    ),
    "torch: half": torch_saved(cast(torch.float16)),
    "torch: bfloat16": torch_saved(cast(torch.bfloat16)),
    "torch: double": torch_saved(cast(torch.float64)),
    "torch: without num_batches_tracked": torch_saved(lambda: {k: v for k, v in state().items() if "tracked" not in k}),
    "thop: total_ops": torch_saved(counted),
    "options, numpy, paths, dates beside it": torch_saved(
        lambda: {"model": state(), "args": options(), "rng": np.random.RandomState(0).get_state(),
                 "lists": collections.deque([1]), "seen": collections.defaultdict(list, a=[1]),
                 "cfg": Settings(a=Settings(b=1)), "made": RecorderMeter()}
    ),
    "he-y's FPGM": torch_saved(fpgm),
    "he-y's FPGM, before torch 1.6": torch_saved(fpgm, _use_new_zipfile_serialization=False),
    "torchvision's references": torch_saved(torchvision_reference),
    "timm: CheckpointSaver": timm_folder,
    "Lightning: Trainer.save_checkpoint": lightning_file,
    "Lightning: of a compiled network": lambda folder: lightning_file(folder, compiled=True),
    "accelerate: save_state": accelerate_state,
    "accelerate: save_model": accelerate_model,
    "accelerate: save_model in shards": lambda folder: accelerate_model(folder, max_shard_size="1KB"),
    "accelerate: save_model as .bin": lambda folder: accelerate_model(folder, safe_serialization=False),
    "transformers: save_pretrained": transformers_folder,
    "transformers: save_pretrained in shards": lambda folder: transformers_folder(folder, max_shard_size="1KB"),
    "transformers: .bin in shards": sharded_bin,
    "safetensors under another suffix": in_safetensors,
    **{f"torch.nn.utils: {name}": torch_saved(changed(change)) for name, change in CHANGES.items()},
}  # fmt: skip

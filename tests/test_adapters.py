"""The callbacks for Lightning and transformers do what a loop of one's own does, bit for bit, and go on from checkpoints."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, TensorDataset

import slimnet
from loops import EPOCHS, IMAGES, LABELS, closed_set, loader, same, sgd, train_by_hand
from slimnet.errors import ArgumentError
from slimnet.methods import Method
from tiny_net import tiny_net

pytestmark = [
    pytest.mark.filterwarnings("ignore::UserWarning:lightning"),
    pytest.mark.filterwarnings("ignore::FutureWarning:lightning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:.*isinstance.treespec, LeafSpec.*:"),
]
METHOD = slimnet.FSDP(rate_cs=0.2, rate_gm=0.3)


@pytest.fixture(autouse=True)
def _quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("lightning.pytorch", "lightning.fabric", "transformers"):
        monkeypatch.setattr(logging.getLogger(name), "level", logging.ERROR)


def fit(
    folder: Path, *, stop: int = EPOCHS, resume: Path | None = None, clip: float | None = None, method: Method = METHOD
) -> Any:
    """Train the tiny network with Lightning; the callback, the network, and where the last checkpoint is."""
    from lightning.pytorch import LightningModule, Trainer
    from lightning.pytorch.callbacks import ModelCheckpoint

    from slimnet.adapters.lightning import SlimCallback

    class Module(LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.model = tiny_net(8, 10)
            self.closed: list[float] = []

        def training_step(self, batch: tuple[Tensor, Tensor], index: int) -> Tensor:
            return nn.functional.cross_entropy(self.model(batch[0]), batch[1])

        def validation_step(self, batch: Any, index: int) -> None:
            self.closed.append(float((self.model.stem.weight.flatten(1).abs().sum(1) == 0).float().mean()))

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return sgd(self.model.parameters())

    module, callback = Module(), SlimCallback(IMAGES[:2], method, epochs=EPOCHS, data=loader)
    keep = ModelCheckpoint(folder, save_on_train_epoch_end=True, filename="last")
    options: dict[str, Any] = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    trainer = Trainer(
        max_epochs=stop, accelerator="cpu", callbacks=[callback, keep], gradient_clip_val=clip, num_sanity_val_steps=0, **options
    )
    trainer.fit(module, loader(), loader(), ckpt_path=None if resume is None else str(resume))
    return callback, module, folder / "last.ckpt", trainer


def test_lightning_is_a_loop(tmp_path: Path) -> None:
    callback, module, _, trainer = fit(tmp_path)
    model, pruner, _ = train_by_hand(METHOD)
    assert same(model, module.model)
    assert closed_set(callback.pruner) == closed_set(pruner) != {}
    assert trainer.callback_metrics["slimnet/closed_share"] == pytest.approx(9 / 18)
    assert module.closed[-1] == 4 / 8  # validation sees what was selected
    result = callback.pruner.slim()
    assert result.model.stem.out_channels == 4
    assert not module.model.stem.weight._backward_hooks


@pytest.mark.parametrize("method", [METHOD, slimnet.ASFP(0.4)])
def test_lightning_clips_what_is_masked(tmp_path: Path, method: Method) -> None:
    """Also where the method limits whole gradients."""
    _, module, _, _ = fit(tmp_path, clip=0.1, method=method)
    model, _, _ = train_by_hand(method, clip=0.1)
    assert same(model, module.model)


def test_lightning_goes_on(tmp_path: Path) -> None:
    _, whole, _, _ = fit(tmp_path / "whole")
    _, _, checkpoint, _ = fit(tmp_path / "half", stop=4)
    callback, module, _, _ = fit(tmp_path / "rest", resume=checkpoint)
    assert same(whole.model, module.model)
    assert callback.pruner.is_closed


def test_lightning_module_without_that_network(tmp_path: Path) -> None:
    from lightning.pytorch import LightningModule

    from slimnet.adapters.lightning import SlimCallback

    callback = SlimCallback(IMAGES[:2], METHOD, network="backbone")
    with pytest.raises(ArgumentError, match="no network 'backbone'"):
        callback._find(LightningModule())
    with pytest.raises(ArgumentError, match="no pruner before"):
        _ = callback.pruner


class Classifier(nn.Module):
    """As the Trainer wants it: keywords in, a dictionary with the loss out."""

    def __init__(self) -> None:
        super().__init__()
        self.net = tiny_net(8, 10)

    def forward(self, pixel_values: Tensor, labels: Tensor | None = None) -> dict[str, Tensor]:
        logits = self.net(pixel_values)
        return {"logits": logits} if labels is None else {"loss": nn.functional.cross_entropy(logits, labels), "logits": logits}


class Pictures(Dataset[dict[str, Tensor]]):
    def __len__(self) -> int:
        return len(IMAGES)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return {"pixel_values": IMAGES[index], "labels": LABELS[index]}


def hugging_face(folder: Path, *, resume: Path | None = None, **settings: Any) -> Any:
    from torch.utils.data import SequentialSampler
    from transformers import Trainer, TrainingArguments

    from slimnet.adapters.transformers import SlimCallback

    class InOrder(Trainer):
        def _get_train_sampler(self, *_: Any) -> Any:
            return SequentialSampler(self.train_dataset)

    args = TrainingArguments(
        str(folder), num_train_epochs=EPOCHS, per_device_train_batch_size=16, max_grad_norm=0.1, save_strategy="epoch",
        report_to=[], use_cpu=True, disable_tqdm=True, logging_strategy="epoch", dataloader_pin_memory=False, **settings,
    )  # fmt: skip
    model, callback = Classifier(), SlimCallback(IMAGES[:2], METHOD, network="net", data=loader, checkpoint=resume)
    optimizer = sgd(model.parameters())
    fixed = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1.0)
    trainer = InOrder(model=model, args=args, train_dataset=Pictures(), callbacks=[callback], optimizers=(optimizer, fixed))
    trainer.train(resume_from_checkpoint=None if resume is None else str(resume))
    return callback, model, trainer


def test_transformers_is_a_loop_and_goes_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    callback, model, trainer = hugging_face(tmp_path / "whole")
    own, pruner, _ = train_by_hand(METHOD, clip=0.1)
    assert same(own, model.net)
    assert closed_set(callback.pruner) == closed_set(pruner)
    assert trainer.state.log_history[-2]["slimnet/closed_share"] == pytest.approx(9 / 18)
    steps = len(loader())
    again, resumed, _ = hugging_face(tmp_path / "rest", resume=tmp_path / "whole" / f"checkpoint-{4 * steps}")
    assert same(own, resumed.net)
    assert again.pruner.slim().model.conv1.out_channels == 5


def test_a_checkpoint_without_the_callback(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    hugging_face(tmp_path / "whole")
    folder = tmp_path / "whole" / f"checkpoint-{len(loader())}"
    (folder / "slimnet_pruner.safetensors").unlink()
    with pytest.raises(slimnet.SlimnetError, match="has no slimnet_pruner"):
        hugging_face(tmp_path / "rest", resume=folder)


def test_loaders_are_real() -> None:
    assert isinstance(loader(), DataLoader)
    assert isinstance(loader().dataset, TensorDataset)

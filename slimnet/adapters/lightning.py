"""PyTorch Lightning: a callback that prunes the network while the Trainer trains it."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

from torch import nn

from slimnet.attached import Attached, attach
from slimnet.errors import ArgumentError
from slimnet.graph import ExampleInputs
from slimnet.methods import Method
from slimnet.settings import Budget

try:
    from lightning.pytorch import Callback, LightningModule, Trainer
except ImportError as error:
    raise ArgumentError("slimnet.adapters.lightning needs Lightning: install slimnet[lightning].") from error


class SlimCallback(Callback):
    """Attach a method to a LightningModule's network; select after the last step of an epoch, before it is validated.

    Its state goes into Lightning's checkpoints, and ``fit(…, ckpt_path=…)`` goes on with it; let them be written at the end of an
    epoch. ``log`` of the pruner is logged as ``slimnet/…``.

    Example:
        >>> callback = SlimCallback(images[:2], slimnet.FPGM(rate=0.4))                  # doctest: +SKIP
        >>> Trainer(max_epochs=30, callbacks=[callback]).fit(module, loader)             # doctest: +SKIP
        >>> result = callback.pruner.slim()                                              # doctest: +SKIP

    Attributes:
        pruner: what :func:`slimnet.attach` gave, once ``fit`` has begun.
    """

    def __init__(
        self,
        example_inputs: ExampleInputs,
        method: Method,
        *,
        network: str = "model",
        epochs: int | None = None,
        target: Budget | None = None,
        **options: Any,
    ) -> None:
        """Say what is pruned; nothing happens before ``fit``.

        Args:
            example_inputs: what the network takes, a tensor or a tuple of tensors, batch first.
            method: what is closed and how.
            network: which attribute of the LightningModule is the network; "" for the module itself.
            epochs: length of the run; None: the Trainer's ``max_epochs``.
            target: what the network is to cost once it is cut.
            **options: the other arguments of :func:`slimnet.attach`, such as ``data``.
        """
        self._given = (example_inputs, method)
        self._network, self._epochs = network, epochs
        self._options = {"target": target, **options}
        self._saved: dict[str, Any] | None = None
        self._epoch = ExitStack()
        self._is_open = False
        self._pruner: Attached | None = None

    @property
    def pruner(self) -> Attached:
        """What :func:`slimnet.attach` gave.

        Raises:
            ArgumentError: before ``fit``.
        """
        if self._pruner is None:
            raise ArgumentError("there is no pruner before Trainer.fit has begun.")
        return self._pruner

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Attach the network, which is on its device now."""
        epochs = self._epochs or trainer.max_epochs
        if not epochs or epochs < 0:
            raise ArgumentError("a pruner needs the length of the run: give `epochs`, or Trainer(max_epochs=…).")
        example, method = self._given
        self._pruner = attach(self._find(pl_module), example, method, epochs=epochs, **self._options)
        if self._saved is not None:
            self.pruner.load_state_dict(self._saved)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Enter the epoch."""
        self._epoch.enter_context(self.pruner.epoch(trainer.current_epoch))
        self._is_open = True

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Any) -> None:
        """Finish the gradients, before they are clipped."""
        self.pruner.finish_gradients(optimizer)

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Select after the last step of an epoch."""
        if trainer.is_last_batch:
            self._select(pl_module)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Select now, where nobody knew which step was the last."""
        self._select(pl_module)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Leave the epoch without a selection, and the network without hooks."""
        if self._is_open:
            self._is_open = False
            self._epoch.__exit__(type(exception), exception, exception.__traceback__)
        if self._pruner is not None:
            self._pruner.detach()

    def state_dict(self) -> dict[str, Any]:
        """What goes into a checkpoint."""
        return {} if self._pruner is None else self._pruner.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Taken over once the network is attached."""
        self._saved = state_dict or None

    def _select(self, pl_module: LightningModule) -> None:
        if not self._is_open:
            return
        self._is_open = False
        self._epoch.close()
        pl_module.log_dict({f"slimnet/{name}": value for name, value in self.pruner.log().items()})

    def _find(self, module: LightningModule) -> nn.Module:
        found = getattr(module, self._network, None) if self._network else module
        if not isinstance(found, nn.Module):
            names = ", ".join(name for name, _ in module.named_children()) or "none"
            raise ArgumentError(f"{type(module).__name__} has no network {self._network!r}: give `network`, one of {names}.")
        return found

"""Hugging Face transformers: a callback that prunes the network while the Trainer trains it."""

from __future__ import annotations

import json
import math
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from torch import nn

from slimnet.attached import Attached, attach
from slimnet.errors import ArgumentError, FileFormatError
from slimnet.files import read_metadata, read_tensors, write_tensors
from slimnet.graph import ExampleInputs
from slimnet.methods import Method
from slimnet.settings import Budget

try:
    from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
except ImportError as error:
    raise ArgumentError("slimnet.adapters.transformers needs transformers: install slimnet[transformers].") from error

FILE = "slimnet_pruner.safetensors"


class SlimCallback(TrainerCallback):
    """Attach a method to the network that a Trainer trains; select at the end of an epoch, before it is evaluated.

    Its state lies in every checkpoint, in ``slimnet_pruner.safetensors``; ``train(resume_from_checkpoint=…)`` goes on with it.

    Example:
        >>> callback = SlimCallback(images[:2], slimnet.FPGM(rate=0.4))                       # doctest: +SKIP
        >>> Trainer(model=model, args=args, train_dataset=data, callbacks=[callback]).train()  # doctest: +SKIP
        >>> result = callback.pruner.slim()                                                   # doctest: +SKIP

    Attributes:
        pruner: what :func:`slimnet.attach` gave, once ``train`` has begun.
    """

    def __init__(
        self,
        example_inputs: ExampleInputs,
        method: Method,
        *,
        network: str = "",
        epochs: int | None = None,
        checkpoint: str | Path | None = None,
        target: Budget | None = None,
        **options: Any,
    ) -> None:
        """Say what is pruned; nothing happens before ``train``.

        Args:
            example_inputs: what the network takes, a tensor or a tuple of tensors, batch first.
            method: what is closed and how.
            network: name of the module, in the model, that is the network; "" for the model itself.
            epochs: length of the run; None: what the Trainer makes of ``num_train_epochs`` and ``max_steps``.
            checkpoint: the folder given to ``train(resume_from_checkpoint=…)``, where it is not in the Trainer's ``output_dir``.
            target: what the network is to cost once it is cut.
            **options: the other arguments of :func:`slimnet.attach`, such as ``data``.
        """
        self._given = (example_inputs, method)
        self._network, self._epochs, self._checkpoint = network, epochs, checkpoint
        self._options = {"target": target, **options}
        self._epoch = ExitStack()
        self._pruner: Attached | None = None

    @property
    def pruner(self) -> Attached:
        """What :func:`slimnet.attach` gave.

        Raises:
            ArgumentError: before ``train``.
        """
        if self._pruner is None:
            raise ArgumentError("there is no pruner before Trainer.train has begun.")
        return self._pruner

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Attach the network; go on with the state of the checkpoint that is resumed."""
        example, method = self._given
        epochs = self._epochs or math.ceil(state.num_train_epochs)
        self._pruner = attach(self._find(kwargs["model"]), example, method, epochs=epochs, **self._options)
        if state.global_step:
            self._resume(args, state)

    def on_epoch_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Enter the epoch that comes next."""
        self._epoch.enter_context(self.pruner.epoch(self.pruner.next_epoch))

    def on_epoch_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Select, before the network is evaluated and saved."""
        self._epoch.close()

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Write the pruner's state into the checkpoint."""
        if not state.is_world_process_zero:
            return
        whole = self.pruner.state_dict()
        parts = whole.pop("pruner")
        text = json.dumps({**whole, "values": parts["values"]})
        write_tensors(self._folder(args, state) / FILE, parts["tensors"], metadata={"state": text})

    def on_log(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, logs: Any = None, **kwargs: Any
    ) -> None:
        """Add what the pruner says of itself, as ``slimnet/…``."""
        if isinstance(logs, dict) and self._pruner is not None:
            own = {f"slimnet/{name}": value for name, value in self.pruner.log().items()}
            for shown in (logs, *state.log_history[-1:]):
                shown.update(own)

    def _resume(self, args: TrainingArguments, state: TrainerState) -> None:
        given = self._checkpoint or args.resume_from_checkpoint
        folder = Path(given) if isinstance(given, str | Path) and Path(given).is_dir() else self._folder(args, state)
        path = folder / FILE
        if not path.exists():
            raise FileFormatError(f"the checkpoint {folder} has no {FILE}: give `checkpoint`, a folder that it wrote to.")
        try:
            whole = json.loads(read_metadata(path)["state"])
            values = whole.pop("values")
        except (KeyError, ValueError) as error:
            raise FileFormatError(f"{path} is no state of a pruner ({type(error).__name__}).") from None
        self.pruner.load_state_dict({**whole, "pruner": {"tensors": read_tensors(path), "values": values}})

    @staticmethod
    def _folder(args: TrainingArguments, state: TrainerState) -> Path:
        return Path(str(args.output_dir)) / f"checkpoint-{state.global_step}"

    def _find(self, model: nn.Module) -> nn.Module:
        found: nn.Module | None = dict(model.named_modules()).get(self._network)
        if found is None:
            names = ", ".join(name for name, _ in model.named_children()) or "none"
            raise ArgumentError(f"{type(model).__name__} has no module {self._network!r}: give `network`, one of {names}.")
        return found

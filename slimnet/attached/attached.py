"""A method on a network that is being trained: its epochs, its state, and the cut."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from slimnet.attached.hooks import GradientHooks, OptimizerHooks
from slimnet.attached.statistics import device_of
from slimnet.errors import ArgumentError, whole_text
from slimnet.graph import ChannelGroup
from slimnet.masks import SoftMask
from slimnet.methods import Method, Pruner, Statistics
from slimnet.surgery import SlimResult, slim

FORMAT = "slimnet-loop/1"


class Attached:
    """What :func:`slimnet.attach` gives; the training engine holds its runs by it too.

    Example:
        >>> pruner = slimnet.attach(model, images[:2], slimnet.FPGM(rate=0.4), epochs=30)   # doctest: +SKIP
        >>> for epoch in range(30):                                                           # doctest: +SKIP
        ...     with pruner.epoch(epoch):
        ...         train_one_epoch(model, loader, optimizer)
        >>> result = pruner.slim(optimizer=optimizer)                                         # doctest: +SKIP

    Attributes:
        model: the network itself, without wrappers.
        pruner: the method's state of this run.
        epochs: length of the run.
        next_epoch: the epoch that comes next, from 0; the number of epochs at the end.
    """

    def __init__(
        self,
        model: nn.Module,
        pruner: Pruner,
        *,
        epochs: int,
        statistics: Statistics,
        optimizers: Sequence[Optimizer] = (),
        must_step: bool = False,
    ) -> None:
        """Put the hooks on; :func:`slimnet.attach` is the way in.

        Args:
            model: the network.
            pruner: made for it.
            epochs: length of the run.
            statistics: class statistics of training images, called where the method asks for them.
            optimizers: whose steps count; without one, those of any optimiser that holds parameters of the network.
            must_step: whether an epoch without such a step is an error.
        """
        self.model, self.pruner, self.epochs, self.next_epoch = model, pruner, epochs, 0
        self._statistics = statistics
        self._optimizers, self._must_step = tuple(optimizers), must_step
        self._has_begun = False
        self._is_open = False
        self._is_entered = False
        self._ended_by = ""
        self._about: tuple[Method, tuple[ChannelGroup, ...], tuple[Tensor, ...], bool] | None = None
        self._seen: dict[str, tuple[int, torch.device]] = {}
        self._hook()

    def remember(
        self, method: Method, groups: Sequence[ChannelGroup], example: tuple[Tensor, ...], *, has_target: bool = False
    ) -> None:
        """What the pruner was made of: :meth:`slim`, :meth:`state_dict` and the look at a changed network need it."""
        self._about = (method, tuple(groups), example, has_target)
        self._seen = self._parameters()

    @property
    def method(self) -> Method:
        """The method, with the widths that its target asked for."""
        return self._known()[0]

    @property
    def mask(self) -> SoftMask | None:
        """ζ of every channel; None where no channel is masked."""
        return self.pruner.mask

    @property
    def is_closed(self) -> bool:
        """Whether pruning is complete, and every masked filter exactly zero: from now on the network can be cut."""
        return self.pruner.is_closed()

    def log(self) -> dict[str, float]:
        """What an epoch's line of metrics says of the pruning: rate, ζ, shares of channels selected and closed."""
        return self.pruner.log()

    def begin(self) -> None:
        """Close, in place, what is closed from the start; :meth:`epoch` does it by itself, before the first."""
        if not self._has_begun:
            self.pruner.begin(self._statistics)
            self._has_begun = True

    @contextmanager
    def epoch(self, number: int) -> Iterator[None]:
        """Around the steps of an epoch; at its end filters are selected, scaled or frozen, in place.

        Validate after it: then the network is what could be cut. Where an exception ends the steps, nothing is selected, and the
        same epoch can be begun again.

        Args:
            number: from 0, one after another.

        Raises:
            ArgumentError: if it is not this epoch's turn, another one is open, the network has changed since it was attached, or
                no optimiser made a step of its parameters.
        """
        self._check_turn(number)
        self.begin()
        if not self._is_entered:
            self.pruner.before_epoch(number)
        resumed = self._is_entered
        self._is_open = self._is_entered = True
        self._gradients.install()
        self._steps.begin_epoch()
        try:
            yield
            if self._must_step and not (self._steps.steps or resumed):
                raise ArgumentError(_no_step(number, self._optimizers))
            self.pruner.after_epoch(number, self._statistics)
            self._gradients.install()
            self.next_epoch, self._is_entered = number + 1, False
        finally:
            self._is_open = False

    def finish_gradients(self, optimizer: Optimizer) -> None:
        """Do to the gradients, now, what else would be done when ``optimizer`` makes its step.

        Soft masks multiply gradients as they come. What needs the whole gradient comes at the step: the limit that SFP, ASFP and
        their kin put on regrowing filters, and the penalty of network slimming. Call this before you clip gradients by their norm
        (after ``scaler.unscale_``) to have it before.
        """
        while isinstance(inner := getattr(optimizer, "optimizer", None), Optimizer):  # accelerate's and Lightning's wrappers
            optimizer = inner
        self._steps.finish(optimizer)

    def close(self, network: nn.Module) -> None:
        """Set to 0, in place, in a running average of the network (EMA, SWA), what is exactly 0 in the network.

        A closed filter has no past. Call it after each epoch, and the average can be cut by `slimnet.slim` like the network.

        Args:
            network: its copy, of the same parameters.

        Raises:
            ArgumentError: if its parameters are others.
        """
        close_average(network, self.model)

    def slim(self, *, optimizer: Optimizer | None = None) -> SlimResult:
        """Cut the network, verified in float64; the hooks come off, and the pruner is done.

        Args:
            optimizer: taken along, in place: it then holds the parameters and the state of the slim network.

        Returns:
            The slim network, which can be trained on or exported, the plan and the report. The network that was trained stays as
            it is, at full size.

        Raises:
            ArgumentError: if pruning is not complete: the weights would be changed by the cut.
            SurgeryError: if the optimiser holds other parameters.
            VerificationError: if the slim network computes something else; the hooks stay then.
        """
        self._check_live("slim()")
        _, _, example, _ = self._known()
        if not self.is_closed:
            raise ArgumentError(
                f"nothing can be cut yet: after {self.next_epoch} of {self.epochs} epochs the method has not closed all "
                "that it will; `pruner.is_closed` says when."
            )
        if optimizer is not None:
            self._check_holds(optimizer)
        device = device_of(self.model)
        result = slim(self.model, tuple(value.to(device) for value in example), optimizer=optimizer)
        self._end("slim()")
        return result

    def detach(self) -> None:
        """Take the hooks off; the network stays as it is. Nothing more is masked."""
        self._end("detach()")

    def release(self) -> None:
        """The network has been cut, in place, by whoever trains it: gradients are left alone from now on."""
        self._gradients.remove()
        self._seen = {}

    def resume(self, epoch: int, *, entered: bool) -> None:
        """Stand before or within an epoch of a run that goes on; the pruner has its state already.

        Args:
            epoch: the epoch that comes next, or has been entered.
            entered: whether steps of it were made.
        """
        self.next_epoch, self._has_begun, self._is_entered = epoch, True, entered

    def state_dict(self) -> dict[str, Any]:
        """All that a resumed run needs beside the network and the optimiser: tensors, strings and numbers.

        ``torch.load(…, weights_only=True)`` reads it back.
        """
        return {
            "format": FORMAT,
            "method": self._known()[0].as_dict(),
            "epochs": self.epochs,
            "next_epoch": self.next_epoch,
            "begun": self._has_begun,
            "entered": self._is_entered,
            "pruner": self.pruner.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where :meth:`state_dict` was taken; load the network's weights, which carry its scales, as well.

        Widths that a target had asked for are taken over.

        Raises:
            ArgumentError: if the state is of another method, another length, or another network.
        """
        self._check_live("load_state_dict()")
        try:
            self._load(state)
        except (AttributeError, LookupError, TypeError) as error:
            reason = whole_text(error)
            raise ArgumentError(f"this is no state of a pruner of this network ({type(error).__name__}: {reason}).") from error

    def _load(self, state: Mapping[str, Any]) -> None:
        method, groups, example, has_target = self._known()
        if state.get("format") != FORMAT:
            raise ArgumentError(f"this is no state of a pruner: its format is {state.get('format')!r}, expected {FORMAT!r}.")
        saved = Method.from_dict(state["method"])
        if (saved.with_widths(()) != method.with_widths(()) if has_target else saved != method) or state["epochs"] != self.epochs:
            had, has = f"{saved!r} over {state['epochs']} epochs", f"{method!r} over {self.epochs}"
            raise ArgumentError(f"the state is of {had}, and this is {has}: attach the same method.")
        if saved != method:
            self._unhook()
            self.pruner = saved.start(self.model, groups, epochs=self.epochs)
            self._hook()
            self.remember(saved, groups, example, has_target=True)
        self.pruner.load_state_dict(state["pruner"])
        self.resume(int(state["next_epoch"]), entered=bool(state["entered"]))
        self._has_begun = bool(state["begun"])
        self._gradients.install()

    def _hook(self) -> None:
        self.pruner.statistics = self._statistics
        self._gradients = GradientHooks(self.pruner)
        self._steps = OptimizerHooks(self.pruner, self.model, self._optimizers)
        self._steps.goes_with(self._gradients)

    def _unhook(self) -> None:
        self._gradients.remove()
        self._steps.remove()

    def _end(self, by: str) -> None:
        self._unhook()
        self._ended_by = self._ended_by or by

    def _known(self) -> tuple[Method, tuple[ChannelGroup, ...], tuple[Tensor, ...], bool]:
        assert self._about is not None, "made by slimnet.attach"
        return self._about

    def _check_live(self, what: str) -> None:
        if self._ended_by:
            raise ArgumentError(f"{what} comes after {self._ended_by}, which took the hooks off: attach the network again.")
        if self._is_open:
            raise ArgumentError(f"{what} comes within epoch {self.next_epoch}: leave its `with` first.")

    def _check_turn(self, number: int) -> None:
        self._check_live(f"epoch({number})")
        if number != self.next_epoch or number >= self.epochs:
            if self.next_epoch >= self.epochs:
                raise ArgumentError(f"epoch({number}) comes after the last of {self.epochs} epochs, which are counted from 0.")
            raise ArgumentError(f"epoch({number}) is not next: epochs go from 0 one by one, {self.next_epoch} comes now.")
        self._check_unchanged()

    def _check_unchanged(self) -> None:
        """Refuse a network whose masked tensors are no longer those that were attached."""
        now = self._parameters() if self._seen else {}
        for name, (number, device) in self._seen.items():
            if name not in now or now[name][0] != number:
                raise ArgumentError(f"the network has changed since it was attached: {name} is another tensor. Attach it again.")
            if now[name][1] != device:
                raise ArgumentError(
                    f"the network was attached on {device} and is on {now[name][1]}: move it first, then attach it."
                )

    def _parameters(self) -> dict[str, tuple[int, torch.device]]:
        return {name: (id(each), each.device) for name, each in self.model.named_parameters()}

    def _check_holds(self, optimizer: Optimizer) -> None:
        own = {id(each) for each in self.model.parameters()}
        if not any(id(each) in own for group in optimizer.param_groups for each in group["params"]):
            raise ArgumentError(f"this {type(optimizer).__name__} holds no parameter of the network that was attached.")


def _no_step(epoch: int, optimizers: Sequence[Optimizer]) -> str:
    if optimizers:
        return (
            f"in epoch {epoch} the optimiser that was given to attach made no step: if another one trains this network now, "
            "attach it again with that one, or without `optimizer`, to find whichever steps."
        )
    return (
        f"in epoch {epoch} no optimiser made a step with parameters of this network: "
        "step within `with pruner.epoch(…)`, with a torch optimiser of model.parameters()."
    )


@torch.no_grad()
def close_average(average: nn.Module, model: nn.Module) -> None:
    """Set what is exactly 0 in ``model`` to 0 in an average of its weights too, in place: a closed filter has no past.

    Raises:
        ArgumentError: if the average has other parameters.
    """
    own, others = dict(model.named_parameters()), dict(average.named_parameters())
    odd = next((name for name in own if name not in others or others[name].shape != own[name].shape), None)
    if odd is not None:
        raise ArgumentError(f"the average has no {odd!r} of the network's shape: give the module inside, such as ema.module.")
    for name, now in own.items():
        others[name].masked_fill_(now.to(others[name].device) == 0, 0.0)

"""Where a run stands: what changes from step to step, and what a checkpoint therefore holds.

Random numbers are drawn afresh from (seed, epoch) at each epoch, and saved within one. Batches bring generators of their own;
what is left for torch's global generators is dropout and its like.
"""

from __future__ import annotations

import copy
import hashlib
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.swa_utils import AveragedModel

from slimnet.errors import FileFormatError, GraphError, SurgeryError, whole_text
from slimnet.masks import SoftMask
from slimnet.methods import Pruner
from slimnet.surgery import Plan, move_optimizer, slim
from slimnet.surgery.uncut import moves_constants
from slimnet.training.optim import laid_out_like, load_optimizer, optimizer_tensors
from slimnet.training.team import Team


@dataclass
class Totals:
    """Sums over the steps of an epoch so far.

    Attributes:
        sums: (3,) float64 on the device: this process's loss sum, right answers, images.
        data_seconds: time spent waiting for batches.
        step_seconds: time spent on everything else of the steps.
    """

    sums: Tensor
    data_seconds: float = 0.0
    step_seconds: float = 0.0

    @classmethod
    def zero(cls, device: torch.device) -> Totals:
        """Nothing yet."""
        return cls(torch.zeros(3, dtype=torch.float64, device=device))

    def mean(self, team: Team) -> tuple[float, float]:
        """Mean loss and accuracy over the images of all processes."""
        loss, right, count = team.sum(self.sums.clone()).tolist()
        return loss / max(count, 1), right / max(count, 1)


@dataclass
class Best:
    """The best epoch so far among those that count, and its weights."""

    epoch: int
    accuracy: float
    loss: float
    weights: dict[str, Tensor]

    def is_beaten_by(self, accuracy: float, loss: float) -> bool:
        """Whether an epoch with these validation figures is better."""
        return (accuracy, -loss) > (self.accuracy, -self.loss)


@dataclass
class State:
    """A run between two steps.

    Attributes:
        epoch: the epoch at hand, from 0; equal to the number of epochs once all are over.
        step: steps of that epoch already done.
        plan: how the network was cut; None as long as it has its full size. After the cut ``model``, ``average``, ``best``
            and the optimiser are those of the cut network.
    """

    model: nn.Module
    optimizer: Optimizer
    pruner: Pruner
    totals: Totals
    epoch: int = 0
    step: int = 0
    best: Best | None = None
    rng: Tensor = field(default_factory=lambda: torch.empty(0))
    average: AveragedModel | None = None
    plan: Plan | None = None

    @property
    def shown(self) -> nn.Module:
        """The network that is validated and kept: the running average of the weights where there is one."""
        return self.model if self.average is None else self.average.module

    def plan_cut(self, example: Tensor, *, masked_alone: bool = False) -> Plan | str:
        """How to cut the network once the selection is settled, so that training goes on as if it were masked.

        What is closed must emit zeros: constants in other layers' biases would be trained otherwise than norms behind a mask.

        Args:
            example: (N, C, H, W) on the device of the network.
            masked_alone: leave what is zero without a mask, and would be trained: norms that begin with a γ of 0, for one.

        Returns:
            The plan, verified in float64, or the reason why the run goes on with the masked network.
        """
        mask = self.pruner.mask
        try:
            plan = slim(self.model if mask is None or not masked_alone else _zero_where_closed(self.model, mask), example).plan
        except (GraphError, SurgeryError) as error:
            return str(error)
        return "what is closed leaves constants behind" if moves_constants(plan) else plan

    def cut(self, plan: Plan) -> None:
        """Cut the network, its running average and the optimiser along with them, in place.

        Raises:
            SurgeryError: if the plan was made for another network.
        """
        tensors = (*self.model.parameters(), *self.model.buffers())
        before = copy.deepcopy(self.model, {id(tensor): tensor for tensor in tensors})  # the same tensors, in modules of its own
        _apply(plan, self.model)
        move_optimizer(self.optimizer, before, self.model, plan)
        for parameter, entries in self.optimizer.state.items():
            entries.update({key: laid_out_like(parameter, value) for key, value in entries.items() if isinstance(value, Tensor)})
        if self.average is not None:
            _apply(plan, self.average.module)
        self.best = self.best and self._cut_best(before, plan)
        self.pruner.release()
        self.plan = plan

    def _cut_best(self, whole: nn.Module, plan: Plan) -> Best | None:
        """The best epoch so far, cut along; None where other channels were closed in it.

        Args:
            whole: a network of the size before the cut.
        """
        assert self.best is not None
        module, closed = copy.deepcopy(whole), {name: parameter == 0 for name, parameter in whole.named_parameters()}
        module.load_state_dict(self.best.weights)
        if any(bool(parameter[closed[name]].any()) for name, parameter in module.named_parameters()):
            return None
        _apply(plan, module)
        return replace(self.best, weights={name: tensor.detach().clone() for name, tensor in module.state_dict().items()})

    def note_best(self, accuracy: float, loss: float) -> None:
        """Keep the weights of this epoch if it is the best so far."""
        if self.best is None or self.best.is_beaten_by(accuracy, loss):
            weights = {name: tensor.detach().clone() for name, tensor in self.shown.state_dict().items()}
            self.best = Best(self.epoch, accuracy, loss, weights)

    def tensors(self) -> dict[str, Tensor]:
        """Everything of this run that is a tensor, by flat names."""
        pruner = self.pruner.state_dict()["tensors"]
        best = self.best.weights if self.best else {}
        parts = {
            "model": self.model.state_dict(),
            "best": best,
            "pruner": pruner,
            "optimizer": optimizer_tensors(self.optimizer),
            "run": {"totals": self.totals.sums, "rng": self.rng},
            "average": self.average.state_dict() if self.average else {},
        }
        return {f"{part}/{name}": tensor for part, named in parts.items() for name, tensor in named.items()}

    def values(self) -> dict[str, Any]:
        """Everything else of this run, as JSON values."""
        best = self.best and {
            "epoch": self.best.epoch,
            "accuracy": self.best.accuracy,
            "loss": self.best.loss,
        }
        return {
            "epoch": self.epoch,
            "step": self.step,
            "seconds": [self.totals.data_seconds, self.totals.step_seconds],
            "best": best,
            "pruner": self.pruner.state_dict()["values"],
            **({"plan": self.plan.as_dict()} if self.plan else {}),
        }

    def load(self, tensors: dict[str, Tensor], values: dict[str, Any]) -> None:
        """Take over what :meth:`tensors` and :meth:`values` gave, in place.

        Raises:
            FileFormatError: if something is missing or does not fit.
        """
        try:
            self._load(tensors, values)
        except (AttributeError, LookupError, OverflowError, RuntimeError, TypeError, ValueError) as error:
            reason = whole_text(error)
            raise FileFormatError(f"it does not fit this run ({type(error).__name__}: {reason})") from error

    def _load(self, tensors: dict[str, Tensor], values: dict[str, Any]) -> None:
        """Take over a state; what does not fit raises whatever it raises."""
        device = self.totals.sums.device
        if "plan" in values:
            self.cut(Plan.from_dict(values["plan"]))
        self.model.load_state_dict(_part(tensors, "model"))
        if self.average is not None:
            self.average.load_state_dict(_part(tensors, "average"))
        load_optimizer(self.optimizer, _part(tensors, "optimizer"))
        self.pruner.load_state_dict({"tensors": _part(tensors, "pruner"), "values": values["pruner"]})
        self.totals = Totals(tensors["run/totals"].to(device), *values["seconds"])
        self.epoch, self.step, self.rng = values["epoch"], values["step"], tensors["run/rng"]
        if values["best"] is not None:
            weights = {name: tensor.to(device) for name, tensor in _part(tensors, "best").items()}
            self.best = Best(weights=weights, **values["best"])


@torch.no_grad()
def _zero_where_closed(model: nn.Module, mask: SoftMask) -> nn.Module:
    """A copy in which no entry that is trained is zero, but for those of closed channels."""
    copied, random = copy.deepcopy(model), torch.Generator().manual_seed(0)
    for own, other in zip(model.parameters(), copied.parameters(), strict=True):
        factor = mask.of_gradient(own)
        open_zeros = (own == 0) & (True if factor is None else factor != 0)
        if own.requires_grad and bool(open_zeros.any()):
            small = 1e-3 * (1 + torch.rand(own.shape, generator=random))
            other.copy_(torch.where(open_zeros, small.to(other), other))
    return copied


def _apply(plan: Plan, model: nn.Module) -> None:
    """Cut ``model`` in place, and keep its memory format."""
    last = [
        p.is_contiguous(memory_format=torch.channels_last) and not p.is_contiguous() for p in model.parameters() if p.dim() == 4
    ]
    plan.apply(model)
    if any(last):
        model.to(memory_format=torch.channels_last)


def _part(tensors: dict[str, Tensor], part: str) -> dict[str, Tensor]:
    return {name.removeprefix(f"{part}/"): value for name, value in tensors.items() if name.startswith(f"{part}/")}


def seed_epoch(seed: int, epoch: int, team: Team) -> None:
    """Seed torch's generators for an epoch, differently on each process."""
    text = f"slimnet/{seed}/{epoch}/{team.rank}"
    torch.manual_seed(int.from_bytes(hashlib.blake2b(text.encode(), digest_size=7).digest(), "big"))


def get_rng(team: Team) -> Tensor:
    """The state of torch's generators in all processes: (world_size, bytes) uint8."""
    state = torch.get_rng_state()
    if team.device.type == "cuda":
        state = torch.cat([state, torch.cuda.get_rng_state(team.device)])
    return team.gather(state)


def set_rng(states: Tensor, team: Team) -> None:
    """Put back what :func:`get_rng` gave; a process that did not exist then keeps the state that it has."""
    if team.rank >= len(states):
        return
    cpu = torch.get_rng_state().numel()
    torch.set_rng_state(states[team.rank, :cpu].clone())
    if team.device.type == "cuda" and states.shape[1] > cpu:
        torch.cuda.set_rng_state(states[team.rank, cpu:].clone(), team.device)

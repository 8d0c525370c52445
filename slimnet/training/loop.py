"""The training loop: steps, epochs, validation, checkpoints."""

from __future__ import annotations

import logging
import math
import signal
import time
from pathlib import Path

import torch
from torch import Tensor, nn

from slimnet._modes import in_eval_mode
from slimnet.allocation import LiveFlops
from slimnet.attached import Attached
from slimnet.errors import TrainingError
from slimnet.evaluation.evaluate import Evaluation, summarise, tally
from slimnet.masks import SoftMask
from slimnet.progress import Say, Task, each
from slimnet.training.checkpoint import save_checkpoint
from slimnet.training.job import Job
from slimnet.training.loggers import Logs
from slimnet.training.metrics import append_metrics, append_selection
from slimnet.training.network import train_mode
from slimnet.training.objective import Objective, right_answers
from slimnet.training.optim import learning_rate, set_learning_rate
from slimnet.training.progress import shown
from slimnet.training.signals import Interrupted, SignalWatch
from slimnet.training.state import State, Totals, get_rng, seed_epoch, set_rng

_log = logging.getLogger("slimnet.training")
CHECK_EVERY = 10  # steps between looks at the loss and at other processes on a GPU; a CPU looks at every step


class Loop:
    """Takes a run from where its state stands to the end of its last epoch."""

    def __init__(
        self,
        job: Job,
        state: State,
        folder: Path,
        watch: SignalWatch,
        say: Say,
        flops: LiveFlops,
        logs: Logs | None = None,
    ) -> None:
        self.job, self.state, self.folder, self.watch, self.say, self.flops = job, state, folder, watch, say, flops
        self.logs = logs or Logs({})
        self.forward = job.joined_model()
        self.objective = Objective(job)
        self.steps = len(job.train_batches)
        self.attached = Attached(
            job.model, state.pruner, epochs=job.config.epochs, statistics=job.class_statistics, optimizers=[state.optimizer]
        )
        if state.plan is not None:
            self.attached.release()
        self.task = Task("training", job.config.epochs * self.steps, done=state.epoch * self.steps + state.step)
        self._may_cut = True

    def run(self) -> None:
        """Train until the last epoch is over.

        Raises:
            Interrupted: after SIGINT or SIGTERM; a checkpoint has been written.
            TrainingError: if the loss is not a number; the last checkpoint stands.
        """
        if self.state.step:
            set_rng(self.state.rng, self.job.team)
        try:
            with self.task:
                while self.state.epoch < self.job.config.epochs:
                    self.run_epoch()
        finally:
            self.attached.detach()

    def begin(self) -> None:
        """Before the first step of a run that was not resumed: close what is closed from the start, and cut it out."""
        self.attached.begin()
        self._cut_if_settled()

    def save(self) -> None:
        """Write a checkpoint of this moment (every process takes part)."""
        self.state.rng = get_rng(self.job.team)
        if self.job.team.is_main:
            save_checkpoint(self.folder, self.state)
        self.job.team.wait()

    def run_epoch(self) -> None:
        """Train one epoch from where the state stands, validate, write a checkpoint."""
        state = self.state
        if state.step == 0:
            seed_epoch(self.job.config.seed, state.epoch, self.job.team)
        self.attached.resume(state.epoch, entered=state.step > 0)
        with self.attached.epoch(state.epoch):
            self._steps()
            start = time.perf_counter()
            loss, accuracy = state.totals.mean(self.job.team)
        numbers = self._end_epoch(loss, accuracy)
        numbers["seconds"] = state.totals.data_seconds + state.totals.step_seconds + time.perf_counter() - start
        if self.job.team.is_main:
            append_metrics(self.folder, numbers)
            self.logs.epoch(numbers)
            if (mask := state.pruner.mask) is not None:
                append_selection(self.folder, state.epoch, _selected_filters(mask))
        state.epoch, state.step, state.totals = state.epoch + 1, 0, Totals.zero(self.job.team.device)
        self.save()
        line = f"epoch {state.epoch}/{self.job.config.epochs}  {shown(numbers)}"
        _log.info("%s", line)
        self.task.report(line)
        self._stop_if(self._agree(self.watch.signum), saved=True)

    def _steps(self) -> None:
        """The steps of the epoch that are still to do."""
        state, batches = self.state, self.job.train_batches
        train_mode(self.job.model, self.job.config.freeze)
        mark = time.perf_counter()
        for images, targets in batches.epoch(state.epoch, start=state.step):
            ready = time.perf_counter()
            stop = self._step(*self.objective.mixed(images, targets))
            state.step += 1
            state.totals.data_seconds += ready - mark
            mark = time.perf_counter()
            state.totals.step_seconds += mark - ready
            if state.step < self.steps:  # after the last step the end of the epoch comes first
                self._stop_if(stop)

    def _step(self, images: Tensor, targets: Tensor) -> int:
        """One optimiser step; the number of a signal to stop for, or 0."""
        job, state = self.job, self.state
        set_learning_rate(state.optimizer, self._lr())
        with job.precision.autocast():
            logits = self.forward(images)
        loss = self.objective.loss(images, logits, targets)
        stop = self._check(loss)
        state.optimizer.zero_grad()
        torch.autograd.backward(loss * (job.team.world_size / job.train_batches.global_size(state.step)))
        state.optimizer.step()  # the pruner's hooks are on the gradients, before and after it
        if state.average is not None:
            state.average.update_parameters(job.model)
        right = right_answers(logits, targets)
        state.totals.sums += torch.stack([loss.detach().double(), right.double(), right.new_tensor(len(targets))])
        self._show()
        return stop

    def _lr(self) -> float:
        return learning_rate(self.job.config, self.state.epoch, self.state.step / self.steps)

    def _check(self, loss: Tensor) -> int:
        """Stop at a loss that is not a number; tell of a signal that any process got."""
        on_gpu = self.job.team.device.type != "cpu"
        if on_gpu and (self.state.step + 1) % CHECK_EVERY and self.state.step + 1 < self.steps:
            return 0
        broken = not math.isfinite(float(loss.detach() + self.state.totals.sums[0]))
        agreed = self._agree(self.watch.signum, broken)
        if agreed >= signal.NSIG:
            raise TrainingError(
                f"the loss is not a number at epoch {self.state.epoch}, step {self.state.step}: lower `lr` "
                f"({self.job.config.lr}) or lengthen `warmup_epochs`; the last checkpoint stands."
            )
        return agreed

    def _agree(self, signum: int, broken: bool = False) -> int:
        """The largest of what the processes say: a signal's number, or NSIG where a loss is broken."""
        own = signal.NSIG if broken else signum
        if self.job.team.world_size == 1:
            return own
        return int(self.job.team.max(torch.tensor(own, device=self.job.team.device)))

    def _stop_if(self, signum: int, *, saved: bool = False) -> None:
        if not signum:
            return
        if not saved:
            self.save()
        name = signal.Signals(signum).name
        raise Interrupted(signum, f"stopped by {name}; the run can be resumed from {self.folder}")

    def _end_epoch(self, loss: float, accuracy: float) -> dict[str, float]:
        """Filters are selected: cut them out where that is settled, validate; the line for ``metrics.jsonl``."""
        job, state = self.job, self.state
        spent = state.totals.data_seconds + state.totals.step_seconds
        if state.average is not None:
            self.attached.close(state.average.module)
        self._cut_if_settled()
        mask = state.pruner.mask
        val = validate(job, state.shown, state.epoch)
        is_closed = state.pruner.is_closed()
        if is_closed:
            state.note_best(val.accuracy, val.loss)
        return {
            "epoch": state.epoch,
            "lr": learning_rate(job.config, state.epoch, (self.steps - 1) / self.steps),
            "train_loss": loss,
            "train_accuracy": accuracy,
            "val_loss": val.loss,
            "val_accuracy": val.accuracy,
            **state.pruner.log(),
            "is_closed": is_closed,
            "live_flops": self.flops.live({} if mask is None else mask.closed()),
            "data_share": state.totals.data_seconds / spent if spent else 0.0,
        }

    def _cut_if_settled(self) -> None:
        """Go on with the cut network, where that trains like the masked one."""
        job, state = self.job, self.state
        if job.config.cut == "never" or state.plan is not None or not self._may_cut or not state.pruner.is_settled():
            return
        plan = state.plan_cut(job.example.to(job.team.device), masked_alone=True)
        if isinstance(plan, str):
            self._may_cut = False
            self.say(f"training goes on with the masked network: {plan}")
            return
        state.cut(plan)
        self.attached.release()
        self.forward = job.joined_model()
        self.say("the selection is settled: training goes on with the cut network")

    def _show(self) -> None:
        """One more step is done."""
        epoch, step = self.state.epoch, self.state.step + 1
        self.task.name = f"epoch {epoch + 1}/{self.job.config.epochs}, step {step}/{self.steps}"
        self.task.reach(epoch * self.steps + step, self._numbers)

    def _numbers(self) -> str:
        """What is shown within an epoch: it is only asked for when it is shown, since a GPU has to be waited for."""
        loss, right, count = self.state.totals.sums.tolist()
        numbers = {"lr": self._lr(), "train_loss": loss / count, "train_accuracy": right / count}
        return shown(numbers | self.state.pruner.log())


def _selected_filters(mask: SoftMask) -> dict[str, Tensor]:
    """Group name → (size,) bool, the filters that are selected; residual branches are no filters."""
    return {name: chosen for name, chosen in mask.selected().items() if not mask.groups[name].is_branch}


def validate(job: Job, model: nn.Module, epoch: int) -> Evaluation:
    """Evaluate ``model`` on the validation split, over all processes, in the precision of training.

    Raises:
        TrainingError: if the loss is not a number.
    """

    def predict(images: Tensor) -> Tensor:
        with job.precision.autocast():
            logits: Tensor = model(images)
        return logits

    with in_eval_mode(model):
        confusion, loss = tally(predict, each(job.val_batches.epoch(0), "validating", len(job.val_batches)))
    result = summarise(job.team.sum(confusion), job.team.sum(loss))
    if not math.isfinite(result.loss):
        raise TrainingError(
            f"the validation loss is not a number after epoch {epoch}: lower `lr` ({job.config.lr}); the last checkpoint stands."
        )
    return result

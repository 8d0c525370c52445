"""The result of a run: the weights of its best closed epoch, their norms, and one look at the test split."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from slimnet._modes import in_eval_mode
from slimnet.data import Batches
from slimnet.errors import TrainingError, whole_text
from slimnet.evaluation.evaluate import Evaluation, summarise, tally
from slimnet.files import write_tensors
from slimnet.progress import Say, each, say_from
from slimnet.surgery import uncut
from slimnet.training.job import Job
from slimnet.training.metrics import append_metrics
from slimnet.training.network import build_network, frozen_modules
from slimnet.training.norm_statistics import MOST_BATCHES, reestimate_norms
from slimnet.training.run import MODEL
from slimnet.training.state import Best, State

_say = say_from(__name__)


def write_result(job: Job, state: State, folder: Path, say: Say = _say) -> dict[str, Any]:
    """Write ``model.safetensors`` and the last line of ``metrics.jsonl``; the model ends as the result, in place.

    The weights are those of the best epoch by validation accuracy among the epochs that ended with every masked filter exactly
    zero. Where the method says so, norm statistics are estimated afresh, and kept unless validation got worse. Everything is
    computed in float32. The test split is read here and nowhere else. What stops it leaves the checkpoint of the last epoch:
    ``train(resume=True)`` comes back here.

    Returns:
        That line.

    Raises:
        TrainingError: if no epoch ended with its masked filters at zero.
    """
    best = _best(state)
    job.model.load_state_dict(best.weights)
    val, renewed = _with_fresh_norms(job, _evaluate(job.model, job.whole(job.dataset.val)), say)
    test = _evaluate(job.model, job.whole(job.dataset.test))
    line: dict[str, Any] = {
        "final": True,
        "best_epoch": best.epoch,
        "val_loss": val.loss,
        "val_accuracy": val.accuracy,
        "test_loss": test.loss,
        "test_accuracy": test.accuracy,
        "test_macro_f1": test.macro_f1,
        "test_confusion": [list(row) for row in test.confusion],
        "test_images": test.count,
        "norms_reestimated": renewed,
    }
    append_metrics(folder, line)
    write_tensors(folder / MODEL, _full_size(job, state), metadata={"format": "pt", "model": job.config.model})
    return line


def _best(state: State) -> Best:
    if state.best is None:
        raise TrainingError("no epoch ended with every masked filter at zero: train for more epochs.")
    return state.best


def _full_size(job: Job, state: State) -> dict[str, Tensor]:
    """The weights of ``job.model``, at full size: closed filters exactly zero."""
    tensors: dict[str, Tensor] = job.model.state_dict()
    return tensors if state.plan is None else uncut(state.plan, tensors, build_network(job.config, job.dataset).state_dict())


def _with_fresh_norms(job: Job, before: Evaluation, say: Say) -> tuple[Evaluation, bool]:
    """Estimate the norms afresh where asked; the validation figures that hold, and whether it was kept.

    A network that cannot run in that mode keeps the norms that it has: a finished training is not lost for it.
    """
    if not (job.config.reestimate_norm and job.config.method.renews_norms):
        return before, False
    kept = {name: tensor.clone() for name, tensor in job.model.state_dict().items()}
    try:
        batches = job.plain_train_batches
        shown = each(batches.epoch(0), "estimating the norms afresh", min(len(batches), MOST_BATCHES))
        reestimate_norms(job.model, shown, keep=frozen_modules(job.model, job.config.freeze))
    except (RuntimeError, ValueError) as error:  # of torch or of the network; nothing was changed
        say(f"the norms stay as training left them: the network cannot estimate them afresh ({whole_text(error)})")
        return before, False
    after = _evaluate(job.model, job.whole(job.dataset.val))
    if after.accuracy >= before.accuracy:
        return after, True
    job.model.load_state_dict(kept)
    return before, False


def _evaluate(model: nn.Module, batches: Batches) -> Evaluation:
    def predict(images: Tensor) -> Tensor:
        logits: Tensor = model(images)
        return logits

    with in_eval_mode(model):
        found = summarise(*tally(predict, each(batches.epoch(0), "evaluating", len(batches))))
    if not math.isfinite(found.loss):
        raise TrainingError("the best epoch gives logits that are NaN or infinite on a whole split: lower `lr`, and train again.")
    return found

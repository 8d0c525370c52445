"""How good a network is on a split: accuracy, loss, confusion, accuracy and F1 per class."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from slimnet._foreign import no_exit
from slimnet._modes import in_eval_mode, on_device, widened
from slimnet.data import Batches, Split
from slimnet.errors import DataError, MeasureError, TimeLimitError, whole_text
from slimnet.evaluation.confidence import Confidence
from slimnet.evaluation.f1 import f1_scores, macro_f1
from slimnet.evaluation.views import averaged
from slimnet.names import Views
from slimnet.progress import each

Predict = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Evaluation:
    """How good a network is on a split.

    Attributes:
        accuracy: share of images classified right, in [0, 1].
        loss: mean cross-entropy of the logits as they are, in nats.
        per_class: accuracy of each class; NaN-free: None where the split has no image of the class.
        confusion: rows are true classes, columns predicted ones; numbers of images.
        count: number of images.
        views: which views of each image the answer is the mean of: ``"one"``, ``"flip"`` or ``"ten-crop"``.
        split: ``"train"``, ``"val"`` or ``"test"``, where that is known.
        temperature: what the logits are divided by for probabilities.
        nll: mean negative log-likelihood of these probabilities, in nats: the loss, where the temperature is 1. None where
            probabilities were not looked at.
        ece: expected calibration error of the likeliest class's, 15 bins (see `slimnet.evaluation.confidence`); likewise.
    """

    accuracy: float
    loss: float
    per_class: tuple[float | None, ...]
    confusion: tuple[tuple[int, ...], ...]
    count: int
    views: Views = "one"
    split: str = field(default="", compare=False)
    temperature: float = 1.0
    nll: float | None = None
    ece: float | None = None

    @property
    def f1(self) -> tuple[float | None, ...]:
        """F1 of each class, 2TP / (2TP + FP + FN); None where the class neither occurs nor is predicted."""
        return f1_scores(self.confusion)

    @property
    def macro_f1(self) -> float:
        """The mean of the classes' F1, each counting the same: what tells of rare classes where accuracy does not."""
        return macro_f1(self.confusion)

    def as_dict(self) -> dict[str, Any]:
        """JSON values."""
        return {
            "accuracy": self.accuracy,
            "loss": self.loss,
            "per_class": list(self.per_class),
            "confusion": [list(row) for row in self.confusion],
            "f1": list(self.f1),
            "macro_f1": self.macro_f1,
            "count": self.count,
            "views": self.views,
            "temperature": self.temperature,
            "nll": self.nll,
            "ece": self.ece,
        }


def evaluate(
    model: nn.Module | Path | str,
    split: Split,
    *,
    mean: Sequence[float],
    std: Sequence[float],
    batch_size: int = 256,
    device: torch.device | str = "cpu",
    views: Views = "one",
    temperature: float = 1.0,
) -> Evaluation:
    """Evaluate a network, or an ONNX file, on a split.

    Args:
        model: a module that gives (N, classes) logits, evaluated in eval mode and left as it was, each module in its mode and
            each tensor on its device, also after an error; or an ONNX file.
        split: uint8 images (N, C, H, W) and labels (N,).
        mean: mean of each colour plane of images in [0, 1], taken off before the network sees them.
        std: deviation by which each plane is divided.
        batch_size: images at a time.
        device: where a module computes; ONNX files run on the CPU.
        views: average the answers over views of each image (test-time augmentation, see `slimnet.evaluation.views`); the result
            says so.
        temperature: what the logits are divided by for probabilities; of several views, their logarithms of mean probabilities.

    Raises:
        ArgumentError: if ``views`` is unknown, or ``temperature`` not positive.
        FileFormatError: if the ONNX file is missing or corrupt.
        DataError: if the split has no images, images that the network does not take, or labels that it has no
            output for; or if the network gives logits that are NaN or infinite.
    """
    sure = Confidence(temperature)
    where = device if isinstance(model, nn.Module) else "cpu"
    batches = Batches(split, batch_size, mean=mean, std=std, device=where)
    shown = each(batches.epoch(0), "evaluating", len(batches))
    if isinstance(model, nn.Module):
        predict = averaged(_finite(_guarded(model)), views)
        with no_exit(type(model).__name__), on_device(model, device), in_eval_mode(model):
            confusion, loss = tally(predict, shown, told=sure.add)
    else:
        confusion, loss = tally(averaged(_finite(onnx_predictor(Path(model))), views), shown, told=sure.add)
    return replace(summarise(confusion, loss), views=views, temperature=temperature, nll=sure.nll, ece=sure.ece)


def tally(
    predict: Predict, batches: Iterable[tuple[Tensor, Tensor]], *, told: Callable[[Tensor, Tensor], None] | None = None
) -> tuple[Tensor, Tensor]:
    """Run over batches.

    Args:
        predict: (N, C, H, W) images in, (N, classes) logits out.
        batches: images and labels.
        told: given the logits and labels of each batch.

    Returns:
        The confusion, (classes, classes) int64, and the sum of the cross-entropies, () float64.

    Raises:
        DataError: if there are no images, or labels that the network has no output for.
    """
    confusion, loss = torch.zeros(0, 0, dtype=torch.int64), torch.zeros((), dtype=torch.float64)
    for images, labels in batches:
        with torch.no_grad():
            logits = widened(predict(images))
        if not confusion.numel():
            classes = logits.shape[1]
            confusion, loss = confusion.new_zeros(classes, classes).to(logits.device), loss.to(logits.device)
        _check_labels(labels, logits)
        if told is not None:
            told(logits, labels)
        loss += F.cross_entropy(logits, labels, reduction="sum").double()
        pair = labels * confusion.shape[0] + logits.argmax(1)
        confusion += torch.bincount(pair, minlength=confusion.numel()).view_as(confusion)
    if not confusion.numel():
        raise DataError("there are no images to evaluate on.")
    return confusion, loss


def _check_labels(labels: Tensor, logits: Tensor) -> None:
    if labels.device.type == "cpu" and labels.numel() and int(labels.max()) >= logits.shape[1]:
        raise DataError(f"label {int(labels.max())} is out of range: the network has {logits.shape[1]} outputs.")


def summarise(confusion: Tensor, loss: Tensor) -> Evaluation:
    """Turn what :func:`tally` counted into an :class:`Evaluation`."""
    matrix = confusion.cpu()
    count = int(matrix.sum())
    right, present = matrix.diagonal().tolist(), matrix.sum(1).tolist()
    return Evaluation(
        accuracy=sum(right) / count,
        loss=float(loss) / count,
        per_class=tuple(hit / number if number else None for hit, number in zip(right, present, strict=True)),
        confusion=tuple(tuple(row) for row in matrix.tolist()),
        count=count,
    )


def _guarded(predict: Predict) -> Predict:
    """``predict``, whose failures name the shape of the images: a network may raise anything on strange ones."""

    def guarded(images: Tensor) -> Tensor:
        try:
            logits = predict(images)
        except Exception as error:
            reason = whole_text(error)
            raise DataError(f"the network cannot take images of shape {tuple(images.shape[1:])}: {reason}") from error
        if not isinstance(logits, Tensor) or logits.dim() != 2:
            got = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
            raise DataError(f"the network must give logits (N, classes), it gives {got}.")
        return logits

    return guarded


def _finite(predict: Predict) -> Predict:
    """``predict``, which refuses answers that are none: the largest of NaN is no class."""

    def checked(images: Tensor) -> Tensor:
        logits = predict(images)
        bad = int((~torch.isfinite(logits).all(dim=1)).sum())
        if bad:
            raise DataError(
                f"the network gives NaN or infinite logits for {bad} of {len(images)} images: it cannot be evaluated."
            )
        return logits

    return checked


def onnx_predictor(path: Path | bytes) -> Predict:
    """A function that runs an ONNX file, or the contents of one, on the CPU: images in, logits out.

    Raises:
        FileFormatError: if the file is missing or corrupt, or no classifier of images.
    """
    from slimnet.measure.classifier import Classifier

    network = Classifier(path)

    def predict(images: Tensor) -> Tensor:
        try:
            return torch.from_numpy(network.run(images.cpu().numpy()))
        except TimeLimitError:
            raise
        except MeasureError as error:
            raise DataError(f"the network cannot take images of shape {tuple(images.shape[1:])}: {error}") from None

    return predict

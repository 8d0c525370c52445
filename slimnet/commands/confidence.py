"""How far the probabilities of an exported network can be believed: its temperature, fitted and judged."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from slimnet.errors import DataError
from slimnet.progress import Say, each

if TYPE_CHECKING:
    from torch import Tensor

    from slimnet.data import Dataset, Split
    from slimnet.evaluation import Confidence

    Answers = tuple[Tensor, Tensor]
    """Logits (N, classes) and labels (N,)."""

UNTOLD = "the validation split does not tell a temperature: T = 1"


@dataclass(eq=False)
class ConfidenceStep:
    """Says of each network of a bundle at what temperature its probabilities are calibrated; for `write_bundle`.

    Each network has a temperature of its own: to round weights changes logits. It is fitted on the validation split, and judged
    on the split that accuracy is measured on.

    Attributes:
        data: what the network was trained on, its classes in the order of the network's outputs.
        say: told what is being done.
    """

    data: Dataset
    say: Say

    def __call__(self, name: str, network: bytes) -> dict[str, Any] | None:
        """``confidence`` of an ONNX file, as ``model.json`` has it; None, and why is said, where a logit is NaN or infinite."""
        self.say(f"calibrating the probabilities of {name}")
        try:
            fitted, measured = (_logits(network, split, self.data) for split in (self.data.val, self.data.test))
        except DataError as error:
            self.say(f"{name} has no temperature: {error}")
            return None
        return self._judged(name, fitted, measured)

    def _judged(self, name: str, fitted: Answers, measured: Answers) -> dict[str, Any]:
        from slimnet.evaluation import fit_temperature

        temperature = fit_temperature(*fitted)
        if temperature is None:
            self.say(f"{name}: {UNTOLD}")
            temperature = 1.0
        return {
            "temperature": temperature,
            "fitted": {"split": "val", **_figures(_sure(fitted, 1.0), _sure(fitted, temperature))},
            "measured": {"split": self.data.tested_on, **_figures(_sure(measured, 1.0), _sure(measured, temperature))},
            "answered": [row.as_dict() for row in _sure(measured, temperature).answered()],
        }


def _sure(answers: Answers, temperature: float) -> Confidence:
    from slimnet.evaluation import Confidence

    found = Confidence(temperature)
    found.add(*answers)
    return found


def _figures(before: Confidence, after: Confidence) -> dict[str, Any]:
    return {
        "count": before.count,
        "nll": {"before": before.nll, "after": after.nll},
        "ece": {"before": before.ece, "after": after.ece},
    }


def _logits(network: bytes, split: Split, data: Dataset) -> Answers:
    """Logits (N, classes) that an ONNX file gives for a split, and the labels.

    Raises:
        DataError: if one is NaN or infinite.
    """
    import torch

    from slimnet.data import Batches
    from slimnet.evaluation.evaluate import onnx_predictor

    predict, batches = onnx_predictor(network), Batches(split, 256, mean=data.mean, std=data.std)
    found = torch.cat([predict(images) for images, _ in each(batches.epoch(0), "calibrating", len(batches))])
    bad = int((~found.isfinite().all(dim=1)).sum())
    if bad:
        raise DataError(f"it gives NaN or infinite logits for {bad:,} of {len(found):,} images")
    return found, split.labels

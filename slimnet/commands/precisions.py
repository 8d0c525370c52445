"""The further precisions of a run's slim network: made from training images, chosen on the validation split."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from slimnet.progress import Say, each
from slimnet.settings import PrecisionSettings

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from slimnet.data import Dataset, Split
    from slimnet.export import PrecisionFile
    from slimnet.export.precision import Evaluated, Precision, Precisions


@dataclass(eq=False)
class PrecisionStep:
    """Makes the further precisions of an exported network; given to :func:`slimnet.export.write_bundle`.

    Attributes:
        data: what the network was trained on.
        settings: what is asked for.
        say: told what is being done.
        choice: what was found, once it was called.
    """

    data: Dataset
    settings: PrecisionSettings
    say: Say
    choice: Precisions | None = field(default=None, init=False)

    def __call__(self, fp32: bytes) -> Mapping[str, PrecisionFile]:
        """Make them, choose on the validation split, then evaluate those that are kept on the test split."""
        from slimnet.export.precision import make_precisions

        settings = self.settings
        self.say(f"making {' and '.join(settings.further)}")
        if "int8" in settings.further and settings.calibration > (held := len(self.data.train)):
            self.say(f"int8 is calibrated with all {held:,} training images: there are fewer than {settings.calibration:,}")
        self.choice = make_precisions(
            fp32,
            settings.further,
            calibration=calibration_images(self.data, settings.calibration, settings.seed).numpy(),
            evaluate=lambda network: answers(network, self.data.val, self.data),
            max_drop=settings.max_drop,
            reduce_range=settings.reduce_range,
            placing=settings.placing,
        )
        kept = [one for one in self.choice.kept if one.name != "fp32"]
        if kept:
            self.say(f"evaluating {' and '.join(one.name for one in kept)} on the test split")
        return self._files(fp32, kept)

    def _files(self, fp32: bytes, kept: list[Precision]) -> dict[str, PrecisionFile]:
        from slimnet.export import PrecisionFile

        if not kept:
            return {}
        base = answers(fp32, self.data.test, self.data)
        tested = {one.name: answers(one.data, self.data.test, self.data) for one in kept}
        return {one.name: PrecisionFile(one.data, self._about(one, tested[one.name], base)) for one in kept}

    def _about(self, one: Precision, test: Evaluated, base: Evaluated) -> dict[str, Any]:
        """What ``model.json`` says of it: nothing that depends on the clock."""
        made = dict(one.made)
        if "calibration" in made:
            made["calibration"] = {"split": "train", **made["calibration"], "seed": self.settings.seed}
        assert self.choice is not None
        return {
            "accuracy": {"split": self.data.tested_on, "count": len(test.predictions), "value": test.accuracy},
            "agreement": test.agreement(base),
            "per_class": per_class(test.predictions, self.data.test.labels.numpy(), len(self.data.classes)),
            "validation": {
                "count": self.choice.count,
                "accuracy": one.accuracy,
                "fp32_accuracy": self.choice["fp32"].accuracy,
                "agreement": one.agreement,
            },
            **made,
        }


def per_class(predictions: NDArray[np.int64], labels: NDArray[np.int64], classes: int) -> list[float | None]:
    """Share of each class's images that are classified right; None where there is no image of it."""
    hits = [(predictions == label)[labels == label] for label in range(classes)]
    return [float(hit.mean()) if len(hit) else None for hit in hits]


def calibration_images(data: Dataset, count: int, seed: int) -> Tensor:
    """Training images as the network takes them, without augmentation, each class in its share: (count, C, H, W) float32.

    Where there are fewer than ``count``, all of them.
    """
    from torch import Generator

    from slimnet.data import real_batch, stratified_indices

    count = min(count, len(data.train))
    chosen = stratified_indices(data.train.labels, count, Generator().manual_seed(seed))
    return real_batch(data.train.subset(chosen), data, count)


def answers(network: bytes, split: Split, data: Dataset) -> Evaluated:
    """What an ONNX file answers on a split; an image whose output is not finite counts as wrong."""
    from slimnet.evaluation.evaluate import onnx_predictor

    return answered(onnx_predictor(network), split, data)


def answered(predict: Callable[[Tensor], Tensor], split: Split, data: Dataset) -> Evaluated:
    """The same of what gives logits (N, classes) for images (N, C, H, W)."""
    import numpy as np

    from slimnet.data import Batches
    from slimnet.export.precision import Evaluated

    found = []
    batches = Batches(split, 256, mean=data.mean, std=data.std)
    for images, _ in each(batches.epoch(0), "evaluating", len(batches)):
        logits = predict(images).numpy()
        found.append(np.where(np.isfinite(logits).all(axis=1), logits.argmax(axis=1), -1))
    predictions = np.concatenate(found).astype(np.int64)
    return Evaluated(float((predictions == split.labels.numpy()).mean()), predictions)

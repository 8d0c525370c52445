"""The network of a bundle in a session: arrays in, the best classes out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slimnet import preprocess
from slimnet.errors import ArgumentError, FileFormatError, MeasureError
from slimnet.export import Bundle
from slimnet.measure.classifier import Classifier
from slimnet.predict.results import Candidate
from slimnet.runtimes.files import RuntimeClassifier, classifier

Array = NDArray[np.float32]
Shares = NDArray[np.float64]


class Network:
    """A network that is ready to run.

    Args:
        bundle: that it is of.
        file: the ONNX file, or the files of another runtime.
        threads: of the runtime.
        top: how many classes to give.
        runtime: what runs it.
        temperature: what the logits are divided by for probabilities.

    Attributes:
        labels: name of each class.
        rule: how a picture becomes the input, for `slimnet.preprocess.prepare`.

    Raises:
        FileFormatError: if the labels or the preprocessing are missing, or do not fit the network.
    """

    def __init__(
        self,
        bundle: Bundle,
        file: Path | tuple[Path, ...],
        *,
        threads: int,
        top: int,
        runtime: str = "onnxruntime",
        temperature: float = 1.0,
    ) -> None:
        self.labels, self.rule = _described(bundle)
        self._top, self._temperature = min(top, len(self.labels)), temperature
        self._network: Classifier | RuntimeClassifier
        if isinstance(file, tuple):
            self._network = classifier(runtime, file, (self.rule["channels"], *self.rule["size"]), threads=threads)
            return
        self._network = Classifier(file, threads=threads)
        shape = self._network.output.shape
        if shape[1:] != [len(self.labels)]:
            raise FileFormatError(f"{bundle.path / 'model.json'} has {len(self.labels)} labels, the network gives {shape}.")

    def assembled(self, pixels: Sequence[bytes]) -> Array:
        """Pixels of N pictures, each (H, W, C) of the right size, as (N, C, H, W)."""
        shape = (len(pixels), *self.rule["size"], self.rule["channels"])
        return preprocess.normalised_batch(np.frombuffer(b"".join(pixels), np.uint8).reshape(shape), self.rule)

    def run(self, inputs: Array) -> Array:
        """Logits (N, classes) of (N, C, H, W).

        Raises:
            MeasureError: if the network does not run, or gives another number of classes.
            TimeLimitError: if it takes too long.
        """
        logits = self._network.run(inputs)
        if logits.shape[1] != len(self.labels):
            raise MeasureError(f"{self._network.name} gives {logits.shape[1]} classes, there are {len(self.labels)} labels.")
        return np.asarray(logits, np.float32)

    def probabilities(self, logits: Array) -> tuple[Shares, NDArray[np.bool_]]:
        """Probabilities (N, classes) of logits, and of which of the N they are: elsewhere a logit is NaN or infinite."""
        finite: NDArray[np.bool_] = np.asarray(np.isfinite(logits).all(axis=1))
        return _softmax(np.where(finite[:, None], logits, 0), self._temperature), finite

    def best(self, shares: Shares) -> list[tuple[Candidate, ...]]:
        """The most probable classes of each of probabilities (N, classes), best first."""
        order = np.argsort(-shares, axis=1, kind="stable")[:, : self._top]
        best = np.take_along_axis(shares, order, axis=1)
        rows = zip(order.tolist(), best.tolist(), strict=True)
        return [tuple(Candidate(self.labels[i], i, share) for i, share in zip(*row, strict=True)) for row in rows]


def _described(bundle: Bundle) -> tuple[tuple[str, ...], dict[str, Any]]:
    """Labels and preprocessing as ``model.json`` has them."""
    labels, rule = bundle.model.get("labels"), bundle.model.get("preprocessing")
    if not isinstance(labels, list) or not isinstance(rule, dict):
        raise FileFormatError(f"{bundle.path / 'model.json'} lacks labels or preprocessing: export the bundle again.")
    try:
        preprocess.check(rule)
    except ArgumentError as error:
        raise FileFormatError(f"{bundle.path / 'model.json'}: {error}") from None
    return tuple(map(str, labels)), rule


def _softmax(logits: NDArray[Any], temperature: float) -> Shares:
    powers = np.exp((logits - logits.max(axis=1, keepdims=True)).astype(np.float64) / temperature)
    return np.asarray(powers / powers.sum(axis=1, keepdims=True), np.float64)

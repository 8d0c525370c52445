"""A bundle and pictures in, classes out. No torch here."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from slimnet.bundle.manifest import check_threshold
from slimnet.errors import ArgumentError, FileFormatError
from slimnet.export import read_bundle
from slimnet.measure.machine import processors
from slimnet.pictures import picture as pictures
from slimnet.predict.ahead import map_ahead
from slimnet.predict.choose import chosen_file, chosen_format
from slimnet.predict.decode import as_picture, check_shape, decode
from slimnet.predict.network import Array, Network
from slimnet.predict.results import Box, Prediction, Result
from slimnet.predict.sources import Source

if TYPE_CHECKING:
    from slimnet.pictures.picture import Picture
    from slimnet.predict.faces import FaceFinder

MAX_WORKERS = 8
SHOWN = 4  # pictures a batch where they are kept to be shown: in full size they are large


@dataclass(slots=True, eq=False)
class _Prepared:
    """One picture on its way: what is known of it, and for each of its boxes how sure the detector is, and the pixels
    (H, W, C) that the network is to see."""

    name: str
    size: tuple[int, int] | tuple[None, None] = (None, None)
    notes: tuple[str, ...] = ()
    error: str | None = None
    boxes: tuple[Box | None, ...] = ()
    sure: tuple[float | None, ...] = ()
    pixels: tuple[bytes, ...] = ()
    picture: Picture | None = None


class Predictor:
    """The network of a bundle, ready to run on the CPU.

    Args:
        bundle: folder that `slimnet export` has written.
        precision: ``"fp32"``, ``"int8"``, ``"fp16"``, or ``"auto"``: the fastest here, by a short comparison. None is fp32, or
            what a compact bundle holds.
        threads: of the runtime; None is one a processor.
        top: how many classes to give of each picture, best first.
        runtime: ``"onnxruntime"``, or another that the bundle holds files for: ``"openvino"``, ``"litert"``, ``"ncnn"``.
        unsure_below: an answer that is less probable is marked as unsure; None is what the bundle says, 0 marks none.

    Attributes:
        labels: name of each class.
        precision: the one that was chosen.
        temperature: what the network's logits are divided by for probabilities, as the bundle says.
        unsure_below: the threshold.

    Raises:
        ArgumentError: if a number is out of its range.
        FileFormatError: if the bundle is incomplete or corrupt, or has no such precision.
        SlimnetError: if the runtime is not installed.
    """

    def __init__(
        self,
        bundle: Path | str,
        *,
        precision: str | None = None,
        threads: int | None = None,
        top: int = 3,
        runtime: str = "onnxruntime",
        unsure_below: float | None = None,
    ) -> None:
        for name, value in (("threads", threads), ("top", top)):
            if value is not None and value < 1:
                raise ArgumentError(f"`{name}` must be at least 1, got {value}.")
        check_threshold(unsure_below)
        read = read_bundle(bundle)
        self.unsure_below = read.unsure_below if unsure_below is None else unsure_below
        threads = processors() if threads is None else threads
        if runtime == "onnxruntime":
            self.precision, file = chosen_file(read, precision, threads=threads)
            self.temperature = read.temperature(self.precision)
            self._network = Network(read, file, threads=threads, top=top, temperature=self.temperature)
        else:
            self.precision, files = chosen_format(read, runtime, precision)
            self.temperature = read.temperature(self.precision)
            how: dict[str, Any] = {"runtime": runtime, "temperature": self.temperature}
            self._network = Network(read, files, threads=threads, top=top, **how)
        self.labels = self._network.labels
        self._size: tuple[int, int] = tuple(self._network.rule["size"])
        self._channels: int = self._network.rule["channels"]

    def predict(self, images: Sequence[Picture | NDArray[np.uint8] | Path | str]) -> list[Prediction]:
        """Classify whole pictures.

        Args:
            images: files, pictures of Pillow's, or uint8 arrays (H, W) or (H, W, 3).

        Returns:
            A prediction for each.

        Raises:
            FileFormatError: if one cannot be read.
        """
        results = list(self.stream(map(_source, images), workers=0))
        for result in results:
            if result.error is not None:
                raise FileFormatError(result.error)
        return [result.predictions[0] for result in results]

    def stream(
        self,
        sources: Iterable[Source],
        *,
        batch: int = 32,
        workers: int | None = None,
        faces: FaceFinder | None = None,
        show: Callable[[Picture, Result], None] | None = None,
    ) -> Generator[Result, None, None]:
        """Classify pictures one after the other: read and decoded ahead in threads, run in batches, given in their
        order. While the network runs on one batch, the results of the one before it are given.

        A picture that cannot be read gives a result with an error and does not stop the others.

        Args:
            sources: the pictures; see :func:`slimnet.predict.find_sources`.
            batch: the most images that the network is run on at a time.
            workers: threads that decode; 0 decodes each picture when it is asked for; None is one a processor, at most 8.
            faces: finds the faces to be classified; None classifies whole pictures.
            show: told of each picture that was read (upright, RGB) and of its result.

        Yields:
            A result a picture.
        """
        if batch < 1 or (workers is not None and workers < 0):
            raise ArgumentError(f"`batch` must be at least 1 and `workers` at least 0, got {batch} and {workers}.")
        threads = min(processors(), MAX_WORKERS) if workers is None else workers
        if show is not None:
            batch = min(batch, SHOWN)

        def prepare(source: Source) -> _Prepared:
            return self._prepared(source, faces, keep=show is not None)

        ready = map_ahead(prepare, sources, workers=threads, chunk=batch, ahead=max(2 * batch, threads))
        groups = (self._assembled(group, batch) for group in _grouped(ready, batch))
        for group, logits in map_ahead(self._run, groups, workers=min(1, threads), chunk=1, ahead=1):
            for prepared, result in zip(group, self._finished(group, logits), strict=True):
                if show is not None and prepared.picture is not None:
                    show(prepared.picture, result)
                yield result

    def _prepared(self, source: Source, faces: FaceFinder | None, *, keep: bool) -> _Prepared:
        try:
            picture, notes = decode(source)
            upright = pictures.converted(picture, self._channels if faces is None and not keep else 3)
            if faces is None:
                check_shape(source.name, upright.size, self._size)
                return _Prepared(
                    source.name, upright.size, notes, None, (None,), (None,), (self._pixels(upright),), upright if keep else None
                )
            found = faces.faces(upright)
            boxes, sure = tuple(face.box for face in found), tuple(face.confidence for face in found)
            pixels = tuple(self._pixels(faces.crop(upright, face.box, face.tilt)) for face in found)
            notes = notes if boxes else (*notes, "no face found")
            return _Prepared(source.name, upright.size, notes, None, boxes, sure, pixels, upright)
        except FileFormatError as error:
            return _Prepared(source.name, error=str(error))

    def _pixels(self, upright: Picture) -> bytes:
        return pictures.fitted(pictures.converted(upright, self._channels), self._size).tobytes()

    def _assembled(self, group: list[_Prepared], batch: int) -> tuple[list[_Prepared], list[Array]]:
        """Batches (N, C, H, W) for all that is to be looked at."""
        pixels = [each for prepared in group for each in prepared.pixels]
        return group, [self._network.assembled(pixels[i : i + batch]) for i in range(0, len(pixels), batch)]

    def _run(self, work: tuple[list[_Prepared], list[Array]]) -> tuple[list[_Prepared], list[Array]]:
        """Batches become logits (N, classes)."""
        group, batches = work
        return group, [self._network.run(each) for each in batches]

    def _finished(self, group: Sequence[_Prepared], logits: Sequence[Array]) -> list[Result]:
        answers = iter([answer for part in logits for answer in self._answers(part)])
        results = []
        for each in group:
            found = [(next(answers), box, sure) for box, sure in zip(each.boxes, each.sure, strict=True)]
            predictions = tuple(
                replace(answer, box=box, face_confidence=sure) for answer, box, sure in found if answer is not None
            )
            error = each.error
            if len(predictions) < len(found):
                predictions, error = (), f"{each.name} cannot be classified: the network gives NaN or infinity for it."
            results.append(Result(each.name, each.size[0], each.size[1], predictions, each.notes, error))
        return results

    def _answers(self, logits: Array) -> list[Prediction | None]:
        """What the network says of each input, without boxes; None where a logit is NaN or infinite."""
        shares, finite = self._network.probabilities(logits)
        return [self.answered(row) if known else None for row, known in zip(shares, finite.tolist(), strict=True)]

    def answered(self, probabilities: NDArray[np.float64], box: Box | None = None) -> Prediction:
        """What is said of a picture with these probabilities.

        Args:
            probabilities: (classes,), which sum to 1.
            box: where the face is.
        """
        (top,) = self._network.best(probabilities[None])
        return Prediction(top, box, top[0].probability < self.unsure_below, probabilities)


def _grouped(prepared: Iterable[_Prepared], batch: int) -> Iterator[list[_Prepared]]:
    """Pictures until their inputs fill a batch."""
    group: list[_Prepared] = []
    count = 0
    for each in prepared:
        group.append(each)
        count += len(each.pixels)
        if count >= batch or len(group) >= batch:
            yield group
            group, count = [], 0
    if group:
        yield group


def _source(image: Picture | NDArray[np.uint8] | Path | str) -> Source:
    if isinstance(image, Path | str):
        return Source(str(image), Path(image))
    return Source("the picture", image=as_picture(image))

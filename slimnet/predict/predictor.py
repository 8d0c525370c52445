"""A bundle and pictures in, classes out. No torch here."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from slimnet import preprocess
from slimnet.errors import ArgumentError, FileFormatError
from slimnet.export import read_bundle
from slimnet.measure.machine import processors
from slimnet.predict.ahead import map_ahead
from slimnet.predict.choose import chosen_file
from slimnet.predict.decode import as_picture, check_shape, decode
from slimnet.predict.network import Array, Network
from slimnet.predict.results import Box, Prediction, Result
from slimnet.predict.sources import Source

if TYPE_CHECKING:
    from PIL.Image import Image

    from slimnet.predict.faces import FaceFinder

MAX_WORKERS = 8
SHOWN = 4  # pictures a batch where they are kept to be shown: in full size they are large


@dataclass(frozen=True, eq=False)
class _Prepared:
    """One picture on its way: what is known of it, and one input (C, H, W) of the network for each of its boxes."""

    result: Result
    boxes: tuple[Box | None, ...] = ()
    inputs: tuple[Array, ...] = ()
    picture: Image | None = None


class Predictor:
    """The network of a bundle, ready to run on the CPU.

    Args:
        bundle: folder that `slimnet export` has written.
        precision: ``"fp32"``, ``"int8"``, ``"fp16"``, or ``"auto"``: the fastest here, by a short comparison. None is fp32, or
            what a compact bundle holds.
        threads: of ONNX Runtime; None is one a processor.
        top: how many classes to give of each picture, best first.

    Attributes:
        labels: name of each class.
        precision: the one that was chosen.

    Raises:
        ArgumentError: if a number is out of its range.
        FileFormatError: if the bundle is incomplete or corrupt, or has no such precision.
    """

    def __init__(self, bundle: Path | str, *, precision: str | None = None, threads: int | None = None, top: int = 3) -> None:
        for name, value in (("threads", threads), ("top", top)):
            if value is not None and value < 1:
                raise ArgumentError(f"`{name}` must be at least 1, got {value}.")
        read = read_bundle(bundle)
        threads = processors() if threads is None else threads
        self.precision, file = chosen_file(read, precision, threads=threads)
        self._network = Network(read, file, threads=threads, top=top)
        self.labels = self._network.labels
        self._size: tuple[int, int] = tuple(self._network.rule["size"])

    def predict(self, images: Sequence[Image | NDArray[np.uint8] | Path | str]) -> list[Prediction]:
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
        show: Callable[[Image, Result], None] | None = None,
    ) -> Generator[Result, None, None]:
        """Classify pictures one after the other: read and decoded ahead in threads, run in batches, given in their order.

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
        chunk = -(-batch // max(1, threads))

        def prepare(source: Source) -> _Prepared:
            return self._prepared(source, faces, keep=show is not None)

        ready = map_ahead(prepare, sources, workers=threads, chunk=chunk, chunks=2 * threads if show is None else threads)
        for group in _grouped(ready, batch):
            for prepared, result in zip(group, self._finished(group, batch), strict=True):
                if show is not None and prepared.picture is not None:
                    show(prepared.picture, result)
                yield result

    def _prepared(self, source: Source, faces: FaceFinder | None, *, keep: bool) -> _Prepared:
        try:
            picture, notes = decode(source)
            if faces is None and not keep:
                return self._whole(source.name, picture, notes)
            upright = preprocess.converted(picture, 3)
            if faces is None:
                return replace(self._whole(source.name, upright, notes), picture=upright)
            boxes = faces.find(upright)
            inputs = tuple(preprocess.prepare(faces.crop(upright, box), self._network.rule) for box in boxes)
            result = Result(source.name, *upright.size, (), notes if boxes else (*notes, "no face found"))
            return _Prepared(result, boxes, inputs, upright)
        except FileFormatError as error:
            return _Prepared(Result(source.name, None, None, (), error=str(error)))

    def _whole(self, name: str, picture: Image, notes: tuple[str, ...]) -> _Prepared:
        width, height = picture.size[::-1] if preprocess.orientation(picture) > 4 else picture.size
        try:
            check_shape(width, height, self._size)
        except FileFormatError as error:
            raise FileFormatError(f"{name} {error}") from None
        array = preprocess.prepare(picture, self._network.rule)
        return _Prepared(Result(name, width, height, (), notes), (None,), (array,))

    def _finished(self, group: Sequence[_Prepared], batch: int) -> list[Result]:
        inputs = [array for prepared in group for array in prepared.inputs]
        parts = [self._network.best(np.stack(inputs[i : i + batch])) for i in range(0, len(inputs), batch)]
        tops = iter([top for part in parts for top in part])
        found = []
        for prepared in group:
            predictions = tuple(Prediction(next(tops), box) for box in prepared.boxes)
            found.append(replace(prepared.result, predictions=predictions) if predictions else prepared.result)
        return found


def _grouped(prepared: Iterable[_Prepared], batch: int) -> Iterator[list[_Prepared]]:
    """Pictures until their inputs fill a batch."""
    group: list[_Prepared] = []
    count = 0
    for each in prepared:
        group.append(each)
        count += len(each.inputs)
        if count >= batch or len(group) >= batch:
            yield group
            group, count = [], 0
    if group:
        yield group


def _source(image: Image | NDArray[np.uint8] | Path | str) -> Source:
    if isinstance(image, Path | str):
        return Source(str(image), Path(image))
    return Source("the picture", image=as_picture(image))

"""Video files and cameras, a result a frame."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator
from contextlib import AbstractContextManager, ExitStack, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np

from slimnet.errors import ArgumentError, FileFormatError, SlimnetError
from slimnet.files import atomic_path
from slimnet.predict.annotate import annotated
from slimnet.predict.decode import as_picture
from slimnet.predict.follow import Smoother
from slimnet.predict.predictor import Predictor
from slimnet.predict.results import Result
from slimnet.predict.sources import Source
from slimnet.progress import each

if TYPE_CHECKING:
    from slimnet.pictures.picture import Picture
    from slimnet.predict._cv import VideoReader, VideoWriter
    from slimnet.predict.faces import FaceFinder

CAMERA_RATE = 25.0  # frames a second of what is written, where a camera does not say
LAST_CAMERA = 2**31 - 1
"""The highest number of a camera that OpenCV takes."""
_SHORT = 0.95  # of the frames that a file announces: fewer, and it was cut short


@dataclass(frozen=True)
class FrameResult:
    """One frame, done.

    Attributes:
        frame: its number, from 0; those passed over count.
        seconds: where it is in the file; with a camera, since the first frame. None where the file does not say.
        result: what was found.
    """

    frame: int
    seconds: float | None
    result: Result

    def as_dict(self) -> dict[str, Any]:
        """JSON values: always these keys."""
        seconds = None if self.seconds is None else round(self.seconds, 3)
        return {"frame": self.frame, "seconds": seconds, **self.result.as_dict()}


def predict_video(
    predictor: Predictor,
    video: Path | str | int,
    *,
    every: int = 1,
    smooth: int = 1,
    faces: FaceFinder | None = None,
    annotate: Path | None = None,
) -> Generator[FrameResult, None, None]:
    """Classify the frames of a video as they come: nothing is held back.

    Args:
        predictor: what to classify with.
        video: a file, or the number of a camera; a camera goes on until it is stopped.
        every: look at each n-th frame.
        smooth: also give the mean of the probabilities of the last so many frames that were looked at, each face by itself (see
            `slimnet.predict.follow`); 1 gives none. What is drawn is the mean.
        faces: finds the faces to be classified; None classifies whole frames.
        annotate: a video to write, of the frames that were looked at. It appears when all is done, or when the caller stops
            early (closes the generator, presses Ctrl-C); not if something fails.

    Yields:
        A result a frame.

    Raises:
        ArgumentError: if ``every`` or ``smooth`` is less than 1, no camera can have the number, or ``annotate`` has an unknown
            ending or is the video itself.
        FileFormatError: if the video cannot be opened; at its end, if it was cut short.
        SlimnetError: if OpenCV is not installed, or cannot write the video.
    """
    from slimnet.predict._cv import VideoReader

    if every < 1:
        raise ArgumentError(f"`every` must be at least 1, got {every}.")
    smoother = Smoother(smooth, predictor.answered)
    name = f"camera {video}" if isinstance(video, int) else str(video)
    if annotate is not None:
        _check_ending(annotate)
    if isinstance(video, int):
        if not 0 <= video <= LAST_CAMERA:
            raise ArgumentError(f"the number of a camera must be from 0 to {LAST_CAMERA:,}, got {video:,}.")
    else:
        if not Path(video).is_file():
            raise FileFormatError(f"{name} does not exist: give a video file, or the number of a camera.")
        if annotate is not None and annotate.exists() and annotate.samefile(video):
            raise ArgumentError(f"{annotate} is the video to be read: choose another output.")
    with ExitStack() as stack:
        reader = VideoReader(video if isinstance(video, int) else Path(video))
        stack.callback(reader.close)
        if not reader.is_open:
            raise FileFormatError(f"{name} cannot be opened as a video.")
        rate = (reader.rate or CAMERA_RATE) / every
        recorder = stack.enter_context(_Recorder(annotate, rate)) if annotate is not None else None
        frame, start = -1, None
        total = None if reader.count is None else -(-reader.count // every)
        for frame, picture in each(_frames(reader, every), "predicting", total, "frames"):
            start = time.monotonic() if start is None else start
            seconds = time.monotonic() - start if isinstance(video, int) else frame / reader.rate if reader.rate else None
            (result,) = predictor.stream([Source(name, image=picture)], batch=1, workers=0, faces=faces)
            if smooth > 1:
                result = replace(result, predictions=smoother.smoothed(result.predictions))
            if recorder is not None:
                recorder.add(annotated(picture, result))
            yield FrameResult(frame, seconds, result)
    _check_end(name, frame + every, reader)


def _check_ending(path: Path) -> None:
    from slimnet.predict._cv import CODECS

    if path.suffix.lower() not in CODECS:
        raise ArgumentError(f"{path} must end in {', '.join(CODECS)} to be written as a video.")


def _frames(reader: VideoReader, every: int) -> Iterator[tuple[int, Picture]]:
    number = 0
    while (pixels := reader.read()) is not None:
        yield number, as_picture(pixels)
        for _ in range(every - 1):
            if not reader.skip():
                return
        number += every


def _check_end(name: str, seen: int, reader: VideoReader) -> None:
    if seen < 1 or (reader.count is not None and seen < _SHORT * reader.count):
        announced = f" of {reader.count:,}" if reader.count else ""
        raise FileFormatError(f"{name} ends after {max(0, seen):,}{announced} frames: it may be cut short.")


class _Recorder(AbstractContextManager["_Recorder"]):
    """Writes a video under a temporary name, and gives it its own unless something failed."""

    def __init__(self, path: Path, rate: float) -> None:
        self._path, self._rate = path, rate
        self._stack = ExitStack()
        self._writer: VideoWriter | None = None

    def add(self, picture: Picture) -> None:
        from slimnet.predict._cv import CODECS, VideoWriter

        if self._writer is None:
            temporary = self._stack.enter_context(atomic_path(self._path, parents=True))
            codec = CODECS[self._path.suffix.lower()]
            self._writer = VideoWriter(temporary, codec=codec, rate=self._rate, size=picture.size)
            if not self._writer.is_open:
                raise SlimnetError(f"{self._path} cannot be written as a video: is its folder writable? (.avi needs the least)")
        self._writer.write(np.asarray(picture))

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._writer is not None:
            self._writer.close()
        with suppress(_FailedError), self._stack:
            if kind is not None and issubclass(kind, Exception):
                raise _FailedError
            if self._writer is not None and not self._writer.is_whole():
                raise OSError("not all frames got into it, as on a full disk")


class _FailedError(Exception):
    """What was written is to be thrown away."""

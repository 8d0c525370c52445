"""The façade over OpenCV, the optional extra ``slimnet[faces]``: the face detector, reading and writing video."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slimnet.errors import SlimnetError

Pixels = NDArray[np.uint8]

CASCADE = "haarcascade_frontalface_alt2.xml"
CODECS = {".mp4": "mp4v", ".m4v": "mp4v", ".mov": "mp4v", ".mkv": "mp4v", ".avi": "MJPG"}
"""Ending of a video file → how its pictures are coded."""


@cache
def opencv() -> Any:
    """The library, silent.

    Raises:
        SlimnetError: if it is not installed, or is a version without the detector.
    """
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    try:
        import cv2
    except ImportError:
        raise SlimnetError("faces and video need OpenCV: pip install 'slimnet[faces]'.") from None
    if not hasattr(cv2, "CascadeClassifier"):
        raise SlimnetError(f"OpenCV {cv2.__version__} has no face detector any more: pip install 'slimnet[faces]'.")
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    return cv2


class Cascade:
    """Viola and Jones' detector of frontal faces, trained by R. Lienhart; it ships with OpenCV 4. One thread at a time.

    Args:
        neighbours: how many overlapping hits make a face: fewer find more faces, and more that are none.
    """

    def __init__(self, *, neighbours: int = 5) -> None:
        cv2 = opencv()
        self._classifier = cv2.CascadeClassifier(str(Path(cv2.data.haarcascades) / CASCADE))
        self._settings = {"scaleFactor": 1.1, "minNeighbors": neighbours}

    def __call__(self, grey: Pixels, least: int = 24) -> Sequence[Sequence[int]]:
        """Find the faces in a picture (H, W) whose sides are ``least`` pixels or more: ``x, y, width, height`` of each."""
        found = self._classifier.detectMultiScale(grey, minSize=(least, least), **self._settings)
        return [[int(value) for value in box] for box in found]


class VideoReader:
    """Frames of a file or a camera, one after the other.

    Args:
        video: a file, or the number of a camera.
    """

    def __init__(self, video: Path | int) -> None:
        cv2 = opencv()
        self._capture = cv2.VideoCapture(video if isinstance(video, int) else str(video))
        self.is_open: bool = self._capture.isOpened()
        rate, count = (self._capture.get(what) for what in (cv2.CAP_PROP_FPS, cv2.CAP_PROP_FRAME_COUNT))
        self.rate: float | None = rate if 0 < rate < 1000 else None
        self.count: int | None = int(count) if count > 0 else None

    def seek(self, number: int) -> bool:
        """Go to a frame by its number, from 0; False where the file does not allow it."""
        return bool(self._capture.set(opencv().CAP_PROP_POS_FRAMES, number))

    def skip(self) -> bool:
        """Pass over a frame; False at the end."""
        return bool(self._capture.grab())

    def read(self) -> Pixels | None:
        """The next frame, RGB (H, W, 3); None at the end."""
        there, frame = self._capture.read()
        return np.ascontiguousarray(frame[:, :, ::-1]) if there else None

    def close(self) -> None:
        """Let the file or the camera go."""
        self._capture.release()


class VideoWriter:
    """A video file in the making.

    Args:
        path: the file; its ending says the format.
        codec: as `CODECS` has it.
        rate: frames a second.
        size: (width, height) of every frame.
    """

    def __init__(self, path: Path, *, codec: str, rate: float, size: tuple[int, int]) -> None:
        cv2 = opencv()
        self._path, self._count = path, 0
        self._writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*codec), rate, size)
        self.is_open: bool = self._writer.isOpened()

    def write(self, frame: Pixels) -> None:
        """Append a frame, RGB (H, W, 3)."""
        self._writer.write(np.ascontiguousarray(frame[:, :, ::-1]))
        self._count += 1

    def close(self) -> None:
        """Finish the file."""
        self._writer.release()

    def is_whole(self) -> bool:
        """Whether all frames are in a finished file, as far as its count and its last frame tell: OpenCV says nothing of it."""
        reader = VideoReader(self._path)
        try:
            found = reader.count or 0
            return found >= self._count - 1 and reader.seek(found - 1) and reader.skip()  # a count from the length is rounded
        finally:
            reader.close()

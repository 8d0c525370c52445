"""Where annotated pictures go: decided, and refused, before any work is done."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from slimnet.errors import ArgumentError
from slimnet.files import check_output
from slimnet.predict.annotate import PICTURES, annotated, save_picture
from slimnet.predict.results import Result
from slimnet.predict.sources import Source

if TYPE_CHECKING:
    from slimnet.pictures.picture import Picture


class Annotations:
    """Writes each picture with what was found in it; give it to `Predictor.stream` as ``show``.

    Args:
        out: a picture (by its ending), for one source; else a folder, in which the pictures lie as their files do to each
            other, as PNG.
        sources: all that will be shown.
        force: overwrite what is there; never a source.

    Raises:
        ArgumentError: if ``out`` is a picture and there are several sources, exists already, or is one of them.
    """

    def __init__(self, out: Path, sources: Sequence[Source], *, force: bool = False) -> None:
        if out.suffix.lower() in PICTURES and not out.is_dir():
            if len(sources) != 1:
                raise ArgumentError(f"{out} is one picture, and there are {len(sources):,}: name a folder.")
            check_new(out, force=force)
            self._targets = {sources[0].name: out}
        else:
            check_output(out, force=force)
            self._targets = _targets(out, sources)
        inputs = {source.path.resolve() for source in sources if source.path is not None}
        for target in self._targets.values():
            if target.resolve() in inputs:
                raise ArgumentError(f"{target} is one of the pictures to be read: choose another output.")

    def __call__(self, picture: Picture, result: Result) -> None:
        """Write one."""
        save_picture(annotated(picture, result), self._targets[result.image])


def check_new(path: Path, *, force: bool) -> None:
    """Refuse a file that is there already.

    Raises:
        ArgumentError: if it is, and ``force`` is not set, or it is a folder.
    """
    if path.is_dir():
        raise ArgumentError(f"{path} is a folder, not a file: choose another output.")
    if path.exists() and not force:
        raise ArgumentError(f"{path} exists already: choose another output, or overwrite it with --force.")


def _targets(out: Path, sources: Sequence[Source]) -> dict[str, Path]:
    paths = {source.name: (source.path or Path(source.name)).absolute() for source in sources}
    root = os.path.commonpath([path.parent for path in paths.values()])
    places = {name: out / path.relative_to(root) for name, path in paths.items()}
    return {name: place if place.suffix == ".png" else place.with_name(f"{place.name}.png") for name, place in places.items()}

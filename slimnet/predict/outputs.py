"""Where annotated pictures go: decided, and refused, before any work is done."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
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
        ArgumentError: if ``out`` is a picture and there are several sources, exists already, or is one of them; if a link leads
            out of the folder.
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
            _check_within(out, self._targets.values())
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


def _check_within(folder: Path, targets: Iterable[Path]) -> None:
    """Refuse places that links lead out of a folder."""
    full = folder.resolve()
    for parent in {target.parent for target in targets}:
        if not parent.resolve().is_relative_to(full):
            raise ArgumentError(f"{parent} leads out of {folder}, by a link: choose another output.")


def _targets(out: Path, sources: Sequence[Source]) -> dict[str, Path]:
    """Name of each source that can be read → its place below ``out``, which no other has."""
    known = [source for source in sources if source.fault is None]
    paths = {source.name: Path(os.path.normpath((source.path or Path(source.name)).absolute())) for source in known}
    if not paths:
        return {}
    root = os.path.commonpath([path.parent for path in paths.values()])
    places: dict[Path, Path] = {}
    taken: set[Path] = set()
    for path in sorted(dict.fromkeys(paths.values()), key=lambda path: path.suffix != ".png"):  # those of PNG keep their names
        place = out / os.path.relpath(path, root)
        free = (place.with_name(f"{place.name}{count}.png") for count in ("", *map("-{}".format, range(2, len(paths) + 2))))
        places[path] = place if place.suffix == ".png" else next(each for each in free if each not in taken)
        taken.add(places[path])
    return {name: places[path] for name, path in paths.items()}

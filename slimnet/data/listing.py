"""Pictures found by name, with classes and splits: what folders and tables become before anything is decoded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Generator, Tensor

from slimnet.data._source import Request, Source
from slimnet.data.dataset import Split
from slimnet.data.decode import read_header
from slimnet.data.images import ImageFiles, PathFiles
from slimnet.data.paths import Paths
from slimnet.data.strata import stratified_indices
from slimnet.errors import DataError
from slimnet.names import SPLITS
from slimnet.progress import each

TEST_SHARE = 0.2
"""Of pictures that are in no split."""

_TEST_SEED = 1797  # of the test split, which does not change with the seed of a run: what one run learns no other is tested on
NO_TEST = "there is no test split: what is called test is measured on the validation split, which the best epoch is chosen on too"
_MANY = 50_000  # files whose headers are not all read where only the colour is to be found


@dataclass(frozen=True, eq=False)
class Listing:
    """Pictures below a folder.

    Attributes:
        classes: names of the classes.
        paths: of the pictures.
        labels: (N,) int64.
        parts: (N,) int64: 0 train, 1 val, 2 test, −1 none yet.
        notes: what a user should know, a line each.
        order: the classes in the order that is customary for them; None for theirs.
    """

    classes: tuple[str, ...]
    paths: Paths
    labels: Tensor
    parts: Tensor
    notes: tuple[str, ...] = ()
    order: tuple[str, ...] | None = None

    def source(self, request: Request) -> Source:
        """The data set: decoded where there is room, else files.

        Raises:
            DataError: if there is no picture to train on, one cannot be read, or sizes differ and none is asked for.
        """
        listing = self._drawn() if request.members is None else self._as_recorded(request.members)
        rows = {name: (listing.parts == place).nonzero().flatten() for place, name in enumerate(SPLITS)}
        if not len(rows["train"]):
            raise DataError(f"{request.name}: {request.data_dir} holds no picture to train on.")
        files = _files(listing.paths, rows["train"], request)
        resident = files.shape[0] * files.channels * files.size[0] * files.size[1] <= request.resident_bytes
        made = {}
        for name, chosen in rows.items():
            if len(chosen):
                part = files.subset(chosen)
                images = part.decoded() if resident else part
                made[name] = Split(images, listing.labels[chosen], names=listing.paths.subset(chosen))
        notes = listing.notes
        if "test" not in made and "val" in made:
            made["test"], notes = made["val"], (*notes, NO_TEST)
        if "test" not in made:
            raise DataError(f"{request.name}: {request.data_dir} holds no picture to test on.")
        tested_on = "val" if made["test"] is made.get("val") else "test"
        was_drawn = request.members is not None or bool((self.parts < 0).any()) or "val" not in made
        return Source(
            self.classes,
            made["train"],
            made["test"],
            val=made.get("val"),
            notes=notes,
            order=self.order,
            tested_on=tested_on,
            is_drawn=was_drawn,
        )

    def _drawn(self) -> Listing:
        """With a test split drawn where pictures are in no split, each class in its share; the rest is for training."""
        free = (self.parts < 0).nonzero().flatten()
        if not len(free):
            return self
        parts, count = self.parts.clone(), round(len(free) * TEST_SHARE)
        parts[free] = 0
        held = stratified_indices(self.labels[free], count, Generator().manual_seed(_TEST_SEED))
        parts[free[held]] = 2
        note = f"the pictures are in no split: {count:,} of {len(free):,} are drawn for test, each class in its share"
        return replace(self, parts=parts, notes=(*self.notes, note))

    def _as_recorded(self, members: Mapping[str, int]) -> Listing:
        """The splits as they were written down; what came later is left out.

        Raises:
            DataError: if pictures are gone.
        """
        names = self.paths.names()
        parts = torch.tensor([members.get(name, -1) for name in names], dtype=torch.int64)
        if gone := members.keys() - set(names):
            gone_ones = f"{len(gone):,} pictures of the run are gone, {min(gone)} among them"
            raise DataError(f"{gone_ones}: put them back, or name their folder; for other pictures there is a bundle of the run.")
        known = (parts >= 0).nonzero().flatten()
        new = len(names) - len(known)
        notes = (f"{new:,} pictures are in no split of the run: left out",) if new else ()
        kept = replace(self, paths=self.paths.subset(known), labels=self.labels[known], parts=parts[known])
        return replace(kept, notes=(*self.notes, *notes))


def _files(paths: Paths, training: Tensor, request: Request) -> ImageFiles:
    """All pictures at one size, grey where every training picture is grey."""
    asked, first, channels = request.image_size, None, 1
    trained = set(training.tolist()) if len(training) < len(paths) else range(len(paths))
    for place in each(range(len(paths)), "reading the headers of pictures", len(paths)):
        if asked is not None and channels == 3 and len(paths) > _MANY:
            break
        depth, size = read_header(paths[place])
        channels = max(channels, depth if place in trained else 1)
        first = first or size
        if asked is None and size != first:
            raise DataError(
                f"{paths[place]} is {size[1]}×{size[0]}, {paths[0]} is {first[1]}×{first[0]}: "
                "give an image size to bring all to one (--image-size)."
            )
    wanted = (asked, asked) if asked is not None else first
    if wanted is None:
        raise DataError(f"{request.name}: {request.data_dir} holds no picture.")
    return ImageFiles(PathFiles(paths), channels, wanted)


def listed(
    root: Path,
    classes: Sequence[str],
    found: Sequence[tuple[str, int, int]],
    *,
    notes: Sequence[str] = (),
    order: tuple[str, ...] | None = None,
) -> Listing:
    """Of (name below ``root``, label, part) of each picture."""
    numbers = torch.tensor([row[1:] for row in found], dtype=torch.int64).view(-1, 2)
    paths = Paths.of(root, (row[0] for row in found))
    return Listing(tuple(classes), paths, numbers[:, 0].contiguous(), numbers[:, 1].contiguous(), tuple(notes), order)

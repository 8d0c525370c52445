"""The handwritten digits that scikit-learn ships: 1,797 grey images of 8×8 pixels, ten classes.

References:
    Alpaydin & Kaynak, *Optical Recognition of Handwritten Digits*, UCI Machine Learning Repository, 1998.
"""

from __future__ import annotations

import torch
from torch import Generator

from slimnet.data._source import Request, Source, resized
from slimnet.data.about import About
from slimnet.data.dataset import Split
from slimnet.data.strata import stratified_indices
from slimnet.errors import ArgumentError

ABOUT = {"digits": About("CC BY 4.0 (Alpaydin and Kaynak, Optical Recognition of Handwritten Digits, UCI)")}

_TEST_FRACTION = 0.2
_TEST_SEED = 1797  # of the test split, which never changes


def load(request: Request) -> Source:
    """Load the digits; a fifth of each class is the test split, always the same.

    Raises:
        ArgumentError: if a folder is given: somebody meant another data set.
    """
    if request.data_dir is not None:
        raise ArgumentError(f"digits lies in no folder, got {request.data_dir}: name the data set in it with --data.")
    from sklearn.datasets import load_digits

    found = load_digits()
    images = torch.from_numpy(found.images).mul(255 / 16).round().byte().unsqueeze(1)
    everything = Split(resized(images, request.image_size), torch.from_numpy(found.target).long())
    count = round(len(everything) * _TEST_FRACTION)
    held = stratified_indices(everything.labels, count, Generator().manual_seed(_TEST_SEED))
    kept = torch.ones(len(everything), dtype=torch.bool)
    kept[held] = False
    train = everything.subset(kept.nonzero().flatten())
    classes = tuple(str(digit) for digit in range(10))
    return Source(classes, train, everything.subset(held), flip=False)

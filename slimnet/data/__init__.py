"""Data sets as uint8 tensors, and batches made of them on the training device."""

from __future__ import annotations

from slimnet.data.batches import Batches
from slimnet.data.dataset import Augment, Dataset, Split, stratified_indices
from slimnet.data.images import ImageFiles, read_image
from slimnet.data.load import data_names, load_data

__all__ = [
    "Augment",
    "Batches",
    "Dataset",
    "ImageFiles",
    "Split",
    "data_names",
    "load_data",
    "read_image",
    "stratified_indices",
]

"""Data sets as uint8 tensors, and batches made of them on the training device."""

from __future__ import annotations

from slimnet.data.balance import class_weights
from slimnet.data.batches import Batches
from slimnet.data.classes import ClassMatch, match_classes, match_count
from slimnet.data.dataset import Dataset, Split
from slimnet.data.decode import read_image
from slimnet.data.duplicates import Duplicates, duplicates
from slimnet.data.images import ImageFiles
from slimnet.data.load import data_names, load_data
from slimnet.data.recorded import MeanStd, are_same, recorded_classes, recorded_size, recorded_statistics, shown_statistics
from slimnet.data.sets.ferplus import FERPLUS_CLASSES, ferplus_targets, ferplus_votes
from slimnet.data.strata import calibration_batches, real_batch, stratified_indices
from slimnet.settings import Augment

__all__ = [
    "FERPLUS_CLASSES",
    "Augment",
    "Batches",
    "ClassMatch",
    "Dataset",
    "Duplicates",
    "ImageFiles",
    "MeanStd",
    "Split",
    "are_same",
    "calibration_batches",
    "class_weights",
    "data_names",
    "duplicates",
    "ferplus_targets",
    "ferplus_votes",
    "load_data",
    "match_classes",
    "match_count",
    "read_image",
    "real_batch",
    "recorded_classes",
    "recorded_size",
    "recorded_statistics",
    "shown_statistics",
    "stratified_indices",
]

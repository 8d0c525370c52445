"""Names that are given as text, each table once: the registries of the library and the command line read them.

The standard library is all that is imported, so that ``--help`` needs nothing else. Where a registry maps a name to what it
stands for, ``tests/test_choices.py`` holds the two together.
"""

from __future__ import annotations

from typing import Literal, get_args

METHODS = ("asfp", "asrfp", "dense", "dsd", "fpgm", "fsdp", "network-slimming", "one-shot", "sfp", "srfp", "stages",
           "structured-dsd")  # fmt: skip
"""Methods of pruning (`slimnet.methods`)."""

METHOD = "fsdp"
"""The one that the command line takes where none is named."""

MODELS = ("resnet8", "resnet20", "resnet32", "resnet44", "resnet56", "resnet110", "vgg16_bn_cifar", "vgg9_face", "vgg13_face",
          "xception_face", "resnet12_face", "resnet18_face", "vggface", "vggface_gap")  # fmt: skip
"""Networks of slimnet's own (`slimnet.models`)."""

NO_MODEL = f"`model` is missing: name {', '.join(MODELS)}, one of torchvision's, timm:NAME, or package.module:function."

CRITERIA = ("l1", "l2", "gm", "cs", "norm-scale", "taylor")
"""What filters are scored by (`slimnet.criteria`)."""

LOADERS = {"digits": "digits", "cifar10": "cifar", "cifar100": "cifar", "folder": "folder", "fer2013": "fer2013",
           "ferplus": "fer2013", "table": "table", "hf": "hf"}  # fmt: skip
"""Data sets, and the module in `slimnet.data.sets` that loads each."""

DATA = tuple(LOADERS)
"""Data sets."""

SIZED_DATA = ("digits", "cifar10", "cifar100", "fer2013", "ferplus")
"""Those whose pictures have a size and a normalisation of their own, whatever network they are for."""

FETCHED_DATA = ("cifar10", "cifar100")
"""Those that ``--download`` fetches."""

DATA_OPTIONS = {
    "drop_leaked": "Leave out training images that also stand in val or test.",
    "ferplus_votes": "fer2013: half of each soft label is FER+'s votes; --soft-labels learns them.",
    "skip_bad_rows": "Leave malformed rows of a CSV out, and count them.",
    "without_contempt": "ferplus: leave contempt out; what remains are the classes of fer2013.",
}
"""Options that data sets have of their own, and what they are for."""

Split = Literal["train", "val", "test"]
SPLITS: tuple[Split, ...] = get_args(Split)
"""Parts of a data set."""

LOGGERS = ("csv", "mlflow", "tensorboard", "wandb")
"""Where a training may log its numbers (`slimnet.training.loggers`)."""

Couple = Literal["stream", "none"]
COUPLES: tuple[Couple, ...] = get_args(Couple)
"""Whether a residual stream is one channel group, or each layer its own."""

Ranking = Literal["group", "global"]
RANKINGS: tuple[Ranking, ...] = get_args(Ranking)
"""Whether a rate is of every group, or of all filters together."""

AllocateBy = Literal["auto", "energy", "loss"]
ALLOCATE_BY: tuple[AllocateBy, ...] = get_args(AllocateBy)
"""What the widths for a target are chosen by."""

Views = Literal["one", "flip", "ten-crop"]
VIEWS: tuple[Views, ...] = get_args(Views)
"""Views of an image whose answers are averaged."""

Mode = Literal["none", "safe", "measured"]
MODES: tuple[Mode, ...] = get_args(Mode)
Placing = Literal["all", "measured"]
PLACEMENTS: tuple[Placing, ...] = get_args(Placing)
"""Which steps make an exported graph faster."""

PRECISIONS = ("fp32", "int8", "fp16")
"""Precisions of an exported network."""

CHOSEN_PRECISIONS = ("auto", *PRECISIONS)
"""Which of them is to be run: ``auto`` is the fastest here."""

DEPLOYED = ("openvino", "litert", "ncnn")
"""Runtimes beside ONNX Runtime that a bundle may hold files for (`slimnet.runtimes`)."""

FORMATS = ("onnx", "openvino", "tflite", "ncnn")
"""What a bundle may hold its network as: the first always, the others are what `DEPLOYED` read, in that order."""

RUNTIMES = ("onnxruntime", "torch", "torch-compile", *DEPLOYED)
"""What runs a network in a comparison of latency."""

BENCH_RUNTIMES = ("all", *RUNTIMES)
"""The same on the command line: ``all`` is whatever the bundle holds files for."""

RUN_BY = ("onnxruntime", *DEPLOYED)
"""What may run the network of a bundle on pictures."""

DETECTORS = ("centerface", "blazeface", "cascade")
"""What finds faces, the best first (`slimnet.predict.detectors`)."""

CHOSEN_DETECTORS = ("auto", *DETECTORS)
"""Which of them is to be used: ``auto`` is the best that is at hand."""

CHOSEN_PAGE_DETECTORS = ("auto", "blazeface", "none")
"""Which of them finds faces on a web page."""

PROVIDERS = ("cpu", "cuda", "tensorrt", "openvino")
"""Execution providers of ONNX Runtime."""

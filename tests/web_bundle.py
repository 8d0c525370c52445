"""A small bundle with int8, of a network that says something else of every picture."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from torch import Tensor, nn

from export_cases import told
from slimnet.bundle.bundle import PrecisionFile
from slimnet.export import export_onnx, write_bundle
from slimnet.preprocess import describe

LABELS = ("red", "green <b>", "blue & co", '"yellow"', "black")


TEMPERATURES = {"fp32": 1.7, "int8": 0.6}


class Net(nn.Module):
    """Blocks of the picture are seen apart, so that where its parts lie matters."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, width, 3, padding=1)
        self.pool = nn.AdaptiveAvgPool2d(2)
        self.head = nn.Linear(4 * width, len(LABELS))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = 4 * self.head(self.pool(self.first(x).relu()).flatten(1))
        return out


class _Reader(CalibrationDataReader):
    def __init__(self, batches: Iterator[Mapping[str, NDArray[np.float32]]]) -> None:
        self._batches = batches

    def get_next(self) -> Mapping[str, NDArray[np.float32]] | None:
        return next(self._batches, None)


def make_bundle(path: Path, *, channels: int, size: tuple[int, int]) -> Path:
    """Write a bundle: dense is wider than slim, and another network."""
    torch.manual_seed(0)
    real = torch.rand(16, channels, *size) * 4 - 2
    slim, dense = Net(channels, 6).eval(), Net(channels, 16).eval()
    write_bundle(
        path,
        masked=slim,
        slim=slim,
        dense=dense,
        example_inputs=real[:1],
        plan={},
        config={},
        labels=LABELS,
        preprocessing=describe(size=size, channels=channels, mean=[0.45, 0.5, 0.55][:channels], std=[0.2, 0.25, 0.3][:channels]),
        real_inputs=[real],
        accuracy={"split": "test", "count": 1234, "dense": 0.75, "slim": 0.5},
        confidence=lambda name, _: told(TEMPERATURES[name]),
        precisions={"int8": PrecisionFile(_quantised(slim, real), {"agreement": 1.0})},
    )
    return path


def _quantised(model: nn.Module, real: Tensor) -> bytes:
    """Weights of 7 bits: x86 processors without VNNI saturate sums of products of 8 bits, browsers do not."""
    with TemporaryDirectory() as folder:
        single, quantised = Path(folder) / "fp32.onnx", Path(folder) / "int8.onnx"
        export_onnx(model, real[:1], single)
        reader = _Reader({"input": real[i : i + 1].numpy()} for i in range(len(real)))
        how = {"activation_type": QuantType.QUInt8, "weight_type": QuantType.QInt8, "reduce_range": True}
        quantize_static(str(single), str(quantised), reader, quant_format=QuantFormat.QDQ, per_channel=True, **how)
        buffer = io.BytesIO()
        onnx.save_model(onnx.load(str(quantised)), buffer)
    return buffer.getvalue()

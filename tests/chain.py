"""Small networks for timing. No torch here."""

from __future__ import annotations

import itertools
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from slimnet.measure import Setting
from slimnet.measure.timed import Timed


def matmuls(path: Path, layers: int, *, batch: int | str = "batch", width: int = 128, kind: int = TensorProto.FLOAT) -> Path:
    """A chain of matrix products: its time grows with ``layers``."""
    dtype = helper.tensor_dtype_to_np_dtype(kind)
    weight = numpy_helper.from_array((np.eye(width) / 2).astype(dtype), "w")
    names = ["x", *(f"h{i}" for i in range(1, layers)), "y"]
    nodes = [helper.make_node("MatMul", [a, "w"], [b]) for a, b in itertools.pairwise(names)]
    ends = [[helper.make_tensor_value_info(name, kind, [batch, width])] for name in ("x", "y")]
    graph = helper.make_graph(nodes, "chain", *ends, [weight])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), path)
    return path


@dataclass(frozen=True)
class Scripted:
    """A network that is never run, but takes these nanoseconds, one after the other, and then from the start again."""

    times: Sequence[int]

    def prepare(self) -> tuple[Scripted, int]:
        return self, 0

    def open(self, name: str, how: Setting) -> Timed:
        turn = itertools.cycle(self.times)
        return Timed(name, "scripted", None, 1.0, 1.0, lambda: next(turn))


class Dying:
    """A network that takes its process with it."""

    def prepare(self) -> tuple[Dying, int]:
        os._exit(3)

    def open(self, name: str, how: Setting) -> Timed:
        raise AssertionError

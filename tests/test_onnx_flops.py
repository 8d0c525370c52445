"""Multiply-adds of ONNX files, by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from slimnet.onnx.flops import onnx_flops

Size = int | str


def network(path: Path, nodes: list[Any], shape: list[Size], weights: dict[str, tuple[int, ...]]) -> Path:
    """A file of nodes from ``x`` to ``y``."""
    given = [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)]
    made = [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)]
    tensors = [numpy_helper.from_array(np.zeros(size, np.float32), name) for name, size in weights.items()]
    model = helper.make_model(helper.make_graph(nodes, "g", given, made, tensors), ir_version=10)
    model.opset_import[0].version = 18
    path.write_bytes(model.SerializeToString())
    return path


def node(op: str, *inputs: str, to: str = "y", **attributes: Any) -> Any:
    return helper.make_node(op, list(inputs), [to], **attributes)


IMAGE: list[Size] = ["batch", 8, 10, 10]
CASES: dict[str, tuple[list[Any], list[Size], dict[str, tuple[int, ...]], int | None]] = {
    "convolution": ([node("Conv", "x", "w", pads=[1] * 4)], IMAGE, {"w": (4, 8, 3, 3)}, 4 * 100 * 8 * 9),
    "strided, grouped": ([node("Conv", "x", "w", group=2, strides=[2, 2])], IMAGE, {"w": (4, 4, 2, 2)}, 4 * 25 * 4 * 4),
    "transposed": ([node("ConvTranspose", "x", "w")], IMAGE, {"w": (8, 4, 3, 3)}, 8 * 100 * 4 * 9),
    "gemm": ([node("Gemm", "x", "w", transB=1)], ["batch", 8], {"w": (3, 8)}, 24),
    "product": ([node("MatMul", "x", "w")], ["batch", 5, 8], {"w": (8, 3)}, 5 * 3 * 8),
    "two, and what is free": (
        [node("MatMul", "x", "w", to="a"), node("Relu", "a", to="b"), node("MatMul", "b", "v")],
        ["batch", 8], {"w": (8, 3), "v": (3, 2)}, 30,
    ),
    "batch fixed": ([node("Gemm", "x", "w")], [4, 8], {"w": (8, 3)}, 24),
    "nothing that multiplies": ([node("Relu", "x")], ["batch", 8], {}, 0),
    "open size": ([node("Conv", "x", "w")], ["batch", 8, "h", "w"], {"w": (4, 8, 3, 3)}, None),
    "hidden products": ([node("Einsum", "x", "w", equation="ij,jk->ik")], ["batch", 8], {"w": (8, 3)}, None),
    "foreign operator": ([node("FusedConv", "x", "w", domain="com.microsoft")], IMAGE, {"w": (4, 8, 3, 3)}, None),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_multiply_adds(name: str, tmp_path: Path) -> None:
    nodes, shape, weights, expected = CASES[name]
    assert onnx_flops(network(tmp_path / "net.onnx", nodes, shape, weights)) == expected


def test_no_figure_for_no_network(tmp_path: Path) -> None:
    (tmp_path / "net.onnx").write_bytes(b"not an onnx file")
    assert onnx_flops(tmp_path / "net.onnx") is None
    assert onnx_flops(tmp_path / "none.onnx") is None

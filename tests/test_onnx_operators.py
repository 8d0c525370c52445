"""Every operator that is read from ONNX files computes what onnx's own test cases say."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx
import pytest
import torch

from slimnet.errors import FileFormatError, GraphError
from slimnet.onnx_surgery import read_onnx
from slimnet.onnx_surgery.layers import LAYERS
from slimnet.onnx_surgery.operators import FUNCTIONS

READ = frozenset(FUNCTIONS) | frozenset(LAYERS)
OF_SHAPES = frozenset("CastLike ConstantOfShape CumSum EyeLike GatherND NonZero OneHot Range ScatterElements ScatterND".split())
"""Read where they compute shapes; onnx's cases give them tensors."""
KINDS = frozenset(getattr(onnx.TensorProto, name) for name in ("FLOAT", "DOUBLE", "BOOL", "INT64", "INT32"))
EMPTY = ("empty_set",)  # reductions over nothing
Case = tuple[str, str, onnx.ModelProto, list[Any], list[Any]]


def cases() -> Iterator[Case]:
    """onnx's cases of one operator that is read, on usual numbers."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of numbers that overflow, as they are meant to
        from onnx.backend.test.case.node import collect_testcases

        found = collect_testcases("")
    for case in found:
        model = case.model
        if model is None or len(model.graph.node) != 1 or model.graph.node[0].op_type not in READ:
            continue
        usual = all(value.type.tensor_type.elem_type in KINDS for value in (*model.graph.input, *model.graph.output))
        if usual and not any(word in case.name for word in EMPTY):
            inputs, outputs = ([_array(value) for value in values] for values in case.data_sets[0])
            yield case.name, model.graph.node[0].op_type, model, inputs, outputs


def _array(value: Any) -> Any:
    return onnx.numpy_helper.to_array(value) if isinstance(value, onnx.TensorProto) else np.asarray(value)


CASES = list(cases())


def of_one_input(model: onnx.ModelProto, inputs: list[Any]) -> onnx.ModelProto:
    """The same with constants in place of all inputs but the first."""
    proto = onnx.ModelProto()
    proto.CopyFrom(model)
    for value, array in list(zip(model.graph.input, inputs, strict=True))[1:]:
        proto.graph.initializer.append(onnx.numpy_helper.from_array(array, value.name))
    del proto.graph.input[1:]
    proto.opset_import[0].version = max(7, proto.opset_import[0].version)  # what is older means the same
    return proto


def outcome(case: Case) -> str:
    """``""`` if it is right, else what is wrong; ``"refused"`` where it is not followed."""
    _, _, model, inputs, outputs = case
    try:
        network = read_onnx(of_one_input(model, inputs)).model
    except (GraphError, FileFormatError):
        return "refused"
    with torch.no_grad():
        found = network.run((torch.tensor(inputs[0]),))
    for value, expected in zip(model.graph.output, outputs, strict=False):
        made = found.get(value.name)
        if made is not None:
            np.testing.assert_allclose(made.numpy().astype(np.float64), expected.astype(np.float64), 1e-3, 1e-5)
    return ""


@pytest.fixture(scope="module")
def outcomes() -> dict[str, str]:
    """Case → what came of it."""
    return {case[0]: outcome(case) for case in CASES}


def test_nothing_is_read_wrongly_and_most_is_read(outcomes: dict[str, str]) -> None:
    refused = [name for name, text in outcomes.items() if text == "refused"]
    assert len(outcomes) > 400
    assert len(refused) < len(outcomes) / 4, refused


def test_every_operator_is_read_in_some_case(outcomes: dict[str, str]) -> None:
    read = {case[1] for case in CASES if not outcomes[case[0]]}
    assert READ - read - OF_SHAPES == set()

"""Widths for 8-bit kernels: the same function with channels of zeros, and with strides folded into channels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

import slimnet
from slimnet.export.precision import _int8, to_int8
from slimnet.export.precision._widths import LEAST, STEP, Widened, widened
from slimnet.onnx.convert import prepare

Array = NDArray[Any]


class Net(nn.Module):
    """Everything that may grow: odd streams, a shortcut among zeros, a depthwise layer, the places of channels in a row."""

    def __init__(self, stem: nn.Conv2d) -> None:
        super().__init__()
        self.stem, self.inner, self.back = stem, nn.Conv2d(11, 5, 3, padding=1), nn.Conv2d(5, 11, 1)
        self.down, self.deep = nn.Conv2d(11, 22, 3, stride=2, padding=1), nn.Conv2d(22, 22, 3, padding=1, groups=22)
        self.wide, self.head = nn.Conv2d(22, 26, 1), nn.Linear(26 * 4, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x).relu()
        x = (x + self.back(self.inner(x).clamp(0, 6))).relu()
        x = self.down(x) + nn.functional.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 5, 6))
        x = self.wide(self.deep(x.relu()).relu()).relu()
        head: Tensor = self.head(nn.functional.max_pool2d(x, 4).flatten(1))
        return head


STEMS: list[tuple[Callable[[], nn.Conv2d], int]] = [
    (lambda: nn.Conv2d(1, 11, 3, padding=1), 16),
    (lambda: nn.Conv2d(3, 11, 3, padding=1), 16),
    (lambda: nn.Conv2d(3, 11, 7, stride=2, padding=3), 32),
]
"""What reads the image, and the image's side."""


@pytest.fixture(params=STEMS, ids=["grey", "rgb", "stride"], scope="module")
def exported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, Array]:
    make, side = request.param
    torch.manual_seed(0)
    model = Net(make()).eval()
    x = torch.randn(8, model.stem.in_channels, side, side)
    path = tmp_path_factory.mktemp("net") / "net.onnx"
    slimnet.export_onnx(model, x, path)
    return path.read_bytes(), x.numpy()


def run(data: bytes, x: Array) -> Array:
    options = onnxruntime.SessionOptions()
    options.log_severity_level, options.intra_op_num_threads = 4, 1
    session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {session.get_inputs()[0].name: x})[0])


def convolutions(data: bytes) -> list[tuple[int, int, int]]:
    """(filters, channels of one, groups) of each."""
    graph = onnx.load_from_string(data).graph
    shapes = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    found = [node for node in graph.node if node.op_type == "Conv"]
    groups = [next((entry.i for entry in node.attribute if entry.name == "group"), 1) for node in found]
    return [(*shapes[node.input[1]][:2], count) for node, count in zip(found, groups, strict=True)]


def operators(data: bytes) -> list[str]:
    return [node.op_type for node in onnx.load_from_string(data).graph.node]


def assert_same(before: bytes, after: bytes, x: Array) -> None:
    expected = run(before, x)
    np.testing.assert_allclose(run(after, x), expected, rtol=0, atol=1e-5 * np.abs(expected).max())


def test_every_convolution_gets_widths_of_the_direct_kernel_and_the_answers_stay(exported: tuple[bytes, Array]) -> None:
    before = prepare(exported[0])
    after = widened(before).data
    assert_same(before, after, exported[1])
    assert [filters for filters, _, _ in convolutions(before)] == [11, 5, 11, 22, 22, 26]
    assert [filters for filters, _, _ in convolutions(after)] == [16, 16, 16, 32, 32, 28]
    for filters, channels, groups in convolutions(after):
        assert filters >= LEAST
        assert filters % STEP == 0
        assert (channels % STEP == 0 and groups == 1) or ((channels, groups) == (1, filters) and filters % LEAST == 0)


def test_int8_answers_stay(exported: tuple[bytes, Array], monkeypatch: pytest.MonkeyPatch) -> None:
    data, images = exported
    wide = run(to_int8(data, images, method="percentile"), images)

    def unchanged(data: bytes, *, exclude: Sequence[str] = ()) -> Widened:
        return Widened(data)

    monkeypatch.setattr(_int8, "widened", unchanged)
    plain = run(to_int8(data, images, method="percentile"), images)
    np.testing.assert_allclose(wide, plain, rtol=0, atol=0.01 * np.abs(plain).max())


def test_a_layer_left_in_float32_reads_the_image_as_it_is(exported: tuple[bytes, Array]) -> None:
    before = prepare(exported[0])
    first = next(node.name for node in onnx.load_from_string(before).graph.node if node.op_type == "Conv")
    wide = widened(before, exclude=[first])
    assert not wide.stem
    assert convolutions(wide.data)[0] == (16, exported[1].shape[1], 1)
    assert_same(before, wide.data, exported[1])


# --- the stem -------------------------------------------------------------------------------------------------------------


Constants = dict[str, "tuple[int, ...] | list[int]"]
"""Name → shape of an array of random numbers, or a list of whole ones."""


def network(shape: tuple[int, ...], nodes: Sequence[onnx.NodeProto], constants: Constants) -> bytes:
    """A network that reads ``x`` and gives ``y``."""
    rng = np.random.default_rng(0)
    arrays: dict[str, Array] = {
        name: np.array(given) if isinstance(given, list) else rng.standard_normal(given).astype(np.float32)
        for name, given in constants.items()
    }
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", *shape])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(array, name) for name, array in arrays.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    return onnx.shape_inference.infer_shapes(model, strict_mode=True).SerializeToString()


def node(op: str, inputs: str, output: str, **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(op, inputs.split(), [output], name=f"{op}_{output}", **attributes)


def image(data: bytes) -> Array:
    sizes = [dim.dim_value for dim in onnx.load_from_string(data).graph.input[0].type.tensor_type.shape.dim][1:]
    return np.random.default_rng(1).standard_normal((2, *sizes)).astype(np.float32)


@pytest.mark.parametrize(
    ("kernel", "settings", "sizes", "folded"),
    [
        (7, {"strides": [2, 2], "pads": [3, 3, 3, 3]}, (3, 32, 24), True),
        (3, {"strides": [2, 2], "pads": [1, 1, 1, 1]}, (3, 16, 16), True),
        (3, {"strides": [2, 2], "pads": [0, 0, 1, 1]}, (1, 16, 16), True),
        (2, {"strides": [2, 2]}, (3, 16, 16), True),
        (4, {"strides": [4, 4]}, (3, 16, 16), True),
        (5, {"strides": [2, 2]}, (3, 16, 16), True),
        (3, {"strides": [3, 3]}, (3, 15, 15), False),  # 27 places are no multiple of 4
        (3, {"strides": [2, 2], "pads": [1, 1, 1, 1]}, (3, 15, 16), False),
        (3, {"strides": [2, 1], "pads": [1, 1, 1, 1]}, (3, 16, 16), False),
        (3, {"strides": [2, 2], "dilations": [2, 2]}, (3, 16, 16), False),
        (3, {"strides": [2, 2], "auto_pad": "SAME_UPPER"}, (3, 16, 16), False),
        (3, {"pads": [1, 1, 1, 1]}, (1, 9, 9), False),
    ],
)
def test_strides_of_the_first_convolution_become_channels(
    kernel: int, settings: dict[str, Any], sizes: tuple[int, ...], folded: bool
) -> None:
    before = network(sizes, [node("Conv", "x w", "y", **settings)], {"w": (20, sizes[0], kernel, kernel)})
    after = widened(before).data
    assert_same(before, after, image(before))
    assert ("Transpose" in operators(after)) is folded
    assert ("Pad" in operators(after)) is not folded
    assert convolutions(after)[0][1] % STEP == 0


def test_two_convolutions_read_the_same_planes() -> None:
    nodes = [node("Conv", "x v", "a"), node("Conv", "x w", "b"), node("Add", "a b", "y")]
    before = network((3, 8, 8), nodes, {"v": (16, 3, 1, 1), "w": (16, 3, 1, 1)})
    after = widened(before).data
    assert_same(before, after, image(before))
    assert operators(after) == ["Pad", "Conv", "Conv", "Add"]


def test_a_convolution_that_has_no_direct_kernel_reads_the_image_as_it_is() -> None:
    before = network((3, 8, 8), [node("Conv", "x w", "y")], {"w": (17, 3, 1, 1)})
    assert operators(widened(before).data) == ["Conv"]


# --- what must stay -------------------------------------------------------------------------------------------------------

FIRST, LAST = node("Conv", "x v", "a"), node("Conv", "b w", "y")
ODD: Constants = {"v": (6, 4, 1, 1), "w": (16, 6, 1, 1)}
KEPT: dict[str, tuple[list[onnx.NodeProto], Constants]] = {
    "mixes channels": ([FIRST, node("Softmax", "a", "b", axis=1), LAST], ODD),
    "zeros do not stay": ([FIRST, node("Sigmoid", "a", "b"), LAST], ODD),
    "a constant a channel": ([FIRST, node("Add", "a k", "b"), LAST], ODD | {"k": (1, 6, 1, 1)}),
    "one for all channels": (
        [FIRST, node("Conv", "x u", "c"), node("Mul", "a c", "b"), LAST],
        ODD | {"u": (1, 4, 1, 1)},
    ),
    "groups": ([FIRST, node("Conv", "a u", "b", group=2), LAST], ODD | {"u": (6, 3, 1, 1)}),
    "weights of two": ([FIRST, node("Relu", "a", "b"), node("Conv", "b v", "c"), node("Relu", "c", "y")], {"v": (4, 4, 1, 1)}),
    "turns them round": ([FIRST, node("Slice", "a s e k s", "b"), LAST], ODD | {"s": [-1], "e": [-99], "k": [1]}),
    "a mean of channels": ([FIRST, node("ReduceMean", "a k", "c"), node("Mul", "a c", "b"), LAST], ODD | {"k": [1]}),
}
"""Channels, 6 of which could be 16, that something touches that is not known to leave them alone."""


@pytest.mark.parametrize("case", KEPT)
def test_channels_that_something_else_touches_stay_as_many(case: str) -> None:
    nodes, weights = KEPT[case]
    before = network((4, 8, 8), nodes, weights)
    after = widened(before).data
    assert_same(before, after, image(before))
    assert convolutions(after) == convolutions(before)


@pytest.mark.parametrize(("before_it", "behind_it", "grown"), [(0, 3, 20), (3, 0, 17)])
def test_moved_channels_grow_only_into_zeros(before_it: int, behind_it: int, grown: int) -> None:
    nodes = [
        *(node("Conv", "x v", "a"), node("Conv", "x u", "b")),
        node("Pad", "a p", "c"),
        node("Add", "b c", "d"),
        node("Conv", "d w", "y"),
    ]
    constants: Constants = {"v": (17, 4, 1, 1), "u": (20, 4, 1, 1), "w": (16, 20, 1, 1)}
    before = network((4, 8, 8), nodes, constants | {"p": [0, before_it, 0, 0, 0, behind_it, 0, 0]})
    after = widened(before).data
    assert_same(before, after, image(before))
    assert convolutions(after)[0] == (grown, 4, 1)

"""Face detectors of others: what their maps say, which boxes are one face, and networks out of .tflite files."""

from __future__ import annotations

import importlib.util
import math
import struct

import numpy as np
import pytest
from onnx import ModelProto
from PIL import Image

from skips import reason
from slimnet.detect import BlazeFace, CenterFace, Face, blazeface, centerface
from slimnet.detect.boxes import Frame, framed, inside, overlap, suppressed
from slimnet.detect.look import pixels_of
from slimnet.detect.tflite import to_onnx
from slimnet.errors import ArgumentError, FileFormatError
from slimnet.onnx.build import network, node, reshaped
from slimnet.onnx.session import open_session
from slimnet.onnx.write import serialised
from slimnet.runtimes.tflite import to_tflite

BOXES = [
    ((0, 0, 10, 10), (0, 0, 10, 10), 1.0, 1.0),
    ((0, 0, 10, 10), (5, 0, 10, 10), 1 / 3, 0.5),
    ((0, 0, 10, 10), (2, 2, 5, 5), 0.25, 1.0),
    ((0, 0, 10, 10), (10, 0, 10, 10), 0.0, 0.0),
    ((0, 0, 10, 10), (20, 20, 1, 1), 0.0, 0.0),
]


@pytest.mark.parametrize(("a", "b", "both", "smaller"), BOXES)
def test_overlap(a: tuple[int, ...], b: tuple[int, ...], both: float, smaller: float) -> None:
    for one, other in ((Face(*a), Face(*b)), (Face(*b), Face(*a))):
        assert math.isclose(overlap(one, other), both)
        assert math.isclose(inside(one, other), smaller)


def test_the_surest_of_those_that_overlap_is_kept() -> None:
    weak, strong = Face(0, 0, 10, 10, 0.6), Face(2, 0, 10, 10, 0.9)
    apart, part = Face(40, 0, 10, 10, 0.5), Face(4, 4, 3, 3, 0.8)
    assert suppressed([weak, apart, strong], most=0.3) == [strong, apart]
    assert suppressed([weak, apart, strong], most=0.7) == [strong, weak, apart]
    assert suppressed([strong, part], most=0.3) == [strong, part]
    assert suppressed([strong, part], most=0.3, most_inside=0.7) == [strong]


def test_a_frame_is_a_square_about_the_box_and_a_little_higher() -> None:
    face = framed(Face(10, 20, 8, 18, 0.5), Frame(1.5, 0.25))
    assert face == Face(14 - 9, 29 - 3 - 9, 18, 18, 0.5)


def test_pixels_are_fitted_and_padded() -> None:
    picture = Image.new("RGB", (200, 50), (10, 20, 30))
    pixels, scale = pixels_of(picture, 100)
    assert (pixels.shape, scale) == ((1, 3, 32, 128), 0.5)
    assert pixels[0, :, :25, :100].reshape(3, -1).T.tolist() == [[10, 20, 30]] * 2500
    assert pixels.sum() == 2500 * 60
    assert pixels_of(picture, 100, square=True)[0].shape == (1, 3, 100, 100)
    assert pixels_of(Image.new("RGB", (3000, 1)), 100)[0].shape == (1, 3, 32, 128)


def test_what_blazefaces_maps_say() -> None:
    scores, boxes = np.full((1, 6, 8), -9, np.float32), np.zeros((16, 6, 8), np.float32)
    scores[0, 2, 5], boxes[:8, 2, 5] = 2, (1, -1, 20, 24, -5, -6, 5, -7)
    scores[0, 3, 1], boxes[:4, 3, 1] = 9, (0, 0, math.nan, 8)
    scores[0, 4, 1], boxes[:4, 4, 1] = 9, (0, 0, -8, 8)
    (face,) = blazeface.decoded(scores, boxes, scale=0.5, confidence=0.6)
    assert face[:4] == (2 * (22 + 1 - 10), 2 * (10 - 1 - 12), 40, 48)
    assert face.eyes == ((2 * 17, 2 * 4), (2 * 27, 2 * 3))
    assert face.confidence == pytest.approx(1 / (1 + math.exp(-2)))
    assert blazeface.decoded(scores, boxes, scale=0.5, confidence=0.9) == []


def test_what_centerfaces_maps_say() -> None:
    heat, sides, offsets, marks = (np.zeros((n, 6, 8), np.float32) for n in (1, 2, 2, 10))
    heat[0, 2, 5], sides[:, 2, 5], offsets[:, 2, 5] = 0.75, np.log([6, 5]), (0.25, -0.25)
    marks[:4, 2, 5] = (0.4, 0.25, 0.5, 0.75)
    heat[0, 3, 3], sides[:, 3, 3] = 1, math.inf
    (face,) = centerface.decoded(heat, sides, offsets, marks, scale=2.0, confidence=0.5)
    assert face[:4] == pytest.approx((2 * 5.25 - 5, 2 * 2.75 - 6, 10, 12))
    assert np.ravel(face.eyes).tolist() == pytest.approx([5.5 + 2.5, -0.5 + 4.8, 5.5 + 7.5, -0.5 + 6])
    assert face.confidence == 0.75


LOOKS = [
    ((1280, 960), 0, [(192, 192), (288, 384), (736, 960)]),
    ((1280, 960), 100, [(192, 192), (288, 384)]),  # 15 pixels of the first look, 30 of the second
    ((1280, 960), 160, [(192, 192)]),
    ((150, 100), 0, [(192, 192)]),
    ((300, 200), 0, [(192, 192), (256, 384)]),
]


@pytest.mark.parametrize(("size", "least", "looks"), LOOKS)
def test_how_often_blazeface_looks(
    size: tuple[int, int], least: int, looks: list[tuple[int, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once, and again where there are more pixels and smaller faces are asked for."""
    seen = []

    class Seeing:
        def run(self, feed: dict[str, np.ndarray]) -> list[np.ndarray]:
            *_, height, width = feed["input"].shape
            assert -1 <= feed["input"].min() <= feed["input"].max() <= 1
            seen.append((height, width))
            scores, boxes = np.full((1, 1, height // 4, width // 4), -9, "f"), np.zeros((1, 16, height // 4, width // 4), "f")
            scores[..., height // 8, width // 8], boxes[0, 2:4] = 5, max(height, width) / 4
            return [scores, boxes]

    monkeypatch.setattr(blazeface, "open_session", lambda *_, **__: Seeing())
    monkeypatch.setattr(blazeface, "to_onnx", lambda data: data)
    BlazeFace(b"").find(Image.new("RGB", size, (255, 255, 255)), least=least)
    assert seen == looks


@pytest.mark.parametrize("kind", [BlazeFace, CenterFace])
@pytest.mark.parametrize("confidence", [-0.1, 1.1, math.nan])
def test_confidence_out_of_range(kind: type[BlazeFace | CenterFace], confidence: float) -> None:
    with pytest.raises(ArgumentError, match=r"`confidence` must be in \[0, 1\]"):
        kind(b"", confidence=confidence)


def small_network() -> ModelProto:
    """What BlazeFace is made of, but for the resizing."""
    rng = np.random.default_rng(0)
    weights = {"first": (8, 3, 3, 3), "depth": (8, 1, 3, 3), "point": (8, 8, 1, 1), "end": (1, 8, 1, 1)}
    constants = {name: (rng.standard_normal(shape) / 3).astype(np.float32) for name, shape in weights.items()}
    constants |= {f"{name}.bias": rng.standard_normal(shape[0]).astype(np.float32) for name, shape in weights.items()}
    nodes = [
        node("Conv", ["input", "first", "first.bias"], "a", kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1]),
        node("Relu", ["a"], "b"),
        node("Conv", ["b", "depth", "depth.bias"], "c", kernel_shape=[3, 3], pads=[1, 1, 1, 1], group=8),
        node("Conv", ["c", "point", "point.bias"], "d", kernel_shape=[1, 1]),
        node("Add", ["b", "d"], "e"),
        node("Relu", ["e"], "f"),
        node("MaxPool", ["f"], "g", kernel_shape=[2, 2], strides=[2, 2]),
        node("Conv", ["g", "end", "end.bias"], "output", kernel_shape=[1, 1]),
    ]
    ends = {"inputs": {"input": ["n", 3, 16, 24]}, "outputs": {"output": ["n", 1, 4, 6]}}
    return network(nodes, constants=constants, opset=17, ir_version=8, **ends)


@pytest.mark.skipif(importlib.util.find_spec("ai_edge_litert") is None, reason=reason("litert"))
@pytest.mark.parametrize("half", [False, True])
def test_a_tflite_file_becomes_the_network_that_it_was_made_of(half: bool) -> None:
    """Also at another size than it was written for."""
    data = serialised(small_network())
    read = open_session(to_onnx(to_tflite(data, half=half)), threads=1)
    for size in ((16, 24), (32, 16)):
        shapes = {"inputs": {"input": [1, 3, *size]}, "outputs": {"output": [1, 1, size[0] // 4, size[1] // 4]}}
        written = open_session(serialised(reshaped(data, **shapes)), threads=1)
        pixels = np.random.default_rng(1).standard_normal((1, 3, *size)).astype(np.float32)
        (found,), (wanted,) = read.run({"input": pixels}), written.run({"input": pixels})
        assert np.abs(found - wanted).max() < (2e-2 if half else 1e-5)
        assert np.abs(wanted).max() > 0.5


@pytest.mark.skipif(importlib.util.find_spec("ai_edge_litert") is None, reason=reason("litert"))
def test_only_what_16_bits_hold_exactly_is_stored_in_them() -> None:
    """Weights of 32 bits stay as they are."""
    single, short = (to_tflite(serialised(small_network()), half=half) for half in (False, True))
    assert to_onnx(single, half=True) == to_onnx(single)
    assert len(to_onnx(short, half=True)) < len(to_onnx(short))


@pytest.mark.skipif(importlib.util.find_spec("ai_edge_litert") is None, reason=reason("litert"))
def test_an_operator_without_a_rule() -> None:
    ends = {"inputs": {"input": ["n", 3, 8, 8]}, "outputs": {"output": ["n", 3, 8, 8]}}
    proto = network([node("Sigmoid", ["input"], "output")], constants={}, opset=17, ir_version=8, **ends)
    with pytest.raises(FileFormatError, match="the detector's file has operator 14, which has no rule"):
        to_onnx(to_tflite(serialised(proto)))


def test_constants_among_the_inputs_and_fixed_sizes() -> None:
    """As old exporters write a network: it is run at another size, and its constants are no inputs any more."""
    weight = np.ones((2, 3, 1, 1), np.float32)
    ends = {"inputs": {"input": [10, 3, 4, 4], "w": [2, 3, 1, 1]}, "outputs": {"output": [10, 2, 4, 4]}}
    old = network([node("Conv", ["input", "w"], "output")], constants={"w": weight}, opset=17, ir_version=8, **ends)
    new = reshaped(serialised(old), inputs={"input": ["n", 3, "h", "w2"]}, outputs={"output": ["n", 2, "h", "w2"]})
    session = open_session(serialised(new), threads=1)
    assert [each.name for each in session.inputs] == ["input"]
    (found,) = session.run({"input": np.ones((1, 3, 5, 7), np.float32)})
    assert np.array_equal(found, np.full((1, 2, 5, 7), 3, np.float32))


@pytest.mark.parametrize("data", [b"", b"\x00" * 64, b"no flatbuffer at all" * 9, struct.pack("<I", 8) + b"\xff" * 60])
def test_what_is_no_tflite_file(data: bytes) -> None:
    with pytest.raises(FileFormatError, match="the detector's file is not one that can be read"):
        to_onnx(data)

from __future__ import annotations

import numpy as np
from slimnet.export.precision._toy24 import to_24_bits

from slimnet.onnx import graph as ir
from slimnet.onnx.build import network, node


def test_the_last_byte_is_zero() -> None:
    weight = np.random.default_rng(0).standard_normal((4, 3)).astype(np.float32)
    model = network(
        [node("MatMul", ["x", "w"], "y")],
        inputs={"x": (1, 4)},
        outputs={"y": (1, 3)},
        constants={"w": weight},
        opset=20,
        ir_version=9,
    )
    (value,) = ir.read(to_24_bits(model.SerializeToString())).graph.initializers.values()
    found = ir.known(value)
    np.testing.assert_allclose(found, weight, rtol=2**-16)
    assert not (found.view(np.uint32) & 0xFF).any()

"""One layer between neighbours of its own kind, in a network of its own, so that the runtime treats it as it would in any."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from slimnet.measure.costs.site import Site
from slimnet.onnx.build import network, node
from slimnet.onnx.write import checked

OPSET, IR_VERSION, PLANES = 17, 9, 3
INPUT, LAYER, ACTIVE = "images", "layer", "layer_active"
"""Names: of the input, of the probed layer's output, and of its activation's."""


def probe_model(site: Site, channels_in: int, channels_out: int) -> bytes:
    """An ONNX network whose middle is the layer: a 1×1 convolution with activation, the layer with activation, and the mean.

    The convolution before it gives its input the memory layout that a network would; the mean takes any.

    Args:
        site: where the layer stands.
        channels_in: that it reads; for a depthwise layer the same as ``channels_out``.
        channels_out: that it makes.
    """
    linear = site.kind == "linear"
    rng = np.random.default_rng(0)
    groups = channels_in if site.kind == "depthwise" else 1
    weights = {
        "first": _random(rng, (channels_in, PLANES, *(() if linear else (1, 1)))),
        "weight": _random(rng, (channels_out, channels_in // groups, *(() if linear else site.kernel))),
    }
    arrays = weights | {f"{name}_bias": np.zeros(len(array), np.float32) for name, array in weights.items()}
    given: dict[str, Any] = {"strides": site.stride, "pads": [*site.padding, *site.padding], "dilations": site.dilation}
    given |= {"kernel_shape": site.kernel, "group": groups}
    if linear:
        layers = [_gemm(INPUT, "first", "read"), _gemm("read_active", "weight", LAYER)]
        shapes: tuple[list[Any], list[Any]] = (["batch", PLANES], ["batch", channels_out])
        last = node("Identity", [ACTIVE], "mean")
    else:
        layers = [
            node("Conv", [INPUT, "first", "first_bias"], "read", name="read", kernel_shape=[1, 1]),
            node("Conv", ["read_active", "weight", "weight_bias"], LAYER, name=LAYER, **given),
        ]
        shapes = ["batch", PLANES, *site.size], ["batch", channels_out, 1, 1]
        last = node("GlobalAveragePool", [ACTIVE], "mean")
    relus = [node("Relu", [name], f"{name}_active") for name in ("read", LAYER)]
    proto = network(
        [layers[0], relus[0], layers[1], relus[1], last],
        inputs={INPUT: shapes[0]},
        outputs={"mean": shapes[1]},
        constants=arrays,
        opset=OPSET,
        name="probe",
        ir_version=IR_VERSION,
    )
    return checked(proto, "the probe")


def repeated_model(site: Site, channels_in: int, channels_out: int, copies: int) -> bytes:
    """An ONNX network of images in which the layer stands several times, side by side, each with its own weights.

    All read what a 1×1 convolution with activation makes; behind each are an activation and the mean.

    Args:
        site: where the layer stands.
        channels_in: that it reads; for a depthwise layer the same as ``channels_out``.
        channels_out: that it makes.
        copies: of the layer; 0: the mean reads the first convolution.
    """
    rng, linear = np.random.default_rng(0), site.kind == "linear"
    groups = channels_in if site.kind == "depthwise" else 1
    flat: tuple[int, ...] = () if linear else (1, 1)
    arrays = {"first": _random(rng, (channels_in, PLANES, *flat)), "first_bias": np.zeros(channels_in, np.float32)}
    nodes = [node("Flatten", [INPUT], "flat", axis=1)] if linear else []
    read = ["flat" if linear else INPUT, "first", "first_bias"]
    nodes += [node("Gemm", read, "read", transB=1) if linear else node("Conv", read, "read", kernel_shape=[1, 1])]
    nodes += [node("Relu", ["read"], "read_active")]
    given: dict[str, Any] = {"strides": site.stride, "pads": [*site.padding, *site.padding], "dilations": site.dilation}
    given |= {"kernel_shape": site.kernel, "group": groups}
    made = [f"{LAYER}{number}" for number in range(copies)]
    for name in made:
        shape = (channels_out, channels_in // groups, *(() if linear else site.kernel))
        arrays |= {f"{name}_weight": _random(rng, shape), f"{name}_bias": np.zeros(channels_out, np.float32)}
        taken = ["read_active", f"{name}_weight", f"{name}_bias"]
        nodes += [node("Gemm", taken, name, transB=1) if linear else node("Conv", taken, name, **given)]
        nodes += [node("Relu", [name], f"{name}_active")]
    ends = [f"{name}_active" for name in made] or ["read_active"]
    means = [name if linear else f"{name}_mean" for name in ends]
    nodes += [] if linear else [node("GlobalAveragePool", [name], mean) for name, mean in zip(ends, means, strict=True)]
    nodes += [node("Concat", means, "together", axis=1) if copies > 1 else node("Identity", means, "together")]
    nodes += [node("Flatten", ["together"], "logits", axis=1)]
    width = channels_out * copies or channels_in
    proto = network(
        nodes,
        inputs={INPUT: ["batch", PLANES, *site.size]},
        outputs={"logits": ["batch", width]},
        constants=arrays,
        opset=OPSET,
        name="probes",
        ir_version=IR_VERSION,
    )
    return checked(proto, "the probe")


def _gemm(source: str, weight: str, name: str) -> Any:
    return node("Gemm", [source, weight, f"{weight}_bias"], name, name=name, transB=1)


def _random(rng: np.random.Generator, shape: tuple[int, ...]) -> NDArray[np.float32]:
    return rng.standard_normal(shape, dtype=np.float32) / np.float32(np.sqrt(np.prod(shape[1:])))

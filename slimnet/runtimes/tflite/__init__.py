"""A .tflite file from an ONNX file of a CNN: maps are turned from (N, C, H, W) to (N, H, W, C), one operator at a time.

slimnet's own, since the converters that are kept (litert-torch, onnx2tf) do not install beside current libraries, see
docs/runtimes.md. What an operator becomes stands in `windows.py` and `elements.py`; one that has no rule is an error.
"""

from __future__ import annotations

from slimnet.errors import ExportError
from slimnet.onnx import graph
from slimnet.runtimes.tflite import elements, windows
from slimnet.runtimes.tflite.file import Writer
from slimnet.runtimes.tflite.rules import translate

__all__ = ["elements", "to_tflite", "windows"]


def to_tflite(data: bytes, *, half: bool = False) -> bytes:
    """Write an ONNX file as .tflite.

    Args:
        data: one input (batch, C, H, W), float32; the first output is what is written.
        half: store the weights of convolutions and linear layers in 16 bits.

    Returns:
        The file: images (N, H, W, C) in, logits out; N may be set when it is opened.

    Raises:
        ExportError: if an operator has no rule, or is used in a way that has none.
    """
    model = graph.read(graph.sized(graph.read(data)))
    (source, *more), writer = model.graph.inputs, Writer(half)
    shape = graph.shape(source)
    if more or shape is None or len(shape) != 4 or None in shape[1:]:
        raise ExportError(f"a .tflite file is written of one input (batch, C, H, W) alone, the network takes {shape}.")
    _, channels, height, width = shape
    taken = writer.tensor(source.name, [1, height or 0, width or 0, channels or 0], is_map=True)
    writer.held[source.name] = taken
    for node in model.graph:
        translate(writer, node)
    output = model.graph.outputs[0]
    if output.name not in writer.held:
        raise ExportError(f"the output {output.name!r} does not depend on the images.")
    return writer.finished(taken, writer.held[output.name])

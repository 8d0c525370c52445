"""A .tflite file in the making: tensors, operators, and in the end the bytes. The façade over its schema."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


@dataclass(frozen=True)
class Held:
    """A tensor of the file.

    Attributes:
        index: its number.
        shape: as the file has it, the batch as 1.
        is_map: (N, H, W, C) of what ONNX has as (N, C, H, W).
    """

    index: int
    shape: tuple[int, ...]
    is_map: bool


@dataclass
class Writer:
    """Collects tensors and operators.

    Attributes:
        half: weights are stored in 16 bits.
        held: name of each of ONNX's values → its tensor.
    """

    half: bool = False
    held: dict[str, Held] = field(default_factory=dict)

    def __post_init__(self) -> None:
        from ai_edge_litert import schema_py_generated as schema

        self.schema: Any = schema
        self.tensors: list[Any] = []
        self.buffers: list[Any] = [schema.BufferT()]
        self.operators: list[Any] = []
        self.codes: dict[int, int] = {}

    def tensor(self, name: str, shape: Sequence[int], *, is_map: bool) -> Held:
        """A new one that the network computes, or takes; its batch is open."""
        self._add(name, [1, *shape[1:]], self.schema.TensorType.FLOAT32, 0).shapeSignature = [-1, *shape[1:]]
        return Held(len(self.tensors) - 1, (1, *shape[1:]), is_map)

    def constant(self, name: str, array: Array) -> int:
        """A new one whose values are known; its number."""
        kinds = {"float32": "FLOAT32", "float16": "FLOAT16", "int32": "INT32"}
        buffer = self.schema.BufferT()
        buffer.data = np.frombuffer(np.ascontiguousarray(array).tobytes(), np.uint8)
        self.buffers.append(buffer)
        kind = getattr(self.schema.TensorType, kinds[array.dtype.name])
        self._add(name, list(array.shape), kind, len(self.buffers) - 1)
        return len(self.tensors) - 1

    def weights(self, name: str, array: Array) -> int:
        """The same of weights, which may be stored in 16 bits and unpacked when the file is opened."""
        if not self.half:
            return self.constant(name, array.astype(np.float32))
        packed = self.constant(f"{name}.half", array.astype(np.float16))
        self._add(name, list(array.shape), self.schema.TensorType.FLOAT32, 0)
        out = len(self.tensors) - 1
        self.put("DEQUANTIZE", [packed], out)
        return out

    def put(self, op: str, inputs: Sequence[int], output: int, options: Any = None) -> None:
        """An operator: its name, numbers of tensors, and what the schema calls its options."""
        schema, made = self.schema, self.schema.OperatorT()
        made.opcodeIndex = self.codes.setdefault(getattr(schema.BuiltinOperator, op), len(self.codes))
        made.inputs, made.outputs = list(inputs), [output]
        if options is not None:
            made.builtinOptionsType = getattr(schema.BuiltinOptions, type(options).__name__.removesuffix("T"))
            made.builtinOptions = options
        self.operators.append(made)

    def options(self, name: str, **values: Any) -> Any:
        """``Conv2D`` → a Conv2DOptions with these fields."""
        made = getattr(self.schema, f"{name}OptionsT")()
        for key, value in values.items():
            if not hasattr(made, key):
                raise AttributeError(f"{name} has no {key}")
            setattr(made, key, value)
        return made

    def activation(self, name: str) -> int:
        """``RELU6`` as a number."""
        return int(getattr(self.schema.ActivationFunctionType, name))

    def finished(self, source: Held, output: Held) -> bytes:
        """The bytes of the file."""
        import flatbuffers

        schema, net, model = self.schema, self.schema.SubGraphT(), self.schema.ModelT()
        net.tensors, net.operators, net.name = self.tensors, self.operators, "main"
        net.inputs, net.outputs = [source.index], [output.index]
        model.version, model.description = 3, "slimnet"
        model.operatorCodes = [self._code(number) for number in self.codes]
        model.subgraphs, model.buffers = [net], self.buffers
        signature = schema.SignatureDefT()
        signature.signatureKey, signature.subgraphIndex = "serving_default", 0
        signature.inputs, signature.outputs = [self._named("images", source)], [self._named("logits", output)]
        model.signatureDefs = [signature]
        builder = flatbuffers.Builder(1 << 20)
        builder.Finish(model.Pack(builder), b"TFL3")
        return bytes(builder.Output())

    def _code(self, number: int) -> Any:
        made = self.schema.OperatorCodeT()
        made.builtinCode, made.deprecatedBuiltinCode, made.version = (
            number,
            min(number, 127),
            _VERSIONS.get(self._name(number), 1),
        )
        return made

    def _name(self, number: int) -> str:
        names = vars(self.schema.BuiltinOperator)
        return next(str(name) for name, value in names.items() if value == number and not name.startswith("_"))

    def _named(self, name: str, held: Held) -> Any:
        made = self.schema.TensorMapT()
        made.name, made.tensorIndex = name, held.index
        return made

    def _add(self, name: str, shape: list[int], kind: int, buffer: int) -> Any:
        made = self.schema.TensorT()
        made.name, made.shape, made.type, made.buffer, made.hasRank = name, shape, kind, buffer, True
        self.tensors.append(made)
        return made


_VERSIONS = {"DEQUANTIZE": 3, "FULLY_CONNECTED": 2, "CONV_2D": 1, "DEPTHWISE_CONV_2D": 2, "PADV2": 1}
"""Of operators that are used as later versions have them: fp16 to be unpacked, dilated depthwise convolutions."""

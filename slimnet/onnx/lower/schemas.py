"""What onnx's own schemas say of an operator at two versions: enough for most of them."""

from __future__ import annotations

import onnx
from onnx import TensorProto, helper

from slimnet.onnx.lower.context import CannotLowerError, Context, drop

Schema = onnx.defs.OpSchema


def schema_of(op: str, opset: int) -> Schema | None:
    """The schema of an operator of onnx's own; None where that opset has none."""
    try:
        found = onnx.defs.get_schema(op, opset, "")
    except onnx.defs.SchemaError:
        return None
    return None if found.deprecated else found


def fit(node: onnx.NodeProto, new: Schema, old: Schema, context: Context) -> None:
    """Write a node for the older of two versions of its operator, in place, where they differ in what can be seen here.

    That is: attributes that the older one lacks go, if they say what goes without saying; defaults that were others are written
    down; inputs and outputs that it lacks may only be empty; all types must be such as it takes.

    Raises:
        CannotLowerError: if it says more than the older one can.
    """
    _fit_attributes(node, new, old)
    for names, most in ((node.input, old.max_input), (node.output, old.max_output)):
        while names and not names[-1]:
            del names[-1]
        if len(names) > most:
            raise CannotLowerError(f"has {len(names)} inputs or outputs, of which older versions know {most}")
    if len(node.input) < old.min_input:
        raise CannotLowerError(f"has {len(node.input)} inputs, of which older versions want {old.min_input}")
    for names, formal in ((node.input, old.inputs), (node.output, old.outputs)):
        for position, name in enumerate(names):
            element = context.element(name) if name else 0
            allowed = formal[min(position, len(formal) - 1)].types
            if element and (kind := type_name(element)) not in allowed:
                raise CannotLowerError(f"is of {kind}, which older versions do not take")


def _fit_attributes(node: onnx.NodeProto, new: Schema, old: Schema) -> None:
    for one in list(node.attribute):
        if one.name in old.attributes:
            continue
        default = new.attributes[one.name].default_value if one.name in new.attributes else None
        value = helper.get_attribute_value(one)
        is_neutral = one.name == "dilations" and set(value) == {1}
        if not is_neutral and (default is None or not default.name or helper.get_attribute_value(default) != value):
            raise CannotLowerError(f"has {one.name}={value!r}, which older versions do not know")
        drop(node, one.name)
    given = {one.name for one in node.attribute}
    for name, told in new.attributes.items():
        before = old.attributes.get(name)
        if name in given or before is None or not told.default_value.name:
            continue
        if before.default_value != told.default_value:
            node.attribute.append(told.default_value)


def type_name(element: int) -> str:
    """A type of tensors, as schemas write it."""
    return f"tensor({TensorProto.DataType.Name(element).lower()})"

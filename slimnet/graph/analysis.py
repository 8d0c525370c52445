"""Push channel labels and constants through the operators of a model.

A producer (convolution, linear layer) makes a new label for each of its output channels. Operators that move data are run on
the labels themselves, so that the index map is exact by construction. Element-wise operators unite the labels that meet; norms
and depthwise layers pass them through; consumers note which label each of their input columns reads. An operator that nobody
knows pins whatever it touches, and its name is the reason.
"""

from __future__ import annotations

from torch import nn

from slimnet._modes import unwrapped
from slimnet.graph.capture import ExampleInputs, as_inputs, capture
from slimnet.graph.findings import Analysis, Traced
from slimnet.graph.heads import find_blocks
from slimnet.graph.interpreter import Interpreter
from slimnet.graph.rules import rule_for
from slimnet.graph.summands import find_summands


def analyse(model: nn.Module, example_inputs: ExampleInputs, *, as_graph: bool = False) -> Analysis:
    """Find the channels of ``model`` and what ties them together; the model is left as it was.

    Args:
        model: any module that ``torch.export`` can follow; what data-parallel modules or ``torch.compile`` wrap is looked at.
        example_inputs: a tensor or tuple of tensors, batch first.
        as_graph: whether the exported program itself is to be cut: numbers in it that count channels then tie nothing.

    Raises:
        GraphError: if the model cannot be exported with these inputs.
    """
    model, inputs = unwrapped(model), as_inputs(example_inputs)
    program = capture(model, inputs)
    run = Interpreter(model, program, rule_for, inputs, as_graph=as_graph)
    found = run.walk()
    if run.ties or run.is_incomplete:  # the second time, the rows of a head are one channel from the beginning
        run = Interpreter(model, program, rule_for, inputs, find_blocks(found, run.ties), as_graph=as_graph)
        found = run.walk()
    found.summands = find_summands(run)
    found.traced = Traced(program.nodes, run.made) if as_graph else None
    return found

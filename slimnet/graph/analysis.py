"""Push channel labels and constants through the operators of a model.

A producer (convolution, linear layer) makes a new label for each of its output channels. Operators that move data are run on
the labels themselves, so that the index map is exact by construction. Element-wise operators unite the labels that meet; norms
and depthwise layers pass them through; consumers note which label each of their input columns reads. An operator that nobody
knows pins whatever it touches, and its name is the reason.
"""

from __future__ import annotations

from torch import Tensor, nn

from slimnet._modes import unwrapped
from slimnet.errors import GraphError
from slimnet.graph.capture import ExampleInputs, NotFollowedError, Program, as_inputs, capture
from slimnet.graph.findings import Analysis, Traced
from slimnet.graph.heads import find_blocks
from slimnet.graph.interpreter import Interpreter
from slimnet.graph.recorded import record
from slimnet.graph.rules import rule_for
from slimnet.graph.summands import find_summands


def analyse(model: nn.Module, example_inputs: ExampleInputs, *, as_graph: bool = False) -> Analysis:
    """Find the channels of ``model`` and what ties them together; the model is left as it was.

    Args:
        model: any module; what data-parallel modules or ``torch.compile`` wrap is looked at. Where ``torch.export`` cannot follow
            it, as its control flow depends on data, it is recorded in several runs: ``runs`` of what is found tells how many.
        example_inputs: a tensor or tuple of tensors, batch first.
        as_graph: whether the exported program itself is to be cut: numbers in it that count channels then tie nothing.

    Raises:
        GraphError: if the model does not run on these inputs, or can be neither exported nor recorded.
    """
    model, inputs = unwrapped(model), as_inputs(example_inputs)
    program = _program(model, inputs, as_graph)
    run = Interpreter(model, program, rule_for, inputs, as_graph=as_graph)
    found = run.walk()
    if run.ties or run.is_incomplete:  # the second time, the rows of a head are one channel from the beginning
        run = Interpreter(model, program, rule_for, inputs, find_blocks(found, run.ties), as_graph=as_graph)
        found = run.walk()
    found.summands = find_summands(run)
    found.traced = Traced(program.nodes, run.made) if as_graph else None
    found.runs = program.runs
    return found


def _program(model: nn.Module, inputs: tuple[Tensor, ...], as_graph: bool) -> Program:
    try:
        return capture(model, inputs)
    except NotFollowedError as error:
        recorded = None if as_graph else record(model, inputs, error)
        if recorded is None:
            raise GraphError(str(error)) from error
        return recorded

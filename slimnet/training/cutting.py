"""Training that shrinks with the network: once the selection is settled, what is closed is cut out."""

from __future__ import annotations

from torch import Tensor

from slimnet.errors import GraphError, SurgeryError
from slimnet.surgery import Plan, slim, uncut
from slimnet.surgery.uncut import moves_constants
from slimnet.training.inputs import build_config_model
from slimnet.training.setup import Job
from slimnet.training.state import State


def settled_plan(job: Job, state: State) -> Plan | str:
    """How to cut the network of a run whose selection is settled, so that training goes on as if it were masked.

    What is closed must emit zeros: constants in other layers' biases would be trained otherwise than norms behind a mask.

    Returns:
        The plan, verified in float64, or the reason why the run goes on with the masked network.
    """
    try:
        plan = slim(job.model, job.example.to(job.team.device)).plan
    except (GraphError, SurgeryError) as error:
        return str(error)
    return "what is closed leaves constants behind" if moves_constants(plan) else plan


def full_size(job: Job, state: State) -> dict[str, Tensor]:
    """The weights of ``job.model``, at full size: closed filters exactly zero."""
    tensors: dict[str, Tensor] = job.model.state_dict()
    if state.plan is None:
        return tensors
    return uncut(state.plan, tensors, build_config_model(job.config, job.dataset).state_dict())

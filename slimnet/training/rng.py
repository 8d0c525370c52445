"""Random numbers of a run: drawn afresh from (seed, epoch) at each epoch, and saved within one.

Batches bring generators of their own; what is left for torch's global generators is dropout and its like.
"""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor

from slimnet.training.distributed import Team


def seed_epoch(seed: int, epoch: int, team: Team) -> None:
    """Seed torch's generators for an epoch, differently on each process."""
    text = f"slimnet/{seed}/{epoch}/{team.rank}"
    torch.manual_seed(int.from_bytes(hashlib.blake2b(text.encode(), digest_size=7).digest(), "big"))


def get_rng(team: Team) -> Tensor:
    """The state of torch's generators in all processes: (world_size, bytes) uint8."""
    state = torch.get_rng_state()
    if team.device.type == "cuda":
        state = torch.cat([state, torch.cuda.get_rng_state(team.device)])
    return team.gather(state)


def set_rng(states: Tensor, team: Team) -> None:
    """Put back what :func:`get_rng` gave; a process that did not exist then keeps the state that it has."""
    if team.rank >= len(states):
        return
    cpu = torch.get_rng_state().numel()
    torch.set_rng_state(states[team.rank, :cpu].clone())
    if team.device.type == "cuda" and states.shape[1] > cpu:
        torch.cuda.set_rng_state(states[team.rank, cpu:].clone(), team.device)

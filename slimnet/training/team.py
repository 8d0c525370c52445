"""Several processes as one: ``torchrun`` starts them, DistributedDataParallel joins their gradients."""

from __future__ import annotations

import atexit
import inspect
import os
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from slimnet.errors import ArgumentError


@dataclass(frozen=True)
class Team:
    """This process among the processes of a run.

    Attributes:
        rank: number of this process, from 0; rank 0 writes.
        world_size: number of processes.
        device: where this process computes.
    """

    rank: int
    world_size: int
    device: torch.device

    @property
    def is_main(self) -> bool:
        """Whether this process writes files and progress."""
        return self.rank == 0

    def sum(self, tensor: Tensor) -> Tensor:
        """Sum ``tensor`` over all processes, in place, and return it."""
        if self.world_size > 1:
            dist.all_reduce(tensor)
        return tensor

    def max(self, tensor: Tensor) -> Tensor:
        """Largest values of ``tensor`` over all processes, in place, and return it."""
        if self.world_size > 1:
            dist.all_reduce(tensor, dist.ReduceOp.MAX)
        return tensor

    def gather(self, tensor: Tensor) -> Tensor:
        """Stack the equally shaped tensors of all processes: (world_size, …), on the CPU."""
        if self.world_size == 1:
            return tensor.detach().cpu()[None]
        own = tensor.to(self.device)
        parts = [torch.empty_like(own) for _ in range(self.world_size)]
        dist.all_gather(parts, own)
        return torch.stack(parts).cpu()

    def share(self, value: Any) -> Any:
        """What rank 0 has, for everyone."""
        if self.world_size == 1:
            return value
        box = [value]
        dist.broadcast_object_list(box, src=0, device=self.device)
        return box[0]

    def wait(self) -> None:
        """Wait until every process is here."""
        if self.world_size > 1:
            dist.barrier()

    def wrap(self, model: nn.Module, *, sync_buffers: bool) -> nn.Module:
        """``model`` with joined gradients; itself when this process is alone.

        Args:
            model: the network, on the device of this process.
            sync_buffers: whether every forward pass begins with the buffers of rank 0.
        """
        if self.world_size == 1:
            return model
        known = inspect.signature(DistributedDataParallel).parameters
        name = "forward_sync_buffers" if "forward_sync_buffers" in known else "broadcast_buffers"
        options: dict[str, Any] = {name: sync_buffers}
        return DistributedDataParallel(model, **options)


def is_main_process() -> bool:
    """Whether this process is alone, or the first of those that ``torchrun`` started."""
    return int(os.environ.get("RANK", "0")) == 0


def join_team(device: str = "auto") -> Team:
    """Join the processes that ``torchrun`` started, until this one ends; alone outside ``torchrun``.

    Args:
        device: ``"auto"`` (a GPU where there is one), ``"cpu"``, ``"cuda"`` or ``"cuda:1"`` ….

    Raises:
        ArgumentError: if the device is unknown or absent.
    """
    world_size = int(os.environ.get("WORLD_SIZE", "1"))
    rank = int(os.environ.get("RANK", "0"))
    local = int(os.environ.get("LOCAL_RANK", "0"))
    chosen = pick_device(device, local if world_size > 1 else None)
    if world_size > 1 and not dist.is_initialized():
        dist.init_process_group("nccl" if chosen.type == "cuda" else "gloo")
        atexit.register(_part)
    return Team(rank=rank, world_size=world_size, device=chosen)


def _part() -> None:
    """Leave the group at the end of the process: a second group in one process may wait for ever."""
    if dist.is_initialized():
        dist.destroy_process_group()


def pick_device(name: str, local_rank: int | None = None) -> torch.device:
    """The device called ``name``; a GPU of its own for each process of a machine.

    Raises:
        ArgumentError: if the device is unknown or absent.
    """
    wanted = ("cuda" if torch.cuda.is_available() else "cpu") if name == "auto" else name
    device: torch.device | None
    try:
        device = torch.device(wanted)
    except RuntimeError:
        device = None
    if device is None or device.type not in ("cpu", "cuda"):
        raise ArgumentError(f"`device` must be 'auto', 'cpu' or 'cuda', got {name!r}.")
    if device.type == "cuda":
        if not torch.cuda.is_available():
            raise ArgumentError(f"`device` is {name!r}, but torch sees no GPU here: use 'cpu' or 'auto'.")
        index = device.index if local_rank is None or device.index is not None else local_rank
        count = torch.cuda.device_count()
        if index is not None and index >= count:
            raise ArgumentError(f"`device` is {name!r}, process {index} of this machine, but it has {count} GPUs.")
        device = torch.device("cuda", 0 if index is None else index)
        torch.cuda.set_device(device)
    return device

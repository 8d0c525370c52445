"""Two processes of DistributedDataParallel, each with its half of every batch and of the data, are one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from loops import EPOCHS, IMAGES, LABELS, closed_set, sgd
from slimnet.attached import Attached, attach
from slimnet.methods import FSDP
from tiny_net import TinyNet, tiny_net


def run(rank: int, world_size: int) -> tuple[TinyNet, Attached]:
    """In float64 and with the norms' statistics held, so that halves of a batch add up to it."""
    images, labels = IMAGES.double(), LABELS
    model = tiny_net(8, 10).double().eval()
    joined = DistributedDataParallel(model) if world_size > 1 else model
    optimizer = sgd(model.parameters())
    own = [(images[rank::world_size], labels[rank::world_size])]
    method = FSDP(rate_cs=0.2, rate_gm=0.3)
    pruner = attach(joined, images[:2], method, epochs=EPOCHS, data=own)
    for epoch in range(EPOCHS):
        with pruner.epoch(epoch):
            for part in range(2):
                some, their = (each[16 * part : 16 * part + 16][rank::world_size] for each in (images, labels))
                nn.functional.cross_entropy(joined(some), their).backward()
                optimizer.step()
                optimizer.zero_grad()
    return model, pruner


def test_two_processes_are_one(tmp_path: Path) -> None:
    tests = Path(__file__).parent
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tests), *sys.path]), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", __file__, str(tmp_path)]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    model, pruner = run(0, 1)
    first, second = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2))
    assert first["closed"] == second["closed"] == closed_set(pruner)
    for name, tensor in model.state_dict().items():
        assert torch.equal(first["model"][name], second["model"][name]), name
        torch.testing.assert_close(first["model"][name], tensor, rtol=1e-9, atol=1e-9)


if __name__ == "__main__":
    dist.init_process_group("gloo")
    network, attached = run(dist.get_rank(), dist.get_world_size())
    torch.save({"model": network.state_dict(), "closed": closed_set(attached)}, f"{sys.argv[1]}/{dist.get_rank()}.pt")
    dist.destroy_process_group()

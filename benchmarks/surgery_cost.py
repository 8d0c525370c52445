"""What surgery costs: seconds of analysis and cut, and memory, on two large networks.

    python benchmarks/surgery_cost.py

Half of the filters of every layer are zero, norms live. Expected on an idle core: torchvision's ResNet-50 at most 2 s, a VGG-16
with 2,622 classes (the size of VGG-Face, 145 M parameters) at most 6 s; peak memory during analysis and cut at most twice the
weights, the network itself among them. Verification, which runs the networks in float64, is timed apart. About 2 minutes. A
processor second is what the work takes; a wall second depends on what else the machine does. Writes results/surgery_cost.json.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterable
from pathlib import Path

import torch
from _results import write_result

from slimnet import build_model
from slimnet.measure.machine import load
from slimnet.surgery import verify
from slimnet.surgery.copies import baked_copy, shared_copy, unshare
from slimnet.surgery.planning import make_plan

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
import zoo

NETWORKS = {"resnet50": 1000, "vgg16": 2622}


class Peak(threading.Thread):
    """The largest resident memory while it runs, in bytes, looked at every 5 ms."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.start_bytes = self.bytes = resident()
        self._done = threading.Event()

    def run(self) -> None:
        """Look until told to stop."""
        while not self._done.wait(0.005):
            self.bytes = max(self.bytes, resident())

    def stop(self) -> int:
        """How much more than at the start there was."""
        self._done.set()
        self.join()
        return self.bytes - self.start_bytes


def resident() -> int:
    """Resident memory of this process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def measure(name: str) -> dict[str, object]:
    """Cut one network, as ``slim`` does."""
    torch.set_num_threads(1)
    model, x = build_model(name, num_classes=NETWORKS[name]).eval(), torch.randn(2, 3, 224, 224)
    zoo.close(model, x, "independent")
    zoo.roughen(model, x[:, :, :64, :64], torch.Generator().manual_seed(0))
    small = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.Conv2d(4, 4, 3))
    make_plan(small, torch.randn(2, 3, 8, 8))  # what is loaded on first use
    peak = Peak()
    peak.start()
    wall, processor = time.perf_counter(), time.process_time()
    masked = baked_copy(model)
    plan = make_plan(masked, x)
    slim = unshare(plan.apply(shared_copy(masked)), model)
    wall, processor = time.perf_counter() - wall, time.process_time() - processor
    grown = peak.stop()
    weights = sum(tensor.numel() * tensor.element_size() for tensor in model.state_dict().values())
    start = time.perf_counter()
    worst = verify(masked, slim, x[:1], plan=plan).worst
    return {
        "network": name,
        "params": sum(parameter.numel() for parameter in model.parameters()),
        "params_after": sum(parameter.numel() for parameter in slim.parameters()),
        "seconds": wall,
        "processor_seconds": processor,
        "load_average": load(),
        "peak_memory_to_weights": (weights + grown) / weights,
        "verify_seconds": time.perf_counter() - start,
        "parity": worst,
    }


def in_processes(script: str, names: Iterable[str]) -> list[dict[str, object]]:
    """What a script prints of each name, as JSON. A process each: memory that one has used is not new to the next."""
    rows = []
    for name in names:
        done = subprocess.run([sys.executable, script, name], stdout=subprocess.PIPE, text=True, check=True)
        rows.append(json.loads(done.stdout))
        print(rows[-1], flush=True)
    return rows


def main() -> None:
    write_result("surgery_cost", {"threads": 1, "networks": in_processes(__file__, NETWORKS)})


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print(json.dumps(measure(sys.argv[1])))
    else:
        main()

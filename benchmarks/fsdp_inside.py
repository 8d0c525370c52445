"""What FSDP does beside plain training, timed from inside: the hooks of its state, as a share of all the rest.

    SLIMNET_DATA=DATA python benchmarks/fsdp_inside.py

`fsdp_overhead.py` compares whole epochs, on a shared machine to within a few per cent; here the processor's time in the hooks
themselves (gradients, updates, class statistics, selection) is added up while ResNet-20 trains on 10,000 images of CIFAR-10 for 6
epochs, and held against everything else in the same epochs. What the hooks do to caches does not show. About 3 minutes. Writes
results/fsdp_inside.json.
"""

from __future__ import annotations

import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from _results import write_result
from _tables import PROCESSOR, Result, of_runs, processor, table, when
from fsdp_overhead import IMAGES, make_loop

from slimnet.training.team import join_team

HOOKS, EPOCHS = ("before_epoch", "after_backward", "after_step", "after_epoch"), 6


def main() -> None:
    torch.set_num_threads(1)
    spent: Counter[str] = Counter()

    def timed(name: str, hook: Callable[..., Any]) -> Callable[..., Any]:
        def run(*arguments: Any) -> Any:
            start = time.process_time()
            try:
                return hook(*arguments)
            finally:
                spent[name] += time.process_time() - start

        return run

    with tempfile.TemporaryDirectory() as folder:
        loop = make_loop("fsdp", Path(folder), join_team("cpu"))
        loop.run_epoch()
        for name in HOOKS:
            setattr(loop.state.pruner, name, timed(name, getattr(loop.state.pruner, name)))
        start = time.process_time()
        for _ in range(EPOCHS):
            loop.run_epoch()
        whole = time.process_time() - start
    inside = sum(spent.values())
    shares = {name: spent[name] / (whole - inside) for name in HOOKS}
    print(f"hooks ÷ everything else: {inside / (whole - inside):.4f}", shares)
    about = {"model": "resnet20", "images": IMAGES, "epochs": EPOCHS, "threads": 1}
    write_result("fsdp_inside", about | {"ratio": 1 + inside / (whole - inside), "shares": shares})


@of_runs("fsdp_inside")
def inside_table(runs: list[Result]) -> str:
    """The same, timed from inside."""
    rows = [(f"{r['ratio']:.3f}", f"{r['shares']['after_epoch']:.3f}", str(r["epochs"]), processor(r)) for r in runs]
    head = ("an epoch ÷ all of it but FSDP's hooks", "of which class statistics and selection", "epochs", PROCESSOR)
    return table(head, rows) + f"\n\nThe processor's time in the hooks, against everything else of the same epochs; {when(runs)}."


TABLES = {"inside": inside_table}


if __name__ == "__main__":
    main()

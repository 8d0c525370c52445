"""Networks whose control flow depends on data, cut as a whole: torch.export cannot follow them, so their runs are recorded.

    python benchmarks/data_dependent.py              # those that are not there yet
    python benchmarks/data_dependent.py early_exit   # these again

Whole detectors of torchvision, boxes and suppression included, and small networks of other kinds. Random weights and norms, half
of the filters closed where they are coupled. Expected: float64 parity of rounding on every input that is tried, and nearly all of
what is closed gone. torch-pruning, which runs a network once, gets the same closed channels; only the example is compared there.
About 5 minutes on one processor core. Writes results/data_dependent.json after each.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from _results import own_run, write_networks
from _tables import Result, of_runs, percent, table, when
from torch import Tensor, nn

import slimnet
from slimnet.errors import SlimnetError, one_line
from slimnet.models import build_model

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
import zoo

NAME = "data_dependent"


class EarlyExit(nn.Module):
    """ResNet-20 with a classifier behind its second stage, which ends it where it is sure of all images."""

    def __init__(self, threshold: float) -> None:
        super().__init__()
        self.body, self.exit, self.threshold = build_model("resnet20", num_classes=10), nn.Linear(32, 10), threshold

    def forward(self, x: Tensor) -> Tensor:
        """Images to logits."""
        body: Any = self.body
        maps = body.layer2(body.layer1(F.relu(body.bn1(body.conv1(x)))))
        early: Tensor = self.exit(maps.mean((2, 3)))
        if bool(early.softmax(1).amax(1).min() > self.threshold):
            return early
        return body.linear(body.layer3(maps).mean((2, 3)))  # type: ignore[no-any-return]


class Routed(nn.Module):
    """A mixture of experts: each image goes through one of four, which its colours pick."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.router = nn.Conv2d(3, 32, 3, padding=1), nn.Linear(3, 4, bias=False)
        self.experts = nn.ModuleList(
            nn.Sequential(nn.Conv2d(32, 48, 3, padding=1), nn.BatchNorm2d(48), nn.ReLU(), nn.Conv2d(48, 32, 1)) for _ in range(4)
        )
        self.head = nn.Linear(32, 10)
        self.router.weight.data[2:] = -self.router.weight.data[:2]  # an image for each expert is easily found

    def forward(self, x: Tensor) -> Tensor:
        """Images to logits."""
        maps = F.relu(self.stem(x))
        chosen = self.router(x.mean((2, 3)) - x.mean((1, 2, 3))[:, None]).argmax(1)
        out = torch.zeros_like(maps)
        for number, expert in enumerate(self.experts):
            here = chosen == number
            if here.any():
                out[here] = expert(maps[here])
        answer: Tensor = self.head(F.relu(maps + out).mean((2, 3)))
        return answer


class Steps(nn.Module):
    """A block that runs more often where there is more contrast, at most four times."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.head = nn.Conv2d(3, 24, 3, padding=1), nn.Linear(24, 10)
        self.block = nn.Sequential(nn.Conv2d(24, 40, 3, padding=1), nn.BatchNorm2d(40), nn.ReLU(), nn.Conv2d(40, 24, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Images to logits."""
        maps = F.relu(self.stem(x))
        for _ in range(min(4, 1 + int(3 * x.std()))):
            maps = F.relu(maps + self.block(maps))
        answer: Tensor = self.head(maps.mean((2, 3)))
        return answer


ONE_STAGE = {"score_thresh": 0.0, "topk_candidates": 50}
TWO_STAGES = {"box_score_thresh": 0.0, "rpn_post_nms_top_n_test": 20}
"""Untrained, a detector is sure of nothing: it gives what it is least unsure of."""


def _detector(name: str, side: int, **settings: Any) -> Callable[[], nn.Module]:
    def make() -> nn.Module:
        from torchvision.models import detection

        sized: dict[str, int] = {} if name.startswith("ssd") else {"min_size": side, "max_size": side}
        made: nn.Module = getattr(detection, name)(weights=None, weights_backbone=None, num_classes=11, **sized, **settings)
        return made

    return make


CASES: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "early_exit": (partial(EarlyExit, 0.2), (4, 3, 32, 32)),
    "routed": (Routed, (32, 3, 16, 16)),
    "steps": (Steps, (4, 3, 16, 16)),
    "retinanet_resnet50_fpn": (_detector("retinanet_resnet50_fpn", 96, **ONE_STAGE), (1, 3, 96, 96)),
    "ssdlite320_mobilenet_v3_large": (_detector("ssdlite320_mobilenet_v3_large", 320, **ONE_STAGE), (1, 3, 320, 320)),
    "fasterrcnn_mobilenet_v3_large_320_fpn": (
        _detector("fasterrcnn_mobilenet_v3_large_320_fpn", 96, **TWO_STAGES), (1, 3, 96, 96),
    ),
    "maskrcnn_resnet50_fpn": (_detector("maskrcnn_resnet50_fpn", 96, **TWO_STAGES), (1, 3, 96, 96)),
}  # fmt: skip


def measure(name: str) -> dict[str, Any]:
    """Close half of the filters of one, and cut it."""
    make, shape = CASES[name]
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(shape, generator=generator) * 4 * torch.rand(shape[0], shape[1], 1, 1, generator=generator)
    x = x.clamp(max=1) if "cnn" in name or "net" in name else x  # detectors take pictures
    model = make().eval()
    start = time.perf_counter()
    zoo.close(model, x, "coupled")
    seconds = time.perf_counter() - start
    zoo.roughen(model, x, generator)
    try:
        result = slimnet.slim(model, x)
    except SlimnetError as error:
        return {"name": name, "image": shape[-1], "refused": one_line(error)}
    found = sum(len(rows) for rows in zoo.zero_filters(model).values())
    checks = result.report.verification.checks
    return {
        "name": name,
        "image": shape[-1],
        "runs": result.plan.runs,
        "zero_filters": found,
        "zero_filters_removed": found - zoo.zero_filters_left(model, result),
        "params": {"before": result.report.params_before, "after": result.report.params_after},
        "parity": result.report.verification.worst,
        "inputs": sum(check.what == "plan" for check in checks),
        "reasons": zoo.reasons(result),
        "seconds": {"analysis": seconds, "cut": result.report.seconds, "verification": result.report.verify_seconds},
        "torch_pruning": zoo.peer(model, x),
    }


@of_runs(NAME)
def data_dependent_table(runs: list[Result]) -> str:
    """What was cut, and how exactly."""
    rows = []
    for each in (each for run in runs for each in run["networks"]):
        first = (each["name"], f"{each['image']}²")
        if "refused" in each:
            rows.append((*first, "refused", "", "", "", each["refused"], ""))
            continue
        peer = each["torch_pruning"]
        params = each["params"]
        rows.append(
            (
                *first,
                str(each["runs"]),
                f"{percent(each['zero_filters_removed'] / each['zero_filters'], 1)} of {each['zero_filters']:,}",
                f"{percent(params['after'] / params['before'], 1)} of {params['before'] / 1e6:.2f} M",
                f"{each['parity']:.0e}, {each['inputs']} inputs",
                "; ".join(f"{channels:,} {reason}" for reason, channels in each["reasons"].items()) or "nothing",
                "does not run" if "error" in peer else f"differs by {peer['relative']:.0e}",
            )
        )
    head = ("network", "image", "paths recorded", "zero filters removed", "parameters left", "float64", "what stays, and why")
    return table((*head, "torch-pruning, same channels"), rows) + f"\n\n{when(runs)}."


TABLES = {"data-dependent": data_dependent_table}


def main() -> None:
    torch.set_num_threads(1)
    there = {row["name"] for row in own_run(NAME).get("networks", [])}
    for name in sys.argv[1:] or [name for name in CASES if name not in there]:
        if name not in CASES:
            sys.exit(f"{name!r} is none of {', '.join(CASES)}")
        row = measure(name)
        print(row, flush=True)
        write_networks(NAME, {}, [row])


if __name__ == "__main__":
    main()

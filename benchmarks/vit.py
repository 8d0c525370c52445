"""A ViT-Tiny for CIFAR-10 with heads and hidden channels pruned to half its FLOPs: trained, cut, exported, gated, timed.

    SLIMNET_DATA=DATA python benchmarks/vit.py          # all of it, about 15 minutes
    python benchmarks/vit.py time                       # the times again, on a quiet machine: a minute

timm's vit_tiny_patch16_224 at 32×32 in patches of 4 (65 tokens), from random weights, on a part of CIFAR-10: a small budget, so
that its accuracy says that the path works and no more. FPGM closes one head of three and 61 % of the hidden channels of every
block while the network trains on. Expected: half the FLOPs, the same logits to 1e-9, and a ratio of times above 1.5.
`time` builds networks of the widths that the result holds, with random weights: times do not depend on them.
Writes results/vit.json.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from _results import ratio, read_runs, write_result
from _runs import data_dir
from _tables import PROCESSOR, Result, of_runs, percent, processor, ranged, table, when
from torch import Tensor, nn
from torch.nn import functional as F

import slimnet
from slimnet.data import load_data
from slimnet.measure import compare_latency, count

NETWORK, ARGUMENTS = "timm:vit_tiny_patch16_224", {"img_size": 32, "patch_size": 4}
IMAGES, TEST_IMAGES, BATCH = 2_000, 2_000, 50
DENSE_EPOCHS, EPOCHS, RATE = 2, 2, 0.61

Split = tuple[Tensor, Tensor]


def build() -> nn.Module:
    """The network, with random weights that are the same every time."""
    torch.manual_seed(0)
    return slimnet.build_model(NETWORK, num_classes=10, model_args=ARGUMENTS)


def part(split: Any, images: int) -> Split:
    """The first images of a split, (N, 3, 32, 32) in [−1, 1], and their labels."""
    pictures, labels = (torch.as_tensor(array[:images]) for array in (split.images, split.labels))
    return pictures.float() / 127.5 - 1, labels.long()


def epoch(model: nn.Module, optimizer: torch.optim.Optimizer, data: Split) -> None:
    """One pass in random order, half of the images mirrored, in bfloat16 where that pays."""
    model.train()
    images, labels = data
    for index in torch.randperm(len(images)).split(BATCH):
        x = images[index]
        x = torch.where(torch.rand(len(x), 1, 1, 1) < 0.5, x.flip(3), x)
        with torch.autocast("cpu", torch.bfloat16):
            loss = F.cross_entropy(model(x).float(), labels[index])
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()


@torch.no_grad()
def accuracy(model: nn.Module, data: Split) -> float:
    """Share of the images that are told right, in float32."""
    model.eval()
    batches = zip(data[0].split(BATCH), data[1].split(BATCH), strict=True)
    return sum(int((model(x).argmax(1) == y).sum()) for x, y in batches) / len(data[0])


def trained(train: Split, test: Split) -> tuple[nn.Module, nn.Module, Any, dict[str, Any]]:
    """The dense network, the masked one, the cut one with its plan, and their accuracies."""
    model = build()
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-4, weight_decay=0.05)
    start = time.process_time()
    for _ in range(DENSE_EPOCHS):
        epoch(model, optimizer, train)
    dense = build()
    dense.load_state_dict(model.state_dict())
    pruner = slimnet.attach(model, train[0][:2], slimnet.FPGM(RATE), epochs=EPOCHS)
    for number in range(EPOCHS):
        with pruner.epoch(number):
            epoch(model, optimizer, train)
    seconds = time.process_time() - start
    result = pruner.slim()
    found = {"dense": accuracy(dense, test), "masked": accuracy(model, test), "slim": accuracy(result.model, test)}
    return dense, model, result, {"accuracy": found, "training_seconds": seconds}


def exported(models: dict[str, nn.Module], x: Tensor, folder: Path, reference: nn.Module | None = None) -> dict[str, float]:
    """Write the files, each behind the gate; how far ONNX Runtime is from PyTorch."""
    parity = {}
    for name, model in models.items():
        masked = reference if name == "slim" else None
        report = slimnet.export_onnx(model.eval(), x, folder / f"{name}.onnx", reference=masked, tolerance=1e-6)
        parity[name] = report.worst_of("onnx vs model").relative
    return parity


def timed(folder: Path) -> dict[str, Any]:
    """Both files in one interleaved comparison, one thread, batch 1."""
    names = ("dense", "slim")
    report = compare_latency({name: folder / f"{name}.onnx" for name in names}, rounds=100, seconds=20.0, baseline="dense")
    print(ratio(report["slim"]), report.flags)
    return {"slim": ratio(report["slim"]), "control": ratio(report.control), "flags": report.flags}


def train_and_cut(folder: Path) -> dict[str, Any]:
    """Everything but the times."""
    data = load_data("cifar10", data_dir=str(data_dir()))
    dense, masked, result, found = trained(part(data.train, IMAGES), part(data.test, TEST_IMAGES))
    x = part(data.test, 8)[0]
    parity = exported({"dense": dense, "slim": result.model}, x, folder, masked.eval())
    costs = {name: count(model, x[:1]) for name, model in (("dense", dense), ("slim", result.model))}
    plan = result.plan
    return found | {
        "images": IMAGES,
        "epochs": {"dense": DENSE_EPOCHS, "pruned": EPOCHS},
        "test_images": TEST_IMAGES,
        "rate": RATE,
        "flops": {name: cost.flops for name, cost in costs.items()},
        "params": {name: cost.params for name, cost in costs.items()},
        "widths": {group.name: len(group.kept) for group in plan.groups if len(group.kept) < group.size},
        "heads": {"before": sum(each.size for each in plan.heads), "after": sum(len(each.kept) for each in plan.heads)},
        "parity": {"plan": result.report.verification.worst, "onnx": parity},
    }


def time_again(folder: Path) -> dict[str, Any]:
    """Networks of the widths in the result, exported and timed; the rest of the newest run stays."""
    newest = read_runs("vit")[0]
    dense, small, x = build(), build(), torch.randn(2, 3, 32, 32)
    slimnet.prune(small, x, widths=newest["widths"])
    exported({"dense": dense, "slim": slimnet.slim(small, x).model}, x, folder)
    return {key: value for key, value in newest.items() if key not in ("date", "device", "instructions", "versions")}


def main() -> None:
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        found = time_again(folder) if sys.argv[1:] == ["time"] else train_and_cut(folder)
        print({key: value for key, value in found.items() if key != "widths"}, flush=True)
        write_result("vit", found | {"latency": timed(folder)})


@of_runs("vit")
def vit_table(runs: list[Result]) -> str:
    """The ViT-Tiny, dense and at half its FLOPs."""
    r, rows = runs[0], []
    for name in ("dense", "slim"):
        heads = r["heads"]["before" if name == "dense" else "after"]
        cost = f"{r['flops'][name] / 1e6:.0f} M | {r['params'][name] / 1e6:.2f} M"
        slim = [run["latency"]["slim"] for run in runs]
        times = "1" if name == "dense" else "; ".join(ranged(each["speedup"], each["interval"]) for each in slim)
        rows.append((name, str(heads), cost, percent(r["accuracy"][name], 1), f"{r['parity']['onnx'][name]:.0e}", times,
                     "; ".join(processor(run) for run in runs)))  # fmt: skip
    head = ("network", "heads", "FLOPs | params", "accuracy", "ONNX Runtime to PyTorch, worst", "time ÷", PROCESSOR)
    note = (
        f"{r['images']:,} images of CIFAR-10, {r['epochs']['dense']} epochs dense and {r['epochs']['pruned']} with FPGM "
        f"({r['training_seconds'] / 60:.0f} minutes of one thread): the accuracies, on {r['test_images']:,} test images, say "
        f"that the path works, and no more. Masked and slim give {percent(r['accuracy']['masked'], 1)} and "
        f"{percent(r['accuracy']['slim'], 1)}; in float64 they differ by {r['parity']['plan']:.0e}. One thread, batch 1, "
        f"A/A {r['latency']['control']['speedup']:.3f}."
    )
    return table(tuple(part for each in head for part in each.split(" | ")), rows) + f"\n\n{note} {when(runs)}."


TABLES = {"vit": vit_table}


if __name__ == "__main__":
    main()

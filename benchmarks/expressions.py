"""The classifier of facial expressions that slimnet ships: the slim network of fer2013.py, trained on as it is, then int8.

    SLIMNET_DATA=DATA python benchmarks/expressions.py [train]

Needs runs/fer2013-dense and build/fer2013, which fer2013.py makes. What is left of a network after surgery costs a fraction to
train: it goes on for 40 epochs, with images mixed in pairs. Of it and the network that it started from, the better one on the
validation split is exported in int8, without what a deployer does not need. Expected: at most 1 MB. About 40 minutes on one
processor core; an interrupted run is resumed. Writes slimnet/ready/expressions and results/expressions.json.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

from _results import data_dir, write_result
from fer2013 import BUILD, COMMON, RUNS
from torch import nn

import slimnet
from slimnet import Run
from slimnet._files import read_json
from slimnet.export import compact_bundle, write_bundle
from slimnet.pipeline import PrecisionSettings, evaluate_any
from slimnet.pipeline.data import load_run_data
from slimnet.pipeline.export import preprocessing, real_batch
from slimnet.pipeline.precisions import PrecisionStep
from slimnet.pipeline.provenance import about_data, provenance

BASE, RUN = BUILD / "fer2013", RUNS / "fer2013-expressions"
OUT = Path(slimnet.__file__).parent / "ready" / "expressions"
MORE: dict[str, Any] = {"epochs": 40, "lr": 0.05, "weight_decay": 5e-4, "mixup": 0.2}
MOST_BYTES = 1_000_000


def network(num_classes: int, in_channels: int) -> nn.Module:
    """The network to train: what surgery left."""
    model = slimnet.load_slim(BASE)
    width = next(p.shape[1] for p in model.parameters() if p.dim() == 4)
    assert (width, num_classes) == (in_channels, len(read_json(BASE / "model.json")["labels"]))
    return model


def train() -> Run:
    """Train, or go on with a run that was interrupted."""
    return slimnet.train(
        data_dir=str(data_dir() / "fer2013"),
        out=RUN,
        resume=(RUN / "config.json").is_file(),
        **{**COMMON, "model": "expressions:network"},
        method=slimnet.Dense(),
        init=str(BASE / "slim.safetensors"),
        **MORE,
    )


def judged(model: Path | str, split: str) -> Any:
    """Evaluated on a split of FER2013."""
    return evaluate_any(model, split=split, data="fer2013", data_dir=str(data_dir() / "fer2013"))[0]


def main() -> None:
    run = train()
    if sys.argv[1:] == ["train"]:
        return
    before, after = judged(BASE, "val"), judged(run.path, "val")
    dense, longer = Run.open(RUNS / "fer2013-dense"), after.accuracy > before.accuracy
    slim = run.load_model() if longer else slimnet.load_slim(BASE)
    base = Run.open(RUNS / "fer2013-slim")
    data = load_run_data(base.config.as_dict(), data_dir=str(data_dir() / "fer2013"))
    real = real_batch(data.val, data, 64)
    step = PrecisionStep(data, PrecisionSettings(("int8",)), print)
    test = {"slim": judged(run.path if longer else BASE, "test"), "dense": judged(dense.path, "test")}
    with tempfile.TemporaryDirectory() as folder:
        whole = write_bundle(
            Path(folder) / "whole",
            masked=slim,
            slim=slim,
            dense=dense.load_model(),
            example_inputs=real[:2],
            plan=read_json(BASE / "plan.json"),
            config=read_json(BASE / "config.json"),
            labels=base.classes,
            preprocessing=preprocessing(base),
            real_inputs=[real],
            accuracy={"split": "test", "count": len(data.test), **{name: found.accuracy for name, found in test.items()}},
            provenance=provenance(base) | ({"epochs": base.config.epochs + run.config.epochs} if longer else {}),
            precisions=step,
            extra_report={
                **{key: read_json(BASE / "report.json")[key] for key in ("surgery", "method")},
                "data": about_data(base),
                "evaluation": {"split": "test", **{name: found.as_dict() for name, found in test.items()}},
            },
        )
        bundle = compact_bundle(whole.path, OUT, force=True)
    size = sum(path.stat().st_size for path in OUT.iterdir())
    if size > MOST_BYTES:
        sys.exit(f"{OUT} has {size:,} bytes, at most {MOST_BYTES:,} are allowed.")
    write_result(
        "expressions",
        {
            "settings": {**COMMON, **MORE},
            "val_accuracy": {"before": before.accuracy, "after": after.accuracy},
            "chosen": "after" if longer else "before",
            "test": {name: found.as_dict() for name, found in test.items()},
            "precisions": bundle.model["precisions"],
            "bytes": {"all": size, **{path.name: path.stat().st_size for path in sorted(OUT.iterdir())}},
        },
    )


if __name__ == "__main__":
    main()

"""How much of ONNX Runtime's own throughput is left when pictures come from files: `slimnet predict` against a bare loop.

    SLIMNET_DATA=… python benchmarks/predict_throughput.py [BUNDLE_CIFAR10 BUNDLE_FER2013]

Three cases: 10,000 CIFAR-10 test images as PNG and a slim ResNet-20; 10,000 FER2013 faces as PNG and the slim VGG-9 (bundles as
benchmarks/cifar10.py and fer2013.py make them; default build/cifar10-resnet20 and build/fer2013); 320×256 JPEG and a ResNet-18
at 224×224 with random weights. The bare loop is `session.run` on arrays that were prepared beforehand, in batches of the same
size; the other side opens, decodes, prepares, runs, and makes the JSON line of every file. Both have one thread for the network;
decoding has as many threads as there are processors. The files are cut into chunks; each chunk is done by the bare loop, by
`predict`, and by a second bare loop (A/A), in random order: the ratio within a chunk is that of a moment.

Expected: about 0.9 or more: reading, and what becomes of the results, is done beside the network, but on two hyperthreads of one
core it takes from the network all the same, most where reading a file is a good part of the work. A chunk of photographs is one
batch, so that nothing can be done beside it. Files are read from the page cache. About 3 minutes.
Writes results/predict_throughput.json.
"""

from __future__ import annotations

import gc
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _results import write_result
from _runs import data_dir
from _tables import PROCESSOR, Result, of_runs, percent, processor, table, when
from PIL import Image

import slimnet
from slimnet.data import load_data
from slimnet.export import write_bundle
from slimnet.measure.machine import Watch, environment, processors
from slimnet.measure.stats import median_interval
from slimnet.onnx.session import open_session
from slimnet.predict import Predictor, Source, find_sources
from slimnet.predict.decode import decode
from slimnet.preprocess import describe, prepare

BATCH = 32


def write_images(images: Any, folder: Path, ending: str) -> list[Source]:
    """uint8 images (N, C, H, W) as files."""
    folder.mkdir(parents=True)
    for number, image in enumerate(images):
        pixels = image.numpy().transpose(1, 2, 0)
        Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels).save(folder / f"{number:05}{ending}")
    return find_sources([folder])


def resnet18(path: Path) -> Path:
    """A bundle of a ResNet-18 at 224×224 with random weights."""
    torch.manual_seed(0)
    model = slimnet.build_model("resnet18", num_classes=1000).eval()
    x = torch.randn(2, 3, 224, 224)
    names = [f"class {number}" for number in range(1000)]
    rule = describe(size=(224, 224), channels=3, mean=[0.485, 0.456, 0.406], std=[0.229, 0.224, 0.225])
    write_bundle(
        path,
        masked=model,
        slim=model,
        dense=model,
        example_inputs=x,
        plan={"groups": []},
        config={"model": "resnet18"},
        labels=names,
        preprocessing=rule,
        real_inputs=[x],
    )
    return path


def photographs(count: int) -> Any:
    """Smooth noise, 3×256×320: it compresses to a JPEG of about the size of a photograph's (40 kB)."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(count, 3, 32, 40, generator=generator) * 255
    fine = torch.nn.functional.interpolate(coarse, size=(256, 320), mode="bicubic")
    return (fine + 12 * torch.randn(fine.shape, generator=generator)).clamp(0, 255).to(torch.uint8)


class Bare:
    """`session.run` on arrays that are there already."""

    def __init__(self, bundle: Path) -> None:
        self.session = open_session(bundle / "model.onnx", threads=1)
        self.rule = json.loads((bundle / "model.json").read_text(encoding="utf-8"))["preprocessing"]

    def load(self, sources: Sequence[Source]) -> list[Any]:
        """Batches, ready."""
        arrays = [prepare(decode(source)[0], self.rule) for source in sources]
        return [np.stack(arrays[i : i + BATCH]) for i in range(0, len(arrays), BATCH)]

    def seconds(self, batches: Sequence[Any]) -> float:
        """Of running them all."""
        start = time.perf_counter()
        for batch in batches:
            self.session.raw.run(None, {"input": batch})
        return time.perf_counter() - start


def predicted(predictor: Predictor, sources: Sequence[Source]) -> float:
    """Seconds from files to lines of JSON."""
    start = time.perf_counter()
    for result in predictor.stream(sources, batch=BATCH):
        json.dumps(result.as_dict())
    return time.perf_counter() - start


def decoding(bare: Bare, sources: Sequence[Source]) -> float:
    """Seconds an image to open, decode and prepare, one after the other."""
    start = time.perf_counter()
    bare.load(sources)
    return (time.perf_counter() - start) / len(sources)


def case(name: str, bundle: Path, sources: list[Source], chunk: int) -> dict[str, Any]:
    """One network over all its files."""
    bare, other, predictor = Bare(bundle), Bare(bundle), Predictor(bundle, precision="fp32", threads=1)
    rng = np.random.default_rng(0)
    warm = sources[:chunk]
    bare.seconds(bare.load(warm)), other.seconds(bare.load(warm)), predicted(predictor, warm)
    rows = []
    watch = Watch()
    for start in range(0, len(sources), chunk):
        part = sources[start : start + chunk]
        batches = bare.load(part)
        sides = [lambda b=batches: bare.seconds(b), lambda p=part: predicted(predictor, p), lambda b=batches: other.seconds(b)]
        row = [0.0] * 3
        gc.collect()
        for i in rng.permutation(3):
            row[i] = sides[i]()
        rows.append(row)
    activity = watch.stop()
    times = np.asarray(rows)
    ratio, control = times[:, 0] / times[:, 1], times[:, 0] / times[:, 2]
    total = times.sum(axis=0) / len(sources)
    found = {
        "name": name,
        "images": len(sources),
        "chunks": len(rows),
        "ratio": float(np.median(ratio)),
        "interval": list(median_interval(ratio)),
        "control": float(np.median(control)),
        "control_interval": list(median_interval(control)),
        "bare_ms": 1000 * float(total[0]),
        "predict_ms": 1000 * float(total[1]),
        "decode_ms": 1000 * decoding(bare, sources[:chunk]),
        "images_per_second": 1 / float(total[1]),
        "load_average": activity.load,
    }
    print(found, flush=True)
    return found


def main() -> None:
    torch.set_num_threads(1)
    given = [Path(name) for name in sys.argv[1:3]] or [Path("build/cifar10-resnet20"), Path("build/fer2013")]
    cifar = load_data("cifar10", data_dir=str(data_dir())).test.images
    faces = load_data("fer2013", data_dir=str(data_dir())).train.images[:10_000]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        cases = [
            case("ResNet-20 slim, CIFAR-10, 32×32 PNG", given[0], write_images(cifar, folder / "cifar", ".png"), 400),
            case("VGG-9 slim, FER2013, 48×48 PNG", given[1], write_images(faces, folder / "faces", ".png"), 400),
            case(
                "ResNet-18, 320×256 JPEG", resnet18(folder / "r18"), write_images(photographs(384), folder / "photos", ".jpg"), 32
            ),
        ]
    where = environment()
    shared = {"batch": BATCH, "threads": 1, "workers": min(8, processors()), "processors": processors(), "environment": where}
    write_result("predict_throughput", {**shared, "cases": cases})


@of_runs("predict_throughput")
def predict_table(runs: list[Result]) -> str:
    """Predicting from files against running on arrays."""
    rows = [
        (
            c["name"],
            f"{c['images']:,}",
            f"{c['decode_ms'] / c['bare_ms']:.2f}",
            f"{percent(c['ratio'], 0)} ({percent(c['interval'][0], 0)} to {percent(c['interval'][1], 0)})",
            f"{c['control']:.3f}",
            f"{processor(r)}, {r['processors']} processors",
        )
        for r in runs
        for c in r["cases"]
    ]
    head = ("network and files", "images", "reading alone ÷ network alone", "share of the network's throughput", "A/A", PROCESSOR)
    r = runs[0]
    shared = f"batch {r['batch']}, {r['threads']} thread for the network, {r['workers']} that read"
    return table(head, rows) + f"\n\nAn image; {shared}; {when(runs)}."


TABLES = {"predict": predict_table}


if __name__ == "__main__":
    main()

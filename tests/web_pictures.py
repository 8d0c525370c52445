"""Pictures for the web page, what it shows of them and what Python computes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from PIL import Image

from browser import Page
from slimnet.preprocess import describe, prepare
from web_bundle import LABELS, TEMPERATURES

TEMPERATURE = {"slim": TEMPERATURES["fp32"], "slim int8": TEMPERATURES["int8"]}
NETWORKS = {"dense": "dense.onnx", "slim": "model.onnx", "slim int8": "model.int8.onnx"}
ORIENTATION = 0x0112
CELLS = "#table tbody:not(.costs) data"
SIZES = {  # (H, W) of the input: (w, h) of pictures
    (8, 8): [(8, 8), (9, 8), (8, 300), (300, 8), (1, 1), (1, 90), (90, 1), (7, 7), (5, 11), (17, 16), (257, 129)],
    (48, 48): [(48, 48), (47, 49), (96, 96), (100, 99), (640, 480), (333, 1000), (24, 25), (3, 2)],
    (20, 28): [(28, 20), (20, 28), (56, 41), (200, 141), (31, 500), (500, 31), (13, 13)],
    (1, 1): [(1, 1), (2, 2), (37, 5)],
}


def noise(height: int, width: int, channels: int, seed: int = 0) -> NDArray[np.uint8]:
    """Smooth colours with noise on them: both what a photo has and what shows a shift by one."""
    generator = np.random.default_rng([seed, height, width, channels])
    coarse = Image.fromarray(generator.integers(0, 256, (3, 4, 3), dtype=np.uint8))
    smooth = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC), np.int16)
    rough = generator.integers(-40, 41, (height, width, 3))
    return (smooth + rough).clip(0, 255).astype(np.uint8)[..., :channels]


def shown(page: Page, give: Callable[[], object]) -> dict[str, dict[str, float]]:
    """Give the page a picture, and read network → label → probability out of its table."""
    page.evaluate("document.getElementById('headline').textContent = ''")
    give()
    page.wait("document.getElementById('headline').textContent")
    page.wait(f"[...document.querySelectorAll('{CELLS}')].every((cell) => cell.textContent !== '–')")  # of every network
    rows = page.evaluate(
        """[...document.querySelectorAll('#table tbody:not(.costs) tr')].map((row) =>
          [row.cells[0].textContent, ...[...row.querySelectorAll('data')].map((data) => Number(data.value))])"""
    )
    names = page.evaluate("[...document.querySelectorAll('#table thead th')].map((head) => head.textContent)")[1:]
    return {name: {row[0]: row[i] for row in rows} for i, name in enumerate(names, start=1)}


def computed(bundle: Path, image: Image.Image) -> dict[str, dict[str, float]]:
    """The same in Python."""
    values = prepare(image, describe(size=(20, 28), channels=3, mean=[0.45, 0.5, 0.55], std=[0.2, 0.25, 0.3]))[None]
    found = {}
    for name, file in NETWORKS.items():
        session = onnxruntime.InferenceSession(str(bundle / file), providers=["CPUExecutionProvider"])
        (logits,) = session.run(None, {"input": values})[0].astype(np.float64)
        powers = np.exp((logits - logits.max()) / TEMPERATURE.get(name, 1.0))
        found[name] = dict(zip(LABELS, (powers / powers.sum()).tolist(), strict=True))
    return found


def largest_difference(one: dict[str, float], other: dict[str, float]) -> float:
    assert one.keys() == other.keys()
    return max(abs(one[label] - other[label]) for label in one)


def turned(path: Path) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    Image.fromarray(noise(90, 140, 3, seed=5)).save(path, exif=exif, quality=95, subsampling=0)


def see_through(path: Path) -> None:
    """Colours that stand under full and part transparency."""
    alpha = np.arange(50 * 60, dtype=np.uint32).reshape(50, 60) % 256
    Image.fromarray(np.dstack([noise(50, 60, 3, seed=4), alpha.astype(np.uint8)])).save(path)


def palette(path: Path) -> None:
    image = Image.fromarray(noise(33, 44, 3, seed=6)).quantize(40)
    image.save(path, transparency=3)


PICTURES: dict[str, Callable[[Path], object]] = {
    "grey.png": lambda path: Image.fromarray(noise(31, 45, 1)[..., 0]).save(path),
    "same-size.png": lambda path: Image.fromarray(noise(20, 28, 3)).save(path),
    "large.png": lambda path: Image.fromarray(noise(700, 900, 3)).save(path),
    "tiny.png": lambda path: Image.fromarray(noise(3, 2, 3)).save(path),
    "alpha.png": see_through,
    "palette.png": palette,
    "photo.jpg": lambda path: Image.fromarray(noise(300, 200, 3)).save(path, quality=90),
    "grey.jpg": lambda path: Image.fromarray(noise(60, 60, 1)[..., 0]).save(path, quality=80),
    "turned.jpg": turned,
    "lossless.webp": lambda path: Image.fromarray(noise(50, 70, 3, seed=7)).save(path, lossless=True),
}


def dark_is_nan(file: Path) -> bytes:
    """Give the network of a file logits that are NaN for pictures that are darker than the mean."""
    proto = onnx.load(file)
    axes = onnx.helper.make_tensor("axes", onnx.TensorProto.INT64, [3], [1, 2, 3])
    shape = onnx.helper.make_tensor("column", onnx.TensorProto.INT64, [2], [-1, 1])
    proto.graph.initializer.extend([axes, shape])
    output = proto.graph.output[0].name
    proto.graph.node[-1].output[0] = "own"
    make = onnx.helper.make_node
    proto.graph.node.extend(
        [
            make("ReduceMean", [proto.graph.input[0].name, "axes"], ["level"], keepdims=0),
            make("Sqrt", ["level"], ["root"]),
            make("Reshape", ["root", "column"], ["roots"]),
            make("Add", ["own", "roots"], [output]),
        ]
    )
    onnx.save(proto, file)
    return file.read_bytes()

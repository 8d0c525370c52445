"""What do these pictures show? `python infer.py IMAGE…` Needs numpy, pillow and onnxruntime, and model.json beside this file."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from PIL import Image, ImageOps

HERE = Path(__file__).resolve().parent
MODEL = json.loads((HERE / "model.json").read_text(encoding="utf-8"))


def prepare(path: str, size: Sequence[int], channels: int, mean: list[float], std: list[float]) -> NDArray[np.float32]:
    """A picture as the network takes it: (1, C, H, W) float32."""
    with Image.open(path) as image:
        if image.mode.startswith(("I", "F")):
            raise ValueError(f"more than 8 bits a channel (mode {image.mode})")
        image.load()
        opaque = image.convert("RGBA") if image.mode == "P" and "transparency" in image.info else image
        upright = ImageOps.exif_transpose(opaque).convert("L" if channels == 1 else "RGB")
    height, width = size
    if upright.size != (width, height):
        scale = max(height / upright.height, width / upright.width)
        cover = max(width, round(upright.width * scale)), max(height, round(upright.height * scale))
        left, top = (cover[0] - width) // 2, (cover[1] - height) // 2
        for target in ((cover[0], upright.height), cover):  # rows first, then columns, whatever Pillow prefers
            upright = upright.resize(target, Image.Resampling.BILINEAR)
        upright = upright.crop((left, top, left + width, top + height))
    pixels = np.asarray(upright, np.float64).reshape(height, width, channels)
    return ((pixels / 255 - mean) / std).transpose(2, 0, 1)[None].astype(np.float32)


def main(paths: list[str]) -> int:
    """Print the three likeliest labels of each picture, the likeliest first; 1 if a picture cannot be read."""
    rule, failed = {key: MODEL["preprocessing"][key] for key in ("size", "channels", "mean", "std")}, 0
    network = HERE / next(iter(MODEL["precisions"].values()))["file"]
    session = onnxruntime.InferenceSession(str(network), providers=["CPUExecutionProvider"])
    for path in paths:
        try:
            logits = session.run(None, {MODEL["inputs"][0]["name"]: prepare(path, **rule)})[0][0]
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            print(f"infer.py: {path} cannot be read as an image: {error}", file=sys.stderr)
            failed = 1
            continue
        share = np.exp(logits - logits.max()) / np.exp(logits - logits.max()).sum()
        best = [f"{MODEL['labels'][i]} {share[i]:.4f}" for i in np.argsort(-share, kind="stable")[:3]]
        print(path, *best, sep="\t")
    return failed


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]) if sys.argv[1:] else __doc__)

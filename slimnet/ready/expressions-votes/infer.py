"""What do these pictures show? `python infer.py IMAGE…` Needs numpy, pillow and onnxruntime, and model.json beside this file."""

import json
import sys
from contextlib import suppress
from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from PIL import Image, ImageOps

HERE = Path(__file__).resolve().parent
MODEL = json.loads((HERE / "model.json").read_text(encoding="utf-8"))


def prepare(path: str, size: list[int], channels: int, mean: list[float], std: list[float]) -> NDArray[np.float32]:
    """A picture as the network takes it: (1, C, H, W) float32."""
    with Path(path).open("rb") as file, Image.open(file) as image:  # no path: Pillow would garble a turned TIFF
        if image.mode == "F" or (image.mode == "I" and image.format not in ("PNG", "PPM")):
            raise ValueError(f"32 bits a value (mode {image.mode})")
        image.load()
        with suppress(Exception):  # damaged EXIF
            ImageOps.exif_transpose(image, in_place=True)
    shallow = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8)) if image.mode.startswith("I") else image
    opaque = shallow.convert("RGBA") if shallow.mode == "P" and "transparency" in shallow.info else shallow
    coloured = opaque.convert("RGB") if opaque.mode == "YCbCr" else opaque  # one rule of grey for all
    picture = coloured.convert("L" if channels == 1 else "RGB")
    height, width = size
    scale = max(height / picture.height, width / picture.width)
    cover = max(width, round(picture.width * scale)), max(height, round(picture.height * scale))
    for target in ((cover[0], picture.height), cover):  # rows first, then columns, whatever Pillow prefers
        picture = picture.resize(target, Image.Resampling.BILINEAR)
    pixels = np.asarray(picture, np.float64)[(cover[1] - height) // 2 :, (cover[0] - width) // 2 :][:height, :width]
    return ((pixels.reshape(height, width, channels) / 255 - mean) / std).transpose(2, 0, 1)[None].astype(np.float32)


def shown(text: str) -> str:
    """On one line, with what a terminal would obey as escapes: names come from anybody."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def complain(what: str, error: Exception | str) -> int:
    """Say on one line what went wrong; 1."""
    print(shown(f"infer.py: {what}: {' '.join(str(error).split())}"), file=sys.stderr)
    return 1


def main(paths: list[str]) -> int:
    """Print the three likeliest labels of each picture, the likeliest first; 1 if one cannot be read, or the network fails.

    Before them stands "unsure" where the first is less probable than `unsure_below` of model.json.
    """
    rule, failed = {key: MODEL["preprocessing"][key] for key in ("size", "channels", "mean", "std")}, 0
    entry = next(iter(MODEL["precisions"].values()))
    network, temperature = HERE / entry["file"], entry.get("confidence", {}).get("temperature", 1.0)
    try:
        session = onnxruntime.InferenceSession(str(network), providers=["CPUExecutionProvider"])
    except Exception as error:
        return complain(f"{network} cannot be opened", error)
    for path in paths:
        try:
            picture = prepare(path, **rule)
        except Exception as error:
            failed = complain(f"{path} cannot be read as an image", error)
            continue
        try:
            logits = session.run(None, {MODEL["inputs"][0]["name"]: picture})[0][0]
        except Exception as error:
            return complain(f"{network} does not run", error)
        if not np.isfinite(logits).all():
            failed = complain(f"{path} cannot be classified", "the network gives NaN or infinity for it")
            continue
        powers = np.exp((logits - logits.max()) / temperature)
        share = powers / powers.sum()
        best = [f"{MODEL['labels'][i]} {share[i]:.4f}" for i in np.argsort(-share, kind="stable")[:3]]
        unsure = ["unsure"] if share.max() < MODEL.get("unsure_below", 0.0) else []
        print(*map(shown, (path, *unsure, *best)), sep="\t")
    return failed


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]) if sys.argv[1:] else __doc__)

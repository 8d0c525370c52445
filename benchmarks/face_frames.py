"""What is to be cut out around a box that a detector gives, so that the classifier sees what it was trained on.

    SLIMNET_DATA=… python benchmarks/face_frames.py [FOLDER]

FOLDER as in detectors.py. FER2013's faces are put on grounds with texture, 120 pixels large, and found by each detector. A
frame is a square whose side is the root of the box's area times a factor, and whose centre lies above it by a share of that root.
It is measured twice. On 300 of FER2013's faces (validation): the median of what maps the box to the face as FER2013 cut it; but a
detector that looks at the whole head is misled by faces that are cut so tightly. On photographs: the median of what maps its box
to the cascade's, times what maps the cascade's to FER2013's cut. slimnet's frames stand in the middle between the two. With them,
the accuracy of the shipped classifier on 300 faces of the test split, among those that were found, beside the box as it is and
the face as FER2013 cut it; then the same faces turned by 20 and 40 degrees: the accuracy as they are, and turned back by the line
between the eyes that the detector gives.

About 4 minutes. Writes results/face_frames.json.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from _detectors import Find, blazeface, cascade, centerface
from _face_scenes import FRONTAL, Scene, Truth, empty, photographs
from _results import write_result
from _runs import data_dir
from _tables import Result, measured, of_runs, percent, table
from detectors import matched
from PIL import Image

from slimnet.data import load_data
from slimnet.detect import Face
from slimnet.detect import blazeface as blaze
from slimnet.detect import centerface as center
from slimnet.detect.boxes import Frame
from slimnet.pictures.picture import turned
from slimnet.predict import Predictor
from slimnet.predict.faces import LEVEL
from slimnet.ready import ready_bundle

SIDE, CANVAS, COUNT = 120, 320, 300
FACTORS = (1.0, 1.05, 1.1, 1.15, 1.2, 1.3)
TURNS = (0, 20, 40)
FIND = {"cascade": cascade, "blazeface": blazeface((192, 384)), "centerface": centerface(1280)}
FRAMES = {"cascade": Frame(1.0, 0.0), "blazeface": blaze.FRAME, "centerface": center.FRAME}


def placed(face: Any, ground: Image.Image, turn: float) -> Image.Image:
    """A face in the middle of a ground, turned."""
    picture = ground.resize((CANVAS, CANVAS))
    piece = Image.fromarray(face).convert("RGB").resize((SIDE, SIDE), Image.Resampling.BICUBIC)
    mask = Image.new("L", piece.size, 255)
    piece, mask = (each.rotate(turn, Image.Resampling.BICUBIC, expand=True) for each in (piece, mask))
    picture.paste(piece, ((CANVAS - piece.width) // 2, (CANVAS - piece.height) // 2), mask)
    return picture


def cut(picture: Image.Image, face: Face, factor: float, rise: float, *, upright: bool = False) -> Image.Image:
    """A frame of a box; upright: turned so that the eyes stand level."""
    side = float(np.sqrt(face.width * face.height))
    x, y = face.x + face.width / 2, face.y + face.height / 2
    y, half = y - rise * side, factor * side / 2
    left, top, right, bottom = (round(value) for value in (x - half, y - half, x + half, y + half))
    if upright and abs(face.tilt) >= LEVEL:
        return turned(picture, (left, top, right, bottom), face.tilt)
    return picture.crop((left, top, right, bottom))


def accuracy(predictor: Predictor, pictures: Sequence[Image.Image], labels: Sequence[int]) -> float:
    """Share of right answers."""
    found = predictor.predict(pictures)
    return float(np.mean([each.index == label for each, label in zip(found, labels, strict=True)]))


def faces_of(split: Any, grounds: Sequence[Image.Image], find: Find, turn: int) -> list[tuple[Image.Image, Face, int, int]]:
    """Faces of a split that a detector finds: the picture, the box, the label and the number."""
    found = []
    for number in range(COUNT):
        sign = 1 if number % 2 else -1
        picture = placed(split.images[number, 0].numpy(), grounds[number % len(grounds)], sign * turn)
        truth = Truth((CANVAS - SIDE) / 2, (CANVAS - SIDE) / 2, SIDE, SIDE)
        (face,) = matched([truth], find(picture))
        if face is not None:
            found.append((picture, face, int(split.labels[number]), number))
    return found


def between(a: tuple[float, float, float], b: Face) -> tuple[float, float]:
    """Factor and rise that map a box to a square, which is given by its centre and its side."""
    root = float(np.sqrt(b.width * b.height))
    return a[2] / root, (b.y + b.height / 2 - a[1]) / root


def on_photographs(scenes: Sequence[Scene], find: Find, reference: Find) -> dict[str, Any]:
    """What maps a detector's boxes to the cascade's, on frontal faces that both find."""
    pairs = []
    for scene in scenes:
        both = zip(matched(scene.faces, reference(scene.picture)), matched(scene.faces, find(scene.picture)), strict=True)
        pairs += [(a, b) for number, (a, b) in enumerate(both) if a and b and number in FRONTAL.get(scene.name, ())]
    found = [between((a.x + a.width / 2, a.y + a.height / 2, float(np.sqrt(a.width * a.height))), b) for a, b in pairs]
    factor, rise = np.median(found, axis=0).tolist()
    return {"faces": len(found), "factor": factor, "rise": rise, "spread": np.std(found, axis=0).tolist()}


def measure(name: str, find: Find, data: Any, grounds: Sequence[Image.Image], predictor: Predictor) -> dict[str, Any]:
    """One detector on FER2013's faces."""

    def of(found: Any, frame: Frame, *, upright: bool = False) -> float:
        pictures = [cut(picture, face, *frame, upright=upright) for picture, face, _, _ in found]
        return accuracy(predictor, pictures, [label for _, _, label, _ in found])

    found, frame = faces_of(data.val, grounds, find, 0), FRAMES[name]
    factor, rise = np.median([between((CANVAS / 2, CANVAS / 2, SIDE), face) for _, face, _, _ in found], axis=0).tolist()
    by_factor = {str(each): of(found, Frame(each, frame.rise)) for each in FACTORS}
    test = []
    for turn in TURNS:
        faces = faces_of(data.test, grounds, find, turn)
        row = {"turn": turn, "found": len(faces), "box": of(faces, Frame(1.0, 0.0)), "frame": of(faces, frame)}
        originals = [Image.fromarray(data.test.images[number, 0].numpy()) for *_, number in faces]
        row["original"] = accuracy(predictor, originals, [label for _, _, label, _ in faces])
        if any(face.eyes is not None for _, face, _, _ in faces):
            row["upright"] = of(faces, frame, upright=True)
        test.append(row)
    values = {"fer2013": {"faces": len(found), "factor": factor, "rise": rise}, "frame": list(frame), "by_factor": by_factor,
              "test": test}  # fmt: skip
    print(name, values, flush=True)
    return values


def main() -> None:
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "build/detectors")
    data = load_data("fer2013", data_dir=str(data_dir()))
    grounds = [scene.picture for scene in empty(folder) if min(scene.picture.size) >= 256]
    predictor, scenes = Predictor(ready_bundle("expressions"), threads=1), list(photographs(folder))
    finders = {name: make(folder) for name, make in FIND.items()}
    rows = {}
    for name, find in finders.items():
        rows[name] = measure(name, find, data, grounds, predictor)
        if name != "cascade":
            rows[name]["photographs"] = on_photographs(scenes, find, finders["cascade"])
            print(rows[name]["photographs"], flush=True)
    write_result("face_frames", {"faces": COUNT, "side": SIDE, "detectors": rows})


@of_runs("face_frames")
def measures_table(runs: list[Result]) -> str:
    """Where FER2013's cut lies in each detector's boxes."""
    r, rows = runs[0], []
    base = r["detectors"]["cascade"]["fer2013"]
    for name, each in r["detectors"].items():
        fer, real = each["fer2013"], each.get("photographs")
        shown = "–"
        if real is not None:
            factor, rise = real["factor"] * base["factor"], real["rise"] + real["factor"] * base["rise"]
            shown = f"× {factor:.2f}, {rise:.3f} up ({real['faces']} faces)"
        rows.append((name, f"× {fer['factor']:.2f}, {fer['rise']:.3f} up ({fer['faces']} faces)", shown,
                     f"× {each['frame'][0]:g}, {each['frame'][1]:g} up"))  # fmt: skip
    head = (
        "detector",
        "box to FER2013's cut, on its faces",
        "the same by the cascade's boxes, on photographs",
        "frame in slimnet",
    )
    return table(head, rows) + f"\n\n{measured(r)}."


@of_runs("face_frames")
def frames_table(runs: list[Result]) -> str:
    """What it is good for."""
    r = runs[0]
    rows = [
        (
            name,
            f"{test['turn']}°",
            f"{test['found']} of {r['faces']}",
            percent(test["original"], 1),
            percent(test["box"], 1),
            percent(test["frame"], 1),
            percent(test["upright"], 1) if "upright" in test else "gives no eyes",
        )
        for name, each in r["detectors"].items()
        for test in each["test"]
    ]
    head = ("detector", "turned by", "found", "accuracy on FER2013's cut, not turned", "on the box", "on the frame",
            "on the frame, upright by the eyes")  # fmt: skip
    return table(head, rows) + f"\n\nOf FER2013's test split, {r['side']} pixels large; {measured(r)}."


TABLES = {"face-frames": measures_table, "face-frames-accuracy": frames_table}


if __name__ == "__main__":
    main()

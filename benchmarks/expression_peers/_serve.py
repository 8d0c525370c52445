"""What the scripts of this folder share: a program that names expressions in faces when it is told to. No more than numpy.

Each script runs in the environment of its package. It reads orders from stdin, a JSON object a line, and answers each with one:

- at the start: ``{"ready": …}``, the versions of what runs and the ways in which it takes a face, the first the one that counts;
- ``{"do": "answer", "way": NAME, "faces": FILE.npy, "out": FILE.json}`` writes one label a face, in the package's own words, or
  null where it gives none; ``{"faces": N}``;
- ``{"do": "time", "faces": FILE.npy, "seconds": S}`` names one face after the other in the first way;
  ``{"ns": […], "busy": share}``: nanoseconds of each, and processor time over time.

Faces are uint8 (N, 48, 48), grey. Answers go to the file whose number ``PEER_ANSWERS`` is: packages print to stdout.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any, TextIO

import numpy as np

Face = Any
"""uint8 (48, 48)."""
Way = Callable[[Face], "str | None"]
"""A face in, the label of the package out; None where it gives none."""
LEAST = 3
"""Faces that are timed even where they take longer than was asked for."""


def serve(ways: Mapping[str, Way], packages: tuple[str, ...]) -> None:
    """Do as told until stdin ends."""
    answers = os.fdopen(int(os.environ["PEER_ANSWERS"]), "w", encoding="utf-8")
    versions = {"python": sys.version.split()[0], **{package: version(package) for package in packages}}
    _tell(answers, {"ready": {"versions": versions, "ways": list(ways)}})
    first = next(iter(ways.values()))
    kept: dict[str, Any] = {}
    for line in sys.stdin:
        order = json.loads(line)
        faces = kept.setdefault(order["faces"], np.load(order["faces"], allow_pickle=False))
        if order["do"] == "answer":
            labels = [ways[order["way"]](face) for face in faces]
            Path(order["out"]).write_text(json.dumps(labels), encoding="utf-8")
            _tell(answers, {"faces": len(labels)})
        else:
            _tell(answers, timed(first, _around(faces), order["seconds"]))


def timed(name: Way, faces: Iterator[Face], seconds: float) -> dict[str, Any]:
    """Nanoseconds of each face, for as long as is asked for."""
    found: list[int] = []
    began, processor = time.perf_counter(), time.process_time()
    while len(found) < LEAST or time.perf_counter() - began < seconds:
        face = next(faces)
        start = time.perf_counter_ns()
        name(face)
        found.append(time.perf_counter_ns() - start)
    return {"ns": found, "busy": (time.process_time() - processor) / (time.perf_counter() - began)}


def _around(faces: Any) -> Iterator[Face]:
    """All faces, again and again."""
    while True:
        yield from faces


def _tell(answers: TextIO, value: Mapping[str, Any]) -> None:
    answers.write(json.dumps(value) + "\n")
    answers.flush()

"""What the scripts of this folder share: rows of ``index.json``, and weights that show errors. Standard library and numpy alone.

Each script runs in the environment of its exporter: ``python torch_files.py FOLDER [NAME…]`` writes
``FOLDER/<exporter>-<name>.onnx`` and a row of each into ``FOLDER/<exporter>.json``.
A network that does not convert is a row with its ``error``.
"""

from __future__ import annotations

import json
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

Maker = Callable[[Path], dict[str, Any]]
"""Writes the file at a path; says what is special: ``special``, ``shape`` (the input's, with the letter N for any batch)."""


def make_files(exporter: str, packages: tuple[str, ...], makers: Mapping[str, Maker]) -> int:
    """Run the makers (all, or those that the command line names) and write their rows; the exit status."""
    folder, *wanted = sys.argv[1:]
    root = Path(folder)
    root.mkdir(parents=True, exist_ok=True)
    listed = root / f"{exporter}.json"
    rows = {row["name"]: row for row in json.loads(listed.read_text())} if listed.exists() else {}
    versions = {package: version(package) for package in packages}
    for name, make in makers.items():
        if wanted and name not in wanted:
            continue
        row = {"name": f"{exporter}-{name}", "exporter": exporter, "versions": versions}
        begun = time.monotonic()
        path = root / f"{row['name']}.onnx"
        try:
            row |= {"file": path.name, **make(path)}
        except Exception as error:
            path.unlink(missing_ok=True)
            traceback.print_exc()
            row["error"] = f"{type(error).__name__}: {error}".splitlines()[0][:300]
        rows[row["name"]] = row
        print(f"{row['name']}: {row.get('error', 'made')} ({time.monotonic() - begun:.0f} s)", flush=True)
        listed.write_text(json.dumps(list(rows.values()), indent=1))
    return 0

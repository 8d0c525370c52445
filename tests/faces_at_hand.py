"""The archive with BlazeFace's weights, as it was published."""

from __future__ import annotations

import os
from pathlib import Path

from skips import skip_without
from slimnet.detect import blazeface


def blazeface_archive() -> Path:
    """Its file, in the folder ``SLIMNET_DETECTORS``."""
    given, package = os.environ.get("SLIMNET_DETECTORS"), blazeface.WEIGHTS.package
    if not given or package is None or not (Path(given) / package.archive).is_file():
        skip_without("face detectors")
    return Path(given) / package.archive

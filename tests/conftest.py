from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

torch.set_num_threads(1)  # small networks: threads cost more than they give, and results do not depend on them


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder of real data sets and weights; a test that asks for it is skipped where there is none."""
    given = os.environ.get("SLIMNET_DATA")
    if not given or not Path(given).is_dir():
        pytest.skip("SLIMNET_DATA names no folder")
    return Path(given)

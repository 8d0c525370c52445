from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch

from skips import (  # noqa: F401  (hooks)
    pytest_make_collect_report,
    pytest_runtest_makereport,
    pytest_terminal_summary,
    skip_without,
)

if TYPE_CHECKING:
    from slimnet.export import Bundle

if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:  # as of a command in the background of a script; tests interrupt commands
    signal.signal(signal.SIGINT, signal.default_int_handler)
torch.set_num_threads(1)  # small networks: threads cost more than they give, and results do not depend on them


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder of real data sets and weights; a test that asks for it is skipped where there is none."""
    given = os.environ.get("SLIMNET_DATA")
    if not given or not Path(given).is_dir():
        skip_without("data")
    return Path(given)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A bundle that tells which half of a picture is bright; not to be changed."""
    from halves import make_bundle

    return make_bundle(tmp_path_factory.mktemp("bundle") / "halves")

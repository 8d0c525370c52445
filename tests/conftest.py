from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch

from browser import Browser, chromium, find_chromium
from skips import (  # noqa: F401  (hooks)
    pytest_make_collect_report,
    pytest_runtest_makereport,
    pytest_terminal_summary,
    skip_without,
)

if TYPE_CHECKING:
    from slimnet.export import Bundle
    from slimnet.measure.costs import Site

if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:  # as of a command in the background of a script; tests interrupt commands
    signal.signal(signal.SIGINT, signal.default_int_handler)
collect_ignore = ["toys"]  # parts of trees that tests/test_additions.py makes
torch.set_num_threads(1)  # small networks: threads cost more than they give, and results do not depend on them


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder of real data sets and weights; a test that asks for it is skipped where there is none."""
    given = os.environ.get("SLIMNET_DATA")
    if not given or not Path(given).is_dir():
        skip_without("data")
    return Path(given)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A headless Chromium with a profile of its own."""
    if find_chromium() is None:
        skip_without("chromium")
    with chromium() as running:
        yield running


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


@pytest.fixture
def detector(monkeypatch: pytest.MonkeyPatch) -> None:
    """Faces are painted ones, found without OpenCV."""
    from crowds import Squares
    from slimnet.predict import detectors

    monkeypatch.setattr(detectors, "maker", lambda detector, confidence: (None, Squares))


@pytest.fixture
def nothing_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An empty cache folder, and no package with a detector's weights."""
    from slimnet.detect import weights

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(weights.Weights, "_installed", lambda self: None)
    return tmp_path / "cache" / "slimnet"


@pytest.fixture
def imagined(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Site, int, int]]:
    """Costs are those of an imagined machine; the list holds what was probed."""
    from imagined_costs import imagine

    return imagine(monkeypatch)


@pytest.fixture(scope="session")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A bundle of what every bundle holds; not to be changed."""
    from export_cases import bundle_arguments
    from slimnet.export import write_bundle

    return write_bundle(tmp_path_factory.mktemp("bundles") / "deep" / "net", **bundle_arguments())


@pytest.fixture(scope="session")
def full(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A bundle of all that one can hold; not to be changed."""
    from export_cases import full_arguments
    from slimnet.export import write_bundle

    folder = tmp_path_factory.mktemp("full")
    return write_bundle(folder / "net", **full_arguments(folder))


@pytest.fixture
def copied(full: Bundle, tmp_path: Path) -> Path:
    """A copy of ``full``, to be changed."""
    return Path(shutil.copytree(full.path, tmp_path / "net"))

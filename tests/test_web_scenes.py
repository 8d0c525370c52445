"""Whole scenes: large pictures of several faces get the same answer from the page as from `slimnet predict`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from browser import Browser, Page, served
from slimnet.predict import Predictor
from slimnet.ready import ready_bundle
from slimnet.web import build_site
from web_pictures import largest_difference, shown
from web_runtime import published_runtime
from web_scenes import scene

SCENES: dict[str, tuple[tuple[int, int, int], dict[str, Any]]] = {  # (width, height, faces), how it is saved
    "street.png": ((1920, 1080, 6), {}),
    "tall.png": ((900, 2400, 4), {}),
    "wide.webp": ((3200, 800, 5), {"lossless": True, "method": 0}),
    "phone.jpg": ((4000, 3000, 9), {"quality": 95, "subsampling": 0}),
}
TOLERANCE = {"street.png": 1e-3, "tall.png": 1e-3, "wide.webp": 1e-3, "phone.jpg": 5e-3}


@pytest.fixture(scope="module")
def page(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    """Of the classifier that slimnet ships."""
    out = tmp_path_factory.mktemp("scenes") / "site"
    how: dict[str, Any] = {"runtime": published_runtime(), "detector": "none", "webgpu": False}
    with served(build_site(ready_bundle("expressions"), out, **how).path) as url:
        page = browser.page()
        page.open(url)
        page.wait("document.body.classList.contains('ready')")
        yield page


def on_page(page: Page, path: Path) -> dict[str, float]:
    """What the page says of a picture: its only network's probabilities."""
    (probabilities,) = shown(page, lambda: page.choose_files("#file", path)).values()
    return probabilities


def in_python(path: Path) -> dict[str, float]:
    """What `slimnet predict` says of the whole picture."""
    (expected,) = Predictor(ready_bundle("expressions"), top=7).predict([path])
    return {candidate.label: candidate.probability for candidate in expected.top}


@pytest.mark.parametrize("name", SCENES)
def test_page_and_python_agree_on_a_scene(page: Page, tmp_path: Path, name: str) -> None:
    size, how = SCENES[name]
    scene(*size).save(tmp_path / name, **how)
    expected = in_python(tmp_path / name)
    assert largest_difference(on_page(page, tmp_path / name), expected) <= TOLERANCE[name]
    headline = page.evaluate("document.getElementById('headline').textContent")
    assert headline.removeprefix("Unsure: perhaps ").startswith(max(expected, key=expected.__getitem__))


def test_scenes_differ(tmp_path: Path) -> None:
    """Or agreement on them would prove little."""
    found = []
    for name, (size, _) in SCENES.items():
        scene(*size).reduce(2).save(tmp_path / f"{name}.png")
        found.append(list(in_python(tmp_path / f"{name}.png").values()))
    distances = [np.abs(np.subtract(a, b)).max() for i, a in enumerate(found) for b in found[:i]]
    assert min(distances) > 10 * max(TOLERANCE.values()) / 5

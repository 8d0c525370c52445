"""How the page loads in a real browser: what is there first, what is told meanwhile, and what a network that fails gets."""

from __future__ import annotations

import gzip
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from PIL import Image

from browser import Browser, Page
from slimnet.files import read_json
from slimnet.web import SiteServer, build_site
from web_bundle import make_bundle
from web_pictures import CELLS, computed, largest_difference, noise, shown
from web_runtime import published_runtime

BINARY = "runtime/ort-wasm-simd-threaded.lean.wasm.gz"


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_bundle(tmp_path_factory.mktemp("loading") / "bundle", channels=3, size=(20, 28))


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, bundle: Path) -> Path:
    return build_site(bundle, tmp_path_factory.mktemp("loading") / "site", runtime=published_runtime()).path


class Slow(SiteServer):
    """Keeps some files back until they are let go, and has lost others."""

    held: dict[str, threading.Event]
    lost: set[str]

    def file_of(self, target: str) -> Path | None:
        name = target.partition("?")[0].removeprefix("/")
        if name in self.held:
            self.held[name].wait(60)
        return None if name in self.lost else super().file_of(target)


@contextmanager
def slow(site: Path, *, held: tuple[str, ...] = (), lost: tuple[str, ...] = ()) -> Iterator[Slow]:
    with Slow(site, tuple(read_json(site / "site.json")["files"]), 0) as server:
        server.held, server.lost = {name: threading.Event() for name in held}, set(lost)
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield server
        finally:
            for event in server.held.values():
                event.set()
            server.shutdown()
            thread.join()


def text(page: Page, name: str) -> str:
    return str(page.evaluate(f"document.getElementById('{name}').textContent"))


def progress_bars(page: Page) -> list[str]:
    """The name of each, as a screen reader gets it."""
    nodes = page.send("Accessibility.getFullAXTree")["nodes"]
    return [node["name"]["value"] for node in nodes if node["role"]["value"] in ("progressbar", "ProgressIndicator")]


def test_first_network_answers_while_others_are_on_their_way(browser: Browser, site: Path, bundle: Path, tmp_path: Path) -> None:
    """A picture is taken at once; it is answered by the first network, and then by all."""
    path = tmp_path / "a.png"
    Image.fromarray(noise(40, 50, 3)).save(path)
    expected = computed(bundle, Image.open(path))
    with slow(site, held=(BINARY, "dense.onnx")) as server:
        page = browser.page()
        page.open(server.url)
        page.wait("!document.getElementById('file').disabled")
        page.choose_files("#file", path)
        page.wait("document.getElementById('headline').textContent.startsWith('The answer follows')")
        assert page.evaluate("document.getElementById('preview').width") == 50
        page.wait("document.getElementById('bar').max > 1e6")
        assert progress_bars(page) == ["Loading the networks"]
        assert page.evaluate("document.getElementById('bar').getAttribute('aria-valuetext')").startswith("0.0 of 1.")
        assert "Loading the networks: 0.0 of 1." in text(page, "state")
        server.held[BINARY].set()
        page.wait("document.body.classList.contains('answered')")
        top = max(expected["slim"], key=expected["slim"].__getitem__)
        assert text(page, "headline").startswith(top)
        rows = page.evaluate("[...document.querySelectorAll('#table .top td')].map((cell) => cell.textContent)")
        assert (rows[0], rows[2]) == ("–", "–")
        assert abs(float(rows[1].removesuffix(" %")) - 100 * expected["slim"][top]) < 0.2
        assert not page.evaluate("document.body.classList.contains('ready')")
        server.held["dense.onnx"].set()
        page.wait("document.body.classList.contains('ready')")
        page.wait(f"[...document.querySelectorAll('{CELLS}')].every((cell) => cell.textContent !== '–')")
        again = shown(page, lambda: page.choose_files("#file", path))
        for network, probabilities in expected.items():
            assert largest_difference(again[network], probabilities) <= 1e-3, network
        assert progress_bars(page) == []
        assert page.problems == []


@pytest.mark.parametrize("name", ["site.json", "worker.js", "runtime/ort.wasm.bundle.min.js", BINARY, "model.onnx", "dense.onnx"])
def test_what_fails_can_be_tried_again(browser: Browser, site: Path, tmp_path: Path, name: str) -> None:
    """A line, and a button; the picture that was chosen meanwhile is not forgotten."""
    Image.fromarray(noise(30, 30, 3)).save(tmp_path / "a.png")
    with slow(site, lost=(name,)) as server:
        page = browser.page()
        page.open(server.url)
        page.wait("!document.getElementById('error').hidden && !document.getElementById('again').hidden")
        line = text(page, "error-text")
        assert line.endswith(("is there a network?", "build the site again.")) or "Failed to fetch" in line
        assert text(page, "state") == "Not everything is loaded."
        assert not page.evaluate("document.body.classList.contains('ready')")
        page.choose_files("#file", tmp_path / "a.png")
        page.wait("document.body.classList.contains('shown')")
        assert not page.evaluate("document.getElementById('again').hidden")
        server.lost.clear()
        page.evaluate("document.getElementById('again').click()")
        page.wait("document.body.classList.contains('ready') && document.body.classList.contains('answered')")
        assert page.evaluate("document.getElementById('error').hidden")


def test_host_that_unpacks_what_it_sends(browser: Browser, site: Path, tmp_path: Path) -> None:
    """Some hosts say of a .gz file that it is an encoding. The browser unpacks it, and the page gets what is in it."""
    copy = shutil.copytree(site, tmp_path / "site")
    (copy / BINARY).write_bytes(gzip.decompress((site / BINARY).read_bytes()))
    with slow(copy) as server:
        page = browser.page()
        page.open(server.url)
        page.wait("document.body.classList.contains('ready')")
        assert page.evaluate("document.getElementById('error').hidden")

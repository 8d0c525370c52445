"""The runtime without what is never called: what is left out traps, and a page that needs it loads the whole."""

from __future__ import annotations

import hashlib
import json
from importlib.resources import files
from pathlib import Path

import pytest
from PIL import Image

import slimnet.web.runtime
from browser import Browser, chromium, find_chromium, served
from skips import skip_without
from slimnet.ready import ready_bundle, ready_names
from slimnet.web import build_site, fetch_runtime
from slimnet.web.lean import coded, lean, number_at, sections, with_bodies
from web_bundle import make_bundle
from web_pictures import computed, largest_difference, noise, shown
from web_runtime import published_runtime

WHOLE, LEAN = "runtime/ort-wasm-simd-threaded.wasm.gz", "runtime/ort-wasm-simd-threaded.lean.wasm.gz"
# (func (export "a") (result i32) i32.const 7) (func (export "b") (result i32) i32.const 9)
MODULE = bytes.fromhex(
    "0061736d01000000 0105016000017f 0303020000 070902 016100 00 016200 01 0a0b02 0400 4107 0b 0400 4109 0b".replace(" ", "")
)
KEPT = """caches.keys().then((names) => Promise.all(names.map(async (name) => (await caches.open(name)).keys())))
  .then((all) => all.flat().map(({ url }) => url))"""
TRAP = b"\x03\x00\x00\x0b"


@pytest.mark.parametrize("value", [0, 1, 127, 128, 300, 16383, 16384, 14_239_897, 2**32 - 1])
def test_numbers_are_read_as_they_are_written(value: int) -> None:
    assert number_at(b"\xff" + coded(value) + b"\xff", 1) == (value, 1 + len(coded(value)))


def test_a_body_is_replaced_and_the_rest_stays() -> None:
    changed = with_bodies(MODULE, lambda number, body: body if number == 0 else TRAP)
    assert dict(sections(changed))[10] == b"\x02" + bytes.fromhex("040041070b") + TRAP
    before, after = dict(sections(MODULE)), dict(sections(changed))
    assert {kind: after[kind] for kind in after if kind != 10} == {kind: before[kind] for kind in before if kind != 10}
    assert with_bodies(MODULE, lambda _, body: body) == MODULE


def test_what_is_left_out_traps(tmp_path: Path) -> None:
    """In a WebAssembly engine, not by our own reading of the format."""
    if find_chromium() is None:
        skip_without("chromium")
    (tmp_path / "a.wasm").write_bytes(with_bodies(MODULE, lambda number, body: body if number == 0 else TRAP))
    (tmp_path / "index.html").write_text("<!doctype html>")
    call = "(name) => { try { return instance.exports[name](); } catch (error) { return error.constructor.name; } }"
    script = f"""fetch('a.wasm').then((r) => r.arrayBuffer()).then((data) => WebAssembly.instantiate(data))
      .then(({{ instance }}) => ['a', 'b'].map({call}))"""
    with served(tmp_path) as url, chromium() as browser:
        page = browser.page()
        page.open(url)
        assert page.evaluate(script) == [7, "RuntimeError"]


def test_another_binary_stays_whole() -> None:
    assert lean(MODULE) is None


def test_list_is_of_the_binary_that_is_fetched() -> None:
    """Or no page would be lean any more, and nobody would notice: run benchmarks/lean_runtime.py for a new version."""
    archive = fetch_runtime(published_runtime())
    binary = slimnet.web.runtime._members(archive, {"package/dist/ort-wasm-simd-threaded.wasm"}).popitem()[1]
    listed = json.loads(files("slimnet.web").joinpath("lean-functions.json").read_text(encoding="utf-8"))
    assert hashlib.sha256(binary).hexdigest() == listed["sha256"]
    for detector, key in ((False, "networks"), (True, "with_detector")):
        few = lean(binary, detector=detector)
        assert few is not None and len(few) < len(binary) / 2
        bodies: list[bytes] = []
        assert with_bodies(few, lambda _, body, bodies=bodies: bodies.append(body) or body) == few  # type: ignore[misc]
        kept, called = sum(body != TRAP for body in bodies), listed[key]["called"]
        assert len(bodies) == listed["of"] and called - 5 <= kept <= called  # some bodies trap of themselves
    assert listed["networks"]["called"] < listed["with_detector"]["called"]


@pytest.mark.parametrize("name", ready_names())
def test_shipped_bundles_need_the_lean_one_alone(browser: Browser, tmp_path: Path, name: str) -> None:
    """A bundle that calls other functions: run benchmarks/lean_runtime.py."""
    folder = build_site(ready_bundle(name), tmp_path / "site", runtime=published_runtime(), detector="none", webgpu=False).path
    Image.fromarray(noise(64, 64, 3)).save(tmp_path / "a.png")
    with served(folder) as url:
        page = browser.page()
        page.open(url)
        page.wait("document.body.classList.contains('ready')")
        shown(page, lambda: page.choose_files("#file", tmp_path / "a.png"))
        page.wait("document.getElementById('conditions').textContent")
        assert url + LEAN in page.requests
        assert url + WHOLE not in page.requests


def test_page_that_needs_more_loads_the_whole(browser: Browser, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a lean binary in which nothing is left: the answers are those of the whole one."""
    monkeypatch.setattr(slimnet.web.runtime, "lean", lambda binary, **_: with_bodies(binary, lambda *_: TRAP))
    bundle = make_bundle(tmp_path / "bundle", channels=3, size=(20, 28))
    folder = build_site(bundle, tmp_path / "site", runtime=published_runtime(), webgpu=False).path
    Image.fromarray(noise(40, 50, 3)).save(tmp_path / "a.png")
    with served(folder) as url:
        page = browser.page()
        page.open(url)
        page.wait("document.body.classList.contains('ready')")
        got = shown(page, lambda: page.choose_files("#file", tmp_path / "a.png"))
        assert {url + LEAN, url + WHOLE} <= set(page.requests)
        assert page.evaluate("document.getElementById('error').hidden")
        page.wait("document.body.classList.contains('offline')")
        kept = page.evaluate(KEPT)
    for network, probabilities in computed(bundle, Image.open(tmp_path / "a.png")).items():
        assert largest_difference(got[network], probabilities) <= 1e-3, network
    assert {url + LEAN, url + WHOLE} <= set(kept)

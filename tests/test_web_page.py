"""The page in a real browser: what it shows is what Python computes. Skipped without Chromium or the kept runtime."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

import slimnet.web.site
from browser import Browser, Page, chromium, find_chromium, served
from skips import skip_without
from slimnet.bundle.seal import sealed
from slimnet.files import read_json
from slimnet.pictures.picture import converted, fitted
from slimnet.predict import Predictor
from slimnet.preprocess import describe, prepare
from slimnet.ready import ready_bundle
from slimnet.web import SiteServer, build_site
from web_bundle import make_bundle
from web_pictures import NETWORKS, PICTURES, SIZES, computed, dark_is_nan, largest_difference, noise, shown
from web_runtime import published_runtime

STATIC = Path(slimnet.web.site.__file__).parent / "static"
FLAGS = ("--enable-unsafe-swiftshader", "--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream")
WEBGPU = ("--enable-unsafe-webgpu", "--use-webgpu-adapter=swiftshader")


HARMLESS = "No available adapters|GPU stall"  # there is no WebGPU; pixels are read back from WebGL
TOLERANCE = {"dense": 1e-3, "slim": 1e-3, "slim int8": 1e-3}


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    if find_chromium() is None:
        skip_without("chromium")
    with chromium(*FLAGS) as running:
        yield running


# preprocessing


@pytest.fixture(scope="module")
def modules(browser: Browser) -> Iterator[Page]:
    """A page from which the site's modules can be imported."""
    with served(STATIC) as url:
        page = browser.page()
        page.open(f"{url}icon.svg")
        yield page


def in_browser(page: Page, function: str, pixels: NDArray[np.uint8], *arguments: Any) -> Any:
    """Call a function of preprocess.js with RGBA bytes; typed arrays come back as lists."""
    data = base64.b64encode(pixels.tobytes()).decode()
    height, width, _ = pixels.shape
    return page.evaluate(
        f"""(async () => {{
          const module = await import('/preprocess.js');
          const data = Uint8ClampedArray.from(atob('{data}'), (c) => c.charCodeAt(0));
          const rgba = {{ data, width: {width}, height: {height} }};
          return ({function})(module, rgba, ...{list(arguments)});
        }})()"""
    )


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", SIZES)
def test_resizing_is_pillows(modules: Page, size: tuple[int, int], channels: int) -> None:
    """Every byte of every size."""
    for width, height in SIZES[size]:
        pixels = np.dstack([noise(height, width, 3), np.full((height, width), 255, np.uint8)])
        expected = fitted(converted(Image.fromarray(pixels), channels), size)
        function = "(m, rgba, channels, h, w) => [...m.fit(m.convert(rgba, channels), w, h).data]"
        got = in_browser(modules, function, pixels, channels, *size)
        assert np.array_equal(got, np.asarray(expected).ravel()), (width, height)


def test_grey_is_pillows(modules: Page) -> None:
    """All levels of each channel, and a million colours' worth of rounding."""
    steps = np.arange(0, 256, 5, dtype=np.uint8)
    colours = np.stack(np.meshgrid(steps, steps, steps), -1).reshape(len(steps), -1, 3)
    pixels = np.dstack([colours, np.full(colours.shape[:2], 255, np.uint8)])
    expected = np.asarray(converted(Image.fromarray(pixels), 1))
    got = in_browser(modules, "(m, rgba) => btoa(String.fromCharCode(...m.convert(rgba, 1).data.slice(0, 60000)))", pixels)
    assert base64.b64decode(got) == expected.tobytes()[:60000]


@pytest.mark.parametrize("channels", [1, 3])
def test_input_is_pythons_to_the_last_bit(modules: Page, channels: int) -> None:
    pixels = np.dstack([noise(90, 70, 3), np.full((90, 70), 255, np.uint8)])
    mean, std = [0.5020655443037543, 0.4, 0.1][:channels], [0.2556479633738049, 0.3, 1.0][:channels]
    preprocessing = describe(size=(24, 32), channels=channels, mean=mean, std=std)
    function = "(m, rgba, ...p) => [...m.prepare(rgba, {channels: p[0], size: [24, 32], mean: p[1], std: p[2]}).values]"
    got = np.array(in_browser(modules, function, pixels, channels, mean, std), np.float32)
    assert np.array_equal(got, prepare(Image.fromarray(pixels), preprocessing).ravel())


# the page


@pytest.fixture(scope="module")
def runtime() -> Path:
    return published_runtime()


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_bundle(tmp_path_factory.mktemp("page") / "bundle", channels=3, size=(20, 28))


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, bundle: Path, runtime: Path) -> Path:
    folder = tmp_path_factory.mktemp("page")
    Image.fromarray(noise(40, 40, 3, seed=9)).save(folder / "example.png")
    return build_site(bundle, folder / "site", runtime=runtime, examples=[folder / "example.png"]).path


@pytest.fixture(scope="module")
def address(site: Path) -> Iterator[str]:
    """From slimnet's own server, whose headers are stricter than any static host's."""
    with SiteServer(site, tuple(read_json(site / "site.json")["files"]), 0) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server.url
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def page(browser: Browser, address: str) -> Page:
    """The page, open and ready."""
    page = browser.page()
    page.open(address)
    page.wait("document.body.classList.contains('ready')")
    return page


@pytest.fixture(autouse=True)
def _no_problems(request: pytest.FixtureRequest) -> Iterator[None]:
    """Nothing is asked for elsewhere, and the console stays empty."""
    yield
    if "page" in request.fixturenames:
        page, address = request.getfixturevalue("page"), request.getfixturevalue("address")
        assert [url for url in page.requests if not url.startswith((address, "blob:"))] == []
        assert [problem for problem in page.problems if not re.search(HARMLESS, problem)] == []


@pytest.mark.parametrize("name", PICTURES)
def test_page_shows_what_python_computes(page: Page, bundle: Path, tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    PICTURES[name](path)
    expected = computed(bundle, Image.open(path))
    got = shown(page, lambda: page.choose_files("#file", path))
    for network, probabilities in expected.items():
        assert largest_difference(got[network], probabilities) <= TOLERANCE[network], network
    top = max(expected["slim"], key=expected["slim"].__getitem__)
    assert page.evaluate("document.getElementById('headline').textContent").startswith(top)
    assert page.evaluate("document.querySelector('#table .top').cells[0].textContent") == top


def test_pictures_differ(bundle: Path, tmp_path: Path) -> None:
    """Or the test above would prove little."""
    found = []
    for name, make in PICTURES.items():
        make(tmp_path / name)
        found.append(list(computed(bundle, Image.open(tmp_path / name))["slim"].values()))
    distances = [np.abs(np.subtract(a, b)).max() for i, a in enumerate(found) for b in found[:i]]
    assert min(distances) > 0.01


def test_times_are_shown(page: Page, tmp_path: Path) -> None:
    """A time each, and ratios in which dense is the baseline."""
    Image.fromarray(noise(20, 28, 3)).save(tmp_path / "a.png")
    shown(page, lambda: page.choose_files("#file", tmp_path / "a.png"))
    page.wait("document.getElementById('conditions').textContent")
    rows = page.evaluate(
        """[...document.querySelectorAll('.costs tr')].map((row) =>
          [row.cells[0].textContent, [...row.querySelectorAll('data')].map((data) => Number(data.value))])"""
    )
    costs = dict(rows)
    assert list(costs) == ["Accuracy", "Size", "Time per frame", "Speed"]
    assert costs["Accuracy"] == [0.75, 0.5]
    assert all(time > 0 for time in costs["Time per frame"])
    assert len(costs["Time per frame"]) == 3
    assert costs["Speed"][0] == 1
    assert "WebAssembly, 1 thread" in page.evaluate("document.getElementById('conditions').textContent")


def test_speed_is_the_median_of_ratios_within_rounds(modules: Page) -> None:
    """Not the ratio of medians; and only the last rounds count."""
    got = modules.evaluate(
        """import('/stopwatch.js').then(({ Stopwatch, ROUNDS }) => {
          const watch = new Stopwatch();
          for (let i = 0; i < 50; i++) watch.add({ dense: 1000, slim: 1 });
          for (const [dense, slim] of [[2, 1], [9, 3], [4, 4]]) {
            for (let i = 0; i < ROUNDS / 3; i++) watch.add({ dense, slim });
          }
          return [watch.count, watch.times(), watch.speeds('dense')];
        })"""
    )
    assert got == [30, {"dense": 4, "slim": 3}, {"dense": 1, "slim": 2}]


def test_of_many_labels_the_likeliest_are_shown(page: Page) -> None:
    few, every, top = page.evaluate(
        """import('./table.js').then(({ Table }) => {
          const host = document.createElement('table');
          host.createCaption();
          const labels = Array.from({ length: 30 }, (_, i) => `label ${i}`);
          const table = new Table(host, labels, [{ name: 'dense', bytes: 2e6 }, { name: 'slim', bytes: 1e5 }], 'slim');
          const slim = Float64Array.from(labels, (_, i) => i / 435);
          const { label } = table.update({ dense: slim.toReversed(), slim });
          const rows = () => [...host.tBodies[0].rows].map((row) => row.cells[0].textContent);
          const few = rows();
          table.all = true;
          return [few, rows(), label];
        })"""
    )
    assert top == "label 29"
    assert few == [f"label {i}" for i in range(29, 17, -1)]
    assert every == [f"label {i}" for i in range(30)]


@pytest.mark.parametrize(
    "give",
    [
        "document.dispatchEvent(new ClipboardEvent('paste', { clipboardData: data, bubbles: true }))",
        "document.body.dispatchEvent(new DragEvent('drop', { dataTransfer: data, bubbles: true, cancelable: true }))",
        "document.querySelector('#examples button').click()",
    ],
    ids=["paste", "drop", "example"],
)
def test_other_ways_in(page: Page, bundle: Path, site: Path, give: str) -> None:
    script = f"""(async () => {{
      const data = new DataTransfer();
      data.items.add(new File([await (await fetch('example-1.png')).blob()], 'a.png', {{ type: 'image/png' }}));
      {give};
    }})()"""
    got = shown(page, lambda: page.evaluate(script))
    assert largest_difference(got["slim"], computed(bundle, Image.open(site / "example-1.png"))["slim"]) <= 1e-3


def test_no_picture_gets_a_line(page: Page, bundle: Path, site: Path, tmp_path: Path) -> None:
    (tmp_path / "text.png").write_text("no picture")
    page.choose_files("#file", tmp_path / "text.png")
    line = page.wait("!document.getElementById('error').hidden && document.getElementById('error-text').textContent")
    assert line == "text.png is no picture that this browser can read."
    got = shown(page, lambda: page.choose_files("#file", site / "example-1.png"))
    assert largest_difference(got["slim"], computed(bundle, Image.open(site / "example-1.png"))["slim"]) <= 1e-3
    assert page.evaluate("document.getElementById('error').hidden")


def test_no_answer_of_nan(browser: Browser, bundle: Path, runtime: Path, tmp_path: Path) -> None:
    """A network that is NaN for dark pictures: a line for these, and nothing stays that is of another picture."""
    folder = shutil.copytree(bundle, tmp_path / "bundle")
    data = dark_is_nan(folder / "model.onnx")
    model = json.loads((folder / "model.json").read_text(encoding="utf-8"))
    model["files"]["model.onnx"] = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    model["precisions"]["fp32"]["bytes"] = len(data)
    (folder / "model.json").write_bytes(sealed(model))
    for name, level in (("bright.png", 255), ("dark.png", 0)):
        Image.new("RGB", (28, 20), (level,) * 3).save(tmp_path / name)
    with served(build_site(folder, tmp_path / "site", runtime=runtime).path) as url:
        page = browser.page()
        page.open(url)
        page.wait("document.body.classList.contains('ready')")
        assert shown(page, lambda: page.choose_files("#file", tmp_path / "bright.png")).keys() == NETWORKS.keys()
        page.choose_files("#file", tmp_path / "dark.png")
        line = page.wait("!document.getElementById('error').hidden && document.getElementById('error-text').textContent")
        assert line == "slim gives NaN or infinity for this picture."
        assert page.evaluate("document.getElementById('headline').textContent") == "No answer"
        assert "NaN" not in page.evaluate("document.querySelector('main').innerText").replace(line, "")
        cells = page.evaluate("[...document.querySelectorAll('#table tbody:not(.costs) td')].map((cell) => cell.textContent)")
        assert set(cells) == {"–"}
        assert page.evaluate("document.querySelector('#table .top')") is None
        shown(page, lambda: page.choose_files("#file", tmp_path / "bright.png"))


def test_camera_runs_from_a_click_to_a_click(page: Page) -> None:
    page.send("Page.bringToFront")  # a page behind another gets no frames
    assert page.evaluate("document.getElementById('video').srcObject") is None
    shown(page, lambda: page.evaluate("document.getElementById('camera').click()"))
    assert page.evaluate("document.getElementById('camera').textContent") == "Stop the camera"
    page.evaluate("window.track = document.getElementById('video').srcObject.getTracks()[0]")
    page.evaluate("document.getElementById('camera').click()")
    assert page.evaluate("[window.track.readyState, document.getElementById('video').srcObject]") == ["ended", None]
    assert page.evaluate("document.getElementById('camera').textContent") == "Use the camera"


def test_keyboard_reaches_everything(page: Page) -> None:
    page.evaluate("document.activeElement.blur()")
    reached = []
    for _ in range(5):
        for kind in ("keyDown", "keyUp"):
            page.send("Input.dispatchKeyEvent", type=kind, key="Tab", code="Tab", windowsVirtualKeyCode=9)
        reached.append(page.evaluate("document.activeElement.id || document.activeElement.tagName"))
    assert reached == ["file", "camera", "BUTTON", "unsure", "A"]


def test_phone_needs_no_scrolling_to_the_side(page: Page) -> None:
    """Three networks side by side in 360 pixels."""
    page.resize(360, 800)
    over = page.evaluate(
        """[document.documentElement, ...document.querySelectorAll('.scroll, td, th')]
          .filter((e) => e.scrollWidth > e.clientWidth).map((e) => `${e.tagName} ${e.textContent.slice(0, 40)}`)"""
    )
    page.send("Emulation.clearDeviceMetricsOverride")
    assert over == []


def test_threads_where_the_host_allows_them(browser: Browser, site: Path, bundle: Path) -> None:
    with served(site, Cross_Origin_Opener_Policy="same-origin", Cross_Origin_Embedder_Policy="require-corp") as url:
        page = browser.page()
        page.open(url)
        page.wait("document.body.classList.contains('ready')")
        got = shown(page, lambda: page.evaluate("document.querySelector('#examples button').click()"))
        conditions = page.wait("document.getElementById('conditions').textContent")
        threads = min(4, page.evaluate("navigator.hardwareConcurrency"))
    assert f"WebAssembly, {threads} thread" in conditions
    expected = computed(bundle, Image.open(site / "example-1.png"))
    assert largest_difference(got["slim"], expected["slim"]) <= 1e-3


def test_page_on_webgpu(site: Path, bundle: Path, tmp_path: Path) -> None:
    """Where there is an adapter (here one in software), the page offers it, and runs the last picture again on it."""
    if find_chromium() is None:
        skip_without("chromium")
    Image.fromarray(noise(40, 50, 3)).save(tmp_path / "a.png")
    expected = computed(bundle, Image.open(tmp_path / "a.png"))
    with served(site) as url, chromium(*FLAGS, *WEBGPU) as browser:
        page = browser.page()
        page.open(url)
        page.wait("document.body.classList.contains('ready')")
        if not page.evaluate("navigator.gpu.requestAdapter().then(Boolean)"):
            skip_without("webgpu")
        shown(page, lambda: page.choose_files("#file", tmp_path / "a.png"))
        page.wait("!document.getElementById('backends').hidden")
        got = shown(page, lambda: page.evaluate("document.querySelector('[value=webgpu]').click()"))
        assert page.wait("document.getElementById('conditions').textContent").endswith("more.")
        assert "(WebGPU)" in page.evaluate("document.getElementById('conditions').textContent")
    for network in ("dense", "slim"):
        assert largest_difference(got[network], expected[network]) <= 1e-3


def test_shipped_classifier_says_in_the_browser_what_it_says_in_python(browser: Browser, runtime: Path, tmp_path: Path) -> None:
    """One network, in int8: WebAssembly rounds sums of products as the processor does, to a level of 255 here and there."""
    folder = build_site(ready_bundle("expressions"), tmp_path / "site", runtime=runtime, detector="none", webgpu=False).path
    predictor = Predictor(ready_bundle("expressions"), top=7)
    with served(folder) as url:
        page = browser.page()
        page.open(url)
        page.wait("document.body.classList.contains('ready')")
        for seed in range(4):
            path = tmp_path / f"{seed}.png"
            Image.fromarray(noise(60 + 9 * seed, 50, 3, seed=seed)).save(path)
            (expected,) = predictor.predict([path])
            got = shown(page, lambda path=path: page.choose_files("#file", path))
            assert list(got) == ["slim int8"]
            probabilities = {candidate.label: candidate.probability for candidate in expected.top}
            assert largest_difference(got["slim int8"], probabilities) <= 1e-3
            headline = page.evaluate("document.getElementById('headline').textContent")
            assert headline.startswith(f"Unsure: perhaps {expected.label} " if expected.unsure else f"{expected.label} ")
            slid = page.evaluate(
                f"""[{expected.probability} - 0.05, {expected.probability} + 0.05, 0.5].map((value) => {{
                  const [slider, headline] = ['unsure', 'headline'].map((id) => document.getElementById(id));
                  slider.value = value;
                  slider.dispatchEvent(new Event('input'));
                  return [headline.textContent.split(':')[0], headline.parentElement.className];
                }})"""
            )
            assert [(text == "Unsure", name) for text, name in slid[:2]] == [(False, "answer"), (True, "answer unsure")]
        page.wait("document.getElementById('conditions').textContent")
        costs = page.evaluate("[...document.querySelectorAll('.costs tr')].map((row) => row.cells[0].textContent)")
        assert costs == ["Accuracy", "Size", "Time per frame"]
        assert page.problems == []


def test_file_on_disk_says_to_serve_it(browser: Browser, site: Path) -> None:
    page = browser.page()
    page.open((site / "index.html").as_uri())
    page.wait("getComputedStyle(document.getElementById('unserved')).visibility === 'visible'")
    page.wait("document.getElementById('unserved').innerText.includes('python -m http.server')")  # once it is laid out

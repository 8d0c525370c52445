"""What the page of `slimnet web expressions` costs a phone: bytes, and seconds until it can be used and until it answers.

Chromium with an empty profile opens the page from slimnet's own server, which compresses text as static hosts do. The network is
throttled by the DevTools protocol (two profiles that it has long had: 4G and Slow 4G). DevTools throttles the processor for the
page alone, not for its worker, where the networks run: so all processes of the page are stopped for 15 of every 20 ms instead,
which leaves them a quarter of the time. A drawn picture is pasted in as soon as the page takes one. Then the page is opened again
in the same browser, once it says that it works offline. The page has no face detector; one that has differs by the bytes below.

Needs Chromium, onnxruntime-web's npm package (kept, or SLIMNET_ORT_WEB), and the weights of blazeface (kept, or its archive in
SLIMNET_DETECTORS). Five rounds, about eight minutes. Expected: usable in a second with 4G; the answer later. Writes
results/web_page.json, and the bytes of its parts into results/web_weights.json; --weights writes these alone, in seconds;
`--site FOLDER` measures a site that is there, and prints.

    python benchmarks/web_page.py [--site FOLDER] [--rounds N] [--weights]
"""

from __future__ import annotations

import argparse
import base64
import gzip
import json
import os
import signal
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from _results import write_result
from _tables import Result, measured, of_runs, table

from slimnet.measure.machine import load
from slimnet.ready import ready_bundle
from slimnet.web import SiteServer, build_site

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from web_images import detector, draw_face

from browser import Browser, Page, chromium

PROFILES = {"4G": (9.0, 60), "Slow 4G": (1.6, 150)}
"""Mbit/s down, milliseconds until an answer begins."""
SLOWER = 4
PERIOD = 0.02  # seconds
WATCH = """
window.marks = {};
const mark = (name) => { marks[name] ??= performance.now(); };
const give = () => {
  const data = new DataTransfer();
  const bytes = Uint8Array.from(atob('PICTURE'), (c) => c.charCodeAt(0));
  data.items.add(new File([bytes], 'face.png', { type: 'image/png' }));
  document.dispatchEvent(new ClipboardEvent('paste', { clipboardData: data, bubbles: true }));
};
new MutationObserver(() => {
  const file = document.getElementById('file');
  if (file && !file.disabled && !marks.usable) { mark('usable'); setTimeout(give); }
  if (/ [0-9.]+ %/.test(document.getElementById('headline')?.textContent)) mark('answer');
}).observe(document, { subtree: true, childList: true, characterData: true, attributes: true });
"""


@contextmanager
def slowed(browser: Browser) -> Iterator[None]:
    """Leave the browser's pages and workers one of ``SLOWER`` parts of the time."""
    ended = threading.Event()
    pages = [info["id"] for info in browser.send("SystemInfo.getProcessInfo", {})["processInfo"] if info["type"] == "renderer"]

    def tell(number: int) -> None:
        for page in pages:
            with suppress(ProcessLookupError):
                os.kill(page, number)

    def alternate() -> None:
        while not ended.is_set():
            tell(signal.SIGSTOP)
            time.sleep(PERIOD * (SLOWER - 1) / SLOWER)
            tell(signal.SIGCONT)
            ended.wait(PERIOD / SLOWER)

    thread = threading.Thread(target=alternate)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def visit(browser: Browser, url: str, profile: str, picture: Path) -> tuple[dict[str, float], Page]:
    """Milliseconds from the navigation to each mark, and the bytes that had come by the answer."""
    megabits, latency = PROFILES[profile]
    page = browser.page()
    page.send(
        "Page.addScriptToEvaluateOnNewDocument", source=WATCH.replace("PICTURE", base64.b64encode(picture.read_bytes()).decode())
    )
    speed = megabits * 1e6 / 8
    page.send(
        "Network.emulateNetworkConditions", offline=False, latency=latency, downloadThroughput=speed, uploadThroughput=speed
    )
    page.send("Page.navigate", url=url)
    with slowed(browser):
        page.wait("window.marks?.answer", seconds=120)
        received = page.received
        marks = page.evaluate("window.marks")
        paint = page.evaluate("performance.getEntriesByName('first-contentful-paint')[0]?.startTime")
    return {"painted_ms": paint, "usable_ms": marks["usable"], "answer_ms": marks["answer"], "bytes": received}, page


def rounds(url: str, profile: str, picture: Path, count: int, *, again: bool) -> dict[str, Any]:
    """Medians of visits, each first one with a profile of its own."""
    first, second = [], []
    for _ in range(count):
        with chromium() as browser:
            found, page = visit(browser, url, profile, picture)
            first.append(found)
            if again:
                page.wait("document.body.classList.contains('offline')", seconds=120)
                first[-1]["bytes_kept_offline"] = page.received
                browser.send("Target.closeTarget", {"targetId": page.target})
                second.append(visit(browser, url, profile, picture)[0])
        print(profile, json.dumps({"first": first[-1], "again": second[-1] if second else None}), flush=True)
    return {"first": summary(first), **({"again": summary(second)} if second else {})}


def summary(found: list[dict[str, float]]) -> dict[str, Any]:
    """The median of each figure, and its range."""
    return {
        key: {"median": statistics.median(v), "range": [min(v), max(v)]} for key in found[0] for v in [[f[key] for f in found]]
    }


@contextmanager
def served(folder: Path, names: tuple[str, ...]) -> Iterator[str]:
    """By slimnet's own server."""
    with SiteServer(folder, names, 0) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server.url
        server.shutdown()
        thread.join()


def weights(folder: Path) -> dict[str, int]:
    """Bytes of what a visit needs, as it lies in the site."""
    site = json.loads((folder / "site.json").read_text())
    runtime, found = site["runtime"]["wasm"], (site["faces"] or {}).get("detector")
    packed = {
        "lean binary": runtime["lean"]["file"],
        "whole binary": runtime["file"],
        **({"detector": found["file"]} if found else {}),
    }
    sizes = {key: (folder / name).stat().st_size for key, name in (*packed.items(), ("module", runtime["module"]))}
    unpacked = {f"{key}, unpacked": len(gzip.decompress((folder / name).read_bytes())) for key, name in packed.items()}
    return {**sizes, **unpacked, "network": network_bytes(folder)}


def all_weights(work: Path) -> dict[str, int]:
    """Of a page without a face detector, and what one with it has beside or instead."""
    plain, finding = (weights(build(work / name, found)) for name, found in (("plain", "none"), ("finding", detector())))
    lean = {key.replace("lean binary", "lean binary with detector"): value for key, value in finding.items() if "lean" in key}
    return {**finding, **plain, **lean}


def build(out: Path, found: Path | str) -> Path:
    """The site that is measured."""
    runtime = os.environ.get("SLIMNET_ORT_WEB")
    return build_site(ready_bundle("expressions"), out, detector=found, runtime=Path(runtime) if runtime else None).path


def network_bytes(folder: Path) -> int:
    """Of the network that answers."""
    site = json.loads((folder / "site.json").read_text())
    return int(next(network["bytes"] for network in site["networks"] if network["name"] == site["main"]))


def size(found: Result) -> str:
    """Megabytes."""
    return f"{found['median'] / 1e6:.2f} MB"


def seconds(found: Result) -> str:
    """The median, and the range."""
    low, high = found["range"]
    return f"{found['median'] / 1e3:.1f} s ({low / 1e3:.1f}–{high / 1e3:.1f})"


@of_runs("web_page")
def make_table(runs: list[Result]) -> str:
    """A row for each network and visit."""
    rows = []
    for run in runs:
        for name, visits in run["profiles"].items():
            megabits, latency = PROFILES[name]
            for visit_name, found in visits.items():
                label = f"{name} ({megabits:g} Mbit/s, {latency} ms), {'first visit' if visit_name == 'first' else 'again'}"
                times = (seconds(found[key]) for key in ("painted_ms", "usable_ms", "answer_ms"))
                rows.append((label, size(found["bytes"]), *times, f"{measured(run)}, load {' to '.join(map(str, run['load']))}"))
    head = ("network", "bytes until the answer", "first paint", "takes a picture", "answers it", "measured")
    return table(head, rows)


@of_runs("web_weights")
def make_weights(runs: list[Result]) -> str:
    """What the newest run found in the site."""
    sizes = runs[0]["sizes"]
    rows = [
        ("WebAssembly of the runtime, lean", *both(sizes, "lean binary"), "every page without a face detector"),
        ("the same, for a face detector", *both(sizes, "lean binary with detector"), "every page with one"),
        ("the same, whole", *both(sizes, "whole binary"), "a page whose network needs more, or that may use threads"),
        ("network", f"{sizes['network'] / 1e6:.2f} MB", "the same", "every page"),
        ("face detector", *both(sizes, "detector"), "a page that has one, once it has answered"),
        ("module of the runtime", f"{sizes['module'] / 1e6:.2f} MB; a third where the host compresses", "the same", "every page"),
    ]
    return table(("part", "to be loaded", "unpacked", "needed by"), rows)


def both(sizes: Result, name: str) -> tuple[str, str]:
    """Compressed and not."""
    return f"{sizes[name] / 1e6:.2f} MB", f"{sizes[f'{name}, unpacked'] / 1e6:.2f} MB"


TABLES = {"web-page": make_table, "web-weights": make_weights}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--site", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--weights", action="store_true")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        work = Path(temporary)
        if given.site is None:
            write_result("web_weights", {"sizes": all_weights(work)})
        if given.weights:
            return
        draw_face(work / "face.png")
        folder = given.site or work / "plain"
        names = tuple(json.loads((folder / "site.json").read_text())["files"])
        before = load()
        with served(folder, names) as url:
            found = {name: rounds(url, name, work / "face.png", given.rounds, again=given.site is None) for name in PROFILES}
    if given.site is None:
        write_result("web_page", {"rounds": given.rounds, "slower": SLOWER, "load": [before, load()], "profiles": found})


if __name__ == "__main__":
    main()

"""What the page keeps for a time without a network, in a real browser: its own files, of one version, and nobody else's."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from browser import Browser, Page, served
from slimnet.files import read_json
from slimnet.web import build_site
from web_bundle import make_bundle
from web_pictures import computed, largest_difference, noise, shown
from web_runtime import published_runtime

KEPT = """caches.keys().then((names) => Promise.all(names.map(async (name) =>
  [name, (await (await caches.open(name)).keys()).map(({ url }) => url)])))"""
REGISTERED = "navigator.serviceWorker.getRegistrations().then((all) => all.map(({ scope }) => scope))"


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_bundle(tmp_path_factory.mktemp("offline") / "bundle", channels=3, size=(20, 28))


@pytest.fixture(scope="module")
def sites(tmp_path_factory: pytest.TempPathFactory, bundle: Path) -> dict[str, Path]:
    """Two that differ in their titles."""
    folder = tmp_path_factory.mktemp("offline")
    return {title: build_site(bundle, folder / title, title=title, runtime=published_runtime()).path for title in ("One", "Two")}


@contextmanager
def without_network(page: Page) -> Iterator[None]:
    conditions = {"latency": 0, "downloadThroughput": -1, "uploadThroughput": -1}
    page.send("Network.emulateNetworkConditions", offline=True, **conditions)
    yield
    page.send("Network.emulateNetworkConditions", offline=False, **conditions)


class Failing(ThreadingHTTPServer):
    """Serves a folder until it is told to answer with a status alone."""

    status: int | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/"


class _Handler(SimpleHTTPRequestHandler):
    server: Failing
    error_message_format = "<h1>Error %(code)d</h1>"

    def do_GET(self) -> None:
        if self.server.status is None:
            super().do_GET()
        else:
            self.send_error(self.server.status)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Nothing."""


@contextmanager
def failing(folder: Path) -> Iterator[Failing]:
    with Failing(("127.0.0.1", 0), partial(_Handler, directory=str(folder))) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def visit(page: Page, url: str) -> str:
    """Open a site, wait until it is kept, and give its title."""
    page.evaluate("window.isOld = true")
    page.open(url)
    page.wait("!window.isOld && document.body?.classList.contains('offline')")
    return str(page.evaluate("document.querySelector('h1').textContent"))


def reload(page: Page) -> None:
    page.evaluate("window.isOld = true")
    page.send("Page.reload")
    page.wait("!window.isOld && document.readyState === 'complete'")


def test_page_classifies_without_a_network(browser: Browser, sites: dict[str, Path], bundle: Path, tmp_path: Path) -> None:
    """From a subfolder of a host; the host is gone and the browser says that it is offline."""
    shutil.copytree(sites["One"], tmp_path / "host" / "a b" / "site")
    Image.fromarray(noise(40, 50, 3)).save(tmp_path / "a.png")
    page = browser.page()
    with served(tmp_path / "host") as host:
        visit(page, f"{host}a%20b/site/")
        assert (
            page.evaluate("document.getElementById('state').textContent") == "Ready. From now on, this page works offline, too."
        )
        ((name, kept),) = page.evaluate(KEPT)
        assert name == f"slimnet-site {host}a%20b/site/ {read_json(sites['One'] / 'site.json')['version']}"
    with without_network(page):
        reload(page)
        page.wait("document.body.classList.contains('ready')")
        got = shown(page, lambda: page.choose_files("#file", tmp_path / "a.png"))
        page.wait("document.body.classList.contains('offline')")
    expected = computed(bundle, Image.open(tmp_path / "a.png"))
    for network, probabilities in expected.items():
        assert largest_difference(got[network], probabilities) <= 1e-3, network
    listed = read_json(sites["One"] / "site.json")
    assert {url.removeprefix(f"{host}a%20b/site/") for url in kept} == {"site.json", *listed["offline"]}
    assert not [url for url in kept if "jspi" in url]


def test_two_sites_of_one_origin_keep_apart(browser: Browser, sites: dict[str, Path], tmp_path: Path) -> None:
    """One lies at the root, the other in a folder under it, and beside both lies what is nobody's."""
    shutil.copytree(sites["One"], tmp_path / "host")
    shutil.copytree(sites["Two"], tmp_path / "host" / "two")
    (tmp_path / "host" / "other.html").write_text("<h1>Other</h1>")
    page = browser.page()
    with served(tmp_path / "host") as host:
        assert visit(page, host) == "One"
        assert visit(page, f"{host}two/") == "Two"
        kept = {name.split(" ")[1]: urls for name, urls in page.evaluate(KEPT)}
        assert sorted(kept) == [host, f"{host}two/"]
        assert all(url.startswith(f"{host}two/") for url in kept[f"{host}two/"])
        assert not [url for url in kept[host] if "/two/" in url]
        page.open(f"{host}other.html")
        assert page.evaluate("fetch('other.html').then((r) => r.text())") == "<h1>Other</h1>"
        (tmp_path / "host" / "other.html").write_text("<h1>Changed</h1>")
        assert page.evaluate("fetch('other.html', { cache: 'no-store' }).then((r) => r.text())") == "<h1>Changed</h1>"
        assert not [url for _, urls in page.evaluate(KEPT) for url in urls if "other" in url]
    with without_network(page):
        for path, title in (("", "One"), ("two/", "Two")):
            page.open(host + path)
            page.wait("document.body.classList.contains('ready')")
            assert page.evaluate("document.querySelector('h1').textContent") == title


def test_new_version_takes_the_place_of_the_old_one(browser: Browser, sites: dict[str, Path], tmp_path: Path) -> None:
    """At once, not a visit later; and what was kept of the old one goes."""
    folder = tmp_path / "host"
    shutil.copytree(sites["One"], folder)
    page = browser.page()
    with served(folder) as host:
        assert visit(page, host) == "One"
        shutil.rmtree(folder)
        shutil.copytree(sites["Two"], folder)
        assert visit(page, host) == "Two"
        version = read_json(sites["Two"] / "site.json")["version"]
        assert [name for name, _ in page.evaluate(KEPT)] == [f"slimnet-site {host} {version}"]
        page.evaluate("caches.keys().then((names) => Promise.all(names.map((name) => caches.delete(name))))")
        reload(page)
        page.wait("document.body.classList.contains('offline')")  # kept again, by the worker that was there
    with without_network(page):
        reload(page)
        page.wait("document.body.classList.contains('ready')")
        assert page.evaluate("document.querySelector('h1').textContent") == "Two"


def test_another_page_at_the_address_is_not_covered(browser: Browser, sites: dict[str, Path], tmp_path: Path) -> None:
    """On one's own computer a port has another program the next day: nothing of the old page stays in its way."""
    folder = tmp_path / "host"
    shutil.copytree(sites["One"], folder)
    page = browser.page()
    with served(folder) as host:
        visit(page, host)
        shutil.rmtree(folder)
        folder.mkdir()
        (folder / "index.html").write_text("<!doctype html><h1>Else</h1>")
        (folder / "app.js").write_text("another")
        reload(page)
        assert page.evaluate("document.querySelector('h1').textContent") == "Else"
        assert page.evaluate("fetch('app.js', { cache: 'no-store' }).then((r) => r.text())") == "another"
        assert page.evaluate(KEPT) == []
        page.open(f"{host}?again")
        assert page.evaluate(REGISTERED) == []


@pytest.mark.parametrize(("status", "title"), [(503, "One"), (404, "Error")])
def test_host_in_trouble(browser: Browser, sites: dict[str, Path], status: int, title: str) -> None:
    """While the host cannot answer, the kept page is shown; a page that is gone is gone."""
    page = browser.page()
    with failing(sites["One"]) as server:
        visit(page, server.url)
        server.status = status
        reload(page)
        assert title in page.evaluate("document.querySelector('h1').textContent")
        assert bool(page.evaluate(KEPT)) == (status == 503)

"""A headless Chromium driven over two pipes (the DevTools protocol), with nothing but the standard library."""

from __future__ import annotations

import base64
import fcntl
import json
import os
import selectors
import shutil
import signal
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync", "--mute-audio", "--hide-scrollbars", "--remote-debugging-pipe"),
)


def find_chromium() -> str | None:
    """The browser's command, or None: ``SLIMNET_CHROMIUM``, else by its usual names."""
    names = (os.environ.get("SLIMNET_CHROMIUM"), "chromium", "chromium-browser", "google-chrome")
    return next((path for name in names if name and (path := shutil.which(name))), None)


class Page:
    """One tab.

    Attributes:
        problems: what went to the console as a warning or an error, and exceptions that nobody caught.
        requests: every address that the tab and its workers asked for.
        received: bytes that came over the network for these requests, as they came: compressed, and with their headers.
        target: the protocol's name for the tab.
    """

    def __init__(self, browser: Browser, session: str, target: str) -> None:
        self._browser, self._session, self.target = browser, session, target
        self.problems: list[str] = []
        self.requests: list[str] = []
        self.received = 0

    def send(self, method: str, **params: Any) -> dict[str, Any]:
        """Call a method of the protocol and wait for its answer."""
        return self._browser.send(method, params, self._session)

    def evaluate(self, expression: str) -> Any:
        """The value of a JavaScript expression; a promise is awaited."""
        answer = self.send("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True, userGesture=True)
        if "exceptionDetails" in answer:
            raise AssertionError(answer["exceptionDetails"].get("exception", {}).get("description", str(answer)))
        return answer["result"].get("value")

    def wait(self, expression: str, *, seconds: float = 60.0) -> Any:
        """Wait until a JavaScript expression is true, and return its value."""
        end = time.monotonic() + seconds
        while not (value := self.evaluate(expression)):
            if time.monotonic() > end:
                raise TimeoutError(f"{expression} after {seconds:g} s; {self.problems}")
            time.sleep(0.05)
        return value

    def open(self, url: str) -> None:
        """Go to an address and wait until its markup is there."""
        self.problems.clear()
        self.requests.clear()
        self.send("Page.navigate", url=url)
        self.wait(f"location.href === {json.dumps(url)} && document.readyState !== 'loading'")

    def choose_files(self, selector: str, *paths: Path) -> None:
        """Choose files in an ``<input type=file>``, as a person does in its dialogue."""
        root = self.send("DOM.getDocument")["root"]["nodeId"]
        node = self.send("DOM.querySelector", nodeId=root, selector=selector)["nodeId"]
        self.send("DOM.setFileInputFiles", nodeId=node, files=[str(path.resolve()) for path in paths])

    def screenshot(self, path: Path, *, width: int, height: int | None = None, dark: bool = False) -> None:
        """Write a picture of the page at a width, whole or of a height, in light or dark."""
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.send("Emulation.setEmulatedMedia", features=[scheme])
        self.resize(width, height or 800)
        time.sleep(0.5)
        content = self.send("Page.getLayoutMetrics")["cssContentSize"]
        clip = {"x": 0, "y": 0, "width": width, "height": height or content["height"], "scale": 1}
        answer = self.send("Page.captureScreenshot", format="png", captureBeyondViewport=True, clip=clip)
        path.write_bytes(base64.b64decode(answer["data"]))

    def resize(self, width: int, height: int) -> None:
        """Give the page another size; below 600 pixels it is a phone's."""
        self.send("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600)

    def heard(self, method: str, params: dict[str, Any]) -> None:
        """Note what the browser tells unasked."""
        if method == "Runtime.exceptionThrown":
            details = params["exceptionDetails"]
            self.problems.append(details.get("exception", {}).get("description") or details["text"])
        elif method == "Runtime.consoleAPICalled" and params["type"] in ("error", "warning", "assert"):
            self.problems.append(" ".join(str(arg.get("value", arg.get("description"))) for arg in params["args"]))
        elif method == "Log.entryAdded" and params["entry"]["level"] in ("error", "warning"):
            self.problems.append(f"{params['entry']['text']} {params['entry'].get('url', '')}")
        elif method == "Network.requestWillBeSent":
            self.requests.append(params["request"]["url"])
        elif method == "Network.loadingFinished":
            self.received += int(params["encodedDataLength"])


class Browser:
    """A running browser. Use :func:`chromium`."""

    def __init__(self, command: str, profile: Path, flags: tuple[str, ...]) -> None:
        ours_read, theirs_write = _pipe()
        theirs_read, ours_write = _pipe()
        silent = os.open(os.devnull, os.O_RDWR)  # may itself be 3 or 4, which are taken over last
        actions = [(os.POSIX_SPAWN_DUP2, silent, number) for number in (0, 1, 2)]
        actions += [(os.POSIX_SPAWN_DUP2, theirs_read, 3), (os.POSIX_SPAWN_DUP2, theirs_write, 4)]
        arguments = [command, *FLAGS, *flags, f"--user-data-dir={profile}", "about:blank"]
        self._pid = os.posix_spawn(command, arguments, os.environ, file_actions=actions, setpgroup=0)
        for descriptor in (theirs_read, theirs_write, silent):
            os.close(descriptor)
        self._read, self._write, self._buffer, self._last = ours_read, ours_write, b"", 0
        self._pages: dict[str, Page] = {}
        self._selector = selectors.DefaultSelector()
        self._selector.register(ours_read, selectors.EVENT_READ)

    def page(self) -> Page:
        """Open a tab."""
        target = self.send("Target.createTarget", {"url": "about:blank"})["targetId"]
        session = self.send("Target.attachToTarget", {"targetId": target, "flatten": True})["sessionId"]
        page = self._pages[session] = Page(self, session, target)
        for domain in ("Page", "Runtime", "Log", "Network", "DOM"):
            page.send(f"{domain}.enable")
        page.send("Target.setAutoAttach", autoAttach=True, waitForDebuggerOnStart=True, flatten=True)
        return page

    def send(self, method: str, params: dict[str, Any], session: str | None = None, *, seconds: float = 120) -> dict[str, Any]:
        """Call a method of the protocol and wait for its answer."""
        number = self._post(method, params, session)
        end = time.monotonic() + seconds
        while True:
            message = self._receive(end)
            if message.get("id") == number:
                if "error" in message:
                    raise RuntimeError(f"{method}: {message['error']['message']}")
                return dict(message["result"])
            self._dispatch(message)

    def close(self) -> None:
        """End the browser and everything that it started."""
        for descriptor in (self._write, self._read):
            os.close(descriptor)
        self._selector.close()
        with suppress(ProcessLookupError):
            os.killpg(self._pid, signal.SIGKILL)
        os.waitpid(self._pid, 0)

    def _post(self, method: str, params: dict[str, Any], session: str | None) -> int:
        self._last += 1
        message = {"id": self._last, "method": method, "params": params, **({"sessionId": session} if session else {})}
        data = memoryview(json.dumps(message).encode() + b"\0")
        while data:
            data = data[os.write(self._write, data) :]
        return self._last

    def _dispatch(self, message: dict[str, Any]) -> None:
        method, page = message.get("method", ""), self._pages.get(message.get("sessionId", ""))
        if page is None:
            return
        if method == "Target.attachedToTarget":  # a worker of the page: listen to it too, then let it start
            worker = message["params"]["sessionId"]
            self._pages[worker] = page
            for call in ("Runtime.enable", "Log.enable", "Network.enable", "Runtime.runIfWaitingForDebugger"):
                self._post(call, {}, worker)
        else:
            page.heard(method, message.get("params", {}))

    def _receive(self, end: float) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            if not self._selector.select(max(0.0, end - time.monotonic())):
                raise TimeoutError("the browser does not answer")
            data = os.read(self._read, 1 << 20)
            if not data:
                raise RuntimeError("the browser has ended")
            self._buffer += data
        line, _, self._buffer = self._buffer.partition(b"\0")
        return dict(json.loads(line))


@contextmanager
def chromium(*flags: str) -> Iterator[Browser]:
    """A browser with a profile of its own, ended and removed in any case."""
    command = find_chromium()
    assert command is not None, "no chromium here"
    with tempfile.TemporaryDirectory(prefix="slimnet-browser.", ignore_cleanup_errors=True) as profile:
        browser = Browser(command, Path(profile), flags)
        try:
            yield browser
        finally:
            browser.close()


class _Handler(SimpleHTTPRequestHandler):
    def __init__(self, *args: Any, headers: dict[str, str], **kwargs: Any) -> None:
        self._more = headers
        super().__init__(*args, **kwargs)

    def end_headers(self) -> None:
        for name, value in self._more.items():
            self.send_header(name, value)
        super().end_headers()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Nothing."""


@contextmanager
def served(folder: Path, **headers: str) -> Iterator[str]:
    """Serve a folder as any static host does, on this machine, with more headers if given; the address of its root."""
    handler = partial(_Handler, directory=str(folder), headers={name.replace("_", "-"): value for name, value in headers.items()})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _pipe() -> tuple[int, int]:
    """A pipe whose ends are none of the numbers that the browser gets."""
    ends = os.pipe()
    high = tuple(fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 10) for end in ends)
    for end in ends:
        os.close(end)
    return high[0], high[1]

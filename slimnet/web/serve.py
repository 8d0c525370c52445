"""A site on this computer, for this computer alone."""

from __future__ import annotations

import gzip
import io
import os
import re
import sys
from http import HTTPStatus
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote

POLICY = (
    "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "worker-src 'self'; base-uri 'none'; form-action 'none'"
)
"""Content-Security-Policy of a page: everything comes from the site itself. Pictures and camera are drawn, not loaded."""
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": f"{POLICY}; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
}
ADDRESS = "127.0.0.1"
HOSTS = (ADDRESS, "localhost", "[::1]")
_INDEX = "index.html"
_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".gz": "application/gzip",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".md": "text/plain; charset=utf-8",
    ".svg": "image/svg+xml",
    ".txt": "text/plain; charset=utf-8",
    ".wasm": "application/wasm",
    ".jpg": "image/jpeg",
    **{f".{kind}": f"image/{kind}" for kind in ("png", "gif", "webp", "bmp")},
}
"""Not from the system's tables, which may be wrong: a browser does not run a script that is said to be something else."""
_PACKED = (".css", ".html", ".js", ".json", ".md", ".svg", ".txt")
"""What is compressed on its way, as static hosts do; the runtime's binary lies compressed in the site."""
_SECONDS = 60  # without a byte


class SiteServer(ThreadingHTTPServer):
    """Serves the files of a site, and nothing else, to browsers on this computer.

    A page of somebody else's that has a name of its own lead here (DNS rebinding) is refused by the name that its browser sends.

    Args:
        folder: of the site.
        names: its files, relative to the folder.
        port: 0 is any that is free.

    Raises:
        OSError: if the port is taken.
    """

    def __init__(self, folder: Path, names: tuple[str, ...], port: int) -> None:
        self.folder, self.names = folder.resolve(), frozenset(names)
        super().__init__((ADDRESS, port), _Handler)

    @property
    def url(self) -> str:
        """Where the page is."""
        return f"http://{ADDRESS}:{self.server_port}/"

    def file_of(self, target: str) -> Path | None:
        """The file that a request asks for; None where the site has none of that name, or a link leads elsewhere."""
        name = unquote(re.split("[?#]", target, maxsplit=1)[0]).removeprefix("/") or _INDEX
        path = self.folder / name
        return path if name in self.names and path.is_file() and path.resolve() == path else None

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A browser that hangs up is no error."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class _Handler(SimpleHTTPRequestHandler):
    server: SiteServer
    timeout = _SECONDS
    _file: Path

    def send_head(self) -> Any:
        """The head of an answer, and what is to follow it."""
        if not self._is_asked_here():
            self.send_error(HTTPStatus.MISDIRECTED_REQUEST, "this computer alone is served, by its own name")
            return None
        file = self.server.file_of(self.path)
        if file is None:
            self.send_error(HTTPStatus.NOT_FOUND)
            return None
        self._file = file
        return self._send_packed() if file.suffix in _PACKED and self._takes_gzip() else super().send_head()

    def _send_packed(self) -> Any:
        """The head of a file that is compressed on its way; none of it follows where the browser has it."""
        stamp = self.date_time_string(self._file.stat().st_mtime)
        if self.headers["If-Modified-Since"] == stamp:
            self.send_response(HTTPStatus.NOT_MODIFIED)
            self.end_headers()
            return None
        data = gzip.compress(self._file.read_bytes(), mtime=0)
        self.send_response(HTTPStatus.OK)
        for name, value in (("Content-Encoding", "gzip"), ("Vary", "Accept-Encoding"), ("Last-Modified", stamp)):
            self.send_header(name, value)
        self.send_header("Content-Type", self.guess_type(self._file))
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        return io.BytesIO(data)

    def _takes_gzip(self) -> bool:
        """Whether the browser says so, and does not give it a weight of 0."""
        given = (part.replace(" ", "").lower().partition(";q=") for part in self.headers.get("Accept-Encoding", "").split(","))
        return any(
            name == "gzip" and weight.strip("0.") != "" for name, mark, weight in ((n, m, w if m else "1") for n, m, w in given)
        )

    def translate_path(self, path: str) -> str:
        """The file that was found; the library would look for folders, too."""
        return str(self._file)

    def guess_type(self, path: str | os.PathLike[str]) -> str:
        """By the suffix alone."""
        return _TYPES.get(Path(path).suffix, "application/octet-stream")

    def end_headers(self) -> None:
        """The same for every answer, errors too."""
        for name, value in HEADERS.items():
            self.send_header(name, value)
        super().end_headers()

    def _is_asked_here(self) -> bool:
        """Whether the request is for a name of this computer, and this port."""
        port = self.server.server_port
        known = {f"{host}:{port}" for host in HOSTS} | (set(HOSTS) if port == 80 else set())
        given = self.headers.get_all("Host", [])
        return len(given) == 1 and given[0].strip().lower() in known

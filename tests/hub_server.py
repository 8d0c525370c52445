"""A Hub of one's own: the few addresses that huggingface_hub asks for when it uploads and downloads a repository of models."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

NAME = "[^/]+/[^/]+"


class Hub(ThreadingHTTPServer):
    """Keeps repositories in memory.

    Attributes:
        repos: name → path → bytes.
        unknown: what was asked for and is not there.
    """

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.repos: dict[str, dict[str, bytes]] = {}
        self.tokens: set[str | None] = set()
        self.unknown: list[str] = []

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def sha(self, repo: str) -> str:
        """The commit: it is another one once a file is."""
        content = [(path, hashlib.sha256(data).hexdigest()) for path, data in sorted(self.repos[repo].items())]
        return hashlib.sha1(json.dumps(content).encode()).hexdigest()


@contextmanager
def hub_server() -> Iterator[Hub]:
    with Hub() as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


class _Handler(BaseHTTPRequestHandler):
    server: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # its name in the library
        """Not on stderr."""

    def do_POST(self) -> None:
        body, path = self.rfile.read(int(self.headers.get("Content-Length") or 0)), urlsplit(self.path).path
        self.server.tokens.add(self.headers.get("Authorization"))
        if path == "/api/repos/create":
            asked = json.loads(body)
            name = f"{asked['organization']}/{asked['name']}" if asked.get("organization") else asked["name"]
            self.server.repos.setdefault(name, {})
            self._json({"url": f"{self.server.address}/{name}", "id": name})
        elif path == "/api/validate-yaml":
            self._json({"errors": [], "warnings": []})
        elif re.fullmatch(f"/api/models/({NAME})/preupload/[^/]+", path):
            files = [{"path": one["path"], "uploadMode": "regular", "shouldIgnore": False} for one in json.loads(body)["files"]]
            self._json({"files": files})
        elif found := re.fullmatch(f"/api/models/({NAME})/commit/[^/]+", path):
            self._commit(found[1], [json.loads(line) for line in body.splitlines() if line])
        else:
            self._nothing()

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path)
        if (found := re.fullmatch(f"/api/models/({NAME})(/revision/[^/]+)?", path)) and found[1] in self.server.repos:
            names = [{"rfilename": name} for name in self.server.repos[found[1]]]
            self._json({"id": found[1], "sha": self.server.sha(found[1]), "siblings": names, "private": False})
        elif (found := re.fullmatch(f"/api/models/({NAME})/tree/[^/]+", path)) and found[1] in self.server.repos:
            files = self.server.repos[found[1]].items()
            self._json([{"type": "file", "path": name, "size": len(data), "oid": _etag(data)} for name, data in files])
        elif (found := re.fullmatch(f"/({NAME})/resolve/[^/]+/(.+)", path)) and found[2] in self.server.repos.get(found[1], {}):
            data = self.server.repos[found[1]][found[2]]
            self._send(data, ETag=f'"{_etag(data)}"', **{"X-Repo-Commit": self.server.sha(found[1])})
        else:
            self._nothing()

    do_HEAD = do_GET  # noqa: N815  # its name in the library

    def _commit(self, name: str, lines: list[dict[str, Any]]) -> None:
        files = {line["value"]["path"]: base64.b64decode(line["value"]["content"]) for line in lines if line["key"] == "file"}
        self.server.repos[name] |= files
        sha = self.server.sha(name)
        self._json({"commitOid": sha, "commitUrl": f"{self.server.address}/{name}/commit/{sha}", "success": True})

    def _nothing(self) -> None:
        self.server.unknown.append(f"{self.command} {self.path}")
        self._send(b"{}", 404, **{"X-Error-Code": "RepoNotFound"})

    def _json(self, value: Any) -> None:
        self._send(json.dumps(value).encode(), **{"Content-Type": "application/json"})

    def _send(self, data: bytes, status: int = 200, **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)


def _etag(data: bytes) -> str:
    return hashlib.sha1(data).hexdigest()

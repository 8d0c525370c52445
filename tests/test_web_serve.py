"""`slimnet web --serve`: this computer alone, the files of the site alone, and what each answer carries."""

from __future__ import annotations

import gzip
import socket
import threading
from collections.abc import Iterator, Mapping
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path

import pytest

from slimnet.web import SiteServer
from slimnet.web.serve import HEADERS, POLICY

FILES = ("index.html", "app.js", "runtime/ort.wasm", "MODEL_CARD.md", "gone.txt", "link.txt", "linked/inner.txt", "a b.png")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[SiteServer]:
    site = tmp_path / "site"
    (site / "runtime").mkdir(parents=True)
    (tmp_path / "secret.txt").write_text("secret")
    (tmp_path / "inner.txt").write_text("secret")
    for name in ("index.html", "app.js", "runtime/ort.wasm", "MODEL_CARD.md", "a b.png", "unlisted.txt"):
        (site / name).write_text(name)
    (site / "link.txt").symlink_to("../secret.txt")
    (site / "linked").symlink_to("..")
    with SiteServer(site, FILES, 0) as serving:
        thread = threading.Thread(target=serving.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        yield serving
        serving.shutdown()
        thread.join()


def ask(
    server: SiteServer,
    target: str,
    *,
    method: str = "GET",
    host: str | None = None,
    hosts: int = 1,
    headers: Mapping[str, str] | None = None,
) -> tuple[HTTPResponse, bytes]:
    connection = HTTPConnection("127.0.0.1", server.server_port, timeout=20)
    connection.putrequest(method, target, skip_host=True, skip_accept_encoding=True)
    for _ in range(hosts):
        connection.putheader("Host", host or f"127.0.0.1:{server.server_port}")
    for name, value in (headers or {}).items():
        connection.putheader(name, value)
    connection.endheaders()
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    return answer, body


SERVED = [
    ("/", "index.html", "text/html; charset=utf-8"),
    ("/index.html", "index.html", "text/html; charset=utf-8"),
    ("/app.js?x=1#y", "app.js", "text/javascript; charset=utf-8"),
    ("/runtime/ort.wasm", "runtime/ort.wasm", "application/wasm"),
    ("/MODEL_CARD.md", "MODEL_CARD.md", "text/plain; charset=utf-8"),
    ("/a%20b.png", "a b.png", "image/png"),
]
NOT_SERVED = [
    *("/unlisted.txt", "/gone.txt", "/link.txt", "/linked/inner.txt", "/linked", "/runtime", "/runtime/", "/app.js/", "/none"),
    *("/../secret.txt", "/%2e%2e/secret.txt", "/runtime/../../secret.txt", "/..%2fsecret.txt", "/%2fetc/passwd", "//etc/passwd"),
    *("/index.html%00", "/%00", "/./index.html", "/runtime//ort.wasm", "http://[x/", "http://evil/index.html", "*", "/%ff"),
]


@pytest.mark.parametrize(("target", "content", "kind"), SERVED)
def test_files_of_the_site(target: str, content: str, kind: str, server: SiteServer) -> None:
    answer, body = ask(server, target)
    assert (answer.status, body.decode(), answer.headers["Content-Type"]) == (200, content, kind)
    answer, body = ask(server, target, method="HEAD")
    assert (answer.status, body) == (200, b"")


ENCODINGS = [
    *(("gzip", True), ("gzip, deflate, br, zstd", True), ("br;q=1.0, gzip;q=0.8", True), ("GZIP ; q=0.5", True)),
    *((None, False), ("", False), ("br", False), ("gzip;q=0", False), ("gzip; q=0.0, br", False), ("xgzip", False)),
]


@pytest.mark.parametrize(("given", "packed"), ENCODINGS)
def test_text_is_compressed_for_whoever_takes_it(given: str | None, packed: bool, server: SiteServer) -> None:
    headers = {} if given is None else {"Accept-Encoding": given}
    for name, content, kind in (
        ("app.js", b"app.js", "text/javascript; charset=utf-8"),
        ("runtime/ort.wasm", b"runtime/ort.wasm", "application/wasm"),
    ):
        answer, body = ask(server, f"/{name}", headers=headers)
        compressed = packed and name == "app.js"
        assert answer.headers["Content-Encoding"] == ("gzip" if compressed else None)
        assert (gzip.decompress(body) if compressed else body) == content
        assert (answer.headers["Content-Type"], int(answer.headers["Content-Length"])) == (kind, len(body))
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        stamp = str(answer.headers["Last-Modified"])
        answer, body = ask(server, f"/{name}", headers={**headers, "If-Modified-Since": stamp})
        assert (answer.status, body) == (304, b"")
    assert ask(server, "/app.js", method="HEAD", headers=headers)[1] == b""


@pytest.mark.parametrize("target", NOT_SERVED)
def test_nothing_else(target: str, server: SiteServer, capsys: pytest.CaptureFixture[str]) -> None:
    answer, body = ask(server, target)
    assert answer.status == 404
    assert b"secret" not in body and b"Directory listing" not in body
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "[::1]", "LocalHost"])
def test_names_of_this_computer(host: str, server: SiteServer) -> None:
    answer, _ = ask(server, "/", host=f"{host}:{server.server_port}")
    assert answer.status == 200


OTHERS = [
    *("evil.example:PORT", "localhost.evil.example:PORT", "evil@localhost:PORT", "0.0.0.0:PORT"),
    *("localhost", "127.0.0.1:1", "x"),
]


@pytest.mark.parametrize("host", OTHERS)
def test_other_names_are_refused(host: str, server: SiteServer) -> None:
    for target in ("/", "/none", "/unlisted.txt"):
        answer, body = ask(server, target, host=host.replace("PORT", str(server.server_port)))
        assert (answer.status, b"index.html" in body) == (421, False)


@pytest.mark.parametrize("hosts", [0, 2])
def test_one_name_is_needed(hosts: int, server: SiteServer) -> None:
    answer, _ = ask(server, "/", hosts=hosts)
    assert answer.status == 421


ASKED = [("GET", "/", None), ("GET", "/none", None), ("GET", "/", "evil"), ("POST", "/", None), ("PUT", "/x", None)]


@pytest.mark.parametrize(("method", "target", "host"), ASKED)
def test_every_answer_carries_the_headers(method: str, target: str, host: str | None, server: SiteServer) -> None:
    answer, _ = ask(server, target, method=method, host=host)
    assert {name: answer.headers.get_all(name) for name in HEADERS} == {name: [value] for name, value in HEADERS.items()}
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Referrer-Policy"] == "no-referrer"
    assert answer.headers["Content-Security-Policy"] == f"{POLICY}; frame-ancestors 'none'"


def test_only_this_computer_is_listened_to(server: SiteServer) -> None:
    assert server.socket.getsockname()[0] == "127.0.0.1"
    assert server.url == f"http://127.0.0.1:{server.server_port}/"


def test_who_hangs_up_leaves_no_traceback(server: SiteServer, capsys: pytest.CaptureFixture[str]) -> None:
    (server.folder / "app.js").write_bytes(bytes(8_000_000))
    with socket.create_connection(("127.0.0.1", server.server_port)) as connection:
        connection.sendall(f"GET /app.js HTTP/1.0\r\nHost: localhost:{server.server_port}\r\n\r\n".encode())
        connection.recv(10)
    assert ask(server, "/")[0].status == 200  # it goes on
    server.shutdown()
    server.server_close()
    assert "Traceback" not in capsys.readouterr().err

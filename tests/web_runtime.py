"""The npm package of ONNX Runtime Web, and a file that stands for it."""

from __future__ import annotations

import base64
import hashlib
import io
import os
import tarfile
from pathlib import Path

import pytest

import slimnet.web.runtime
from skips import skip_without
from slimnet.measure.costs import default_folder

MODULES = {
    "package/dist/ort.wasm.bundle.min.mjs": b"wasm module",
    "package/dist/ort-wasm-simd-threaded.wasm": b"wasm binary",
    "package/dist/ort.jspi.bundle.min.mjs": b"jspi module",
    "package/dist/ort-wasm-simd-threaded.jspi.wasm": b"jspi binary",
}


def published_runtime() -> Path:
    """The package as it was published: ``SLIMNET_ORT_WEB``, or what an earlier ``slimnet web`` has kept."""
    kept = default_folder()
    given = os.environ.get("SLIMNET_ORT_WEB") or (kept / slimnet.web.runtime.ARCHIVE if kept else "")
    if not given or not Path(given).is_file():
        skip_without("web runtime")
    return Path(given)


def archive(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def pin(monkeypatch: pytest.MonkeyPatch, data: bytes) -> None:
    """Let ``data`` be what was published."""
    monkeypatch.setattr(slimnet.web.runtime, "_SHA512", base64.b64encode(hashlib.sha512(data).digest()).decode())


def given_runtime(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Write it into ``folder``, and let it be what was published."""
    data = archive(MODULES)
    pin(monkeypatch, data)
    path = folder / "given.tgz"
    path.write_bytes(data)
    return path

"""ONNX Runtime Web: fetched once from the npm registry, checked, kept, and unpacked into a site."""

from __future__ import annotations

import base64
import hashlib
import io
import os
import shutil
import tarfile
import urllib.error
import urllib.request
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, distribution
from importlib.resources import files
from pathlib import Path

from slimnet.errors import ArgumentError, FileFormatError
from slimnet.files import write_bytes
from slimnet.measure.costs import default_folder
from slimnet.progress import Say, say_from

_say = say_from(__name__)

VERSION = "1.30.0"
"""Of the npm package ``onnxruntime-web``."""
ARCHIVE = f"onnxruntime-web-{VERSION}.tgz"
"""Its file name."""
_SHA512 = "q0y+JrrtukXSzsBWEMccVfqX25LRmosXHF+CaRJmg8pZClzcV7svNc4rKY3jL02Vb7QmRMDs1SigqR4CXAfKYQ=="
_BYTES = 33_106_585
_REGISTRY = "https://registry.npmjs.org"
_SECONDS = 60  # without a byte

_WASM = {
    "package/dist/ort.wasm.bundle.min.mjs": "ort.wasm.bundle.min.js",
    "package/dist/ort-wasm-simd-threaded.wasm": "ort-wasm-simd-threaded.wasm",
}
_WEBGPU = {
    "package/dist/ort.jspi.bundle.min.mjs": "ort.jspi.bundle.min.js",
    "package/dist/ort-wasm-simd-threaded.jspi.wasm": "ort-wasm-simd-threaded.jspi.wasm",
}
_NOTICES = "ThirdPartyNotices.txt"


def fetch_runtime(file: Path | None = None, *, registry: str | None = None, say: Say = _say) -> bytes:
    """The npm package, as it was published: given, kept from an earlier time in the user's cache folder, or fetched.

    Args:
        file: the package, fetched elsewhere.
        registry: address of an npm registry; by default ``npm_config_registry``, or else the public one.
        say: takes a line of progress.

    Returns:
        The bytes of the archive; their SHA-512 is the one that is pinned here.

    Raises:
        FileFormatError: if it cannot be had, or is another file.
        ArgumentError: if the registry's address is none.
    """
    if file is not None:
        return _read(file)
    folder = default_folder()
    kept = folder / ARCHIVE if folder else None
    if kept is not None and kept.is_file() and _is_right(data := kept.read_bytes()):
        return data
    data = _download(f"{_registry(registry)}/onnxruntime-web/-/{ARCHIVE}", say)
    if kept is not None:
        _keep(kept, data, say)
    return data


def unpack_runtime(archive: bytes, folder: Path, *, webgpu: bool) -> None:
    """Write what a page needs, and the licences, into a folder.

    Only the members named here are read, each into a file named here. Modules end in ``.js``: there are hosts that do not serve
    ``.mjs`` as a script.

    Args:
        archive: as :func:`fetch_runtime` gives it.
        folder: an existing folder.
        webgpu: with what WebGPU needs.
    """
    _extract(archive, folder, {**_WASM, **(_WEBGPU if webgpu else {})})
    licence = files("slimnet.web").joinpath("static", "runtime-licence.txt")
    (folder / "LICENSE.txt").write_bytes(licence.read_bytes())
    notices = _notices()
    if notices is not None:
        shutil.copyfile(notices, folder / _NOTICES)


def _extract(archive: bytes, folder: Path, names: Mapping[str, str]) -> None:
    with tarfile.open(fileobj=io.BytesIO(archive), mode="r:gz") as tar:
        for member in tar:
            if member.name in names and (content := tar.extractfile(member)) is not None:
                with (folder / names[member.name]).open("wb") as target:
                    shutil.copyfileobj(content, target)


def _notices() -> Path | None:
    """Licences of what is linked into ONNX Runtime: the npm package lacks them, the one for Python has them."""
    try:
        path = Path(str(distribution("onnxruntime").locate_file(f"onnxruntime/{_NOTICES}")))
    except PackageNotFoundError:
        return None
    return path if path.is_file() else None


def _read(file: Path) -> bytes:
    try:
        data = file.read_bytes()
    except OSError as error:
        raise FileFormatError(f"{file} cannot be read ({error.strerror}): give {ARCHIVE}.") from None
    if not _is_right(data):
        raise FileFormatError(f"{file} is not {ARCHIVE} as it was published: its SHA-512 differs.")
    return data


def _download(url: str, say: Say) -> bytes:
    say(f"fetching {ARCHIVE} ({_BYTES / 1e6:.0f} MB)")
    try:
        with urllib.request.urlopen(url, timeout=_SECONDS) as response:
            data: bytes = response.read(_BYTES + 1)
    except (urllib.error.URLError, OSError, ValueError) as error:
        reason = getattr(error, "reason", None) or error
        raise FileFormatError(
            f"{url} cannot be fetched ({reason}): without a network, fetch it elsewhere and give it with --runtime {ARCHIVE}."
        ) from None
    if not _is_right(data):
        raise FileFormatError(f"{url} is not the file that was published: its SHA-512 differs.")
    return data


def _keep(path: Path, data: bytes, say: Say) -> None:
    try:
        write_bytes(path, data, parents=True)
    except OSError as error:
        say(f"warning: {path} cannot be written ({error.strerror}): it will be fetched again next time.")


def _is_right(data: bytes) -> bool:
    return base64.b64encode(hashlib.sha512(data).digest()).decode() == _SHA512


def _registry(given: str | None) -> str:
    configured = (value for name, value in os.environ.items() if name.lower() == "npm_config_registry")
    address = given or next(configured, "") or _REGISTRY
    if not address.startswith(("https://", "http://")):
        raise ArgumentError(f"`registry` must be an address that begins with https://, got {address!r}.")
    return address.rstrip("/")

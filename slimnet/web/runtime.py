"""ONNX Runtime Web: fetched once from the npm registry, checked, kept, and unpacked into a site."""

from __future__ import annotations

import gzip
import io
import shutil
import tarfile
from importlib.metadata import PackageNotFoundError, distribution
from importlib.resources import files
from pathlib import Path
from typing import Any

from slimnet import npm
from slimnet.errors import FileFormatError
from slimnet.files import write_bytes
from slimnet.measure.costs import default_folder
from slimnet.progress import Say, say_from
from slimnet.web.lean import lean

_say = say_from(__name__)

VERSION = "1.30.0"
"""Of the npm package ``onnxruntime-web``."""
ARCHIVE = f"onnxruntime-web-{VERSION}.tgz"
"""Its file name."""
_SHA512 = "q0y+JrrtukXSzsBWEMccVfqX25LRmosXHF+CaRJmg8pZClzcV7svNc4rKY3jL02Vb7QmRMDs1SigqR4CXAfKYQ=="
_BYTES = 33_106_585

_DIST = "package/dist/"
_PARTS = {
    "wasm": ("ort.wasm.bundle.min", "ort-wasm-simd-threaded"),
    "webgpu": ("ort.jspi.bundle.min", "ort-wasm-simd-threaded.jspi"),
}
"""Of each backend, the module and the binary."""
NOTICES = "ThirdPartyNotices.txt"
"""Licences of what is linked into the runtime."""


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
    if kept is not None and kept.is_file() and _package().is_right(data := kept.read_bytes()):
        return data
    where = f"and keeps it in {folder}" if folder else "and cannot keep it: there is no cache folder"
    told = f"fetches {ARCHIVE} ({_BYTES / 1e6:.0f} MB) from {{registry}}, once, {where}"
    data = npm.fetch(_package(), registry=registry, say=say, told=told)
    if kept is not None:
        _keep(kept, data, say)
    return data


def unpack_runtime(archive: bytes, folder: Path, *, webgpu: bool, detector: bool = False) -> dict[str, dict[str, Any]]:
    """Write what a page needs, and the licences, into a folder.

    Only the members named here are read, each into a file named here. Modules end in ``.js``: there are hosts that do not serve
    ``.mjs`` as a script. Binaries are compressed: many hosts do not compress WebAssembly, and the page unpacks them itself.

    Args:
        archive: as :func:`fetch_runtime` gives it.
        folder: an existing folder.
        webgpu: with what WebGPU needs.
        detector: the lean binary is to run a face detector, too.

    Returns:
        Of each backend ``module``, ``file`` of its binary, and the ``bytes`` of that; and ``lean``, ``file`` and ``bytes`` of the
        binary without what most networks never call, where that is known. Paths begin with the folder's name.

    Raises:
        FileFormatError: if a part is missing.
    """
    wanted = {backend: parts for backend, parts in _PARTS.items() if webgpu or backend == "wasm"}
    content = _members(
        archive, {f"{_DIST}{name}" for parts in wanted.values() for name in (f"{parts[0]}.mjs", f"{parts[1]}.wasm")}
    )
    found: dict[str, dict[str, Any]] = {}
    for backend, (module, binary) in wanted.items():
        (folder / f"{module}.js").write_bytes(content[f"{_DIST}{module}.mjs"])
        whole = content[f"{_DIST}{binary}.wasm"]
        found[backend] = {"module": f"{folder.name}/{module}.js", **_pack(folder, f"{binary}.wasm.gz", whole)}
        few = lean(whole, detector=detector)
        if few is not None:
            found[backend]["lean"] = _pack(folder, f"{binary}.lean.wasm.gz", few)
    licence = files("slimnet.web").joinpath("static", "runtime-licence.txt")
    (folder / "LICENSE.txt").write_bytes(licence.read_bytes())
    notices = _notices()
    if notices is not None:
        shutil.copyfile(notices, folder / NOTICES)
    return found


def _pack(folder: Path, name: str, content: bytes) -> dict[str, Any]:
    packed = gzip.compress(content, mtime=0)
    (folder / name).write_bytes(packed)
    return {"file": f"{folder.name}/{name}", "bytes": len(packed)}


def _members(archive: bytes, names: set[str]) -> dict[str, bytes]:
    """What the archive holds under these names."""
    with tarfile.open(fileobj=io.BytesIO(archive), mode="r:gz") as tar:
        found = {m.name: content.read() for m in tar if m.name in names and (content := tar.extractfile(m)) is not None}
    missing = sorted(names - found.keys())
    if missing:
        raise FileFormatError(f"{ARCHIVE} holds no {missing[0]}: slimnet and the package do not fit together.")
    return found


def _notices() -> Path | None:
    """Licences of what is linked into ONNX Runtime: the npm package lacks them, the one for Python has them."""
    try:
        path = Path(str(distribution("onnxruntime").locate_file(f"onnxruntime/{NOTICES}")))
    except PackageNotFoundError:
        return None
    return path if path.is_file() else None


def _read(file: Path) -> bytes:
    try:
        data = file.read_bytes()
    except OSError as error:
        raise FileFormatError(f"{file} cannot be read ({error.strerror}): give {ARCHIVE}.") from None
    if not _package().is_right(data):
        raise FileFormatError(f"{file} is not {ARCHIVE} as it was published: its SHA-512 differs.")
    return data


def _package() -> npm.Package:
    hint = (
        f"fetch it where there is a network (`npm pack onnxruntime-web@{VERSION}`, or a browser) and give it with "
        f"`--runtime {ARCHIVE}`, or name a registry that answers with `--registry`"
    )
    return npm.Package("onnxruntime-web", VERSION, _BYTES, _SHA512, "--runtime", hint)


def _keep(path: Path, data: bytes, say: Say) -> None:
    try:
        write_bytes(path, data, parents=True)
    except OSError as error:
        say(f"warning: {path} cannot be written ({error.strerror}): it will be fetched again next time.")

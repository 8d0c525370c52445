"""From a bundle to a folder that any static host can serve."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any
from urllib.parse import quote

from slimnet import preprocess
from slimnet.bundle import seal
from slimnet.errors import ArgumentError, FileFormatError
from slimnet.export import Bundle, read_bundle
from slimnet.files import atomic_folder, check_output, claims_folder, read_json, write_json
from slimnet.progress import Say, say_from
from slimnet.web.detector import FOLDER as DETECTOR
from slimnet.web.detector import detector_weights, is_of_faces, put_detector
from slimnet.web.examples import copy_examples, example_names
from slimnet.web.runtime import NOTICES, VERSION, fetch_runtime, unpack_runtime
from slimnet.web.serve import POLICY

_say = say_from(__name__)

FORMAT = "slimnet-site"
PAGE = (
    *("app.js", "boxes.js", "camera.js", "cut.js", "download.js", "draw.js", "engine.js", "faces.js", "offline.js", "pixels.js"),
    *("preprocess.js", "sources.js", "stopwatch.js", "table.js", "worker.js", "style.css", "icon.svg"),
)
"""What is copied as it is."""
FILLED = ("index.html", "sw.js")
"""What is filled in."""
LIST = "site.json"
_DIGITS = 16  # of a site's hash
CARD = "MODEL_CARD.md"
NAMES = {"fp32": "slim", "int8": "slim int8"}
"""Precisions that a page runs, and what it calls them; fp16 has no kernels in WebAssembly."""


@dataclass(frozen=True)
class Site:
    """A site that was written.

    Attributes:
        path: its folder.
        title: heading of the page.
        networks: ``name``, ``file``, ``bytes`` and ``accuracy`` of each network, the baseline first; ``temperature`` of those
            that were calibrated.
        files: every file, relative to the folder.
        bytes: of all files.
        detector: what finds faces on the page; None where nothing does.
    """

    path: Path
    title: str
    networks: tuple[dict[str, Any], ...]
    files: tuple[str, ...]
    bytes: int
    detector: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "path": str(self.path),
            "title": self.title,
            "networks": list(self.networks),
            "files": list(self.files),
            "bytes": self.bytes,
            "detector": self.detector,
        }


@claims_folder()
def build_site(
    bundle: Path | str,
    out: Path | str,
    *,
    title: str | None = None,
    examples: Sequence[Path] = (),
    webgpu: bool = True,
    detector: str | Path = "auto",
    runtime: Path | None = None,
    registry: str | None = None,
    force: bool = False,
    say: Say = _say,
) -> Site:
    """Write a page that runs a bundle's networks in the browser: all of it or nothing.

    The page is static and loads nothing from elsewhere. It must be served: a browser loads no modules from ``file://``.

    Args:
        bundle: folder of a bundle.
        out: folder to make.
        title: heading of the page; by default the name of the bundle's folder.
        examples: pictures to offer on the page.
        webgpu: with what WebGPU needs (4 MB more), offered to browsers that have it.
        detector: what finds faces on the page: ``"blazeface"``, ``"none"``, ``"auto"`` (for a classifier of faces, if it is at
            hand), or a file with its weights; see :func:`slimnet.web.detector.detector_weights`.
        runtime: the npm package ``onnxruntime-web``, fetched elsewhere; see :func:`slimnet.web.fetch_runtime`.
        registry: npm registry to fetch them from.
        force: replace an existing site.
        say: takes a line of progress.

    Raises:
        FileFormatError: if the bundle is none, was changed or cut short; or the runtime or the detector cannot be had.
        ArgumentError: if ``out`` holds something and ``force`` is not set, or anything but a site; if an example is no picture
            that browsers read; or the bundle asks for other preprocessing than the page does; or there is no such detector.
    """
    out = Path(out)
    source = read_bundle(bundle)
    preprocess.check(source.model["preprocessing"])
    _check_old_site(out, force=force)
    example_files = example_names(examples)
    faces = is_of_faces(source)
    weights = detector_weights(detector, faces=faces, registry=registry, say=say)
    archive = fetch_runtime(runtime, registry=registry, say=say)
    title = title or source.path.resolve().name
    networks = _networks(source)
    with atomic_folder(out, force=force, ours=_names_in(out)) as folder:
        for name in ("model.json", *(network["file"] for network in networks)):
            _copy(source, name, folder)
        card = seal.lists(CARD, source.model)
        if card:
            _copy(source, CARD, folder)
        for name in PAGE:
            (folder / name).write_bytes(_static(name))
        (folder / "runtime").mkdir()
        backends = unpack_runtime(archive, folder / "runtime", webgpu=webgpu, detector=weights is not None)
        shown = copy_examples(example_files, folder)
        found = None if weights is None else put_detector(weights, folder)
        settings = {
            "main": _main(networks),
            "networks": networks,
            "examples": shown,
            "faces": {"detector": found} if faces or found else None,
            "runtime": {"version": VERSION, **backends},
        }
        words = {
            "title": escape(title),
            "card": f' <a href="{CARD}">About the networks</a>.' if card else "",
            "detector": f' Faces are found by <a href="{DETECTOR}/LICENSE.txt">BlazeFace</a>.' if found else "",
        }
        held = _fill(folder, settings, words)
    size = sum((out / name).stat().st_size for name in held)
    return Site(out, title, tuple(networks), tuple(held), size, None if found is None else str(found["name"]))


def _networks(bundle: Bundle) -> list[dict[str, Any]]:
    """The baseline, and the slim network in every precision that a page runs."""
    accuracy = bundle.model.get("accuracy") or {}
    known = accuracy.keys() >= {"split", "count", "dense"}
    dense = {"split": accuracy["split"], "count": accuracy["count"], "value": accuracy["dense"]} if known else None
    networks = [_network("dense", bundle.dense_onnx, dense)] if bundle.dense_onnx is not None else []
    for precision, path in bundle.precision_files.items():
        if precision in NAMES:
            accuracy = bundle.model["precisions"][precision].get("accuracy")
            networks.append(_network(NAMES[precision], path, accuracy, bundle.temperature(precision)))
    if not networks:
        raise FileFormatError(f"{bundle.path} holds no network that browsers run: they need fp32 or int8.")
    return networks


def _main(networks: Sequence[dict[str, Any]]) -> str:
    """The network that the headline speaks for."""
    names = [network["name"] for network in networks]
    return NAMES["fp32"] if NAMES["fp32"] in names else names[-1]


def _network(name: str, path: Path, accuracy: Any, temperature: float = 1.0) -> dict[str, Any]:
    about = {"name": name, "file": path.name, "bytes": path.stat().st_size, "accuracy": accuracy}
    return about if temperature == 1 else {**about, "temperature": temperature}


def _static(name: str) -> bytes:
    return files("slimnet.web").joinpath("static", name).read_bytes()


def _fill(folder: Path, settings: Mapping[str, Any], words: Mapping[str, str]) -> list[str]:
    """Write what tells of the other files; the names of all."""
    first = next(network["file"] for network in settings["networks"] if network["name"] == settings["main"])
    wasm = settings["runtime"]["wasm"]
    ahead = {"binary": wasm.get("lean", wasm)["file"], "network": first}
    words = {**words, **{key: escape(quote(name)) for key, name in ahead.items()}, "version": VERSION, "policy": POLICY}
    site = _version(folder, settings, words)
    for name in FILLED:
        text = Template(_static(name).decode()).substitute(words, site=site)
        (folder / name).write_text(text, encoding="utf-8")
    held = sorted([*_files_in(folder), LIST])
    webgpu = settings["runtime"].get("webgpu", {})
    seldom = {
        LIST,
        "sw.js",
        f"runtime/{NOTICES}",
        webgpu.get("module"),
        webgpu.get("file"),
        wasm["file"] if "lean" in wasm else None,
    }
    offline = [name for name in held if name not in seldom]
    write_json(folder / LIST, {"format": FORMAT, **settings, "version": site, "files": held, "offline": offline})
    return held


def _version(folder: Path, settings: Mapping[str, Any], words: Mapping[str, str]) -> str:
    """Hash of everything that a site is made of: another one for another site."""
    parts = {name: (folder / name).read_bytes() for name in _files_in(folder)} | {name: _static(name) for name in FILLED}
    sums = {name: hashlib.sha256(content).hexdigest() for name, content in parts.items()}
    return hashlib.sha256(json.dumps([sums, settings, words], sort_keys=True).encode()).hexdigest()[:_DIGITS]


def _copy(bundle: Bundle, name: str, folder: Path) -> None:
    """What is published is what the bundle lists, byte for byte."""
    (folder / name).write_bytes(seal.verified(bundle.path, name, bundle.model))


def _check_old_site(out: Path, *, force: bool) -> None:
    """An old site may be replaced; what somebody else has put into it may not be lost."""
    check_output(out, force=force)
    if not out.is_dir() or not any(out.iterdir()):
        return
    listed = read_json(out / LIST, "site")["files"] if (out / LIST).is_file() else []
    foreign = sorted(set(_files_in(out)) - set(listed))
    if foreign:
        raise ArgumentError(f"{out} holds {foreign[0]}, which is not ours to overwrite: choose another output.")


def _files_in(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir())


def _names_in(folder: Path) -> list[str]:
    return [entry.name for entry in folder.iterdir()] if folder.is_dir() else []

"""A small bundle out of a whole one: for shipping."""

from __future__ import annotations

from pathlib import Path

from slimnet.bundle import manifest, seal
from slimnet.bundle.bundle import Bundle, read_bundle
from slimnet.bundle.card import model_card
from slimnet.errors import ArgumentError
from slimnet.files import atomic_folder, claims_folder, read_json
from slimnet.files.untrusted import member
from slimnet.onnx import metadata
from slimnet.onnx.short import shortened

KEPT = (*manifest.DESCRIBED, "infer.py")


@claims_folder(*manifest.KNOWN_FILES)
def compact_bundle(bundle: Path | str, out: Path | str, *, precision: str | None = None, force: bool = False) -> Bundle:
    """Write a bundle again with one of its networks alone: without the dense one, and without what PyTorch needs.

    It is described, verified and used like any other, but nothing is left to compare it with: `slimnet verify` cannot rebuild it,
    `slimnet bench` has no baseline. The network computes the same bits; tensors within it get short names.

    Args:
        bundle: folder of a bundle.
        out: folder to make.
        precision: of the network that stays; default: the one with the smallest file.
        force: replace an existing bundle.

    Raises:
        FileFormatError: if the bundle is none, or one of its files was changed.
        ArgumentError: if it holds no such precision; if ``out`` holds something and ``force`` is not set, or anything but a
            bundle.
    """
    out = Path(out)
    whole = read_bundle(bundle)
    files = whole.precision_files
    chosen = precision if precision is not None else min(files, key=lambda name: files[name].stat().st_size)
    if chosen not in files:
        raise ArgumentError(f"{whole.path} holds no {chosen} network: it has {', '.join(files)}.")
    name = files[chosen].name
    network = shortened(seal.verified(whole.path, name, whole.model), name)
    opset = metadata.interface(metadata.parse(network, name))["opset"]
    entry = {**whole.model["precisions"][chosen], "bytes": len(network)}
    told = {key: value for key, value in whole.model.items() if key not in ("embedded", "formats")}
    model = told | {"compact": True, "opset": opset, "precisions": {chosen: entry}}
    card = model_card(model, whole.report, read_json(member(whole.path, "config.json")))
    with atomic_folder(out, force=force, ours=manifest.KNOWN_FILES) as folder:
        (folder / name).write_bytes(network)
        for kept in KEPT:
            if seal.lists(kept, whole.model):
                (folder / kept).write_bytes(seal.verified(whole.path, kept, whole.model))
        (folder / "MODEL_CARD.md").write_bytes(card.encode())
        (folder / "model.json").write_bytes(seal.sealed({**model, "files": seal.file_entries(folder)}))
    return read_bundle(out)

"""Which functions of ONNX Runtime Web's WebAssembly the page's networks call: written to slimnet/web/lean-functions.json.

A copy of the binary gets a flag for each function, which the function sets when it is called. Chromium loads the networks with
it, and runs each on two pictures. On the list come the functions whose flag is set: for the bundles that slimnet ships, for those
given, and for small networks of the usual layers in fp32 and int8. A second list has what the page's face detector calls, too: it
is for pages that have one. A network that calls another function makes the page load the whole binary; so a list may lack
something, and nothing breaks.

Needs Chromium, onnxruntime-web's npm package (kept, or SLIMNET_ORT_WEB), and the weights of the detector (kept, or its archive in
SLIMNET_DETECTORS). A minute.

    python benchmarks/lean_runtime.py [BUNDLE ...]
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import shutil
import sys
import tempfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from slimnet.bundle import read_bundle
from slimnet.detect.tflite import to_onnx
from slimnet.ready import ready_bundle, ready_names
from slimnet.web import VERSION, fetch_runtime
from slimnet.web.detector import detector_weights
from slimnet.web.lean import coded, number_at, sections, with_bodies
from slimnet.web.runtime import unpack_runtime

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from web_images import detector

from browser import Page, chromium, served
from web_bundle import make_bundle

TARGET = Path("slimnet/web/lean-functions.json")
LOOKS = ((192, 192), (96, 128), (160, 96))
"""Heights and widths that the detector is run at."""
IMPORT, GLOBAL, EXPORT = 2, 6, 7
FLAG = b"\x7f\x01\x41\x00\x0b"  # a global: i32, mutable, at first 0
RUN = """
(async () => {
  const instantiate = WebAssembly.instantiate;
  let exported;
  WebAssembly.instantiate = async (...given) => {
    const result = await instantiate(...given);
    exported = (result.instance ?? result).exports;
    return result;
  };
  const ort = await import('./runtime/ort.wasm.bundle.min.js');
  ort.env.wasm.numThreads = 1;
  ort.env.wasm.wasmBinary = await (await fetch('flagged.wasm')).arrayBuffer();
  const called = () => Object.keys(exported).filter((name) => name.startsWith('flag ') && exported[name].value)
    .map((name) => Number(name.slice(5)));
  const run = async ([file, dims]) => {
    const data = new Uint8Array(await (await fetch(file)).arrayBuffer());
    const session = await ort.InferenceSession.create(data, { executionProviders: ['wasm'] });
    for (const level of [0, 1]) {
      const values = Float32Array.from({ length: dims.reduce((a, b) => a * b) }, (_, i) => level * Math.sin(i));
      const outputs = await session.run({ [session.inputNames[0]]: new ort.Tensor('float32', values, dims) });
      for (const name of session.outputNames) await outputs[name].getData();
    }
  };
  for (const network of NETWORKS) await run(network);
  const networks = called();
  for (const look of LOOKS) await run(['detector.onnx', look]);
  return [networks, called()];
})()
"""


def flagged(binary: bytes) -> bytes:
    """The module with a flag for each function that has a body, exported as "flag N"."""
    found = dict(sections(binary))
    count, _ = number_at(found[10], 0)
    globals_before, start = number_at(found[GLOBAL], 0)
    exports_before, names = number_at(found[EXPORT], 0)
    first = imported_globals(found[IMPORT]) + globals_before
    marks = [coded(first + number) for number in range(count)]

    def named(number: int) -> bytes:
        name = f"flag {number}".encode()
        return coded(len(name)) + name + b"\x03" + marks[number]

    changed = {
        GLOBAL: coded(globals_before + count) + found[GLOBAL][start:] + FLAG * count,
        EXPORT: coded(exports_before + count) + found[EXPORT][names:] + b"".join(map(named, range(count))),
    }

    def with_flag(number: int, body: bytes) -> bytes:
        _, at = number_at(body, 0)
        groups, code = number_at(body, at)
        for _ in range(groups):
            _, code = number_at(body, code)
            code += 1  # the type
        new = body[at:code] + b"\x41\x01\x24" + marks[number] + body[code:]  # i32.const 1, global.set
        return coded(len(new)) + new

    parts = [binary[:8]]
    for kind, content in sections(binary):
        new = changed.get(kind, content)
        parts += [bytes([kind]), coded(len(new)), new]
    return with_bodies(b"".join(parts), with_flag)


def imported_globals(section: bytes) -> int:
    """How many globals a module takes from outside."""
    count, at = number_at(section, 0)
    found = 0
    for _ in range(count):
        for _ in range(2):  # the module's name and the thing's
            size, at = number_at(section, at)
            at += size
        kind, at = section[at], at + 1
        if kind == 0:  # a function: number of its type
            _, at = number_at(section, at)
        elif kind == 3:  # a global: type and whether it changes
            found, at = found + 1, at + 2
        elif kind == 4:  # a tag: attribute and number of its type
            _, at = number_at(section, at + 1)
        else:  # a table (type first) or a memory: limits
            at += kind == 1
            flags, at = section[at], at + 1
            for _ in range(1 + (flags & 1)):
                _, at = number_at(section, at)
    return found


def detector_file() -> bytes:
    """The page's face detector, as a page runs it."""
    data = detector_weights(detector(), faces=True, registry=None, say=print)
    assert data is not None
    return to_onnx(data, half=True)


def main(bundles: Sequence[str]) -> None:
    runtime = os.environ.get("SLIMNET_ORT_WEB")
    archive = fetch_runtime(Path(runtime) if runtime else None, say=print)
    with tempfile.TemporaryDirectory() as temporary:
        work = Path(temporary)
        (work / "runtime").mkdir()
        unpack_runtime(archive, work / "runtime", webgpu=False)
        binary = zlib.decompress((work / "runtime" / "ort-wasm-simd-threaded.wasm.gz").read_bytes(), 31)
        (work / "flagged.wasm").write_bytes(flagged(binary))
        (work / "index.html").write_text("<!doctype html><title>profile</title>")
        given = [*(ready_bundle(name) for name in ready_names()), *map(Path, bundles)]
        given += [make_bundle(work / f"small-{channels}", channels=channels, size=(24, 32)) for channels in (1, 3)]
        networks = []
        for number, path in enumerate(given):
            bundle = read_bundle(path)
            shape = [1, bundle.model["preprocessing"]["channels"], *bundle.model["preprocessing"]["size"]]
            files = {bundle.dense_onnx, *(file for name, file in bundle.precision_files.items() if name in ("fp32", "int8"))}
            for file in sorted(file for file in files if file is not None):
                shutil.copyfile(file, work / f"{number}-{file.name}")
                networks.append((f"{number}-{file.name}", shape))
        (work / "detector.onnx").write_bytes(detector_file())
        with served(work) as url, chromium() as browser:
            page: Page = browser.page()
            page.open(url)
            looks = [[1, 3, *look] for look in LOOKS]
            called = page.evaluate(RUN.replace("NETWORKS", json.dumps(networks)).replace("LOOKS", json.dumps(looks)))
    count, _ = number_at(dict(sections(binary))[10], 0)
    values = {
        "package": f"onnxruntime-web {VERSION}",
        "sha256": hashlib.sha256(binary).hexdigest(),
        "of": count,
        **{key: listed(numbers, count) for key, numbers in zip(("networks", "with_detector"), called, strict=True)},
    }
    TARGET.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
    few, more = map(len, called)
    print(f"{few} of {count} functions, by {len(networks)} networks; {more} with the detector")


def listed(numbers: Sequence[int], count: int) -> dict[str, Any]:
    """A list of functions, a bit each."""
    bits = bytearray(-(-count // 8))
    for number in numbers:
        bits[number >> 3] |= 1 << (number & 7)
    return {"called": len(numbers), "functions": base64.b64encode(zlib.compress(bytes(bits), 9)).decode()}


if __name__ == "__main__":
    main(sys.argv[1:])

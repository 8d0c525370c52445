"""A WebAssembly binary without the functions that the page's networks never call.

ONNX Runtime Web has kernels for every operator in every type; a page calls few of its functions. Which these are is a
measured list (``lean-functions.json``, written by ``benchmarks/lean_runtime.py``) for one binary, which it names by its SHA-256.
A function that is not on the list keeps its number and its type, and its body becomes the instruction ``unreachable``: whoever
calls it after all gets a trap, never another result. The page then loads the whole binary.
"""

from __future__ import annotations

import base64
import hashlib
import json
import zlib
from collections.abc import Callable, Iterator
from importlib.resources import files

_HEAD = 8  # bytes: the magic number and the version
_CODE = 10  # number of the section that holds the bodies of functions
_TRAP = b"\x03\x00\x00\x0b"  # 3 bytes long; no locals; unreachable; end


def lean(binary: bytes, *, detector: bool = False) -> bytes | None:
    """The binary with the bodies of listed functions alone; None for a binary that the list is not of.

    Args:
        binary: a WebAssembly module.
        detector: also with what a page's face detector calls.
    """
    listed = json.loads(files("slimnet.web").joinpath("lean-functions.json").read_text(encoding="utf-8"))
    if hashlib.sha256(binary).hexdigest() != listed["sha256"]:
        return None
    bits = zlib.decompress(base64.b64decode(listed["with_detector" if detector else "networks"]["functions"]))
    return with_bodies(binary, lambda number, body: body if bits[number >> 3] >> (number & 7) & 1 else _TRAP)


def with_bodies(binary: bytes, make: Callable[[int, bytes], bytes]) -> bytes:
    """The module with other bodies of functions.

    Args:
        binary: a WebAssembly module.
        make: takes a function's number among those that have a body, and the body with its length in front; gives the new one.
    """
    parts = [binary[:_HEAD]]
    for kind, content in sections(binary):
        new = content
        if kind == _CODE:
            count, at = number_at(content, 0)
            bodies = []
            for number in range(count):
                size, start = number_at(content, at)
                bodies.append(make(number, content[at : start + size]))
                at = start + size
            new = coded(count) + b"".join(bodies)
        parts += [bytes([kind]), coded(len(new)), new]
    return b"".join(parts)


def sections(binary: bytes) -> Iterator[tuple[int, bytes]]:
    """Kind and content of each section."""
    at = _HEAD
    while at < len(binary):
        size, start = number_at(binary, at + 1)
        yield binary[at], binary[start : start + size]
        at = start + size


def number_at(data: bytes, at: int) -> tuple[int, int]:
    """An unsigned number (LEB128), and where the next byte is."""
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return value, at


def coded(value: int) -> bytes:
    """An unsigned number as LEB128."""
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)

"""The folder that is shipped: a slim network with what it takes to use it, and to check what is claimed of it.

A bundle is read without torch; nothing here is imported before it is asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from slimnet._lazy import lazy

if TYPE_CHECKING:
    from slimnet.bundle.bundle import Bundle, PrecisionFile, read_bundle
    from slimnet.bundle.compact import compact_bundle
    from slimnet.bundle.schema import bundle_schema
    from slimnet.bundle.write import write_bundle

__all__ = [
    "Bundle",
    "PrecisionFile",
    "bundle_schema",
    "compact_bundle",
    "read_bundle",
    "write_bundle",
]

_HOME = {
    "Bundle": "bundle",
    "PrecisionFile": "bundle",
    "read_bundle": "bundle",
    "compact_bundle": "compact",
    "bundle_schema": "schema",
    "write_bundle": "write",
}


__getattr__ = lazy(__name__, _HOME)

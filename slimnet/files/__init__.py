"""Files and folders that are written whole or not at all, and read with one clear line on failure.

``content.py`` has JSON and tensors, ``writing.py`` single files, ``outputs.py`` folders (claimed, then swapped), ``locks.py`` who
writes, ``untrusted.py`` folders that somebody else may have filled.
"""

from __future__ import annotations

from slimnet.files.content import json_bytes, read_json, read_metadata, read_tensors, write_json, write_tensors
from slimnet.files.outputs import atomic_folder, check_free, check_output, claim_run, claims_folder
from slimnet.files.writing import append_line, atomic_file, atomic_path, scratch_folder, write_bytes

__all__ = [
    "append_line",
    "atomic_file",
    "atomic_folder",
    "atomic_path",
    "check_free",
    "check_output",
    "claim_run",
    "claims_folder",
    "json_bytes",
    "read_json",
    "read_metadata",
    "read_tensors",
    "scratch_folder",
    "write_bytes",
    "write_json",
    "write_tensors",
]

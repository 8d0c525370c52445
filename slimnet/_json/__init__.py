"""JSON that may come from anybody: read within bounds, held against a schema, written without NaN.

Every place that reads JSON reads it here, and every place that writes it writes it here.
"""

from slimnet._json.check import check, faults, schema
from slimnet._json.text import decode, encode, read_text

__all__ = ["check", "decode", "encode", "faults", "read_text", "schema"]

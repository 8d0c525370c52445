"""What came from data is shown, never obeyed: no text moves the cursor, colours a line, or forges one."""

from __future__ import annotations

import re
import unicodedata
from typing import Any

_SHOWN = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}
_HIDDEN = {"Cc", "Cf", "Cs", "Zl", "Zp"}  # control, format (direction among them), half characters, ends of line and paragraph

_MARKS = re.compile(r"[\\`*\[\]<>&|~$#]|(?<![^\W_])_|_(?![^\W_])")  # of Markdown and HTML; "_" between letters is none


def clean(text: Any) -> str:
    """On one line, with every character that is not shown as itself escaped: ``\\x1b``, ``\\n``, ``\\u202e``."""
    text = str(text)
    return text if text.isprintable() else "".join(map(_escaped, text))


def in_markdown(text: Any) -> str:
    """As :func:`clean`, and every character that Markdown or HTML would obey as a reference: ``&#60;``."""
    return _MARKS.sub(lambda found: f"&#{ord(found[0])};", clean(text))


def _escaped(character: str) -> str:
    if character in _SHOWN:
        return _SHOWN[character]
    if unicodedata.category(character) not in _HIDDEN:
        return character
    return character.encode("unicode_escape").decode()

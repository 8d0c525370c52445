"""Docstrings as the site shows them: examples as code, formulas as they are written, and roles as names."""

from __future__ import annotations

import re
from textwrap import dedent
from typing import Any

from griffe import Extension, Object

ROLE = re.compile(r":(?:func|class|mod|meth|data|attr):`~?\.?([^`]+)`")
MATH = re.compile(r"^( *)\.\. math::(.*)\n((?:\1 +.*\n|\n)*)", re.MULTILINE)


class Docstrings(Extension):
    """Changes what is read before it is parsed."""

    def on_instance(self, *, obj: Object, **_: Any) -> None:
        """Of a module, class, function or attribute."""
        if obj.docstring is not None:
            text = re.sub(r"^Example:$", "Examples:", obj.docstring.value, flags=re.MULTILINE)
            obj.docstring.value = ROLE.sub(r"`\1`", MATH.sub(_fenced, f"{text}\n")).rstrip()


def _fenced(found: re.Match[str]) -> str:
    lines = [found[2].strip(), *dedent(found[3]).strip().splitlines()]
    body = "\n".join(f"{found[1]}{line}" for line in lines if line)
    return f"{found[1]}```tex\n{body}\n{found[1]}```\n\n"

"""The command line, run in this process."""

from __future__ import annotations

import contextlib
import io
import json
from pathlib import Path
from typing import Any, NamedTuple

from slimnet_cli import _run


class Done(NamedTuple):
    """What a command returned and printed."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """stdout as one value."""
        return json.loads(self.out)

    @property
    def lines(self) -> list[dict[str, Any]]:
        """stdout as a value a line."""
        return [json.loads(line) for line in self.out.splitlines()]


def slimnet_cli(*arguments: str | Path) -> Done:
    """Run a command, as ``slimnet`` would."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = _run([str(argument) for argument in arguments])
    return Done(status, out.getvalue(), err.getvalue())


def predict(*arguments: str | Path) -> Done:
    """``slimnet predict``."""
    return slimnet_cli("predict", *arguments)

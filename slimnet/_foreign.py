"""Around code that is not slimnet's."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from slimnet.errors import ModelError


def is_ours() -> bool:
    """Whether the process is slimnet's command line: what libraries set for all of a process is then slimnet's to set."""
    return "slimnet_cli._app" in sys.modules


@contextmanager
def no_exit(what: str) -> Iterator[None]:
    """Code of a user's network may raise what it likes, but it does not end the program.

    Args:
        what: the code, for the error.

    Raises:
        ModelError: in the place of SystemExit, and of whatever else is no ``Exception``. KeyboardInterrupt passes, as errors do.
    """
    try:
        yield
    except (Exception, KeyboardInterrupt):
        raise
    except BaseException as error:
        text = " ".join(f"{type(error).__name__}: {error}".split()).rstrip(":")
        raise ModelError(f"{what} tried to end the program ({text}).") from None  # the cause is told, not passed on

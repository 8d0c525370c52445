"""Around code that is not slimnet's."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from slimnet.errors import ModelError


class Process:
    """What this process is, as far as it matters to libraries.

    Attributes:
        is_ours: it runs slimnet's command line and nothing else, so that settings of libraries that hold for a whole process are
            slimnet's to make.
    """

    is_ours: bool = False


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

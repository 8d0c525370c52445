"""Around code that is not slimnet's."""

from __future__ import annotations

import ctypes
import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

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


@contextmanager
def no_logs(*names: str) -> Iterator[None]:
    """The loggers of these names say nothing of what is no catastrophe: a library's tale of an error that is told in one line."""
    levels = {name: logging.getLogger(name).level for name in names}
    try:
        for name in names:
            logging.getLogger(name).setLevel(logging.CRITICAL)
        yield
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)


@contextmanager
def no_output(stream: int = 1) -> Iterator[None]:
    """In the command line, native code prints nothing on stdout, where results stand; elsewhere it may, as stdout is not ours.

    Args:
        stream: 2 for stderr, where some tell of what is no error.
    """
    try:
        saved = os.dup(stream) if is_ours() else None
    except OSError:  # it is closed
        saved = None
    if saved is None:
        yield
        return
    _flush_native()
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, stream)
        yield
    finally:
        _flush_native()  # what waits in its buffer goes nowhere, too
        os.dup2(saved, stream)
        os.close(saved)
        os.close(nowhere)


def _flush_native() -> None:
    with suppress(OSError, AttributeError, TypeError):  # no C library to be had by that name
        ctypes.CDLL(None).fflush(None)

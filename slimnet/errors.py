"""Every error that slimnet raises on purpose.

::

    SlimnetError
    ├── ArgumentError      a value given by the caller is out of range (also a ValueError)
    ├── DataError          a data set is missing, malformed or of the wrong size
    ├── ModelError         an unknown model, or weights that do not fit it
    ├── FileFormatError    a file is missing, corrupt, truncated, or not what it claims to be
    ├── WriteError         a file cannot be written (also an OSError)
    ├── TrainingError      training cannot go on (a loss that is not a number)
    ├── GraphError         a network that cannot be analysed
    ├── SurgeryError       a plan that does not fit a network
    │   └── VerificationError   a slim model that computes something else
    ├── ExportError        a network that cannot be exported
    │   └── ParityError    an exported model that computes something else
    └── MeasureError       a measurement that cannot be made, a network that does not run
        └── TimeLimitError      a network that does not come to an end

A message is one line: it names the thing, shows the value, and says what to do. What it shows may come from data, so control
characters in it are escaped (``\\x1b``) wherever it is printed, in a traceback too.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterable, Mapping

from slimnet._clean import clean


class _OneLine(Exception):  # noqa: N818 – a part of others, warnings too
    """Shown on one line, as text."""

    def __str__(self) -> str:
        return clean(super().__str__())


class SlimnetError(_OneLine):
    """What a user of slimnet may want to catch; the command line prints it on one line and exits with 1."""


class ArgumentError(SlimnetError, ValueError):
    """A value given by the caller is out of its range."""


class DataError(SlimnetError):
    """A data set is missing, malformed, or of the wrong size."""


class ModelError(SlimnetError):
    """An unknown model, or weights that do not fit it."""


class FileFormatError(SlimnetError):
    """A file is missing, corrupt, truncated, or not what it claims to be."""


class WriteError(SlimnetError, OSError):
    """A file cannot be written: a full disk, a place that is forbidden, a folder that has gone. What was there before is intact.

    Args:
        message: which file, why, and what to do.
        number: the system's, as in :mod:`errno`; ``strerror`` is what it stands for.
    """

    def __init__(self, message: str, number: int | None = None) -> None:
        super().__init__(message)
        self.errno = number
        self.strerror = None if number is None else os.strerror(number)

    def __str__(self) -> str:
        return clean(self.args[0])


class TrainingError(SlimnetError):
    """Training cannot go on."""


class GraphError(SlimnetError):
    """A network that cannot be analysed."""


class SurgeryError(SlimnetError):
    """A plan that does not fit a network."""


class VerificationError(SurgeryError):
    """A slim model that computes something else than the model it was cut from."""


class ExportError(SlimnetError):
    """A network that cannot be exported."""


class ParityError(ExportError):
    """An exported model that computes something else than the model it came from."""


class MeasureError(SlimnetError):
    """A measurement that cannot be made, or a network that does not run."""


class TimeLimitError(MeasureError):
    """A network that does not come to an end in the time that it is given."""


class SlimnetWarning(_OneLine, UserWarning):
    """Work goes on without something that it can do without; the command line prints it on one line."""


def one_line(error: BaseException) -> str:
    """The first line of an error that says something."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__


def whole_text(error: BaseException) -> str:
    """All that an error says, on one line; its type where it says nothing."""
    return " ".join(str(error).split()) or type(error).__name__


def nearest(name: str, known: Iterable[str]) -> str:
    """The known name that one which is unknown may have been meant for; empty where none is like it."""
    return next(iter(difflib.get_close_matches(name.lower(), list(known), n=1, cutoff=0.5)), "")


def did_you_mean(name: str, known: Iterable[str], otherwise: str = "") -> str:
    """What follows on an unknown name: ``: did you mean `epochs`?``

    Where no known name is like it, it is ``otherwise``, or the known ones.
    """
    known = list(known)
    near = nearest(name, known)
    return f": did you mean `{near}`?" if near else otherwise or f"; known: {', '.join(known) or 'none'}."


def unknown(what: str, name: str, known: Iterable[str], more: str = "", *, meant: Mapping[str, str] | None = None) -> str:
    """A name that is none of the known ones: ``Unknown model 'resnet9'. Did you mean resnet8? Known: resnet8, resnet20.``

    Args:
        what: it is the name of, after "unknown".
        name: the unknown one.
        known: what there is.
        more: what else would do.
        meant: names that it may have been meant for, and how each is to be given; default: the known ones.
    """
    known = list(known)
    near = nearest(name, known if meant is None else meant)
    hint = f" Did you mean {near if meant is None else meant[near]}?" if near else ""
    return f"{what} {name!r}.{hint} Known: {', '.join(known)}{more}."

"""``python -m slimnet_cli`` makes the current directory the first place that modules are imported from: it is taken off again.

Else a ``numpy.py`` or ``click.py`` in a folder of somebody else's would run when ``slimnet`` is called there. A factory of the
user's own is still found (see ``slimnet.models``). Python itself looks there for ``slimnet_cli`` before: ``python -P -m
slimnet_cli`` does not.
"""

from __future__ import annotations

import sys
from pathlib import Path


def leave_current_directory() -> None:
    """Take the current directory off ``sys.path``, where ``-m`` has put it; not where this package lies in it."""
    first = sys.path[0] if sys.path else None
    is_run_by_name = sys.argv[:1] == ["-m"] and not sys.flags.safe_path
    if is_run_by_name and first is not None and Path(first).resolve() != Path(__file__).resolve().parents[1]:
        del sys.path[0]


leave_current_directory()

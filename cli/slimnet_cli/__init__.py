"""The ``slimnet`` command. Nothing is imported before Ctrl-C is taken care of, and nothing heavy before a command runs."""

from __future__ import annotations

import slimnet_cli._path  # noqa: F401  # before anything else is imported

TYPE_CHECKING = False
if TYPE_CHECKING:
    from slimnet_cli._app import _run, cli

__all__ = ["_run", "cli", "main"]


def main() -> None:
    """Run the command line: exit status 0, 1 (an error, on one line), 2 (usage), or 128 + signal."""
    from slimnet_cli._interrupt import interrupts

    interrupts.watch()
    from slimnet_cli._app import run_process

    run_process()


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module 'slimnet_cli' has no attribute {name!r}")
    from slimnet_cli import _app

    return getattr(_app, name)

"""The group of all commands, and how each of them ends."""

from __future__ import annotations

import os
import sys
import traceback
import warnings
from contextlib import suppress
from typing import Any

import click

from slimnet_cli import bench, calibrate, evaluate, export, inspect, predict, prune, recipes, report, slim, train, verify, web
from slimnet_cli._clean import clean, echo, make_room
from slimnet_cli._interrupt import interrupts

_python_shows = warnings.showwarning


class _StoppedError(Exception):
    """A KeyboardInterrupt on its way out: click would print an empty line for one, and call it Abort."""


class _Group(click.Group):
    def invoke(self, ctx: click.Context) -> Any:
        from slimnet.terminal import show

        try:
            with show():
                return super().invoke(ctx)
        except SystemExit as error:  # nothing of slimnet raises it: the code of a user's network did
            from slimnet.errors import ModelError

            raise ModelError(f"code that was run tried to end the program (SystemExit: {error}).") from error
        except KeyboardInterrupt as error:
            raise _StoppedError from error


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="slimnet", prog_name="slimnet")
def cli() -> None:
    """Make a CNN smaller and really faster.

    \b
    slimnet train  --method fsdp --model resnet56 --data cifar10 --data-dir DATA --out runs/r56
    slimnet export runs/r56 --out build/r56
    slimnet bench  build/r56
    """


for module in (train, recipes, export, calibrate, verify, bench, evaluate, predict, web, report, prune, slim, inspect):
    cli.add_command(module.command)


def run_process() -> None:
    """Run the command line, and end the process with its status."""
    warnings.showwarning = _show_warning
    interrupts.unwinds = True
    status = _run(sys.argv[1:])
    interrupts.unwinds = False
    if interrupts.came and status == interrupts.status:
        interrupts.end()
    sys.exit(status if _flushed() else status or 1)


def _run(arguments: list[str]) -> int:
    try:
        result = cli.main(arguments, prog_name="slimnet", standalone_mode=False)
    except click.ClickException as error:
        vars(error)["message"] = clean(error.message)  # a pattern of names may have found anything
        error.show()
        return error.exit_code
    except (_StoppedError, KeyboardInterrupt, click.Abort) as error:
        return _interrupted(error.__cause__ or error)
    except BaseException as error:
        if interrupts.came:  # whatever a library made of it
            return _interrupted()
        if isinstance(error, BrokenPipeError):
            return 1
        if not isinstance(error, Exception):
            raise
        return _explain(error)
    return result if isinstance(result, int) else 0


def _interrupted(error: BaseException | None = None) -> int:
    told = str(error) if hasattr(error, "status") else interrupts.word  # a training says where it can be resumed from
    interrupts.told = True
    echo(f"slimnet: {told}", err=True)
    return int(getattr(error, "status", interrupts.status))


def _explain(error: Exception) -> int:
    """One line for what a user can mend; anything else is a fault of ours and shows its traceback."""
    from slimnet.errors import SlimnetError

    if isinstance(error, SlimnetError):
        message = str(error)
    elif isinstance(error, OSError) and _is_of_printing(error):
        message = _unprinted(error)
        _print_no_more()
    elif isinstance(error, OSError | MemoryError):
        message = f"{type(error).__name__}: {error}"
    else:
        raise error
    echo("slimnet: error: " + " ".join(message.split()), err=True)
    return 1


def _is_of_printing(error: BaseException) -> bool:
    *_, (frame, _) = traceback.walk_tb(error.__traceback__)
    return str(frame.f_globals.get("__name__")).partition(".")[0] == "click"


def _flushed() -> bool:
    """Whether all that was printed could be written; if not, give the rest up, and say so unless the reader has gone."""
    try:
        sys.stdout.flush()
    except OSError as error:
        if not isinstance(error, BrokenPipeError):
            echo(f"slimnet: error: {_unprinted(error)}", err=True)
        _print_no_more()
        return False
    return True


def _print_no_more() -> None:
    """What is left of the output goes nowhere: it would fail once more, when the process ends."""
    with suppress(OSError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _unprinted(error: OSError) -> str:
    return f"standard output cannot be written ({error.strerror}): what is there is cut short."


def _show_warning(message: Warning | str, category: type[Warning], *where: Any, **more: Any) -> None:
    """Ours are for users, and stand on one line; others are for developers."""
    from slimnet.errors import SlimnetWarning

    make_room()
    if issubclass(category, SlimnetWarning):
        echo(f"slimnet: warning: {' '.join(str(message).split())}", err=True)
    else:
        _python_shows(clean(message), category, *where, **more)

"""The ``slimnet`` command. Nothing heavy is imported before a command runs."""

from __future__ import annotations

import sys

import click

from slimnet_cli import bench, evaluate, export, inspect, predict, prune, recipes, report, slim, train, verify, web
from slimnet_cli._clean import echo

__all__ = ["cli", "main"]


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="slimnet", prog_name="slimnet")
def cli() -> None:
    """Make a CNN smaller and really faster.

    \b
    slimnet train  --method fsdp --model resnet56 --data cifar10 --data-dir DATA --out runs/r56
    slimnet export runs/r56 --out build/r56
    slimnet bench  build/r56
    """


for module in (train, recipes, export, verify, bench, evaluate, predict, web, report, prune, slim, inspect):
    cli.add_command(module.command)


def main() -> None:
    """Run the command line: exit status 0, 1 (an error, on one line), 2 (usage), or 128 + signal."""
    sys.exit(_run(sys.argv[1:]))


def _run(arguments: list[str]) -> int:
    try:
        result = cli.main(arguments, prog_name="slimnet", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (KeyboardInterrupt, click.Abort) as error:
        cause = error.__cause__ or error  # click turns the one into the other
        click.echo(f"slimnet: {str(cause) or 'interrupted'}", err=True)
        return int(getattr(cause, "status", 130))
    except BrokenPipeError:
        sys.stderr.close()
        return 1
    except Exception as error:
        return _explain(error)
    return result if isinstance(result, int) else 0


def _explain(error: Exception) -> int:
    """One line for what a user can mend; anything else is a fault of ours and shows its traceback."""
    from slimnet.errors import SlimnetError

    if isinstance(error, OSError | MemoryError):
        message = f"{type(error).__name__}: {error}"
    elif isinstance(error, SlimnetError):
        message = str(error)
    else:
        raise error
    echo("slimnet: error: " + " ".join(message.split()), err=True)
    return 1

"""What holds for every command: help, progress, wrong usage, faults of our own."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import click
import pytest

from cli.cases import HEAVY, Made, wrong_usage
from command import slimnet_cli
from slimnet_cli import cli

# --- what works -----------------------------------------------------------------------------------------------------------


def test_progress_goes_to_stderr_only(made: Made) -> None:
    assert "epoch 1/2" in made.trained.err.replace("\r", "\n")
    assert "epoch" not in made.trained.out.splitlines()[2]
    assert "cutting" in made.exported.err
    assert "cutting" not in made.exported.out


# --- help -----------------------------------------------------------------------------------------------------------------

HELP = f"""
import contextlib, io, sys
from slimnet_cli import _run, cli
for arguments in [["--help"], ["-h"], *([name, "-h"] for name in cli.commands)]:
    with contextlib.redirect_stdout(io.StringIO()) as out:
        assert _run(arguments) == 0, arguments
    assert out.getvalue().startswith("Usage: slimnet"), arguments
print([name for name in {HEAVY} if name in sys.modules])
"""


def test_help_imports_nothing_heavy() -> None:
    done = subprocess.run([sys.executable, "-c", HELP], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.strip()) == (0, "[]"), done.stderr


ONLY_CLICK = """
import sys
before = set(sys.modules)
from slimnet_cli import _run
status = _run(["--help"])
loaded = {name.partition(".")[0] for name in set(sys.modules) - before} - sys.stdlib_module_names
print(status, *sorted(loaded))
"""


def test_help_is_fast() -> None:
    """Nothing is imported for it but click and the commands' names. The time that this takes depends on the machine."""
    done = subprocess.run([sys.executable, "-c", ONLY_CLICK], capture_output=True, text=True, check=True)
    assert "Usage: slimnet" in done.stdout
    assert done.stdout.splitlines()[-1] == "0 click slimnet_cli"


@pytest.mark.parametrize("name", sorted(cli.commands))
def test_every_option_says_what_it_is_for(name: str) -> None:
    command = cli.commands[name]
    options = [parameter for parameter in command.params if isinstance(parameter, click.Option)]
    silent = [option.name for option in options if not option.help]
    assert command.help
    assert silent == []


# --- bad input ------------------------------------------------------------------------------------------------------------


def test_a_fault_of_ours_is_not_hidden(monkeypatch: pytest.MonkeyPatch, made: Made) -> None:
    def faulty(*_: Any, **__: Any) -> None:
        raise KeyError("ours")

    monkeypatch.setattr("slimnet.commands.evaluate_any", faulty)
    with pytest.raises(KeyError, match="ours"):
        slimnet_cli("evaluate", made.run)


USAGE = [
    ("", "Usage: slimnet"),
    ("frob", "No such command 'frob'"),
]


test_wrong_usage_exits_2 = wrong_usage(USAGE)

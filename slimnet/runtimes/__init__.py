"""Runtimes that people deploy to: how a network becomes their files, and how these are run. Each library has its one file."""

from slimnet.runtimes.formats import FORMATS, Format, check_installed, of_runtime

__all__ = ["FORMATS", "Format", "check_installed", "of_runtime"]

"""What a command is refused for before anything heavy is imported: unknown names, missing paths, taken outputs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any


def refuse_names(given: Mapping[str, Any]) -> None:
    """Refuse an unknown model, data set, method or criterion among the options; what was not given is passed over.

    Raises:
        SlimnetError: naming it.
    """
    from slimnet import known

    checks = {
        "model": known.check_model_name,
        "data": known.check_data_name,
        "method": known.check_method_name,
        "criterion": known.check_criterion_name,
    }
    for name, check in checks.items():
        if isinstance(given.get(name), str):
            check(given[name])


def refuse_missing(*paths: Path | str | None, hint: str = "") -> None:
    """Refuse files and folders that do not exist; None is passed over.

    Raises:
        FileFormatError: naming the first one.
    """
    from slimnet.known import check_there

    for path in paths:
        if path is not None:
            check_there(Path(path), hint)


def refuse_missing_bundle(path: Path) -> None:
    """Refuse a bundle that does not exist.

    Raises:
        FileFormatError: naming it.
    """
    refuse_missing(path, hint="give a bundle that `slimnet export` has written")


def refuse_data_dir(given: Mapping[str, Any]) -> None:
    """Refuse a folder of data that does not exist, and is not to be downloaded.

    Raises:
        DataError: naming it.
    """
    from slimnet.errors import DataError

    folder = given.get("data_dir")
    if folder is not None and not given.get("download") and not Path(folder).exists():
        raise DataError(f"{folder} does not exist: --data-dir must be where the data set lies.")


def refuse_run(folder: Path) -> None:
    """Refuse what is no run.

    Raises:
        FileFormatError: with the reason.
    """
    from slimnet.known import check_run

    check_run(folder)


def refuse_formats(names: Iterable[str], precisions: Iterable[str]) -> None:
    """Refuse formats whose converter is not installed.

    Raises:
        SlimnetError: naming the extra.
    """
    from slimnet.runtimes import check_installed

    check_installed(names, ("fp32", *precisions))


def refuse_runtimes(names: Iterable[str]) -> None:
    """Refuse runtimes that are not installed.

    Raises:
        SlimnetError: naming the extra.
    """
    from slimnet.runtimes.formats import check_runs

    for name in names:
        check_runs(name)


def refuse_resume(folder: Path) -> None:
    """Refuse to resume what is no run.

    Raises:
        FileFormatError: with the reason.
    """
    from slimnet.errors import FileFormatError

    try:
        refuse_run(folder)
    except FileFormatError as error:
        raise FileFormatError(f"there is nothing to resume: {error}") from None


def refuse_out(out: Path, *, force: bool) -> None:
    """Refuse an output folder that holds something, unless it may be overwritten, or is being written.

    Raises:
        ArgumentError: naming it.
    """
    from slimnet.files import check_free, check_output

    check_free(out)
    check_output(out, force=force)

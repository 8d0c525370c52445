"""A run in, a small bundle out."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slimnet.bundle.manifest import KNOWN_FILES
from slimnet.commands.export import export_run
from slimnet.errors import ArgumentError
from slimnet.files import claims_folder, scratch_folder
from slimnet.progress import Say, say_from

if TYPE_CHECKING:
    from slimnet.export import Bundle

_say = say_from(__name__)


@claims_folder(*KNOWN_FILES)
def export_compact(run_dir: Path | str, out: Path | str, *, force: bool = False, say: Say = _say, **settings: Any) -> Bundle:
    """Export a run as :func:`export_run` does, every check included, and keep the smallest network alone.

    Args:
        run_dir: directory of a finished run.
        out: folder of the bundle.
        force: replace an existing bundle (and nothing but a bundle).
        say: told what is being done.
        **settings: of :func:`export_run`.

    Returns:
        The compact bundle, see :func:`slimnet.export.compact_bundle`.

    Raises:
        ArgumentError: if ``embed_preprocessing`` or ``formats`` is set: its network would be a second one.
    """
    from slimnet.export import compact_bundle

    if set(settings.get("formats") or ()) - {"onnx"}:
        raise ArgumentError(
            "`formats` writes networks for other runtimes, a compact bundle holds one in ONNX: leave one of them out."
        )
    if settings.get("embed_preprocessing"):
        raise ArgumentError("`embed_preprocessing` writes a second network, a compact bundle holds one: leave one of them out.")
    with scratch_folder("export") as folder:
        whole = export_run(run_dir, folder / "bundle", say=say, **settings)
        return replace(compact_bundle(whole.path, out, force=force), choice=whole.choice)

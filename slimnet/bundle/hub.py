"""The façade over huggingface_hub: bundles go to the Hub, and come from there. Needs the extra ``slimnet[hub]``."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from slimnet.bundle import manifest, seal
from slimnet.bundle.front_matter import FENCE, front_matter
from slimnet.errors import FileFormatError, SlimnetError, whole_text
from slimnet.files import atomic_folder, read_json
from slimnet.files.untrusted import member

README, CARD = "README.md", "MODEL_CARD.md"


def push(
    folder: Path,
    model: Mapping[str, Any],
    report: Mapping[str, Any],
    repo_id: str,
    *,
    licence: str | None,
    private: bool | None,
    revision: str | None,
    message: str,
    **access: Any,
) -> str:
    """Upload the files that ``model.json`` lists, as they were exported, and the card as ``README.md``; the commit's address."""
    names = [name for name in manifest.KNOWN_FILES if name == seal.MANIFEST or seal.lists(name, model)]
    files = {name: seal.verified(folder, name, model) for name in names}
    config = read_json(member(folder, "config.json"))
    card = files.get(CARD, b"").decode()
    if licence or not card.startswith(FENCE):
        card = front_matter(model, report, config, licence=licence) + _without(card)
    hub = _hub()
    with _one_line(repo_id, "sent to"):
        api = hub.HfApi(library_name="slimnet", **access)
        api.create_repo(repo_id, private=private, exist_ok=True)
        files[README] = card.encode()
        operations = [hub.CommitOperationAdd(path_in_repo=name, path_or_fileobj=data) for name, data in files.items()]
        done = api.create_commit(repo_id, operations, commit_message=message, revision=revision)
    return str(done.commit_url)


@contextmanager
def fetched(
    repo_id: str, folder: Path | None, *, revision: str | None, local_files_only: bool, **access: Any
) -> Iterator[tuple[Path, Path | None]]:
    """Download the files of a bundle, and no others, as plain files.

    Yields:
        A folder to be read and checked, and the one that it becomes once the block is left without an error; None for the second
        where it is there from before.
    """
    hub = _hub()
    with _one_line(repo_id, "fetched from"):
        snapshot = Path(
            hub.snapshot_download(
                repo_id,
                revision=revision,
                allow_patterns=list(manifest.KNOWN_FILES),
                local_files_only=local_files_only,
                library_name="slimnet",
                **access,
            )
        )
    out = folder or Path(hub.constants.HF_HOME) / "slimnet" / repo_id.replace("/", "--") / snapshot.name
    if folder is None and out.is_dir():
        yield out, None
        return
    with atomic_folder(out, ours=manifest.KNOWN_FILES) as made:
        for name in manifest.KNOWN_FILES:
            if (snapshot / name).exists():
                shutil.copyfile(_inside(snapshot, name), made / name)
        yield made, out


def _inside(snapshot: Path, name: str) -> Path:
    """The file of a snapshot, which the cache holds by a link into itself; a link that leads elsewhere is refused."""
    found = (snapshot / name).resolve()
    if not found.is_relative_to(snapshot.parents[1].resolve()) or not found.is_file():
        raise FileFormatError(f"{snapshot / name} leads out of the cache of the Hub: it is not read.")
    return found


def _without(card: str) -> str:
    """A card without its front matter."""
    return card.split(f"\n{FENCE}", 1)[1].lstrip("\n") if card.startswith(FENCE) and f"\n{FENCE}" in card else card


def _hub() -> ModuleType:
    try:
        import huggingface_hub
    except ImportError:
        raise SlimnetError("the Hugging Face Hub needs huggingface_hub: pip install 'slimnet[hub]'.") from None
    return huggingface_hub


@contextmanager
def _one_line(repo_id: str, what: str) -> Iterator[None]:
    """Whatever the library raises (its errors share no base class) as one line."""
    try:
        yield
    except Exception as error:
        raise SlimnetError(f"{repo_id!r} cannot be {what} the Hub ({type(error).__name__}: {whole_text(error)}).") from error

"""Links of the pages to files of the repository, as the site has them: on the repository's own page."""

from __future__ import annotations

import re
from pathlib import Path
from posixpath import normpath
from typing import Any

LINK = re.compile(r"(\]\()([^)#\s:]+)(#[^)\s]*)?(\))")
DOCS = Path(__file__).resolve().parents[1]


def on_page_markdown(markdown: str, *, page: Any, config: Any, **_: Any) -> str:
    """Turn links that lead out of docs/, or to one of its folders, into links to the repository."""
    folder = Path(page.file.src_uri).parent

    def changed(found: re.Match[str]) -> str:
        path = normpath(f"docs/{folder.as_posix()}/{found[2]}")
        target = DOCS.parent / path
        if not target.exists() or (target.is_relative_to(DOCS) and target.is_file()):
            return found[0]  # of the site, or of nothing: the build says so
        kind = "tree" if target.is_dir() else "blob"
        return f"{found[1]}{config['repo_url']}/{kind}/main/{path}{found[3] or ''}{found[4]}"

    return LINK.sub(changed, markdown)

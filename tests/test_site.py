"""The site of the documentation: it is built without a warning and without a network, and has every public name."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

import slimnet
from slimnet_cli import cli
from test_docs import ROOT

OUTSIDE = re.compile(r"<(?:script|link|img|iframe)\b[^>]*?\b(?:src|href)=\"?(?:https?:)?//[^\s\">]+[^>]*>")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("site")
    nowhere = {f"{kind}_proxy": "http://127.0.0.1:9" for kind in ("http", "https", "HTTP", "HTTPS")}
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "-f", str(ROOT / "mkdocs.yml"), "-d", str(out)]
    environment = {**os.environ, **nowhere, "NO_MKDOCS_2_WARNING": "1", "NO_COLOR": "1"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=out, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "WARNING" not in done.stderr
    return out


def test_every_public_name_is_in_the_reference(site: Path) -> None:
    page = (site / "api.html").read_text(encoding="utf-8")
    names = set(slimnet.__all__) - {"__version__"}
    assert {name for name in names if f'id="slimnet.{name}"' not in page} == set()
    assert "slimnet.__version__" in page


def test_every_page_is_there_and_loads_nothing_from_elsewhere(site: Path) -> None:
    pages = [path.relative_to(ROOT / "docs").with_suffix(".html") for path in (ROOT / "docs").rglob("*.md")]
    found = [site / page.with_stem("index" if page.stem == "README" else page.stem) for page in pages]
    assert len(found) > 30
    for path in found:
        tags = OUTSIDE.findall(path.read_text(encoding="utf-8"))
        assert [tag for tag in tags if 'rel="edit"' not in tag and 'rel="canonical"' not in tag] == [], path
    assert not [path for path in site.rglob("*.css") if re.search(r"url\(['\"]?https?:", path.read_text(encoding="utf-8"))]


def test_links_to_the_repository_are_turned(site: Path) -> None:
    assert 'href="https://github.com/slimnet/slimnet/blob/main/slimnet/preprocess.py"' in (site / "bundle.html").read_text()
    assert 'href="https://github.com/slimnet/slimnet/blob/main/SECURITY.md"' in (site / "security.html").read_text()


def test_the_glossary_has_the_words(site: Path) -> None:
    page = (site / "glossary.html").read_text(encoding="utf-8")
    for word in ("θ (theta)", "ζ (zeta)", "stream", "couple", "carrier", "parity"):
        assert f"<strong>{word}</strong>" in page


def test_every_command_is_on_the_page_of_the_command_line() -> None:
    page = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")
    assert set(re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE)) == set(cli.commands)


def test_completion_is_clicks_own() -> None:
    page = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")
    for shell in ("bash", "zsh", "fish"):
        assert f"_SLIMNET_COMPLETE={shell}_source slimnet" in page
        environment = {**os.environ, "_SLIMNET_COMPLETE": f"{shell}_source"}
        program = "from slimnet_cli import cli; cli(prog_name='slimnet')"
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, env=environment)
        if "Couldn't detect Bash version" not in done.stderr:  # click asks bash itself
            assert done.returncode == 0, done.stderr
            assert "_SLIMNET_COMPLETE" in done.stdout


def test_the_citation_says_what_the_project_says() -> None:
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert {"cff-version", "message", "title", "authors"} <= cited.keys()  # what its schema requires
    known = {"cff-version", "message", "title", "authors", "type", "version", "license", "repository-code", "keywords"}
    assert cited.keys() <= known
    assert (cited["cff-version"], cited["type"]) == ("1.2.0", "software")
    assert str(cited["version"]) == project["version"] == slimnet.__version__
    assert cited["license"] == project["license"]
    assert cited["repository-code"] == project["urls"]["Source"]
    assert [author["name"] for author in cited["authors"]] == [author["name"] for author in project["authors"]]
    assert len(set(cited["keywords"])) == len(cited["keywords"])

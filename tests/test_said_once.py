"""What is one thing is written in one place."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from PIL import Image

from slimnet.data import load_data
from slimnet.errors import did_you_mean, unknown
from slimnet.pictures import SUFFIXES
from slimnet.predict.sources import find_sources

ROOT = Path(__file__).parents[1]
SOURCES = [
    path for folder in ("slimnet", "cli") for path in (ROOT / folder).rglob("*.py") if path.name != "infer.py"
]  # one stands alone

# what is written → where
PLACES = [
    (r"str\(error\)\.(strip\(\)\.)?splitlines", "errors.py"),
    (r"str\(error\)\.split\(\)", "errors.py"),
    (r"get_close_matches|[dD]id you mean \{", "errors.py"),
    (r"did you mean `\{", "errors.py"),
    (r"\.training = ", "_modes.py"),
    (r"\.SerializeToString\(", "write.py"),
    (r"f\"operator \{", "capture.py"),
    (r"\"\.pgm\"", "__init__.py"),
]


@pytest.mark.parametrize(("written", "place"), PLACES)
def test_it_is_written_once(written: str, place: str) -> None:
    assert {path.name for path in SOURCES if re.search(written, path.read_text(encoding="utf-8"))} == {place}


def test_an_unknown_name_is_told_the_nearest() -> None:
    assert did_you_mean("epoch", ["lr", "epochs"]) == ": did you mean `epochs`?"
    assert did_you_mean("zzz", ["lr", "epochs"]) == "; known: lr, epochs."
    assert did_you_mean("zzz", []) == "; known: none."
    assert did_you_mean("zzz", ["lr"], ": it has none.") == ": it has none."
    assert unknown("Unknown model", "net9", ["net8", "net20"]) == "Unknown model 'net9'. Did you mean net8? Known: net8, net20."
    assert unknown("unknown recipe", "x", ["a"], "; or a file") == "unknown recipe 'x'. Known: a; or a file."


def test_pictures_are_the_same_files_in_training_and_in_prediction(tmp_path: Path) -> None:
    """Every one that Pillow writes here: none is passed over in silence."""
    written = sorted(SUFFIXES & set(Image.registered_extensions()) - {".avif"})  # not every Pillow encodes AVIF
    for split in ("train", "val", "test"):
        for label in ("cat", "dog"):
            folder = tmp_path / split / label
            folder.mkdir(parents=True)
            for suffix in written:
                Image.new("L", (8, 8), 9).save(folder / f"picture{suffix}")
    assert len(load_data("folder", data_dir=tmp_path).test) == 2 * len(written)
    assert len(find_sources([tmp_path / "test"])) == 2 * len(written)

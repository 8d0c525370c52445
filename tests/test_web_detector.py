"""Which detector goes into a site, what is said of it, and what bad input gets. What it finds: test_web_faces.py."""

from __future__ import annotations

import gzip
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from faces_at_hand import blazeface_archive
from slimnet.bundle.seal import sealed
from slimnet.detect import blazeface
from slimnet.detect.tflite import to_onnx
from slimnet.errors import ArgumentError, FileFormatError
from slimnet.export import read_bundle
from slimnet.ready import ready_bundle
from slimnet.web import Site, build_site
from slimnet.web.detector import is_of_faces
from slimnet_cli import _run
from web_bundle import make_bundle
from web_runtime import given_runtime

MISSING = "faces: no detector is at hand, so the page looks at whole pictures; --detector blazeface fetches one, once (5 MB)"
NOWHERE = "http://127.0.0.1:9"


@pytest.fixture
def runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, nothing_kept: Path) -> Path:
    return given_runtime(tmp_path, monkeypatch)


@pytest.fixture(scope="module")
def colours(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A classifier of anything but faces."""
    return make_bundle(tmp_path_factory.mktemp("web") / "colours", channels=1, size=(8, 8))


def built(bundle: Path, tmp_path: Path, runtime: Path, **options: Any) -> tuple[Site, list[str]]:
    """A site, and what was said."""
    said: list[str] = []
    return build_site(bundle, tmp_path / "site", runtime=runtime, say=said.append, force=True, **options), said


def faces_of(site: Site) -> Any:
    return json.loads((site.path / "site.json").read_text(encoding="utf-8"))["faces"]


def test_classifier_of_faces_without_a_detector_at_hand(tmp_path: Path, runtime: Path) -> None:
    """One line says how to have one; the site is whole."""
    site, said = built(ready_bundle("expressions"), tmp_path, runtime)
    assert said == [MISSING]
    assert (site.detector, faces_of(site)) == (None, {"detector": None})
    assert not [name for name in site.files if name.startswith("detector/")]
    assert built(ready_bundle("expressions"), tmp_path, runtime, detector="none")[1] == []


def test_detector_at_hand_is_taken(tmp_path: Path, runtime: Path) -> None:
    """Given as a file, it is kept; from then on it is at hand. Its numbers are those of Python, its weights those published."""
    archive = blazeface_archive()
    site, said = built(ready_bundle("expressions"), tmp_path, runtime, detector=archive)
    again, then = built(ready_bundle("expressions"), tmp_path, runtime)
    assert (said, then) == ([], ["faces: blazeface"])
    assert site.detector == again.detector == site.as_dict()["detector"] == "blazeface"
    assert site.files == again.files
    found = faces_of(again)["detector"]
    assert (found["sizes"], found["confidence"], found["stride"]) == ([192, 384, 960], blazeface.CONFIDENCE, 4)
    assert found["frame"] == {"factor": blazeface.FRAME.factor, "rise": blazeface.FRAME.rise}
    packed = (site.path / found["file"]).read_bytes()
    data = blazeface.WEIGHTS.inside(archive.read_bytes())
    assert data is not None
    assert (len(packed), gzip.decompress(packed)) == (found["bytes"], to_onnx(data, half=True))
    assert "Apache License" in (site.path / "detector" / "LICENSE.txt").read_text(encoding="utf-8")
    page = (site.path / "index.html").read_text(encoding="utf-8")
    assert 'href="detector/LICENSE.txt"' in page
    assert found["file"] not in page  # it is not among what the first answer waits for


def test_other_classifiers_get_one_on_demand_alone(tmp_path: Path, runtime: Path, colours: Path) -> None:
    archive = blazeface_archive()
    blazeface.WEIGHTS.inside(archive.read_bytes())  # at hand from here on
    site, said = built(colours, tmp_path, runtime)
    assert (site.detector, faces_of(site), said) == (None, None, [])
    site, said = built(colours, tmp_path, runtime, detector="blazeface")
    assert (site.detector, said) == ("blazeface", [])


@pytest.mark.parametrize(
    ("labels", "data", "of_faces"),
    [
        (["Happy", "sad", "neutral"], None, True),
        (["happy", "sad", "cat"], None, False),
        (["a", "b"], "fer2013", True),
        (["a", "b"], "cifar10", False),
        ([], None, False),
    ],
)
def test_what_a_classifier_of_faces_is(
    colours: Path, tmp_path: Path, labels: list[str], data: str | None, of_faces: bool
) -> None:
    shutil.copytree(colours, tmp_path / "bundle")
    file = tmp_path / "bundle" / "model.json"
    model = json.loads(file.read_text(encoding="utf-8"))
    given = read_bundle(colours)
    model["labels"] = labels
    model["provenance"] = {**model.get("provenance", {}), "data": data}
    file.write_bytes(sealed(model))
    changed = type(given)(**{**given.__dict__, "model": model})
    assert is_of_faces(changed) == of_faces


@pytest.mark.parametrize(
    ("detector", "error", "message"),
    [
        ("centerface", ArgumentError, "unknown detector of a page 'centerface'.*Known: auto, blazeface, none"),
        ("blazeface", FileFormatError, r"cannot be fetched .*give it with --detector mediapipe-face_detection-"),
        (Path("missing"), FileFormatError, "missing cannot be read"),
        (Path(__file__), FileFormatError, r"holds no blazeface as it was published: give mediapipe-face_detection-.* of npm"),
    ],
    ids=["unknown", "no network", "missing", "another file"],
)
def test_detectors_that_cannot_be_had(
    tmp_path: Path, runtime: Path, detector: str | Path, error: type[Exception], message: str
) -> None:
    """One line, and nothing is written."""
    with pytest.raises(error, match=message):
        built(ready_bundle("expressions"), tmp_path, runtime, detector=detector, registry=NOWHERE)
    assert not (tmp_path / "site").exists()


def test_the_command(tmp_path: Path, runtime: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = ["web", "expressions", "--out", str(tmp_path / "site"), "--runtime", str(runtime)]
    assert _run([*given, "--detector", "yunet"]) == 2
    assert "--detector 'yunet' is not one of auto, blazeface, none, and no file." in capsys.readouterr().err
    assert _run([*given, "--detector", "blazeface", "--registry", NOWHERE]) == 1
    assert "cannot be fetched" in capsys.readouterr().err
    assert not (tmp_path / "site").exists()
    assert _run(given) == 0
    assert capsys.readouterr().err.splitlines() == [MISSING]
    assert _run([*given, "--force", "--json", "--detector", str(blazeface_archive())]) == 0
    assert json.loads(capsys.readouterr().out)["detector"] == "blazeface"

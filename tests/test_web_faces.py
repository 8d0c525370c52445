"""Faces on the page, in a real browser: boxes, labels and probabilities of `slimnet predict --detect --detector blazeface`."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import slimnet.web.site
from browser import Browser, Page, chromium, find_chromium, served
from faces_at_hand import blazeface_archive
from skips import skip_without
from slimnet.detect.boxes import LEVEL
from slimnet.pictures.picture import turned
from slimnet.predict import FaceFinder, Predictor, find_sources
from slimnet.predict.results import Result
from slimnet.ready import ready_bundle
from slimnet.web import build_site
from web_pictures import largest_difference, noise
from web_runtime import published_runtime
from web_scenes import scene

STATIC = Path(slimnet.web.site.__file__).parent / "static"
SCENES: dict[str, tuple[tuple[int, int, int], int, dict[str, Any]]] = {  # (width, height, faces), seed, how it is saved
    "room.png": ((1280, 800, 5), 3, {}),
    "tall.png": ((900, 2400, 4), 0, {}),
    "wide.webp": ((3200, 800, 5), 0, {"lossless": True, "method": 0}),
    "small.png": ((330, 260, 3), 0, {}),
    "phone.jpg": ((4000, 3000, 9), 0, {"quality": 95, "subsampling": 0}),
}
PIXELS, SURE = 1, 1e-3  # what may differ: sides of a box, and how sure the detector is
TOLERANCE = {"phone.jpg": 1e-2, "small.png": 1e-2}
"""Of probabilities, else 2e-3: JPEG is decoded otherwise; small faces are enlarged, and int8 rounds a grey value up or down."""
BOXES = "[...document.querySelectorAll('#boxes > div')].map((box) => box.dataset.box.split(',').map(Number))"
ROWS = """[...document.querySelectorAll('#table tbody:not(.costs) tr')].map((row) =>
  [row.cells[0].textContent, Number(row.querySelector('data').value)])"""
FILM = ("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of the classifier that slimnet ships, with a detector."""
    folder = tmp_path_factory.mktemp("faces")
    how: dict[str, Any] = {"runtime": published_runtime(), "detector": blazeface_archive(), "webgpu": False}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))  # where what is given is kept
        return build_site(ready_bundle("expressions"), folder / "site", **how).path


@pytest.fixture(scope="module")
def page(browser: Browser, site: Path) -> Iterator[Page]:
    with served(site) as url:
        page = browser.page()
        page.open(url)
        page.wait("document.body.classList.contains('finding')")
        yield page
        assert [each for each in page.requests if not each.startswith((url, "blob:"))] == []
        assert page.problems == []


def text(page: Page, name: str) -> str:
    return str(page.evaluate(f"document.getElementById('{name}').textContent"))


def look_at(page: Page, what: str) -> None:
    """Choose whether faces are looked for: ``find`` or ``whole``."""
    page.evaluate(f"document.getElementById('{what}').click()")


def answered(page: Page, path: Path) -> None:
    """Give the page a picture, and wait until it has said what it says of it."""
    page.evaluate("document.body.classList.remove('answered', 'busy'); document.getElementById('headline').textContent = ''")
    page.choose_files("#file", path)
    page.wait("document.getElementById('headline').textContent && document.body.classList.contains('answered')")


def on_page(page: Page, path: Path) -> list[tuple[list[int], dict[str, float], bool]]:
    """Of each face, from left to right: its box, its probabilities, and whether its box is drawn as unsure."""
    answered(page, path)
    boxes = page.evaluate(BOXES)
    unsure = page.evaluate("[...document.querySelectorAll('#boxes > div')].map((box) => box.classList.contains('unsure'))")
    found = []
    for number, box in enumerate(boxes):
        page.evaluate(f"document.querySelectorAll('#faces button')[{number}].click()")
        found.append((box, dict(page.evaluate(ROWS)), unsure[number]))
    return found


def in_python(path: Path, *, least: float = 0.0) -> Result:
    """What `slimnet predict expressions PATH --detect --detector blazeface --top 7` says."""
    finder = FaceFinder(detector=blazeface_archive(), min_face=least)
    (result,) = Predictor(ready_bundle("expressions"), top=7).stream(find_sources([path]), workers=0, faces=finder)
    return result


@pytest.mark.usefixtures("nothing_kept")
@pytest.mark.parametrize("name", SCENES)
def test_page_and_predict_agree_on_every_face_of_a_scene(page: Page, tmp_path: Path, name: str) -> None:
    size, seed, how = SCENES[name]
    scene(*size, seed=seed).save(tmp_path / name, **how)
    expected, got = in_python(tmp_path / name).predictions, on_page(page, tmp_path / name)
    assert len(got) == len(expected) == size[2]
    for (box, probabilities, unsure), prediction in zip(got, expected, strict=True):
        assert prediction.box is not None
        assert np.abs(np.subtract(box, prediction.box)).max() <= PIXELS
        said = {candidate.label: candidate.probability for candidate in prediction.top}
        assert largest_difference(probabilities, said) <= TOLERANCE.get(name, 2e-3)
        assert max(probabilities, key=probabilities.__getitem__) == prediction.label
        assert unsure == prediction.unsure
    listed = page.evaluate("[...document.querySelectorAll('#faces button')].map((button) => button.textContent)")
    for number, (shown, prediction) in enumerate(zip(listed, expected, strict=True), start=1):
        words, share, sign = shown.rsplit(" ", 2)
        assert words == f"{number} {'unsure: ' if prediction.unsure else ''}{prediction.label}"
        assert sign == "%"
        assert float(share) == pytest.approx(100 * prediction.probability, abs=1.1)


def test_scenes_hold_what_could_differ(tmp_path: Path, nothing_kept: Path) -> None:
    """Or agreement on them would prove little: faces that are turned upright and others, several labels, sure ones and not."""
    finder, tilts, labels, unsure = FaceFinder(detector=blazeface_archive()), [], set(), set()
    for name in ("room.png", "tall.png", "small.png"):
        picture = scene(*SCENES[name][0], seed=SCENES[name][1])
        tilts += [abs(found.tilt) for found in finder.faces(picture)]
        picture.save(tmp_path / name)
        for prediction in in_python(tmp_path / name).predictions:
            labels.add(prediction.label)
            unsure.add(prediction.unsure)
    assert sum(tilt >= LEVEL for tilt in tilts) >= 2 and sum(tilt < LEVEL for tilt in tilts) >= 2
    assert len(labels) >= 3
    assert unsure == {True, False}


def test_the_largest_face_is_shown_first_and_any_can_be_chosen(page: Page, tmp_path: Path) -> None:
    scene(1280, 800, 5).save(tmp_path / "a.png")
    answered(page, tmp_path / "a.png")
    areas = [width * height for _, _, width, height in page.evaluate(BOXES)]
    largest = int(np.argmax(areas))
    pressed = "[...document.querySelectorAll('#faces button')].map((each) => each.ariaPressed)"
    assert page.evaluate(pressed).index("true") == largest
    assert text(page, "which") == f" of face {largest + 1} of 5"
    page.evaluate("document.querySelectorAll('#boxes > div')[1].click()")
    assert page.evaluate(pressed).index("true") == 1
    assert text(page, "which") == " of face 2 of 5"
    shown = page.evaluate("document.querySelectorAll('#faces button')[1].textContent")
    assert shown.endswith(text(page, "headline").removeprefix("Unsure: perhaps "))
    assert "5 faces: " in text(page, "announcement")


def test_keyboard_reaches_the_faces_and_what_is_looked_at(page: Page, tmp_path: Path) -> None:
    """Tab goes there, the space bar chooses; a face that is chosen keeps the focus."""
    scene(900, 600, 2).save(tmp_path / "a.png")
    answered(page, tmp_path / "a.png")
    other = 1 - page.evaluate("[...document.querySelectorAll('#faces button')].findIndex((each) => each.ariaPressed === 'true')")

    def press(key: str, code: int) -> None:
        for kind in ("keyDown", "keyUp"):
            text = {"text": key} if key == " " else {}
            page.send("Input.dispatchKeyEvent", type=kind, key=key, windowsVirtualKeyCode=code, **text)

    page.evaluate("document.getElementById('camera').focus()")
    reached = []
    for _ in range(4):
        press("Tab", 9)
        reached.append(page.evaluate("document.activeElement.id || document.activeElement.textContent.slice(0, 2)"))
        if reached[-1] == f"{other + 1} ":
            press(" ", 32)
            page.wait(f"document.getElementById('which').textContent === ' of face {other + 1} of 2'")
    assert reached == ["find", "1 ", "2 ", "unsure"]


def test_boxes_lie_on_the_picture_and_words_within_it(page: Page, tmp_path: Path) -> None:
    """At the size of a desktop and of a phone, also where faces stand close together."""
    scene(700, 400, 12, seed=3).save(tmp_path / "crowd.png")
    answered(page, tmp_path / "crowd.png")
    boxes = page.evaluate(BOXES)
    assert len(boxes) >= 8
    for width in (1280, 390):
        page.resize(width, 900)
        page.wait(f"window.innerWidth === {width}")
        page.evaluate("new Promise((resolve) => requestAnimationFrame(() => requestAnimationFrame(resolve)))")
        frame, drawn, words = page.evaluate(
            """[document.getElementById('preview'), '#boxes > div', '#boxes p'].map((what) => {
              const rect = (part) => { const r = part.getBoundingClientRect(); return [r.x, r.y, r.width, r.height]; };
              return typeof what === 'string' ? [...document.querySelectorAll(what)].map(rect) : rect(what);
            })"""
        )
        scale = frame[2] / 700
        assert frame[3] == pytest.approx(400 * scale, abs=1)
        for box, at in zip(boxes, drawn, strict=True):
            expected = [frame[0] + box[0] * scale, frame[1] + box[1] * scale, box[2] * scale, box[3] * scale]
            assert at == pytest.approx(expected, abs=1.5)
        for x, y, wide, high in words:
            assert frame[0] - 1 <= x and x + wide <= frame[0] + frame[2] + 1
            assert frame[1] - 1 <= y and y + high <= frame[1] + frame[3] + 1
        assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    page.send("Emulation.clearDeviceMetricsOverride")


def test_whole_picture_on_demand(page: Page, tmp_path: Path) -> None:
    """As `predict` without `--detect`; and back."""
    path = tmp_path / "a.png"
    scene(900, 600, 2).save(path)
    (expected,) = Predictor(ready_bundle("expressions"), top=7).predict([path])
    answered(page, path)
    assert len(page.evaluate(BOXES)) == 2
    look_at(page, "whole")
    page.wait("!document.querySelector('#boxes > div') && Boolean(document.querySelector('#table .top'))")
    page.wait("!document.getElementById('which').textContent && document.getElementById('faces').hidden")
    said = {candidate.label: candidate.probability for candidate in expected.top}
    page.wait(f"document.getElementById('headline').textContent.includes({json.dumps(expected.label)})")
    assert largest_difference(dict(page.evaluate(ROWS)), said) <= 1e-3
    assert text(page, "looked") == ""
    look_at(page, "find")
    page.wait("document.querySelectorAll('#boxes > div').length === 2")


def test_no_face_is_said_and_the_whole_picture_answered(page: Page, tmp_path: Path, nothing_kept: Path) -> None:
    path = tmp_path / "wall.png"
    Image.fromarray(noise(300, 400, 3)).save(path)
    assert in_python(path).notes == ("no face found",)
    (expected,) = Predictor(ready_bundle("expressions"), top=7).predict([path])
    answered(page, path)
    assert page.evaluate(BOXES) == []
    assert text(page, "looked") == "No face was found: this is of the whole picture."
    said = {candidate.label: candidate.probability for candidate in expected.top}
    assert largest_difference(dict(page.evaluate(ROWS)), said) <= 1e-3


def test_first_answer_does_not_wait_for_the_detector(browser: Browser, site: Path, tmp_path: Path) -> None:
    """It is not among what the page asks for ahead; what is answered before it is there is looked at again."""
    from test_web_loading import slow

    scene(900, 600, 2).save(tmp_path / "a.png")
    name = json.loads((site / "site.json").read_text())["faces"]["detector"]["file"]
    assert name not in (site / "index.html").read_text()
    assert name in json.loads((site / "site.json").read_text())["offline"]
    with slow(site, held=(name,)) as server:
        page = browser.page()
        page.open(server.url)
        page.wait("document.body.classList.contains('ready')")
        answered(page, tmp_path / "a.png")
        assert text(page, "looked") == "Of the whole picture, until what finds faces is loaded."
        assert page.evaluate(BOXES) == []
        server.held[name].set()
        page.wait("document.querySelectorAll('#boxes > div').length === 2")
        page.wait("!document.getElementById('looked').textContent")
        lean = "runtime/ort-wasm-simd-threaded.lean.wasm.gz"
        assert server.url + lean in page.requests
        assert server.url + lean.replace(".lean", "") not in page.requests
        assert page.problems == []


def test_detector_that_does_not_come_can_be_tried_again(browser: Browser, site: Path, tmp_path: Path) -> None:
    from test_web_loading import slow

    scene(900, 600, 2).save(tmp_path / "a.png")
    name = json.loads((site / "site.json").read_text())["faces"]["detector"]["file"]
    with slow(site, lost=(name,)) as server:
        page = browser.page()
        page.open(server.url)
        page.wait("!document.getElementById('error').hidden && !document.getElementById('again').hidden")
        assert text(page, "error-text").startswith("Faces cannot be found: ")
        answered(page, tmp_path / "a.png")
        assert text(page, "looked") == "Of the whole picture."
        server.lost.clear()
        page.evaluate("document.getElementById('again').click()")
        page.wait("document.querySelectorAll('#boxes > div').length === 2")
        assert page.evaluate("document.getElementById('error').hidden")


def test_page_without_a_detector_says_so(browser: Browser, tmp_path: Path) -> None:
    scene(900, 600, 2).save(tmp_path / "a.png")
    out = build_site(ready_bundle("expressions"), tmp_path / "site", runtime=published_runtime(), detector="none", webgpu=False)
    with served(out.path) as url:
        page = browser.page()
        page.open(url)
        page.wait("document.body.classList.contains('ready')")
        answered(page, tmp_path / "a.png")
        assert page.evaluate("['looking', 'no-detector', 'faces'].map((id) => document.getElementById(id).hidden)") == [
            True,
            False,
            True,
        ]
        assert (page.evaluate(BOXES), text(page, "looked"), text(page, "which")) == ([], "", "")
        assert page.problems == []


def filmed(path: Path, picture: Image.Image) -> Path:
    """A video of one frame that stands still, as Chromium takes it for a camera (YUV4MPEG2, 4:2:0)."""
    luma, *chroma = picture.convert("YCbCr").split()
    planes = [luma, *(plane.resize((plane.width // 2, plane.height // 2)) for plane in chroma)]
    head = f"YUV4MPEG2 W{picture.width} H{picture.height} F10:1 Ip A1:1 C420jpeg\n".encode()
    path.write_bytes(head + (b"FRAME\n" + b"".join(plane.tobytes() for plane in planes)) * 5)
    return path


@pytest.mark.parametrize("count", [2, 0])
def test_camera_finds_faces(site: Path, tmp_path: Path, nothing_kept: Path, count: int) -> None:
    """Where and what Python says of the same frame; where there is none, it says so and gives no answer."""
    if find_chromium() is None:
        skip_without("chromium")
    picture = scene(640, 480, 2, seed=1) if count else Image.new("RGB", (640, 480), (120, 130, 140))
    film = filmed(tmp_path / "film.y4m", picture)
    with served(site) as url, chromium(*FILM, f"--use-file-for-fake-video-capture={film}") as browser:
        page = browser.page()
        page.open(url)
        page.wait("document.body.classList.contains('finding')")
        page.send("Page.bringToFront")
        page.evaluate("document.getElementById('camera').click()")
        if not count:
            page.wait("document.getElementById('headline').textContent === 'No face found'")
            assert page.evaluate("document.querySelector('#table .top')") is None
            return
        page.wait(f"document.querySelectorAll('#boxes > div').length === {count}")
        boxes, rows, frame = page.evaluate(
            f"""(async () => {{
              const video = document.getElementById('video');
              const canvas = new OffscreenCanvas(video.videoWidth, video.videoHeight);
              canvas.getContext('2d').drawImage(video, 0, 0);
              const bytes = new Uint8Array(await (await canvas.convertToBlob()).arrayBuffer());
              return [{BOXES}, {ROWS}, btoa(bytes.reduce((all, byte) => all + String.fromCharCode(byte), ''))];
            }})()"""
        )
        page.evaluate("document.getElementById('camera').click()")
    Image.open(BytesIO(base64.b64decode(frame))).save(tmp_path / "frame.png")
    expected = in_python(tmp_path / "frame.png", least=40).predictions
    assert len(expected) == count
    for box, prediction in zip(boxes, expected, strict=True):
        assert prediction.box is not None
        assert np.abs(np.subtract(box, prediction.box)).max() <= PIXELS
    said = [{candidate.label: candidate.probability for candidate in prediction.top} for prediction in expected]
    assert min(largest_difference(dict(rows), each) for each in said) <= 2e-3


@pytest.fixture(scope="module")
def modules(browser: Browser) -> Iterator[Page]:
    with served(STATIC) as url:
        page = browser.page()
        page.open(f"{url}icon.svg")
        yield page


@pytest.mark.parametrize("degrees", [-170.3, -45, -8.01, 8, 12.345, 33.3, 90, 180])
@pytest.mark.parametrize("box", [(30, 20, 41, 41), (0, 0, 60, 60), (70, 40, 30, 31), (20, 10, 1, 1), (3, 60, 17, 12)])
def test_faces_are_turned_as_pillow_turns_them(modules: Page, degrees: float, box: tuple[int, int, int, int]) -> None:
    """Every byte, also over the edges of the picture."""
    pixels = np.dstack([noise(72, 100, 3), np.full((72, 100), 255, np.uint8)])
    x, y, width, height = box
    expected = np.asarray(turned(Image.fromarray(pixels[..., :3]), (x, y, x + width, y + height), degrees))
    given = base64.b64encode(pixels.tobytes()).decode()
    got = modules.evaluate(
        f"""import('/cut.js').then(({{ cut }}) => {{
          const data = Uint8Array.from(atob('{given}'), (c) => c.charCodeAt(0));
          const box = {{ x: {x}, y: {y}, width: {width}, height: {height} }};
          return [...cut({{ data, width: 100, height: 72 }}, box, {degrees}, {LEVEL}).data];
        }})"""
    )
    assert np.array_equal(np.reshape(got, (height, width, 4))[..., :3], expected)

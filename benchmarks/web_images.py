"""The pictures of docs/web.md: the page of `slimnet web expressions`, in headless Chromium, with faces that are drawn here.

Needs Chromium, onnxruntime-web's npm package (kept, or SLIMNET_ORT_WEB), and the weights of blazeface (kept, or its archive in
SLIMNET_DETECTORS). About a minute. Writes docs/images/web.png (1280 pixels, light) and web-phone.png (390, dark);
--all writes every combination into build/web-pages. The times on them are of this machine and its load.

    python benchmarks/web_images.py [--all]
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from PIL import Image

from slimnet.detect import blazeface
from slimnet.ready import ready_bundle
from slimnet.web import build_site

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from browser import chromium, served
from web_scenes import face, scene

IMAGES, EVERY = Path("docs/images"), Path("build/web-pages")
SIDE = 480
SCENE, SEED = (700, 500, 4), 1
"""Width, height and number of faces; one of them is unsure."""


def draw_face(path: Path, mood: str = "happy", *, skin: int = 0, hair: int = 0) -> None:
    """A face before a wall: of nobody, and of no data set."""
    picture = Image.new("RGB", (SIDE, SIDE), (196, 205, 214))
    one = face(SIDE, mood, skin=skin, hair=hair)
    picture.paste(one, (0, 0), one)
    picture.save(path)


def detector() -> Path | str:
    """What finds faces on the page: its archive, or the one that was kept."""
    given, package = os.environ.get("SLIMNET_DETECTORS"), blazeface.WEIGHTS.package
    return Path(given) / package.archive if given and package is not None else blazeface.WEIGHTS.detector


def main() -> None:
    EVERY.mkdir(parents=True, exist_ok=True)
    IMAGES.mkdir(parents=True, exist_ok=True)
    examples = [EVERY / f"{mood}.png" for mood in ("happy", "surprise")]
    for number, path in enumerate(examples):
        draw_face(path, path.stem, skin=number, hair=number)
    several = EVERY / "several.png"
    scene(*SCENE, seed=SEED).save(several)
    runtime = os.environ.get("SLIMNET_ORT_WEB")
    site = build_site(
        ready_bundle("expressions"),
        EVERY / "site",
        title="Facial expressions",
        examples=[several, *examples],
        detector=detector(),
        runtime=Path(runtime) if runtime else None,
        force=True,
        say=print,
    )
    with served(site.path) as url, chromium() as browser:
        page = browser.page()
        page.open(url)
        page.wait("document.body.classList.contains('offline')")
        if "--all" in sys.argv:
            page.screenshot(EVERY / "ready.png", width=1280)
            page.screenshot(EVERY / "ready-phone.png", width=390)
        page.choose_files("#file", several)
        page.wait("document.getElementById('conditions').textContent && !document.body.classList.contains('busy')")
        page.screenshot(IMAGES / "web.png", width=1280)
        page.screenshot(IMAGES / "web-phone.png", width=390, dark=True)
        if "--all" in sys.argv:
            page.screenshot(EVERY / "desktop-dark.png", width=1280, dark=True)
            for width in (360, 390):
                page.screenshot(EVERY / f"phone-{width}-light.png", width=width)


if __name__ == "__main__":
    main()

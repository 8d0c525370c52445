"""The pictures of docs/web.md: the page of `slimnet web`, in headless Chromium, with a face that is drawn here.

Needs build/fer2013 (benchmarks/fer2013.py), Chromium, and onnxruntime-web's npm package (fetched once). About a minute.
Writes docs/images/web.png (1200 pixels wide, light) and docs/images/web-phone.png (390 pixels, dark); --all writes every
combination into build/web-pages.

    python benchmarks/web_page.py [--all]
"""

from __future__ import annotations

import sys
from pathlib import Path

from PIL import Image, ImageDraw

from slimnet.web import build_site

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from browser import chromium, served

IMAGES, EVERY = Path("docs/images"), Path("build/web-pages")
SIDE = 960


def draw_face(path: Path) -> None:
    """A smiling face: of nobody, and of no data set."""
    image = Image.new("RGB", (SIDE, SIDE), (196, 205, 214))
    draw = ImageDraw.Draw(image)
    draw.ellipse((200, 120, 760, 860), fill=(226, 186, 156), outline=(120, 84, 60), width=8)
    draw.pieslice((190, 90, 770, 640), 180, 360, fill=(70, 48, 34))
    draw.ellipse((250, 260, 710, 760), fill=(226, 186, 156))
    for x in (370, 590):
        draw.ellipse((x - 58, 400, x + 58, 470), fill="white", outline=(60, 40, 30), width=6)
        draw.ellipse((x - 24, 408, x + 24, 462), fill=(50, 36, 26))
        draw.arc((x - 76, 320, x + 76, 440), 205, 335, fill=(60, 40, 30), width=18)
    draw.line((480, 440, 456, 580, 500, 590), fill=(160, 112, 84), width=10, joint="curve")
    draw.chord((350, 540, 610, 780), 10, 170, fill=(150, 50, 50), outline=(110, 40, 40), width=8)
    draw.chord((372, 590, 588, 740), 14, 166, fill="white")
    image.resize((SIDE // 2, SIDE // 2), Image.Resampling.LANCZOS).save(path)


def main() -> None:
    EVERY.mkdir(parents=True, exist_ok=True)
    IMAGES.mkdir(parents=True, exist_ok=True)
    draw_face(EVERY / "face.png")
    site = build_site(
        "build/fer2013", EVERY / "site", title="Facial expressions", examples=[EVERY / "face.png"], force=True, say=print
    )
    with served(site.path) as url, chromium() as browser:
        page = browser.page()
        page.open(url)
        page.wait("document.body.classList.contains('ready')")
        page.screenshot(EVERY / "ready.png", width=1200)
        page.choose_files("#file", EVERY / "face.png")
        page.wait("document.getElementById('conditions').textContent && !document.body.classList.contains('busy')")
        page.screenshot(IMAGES / "web.png", width=1200)
        page.screenshot(IMAGES / "web-phone.png", width=390, dark=True)
        if "--all" in sys.argv:
            page.screenshot(EVERY / "desktop-dark.png", width=1200, dark=True)
            for width in (360, 390):
                page.screenshot(EVERY / f"phone-{width}-light.png", width=width)


if __name__ == "__main__":
    main()

"""The web page: what is written, where its runtime comes from, and what bad input gets. The page itself: test_web_page.py."""

from __future__ import annotations

import gzip
import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import slimnet.web.runtime
import slimnet.web.site
from browser import served
from slimnet.bundle.seal import sealed
from slimnet.errors import ArgumentError, FileFormatError
from slimnet.web import build_site, fetch_runtime
from slimnet.web.runtime import ARCHIVE, unpack_runtime
from web_bundle import make_bundle
from web_runtime import MODULES, archive, given_runtime, pin

STATIC = Path(slimnet.web.site.__file__).parent / "static"
NOWHERE = "http://127.0.0.1:9"


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_bundle(tmp_path_factory.mktemp("web") / "<b>undle", channels=1, size=(8, 8))


@pytest.fixture
def runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return given_runtime(tmp_path, monkeypatch)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache folder of slimnet's."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "slimnet"


def picture(path: Path) -> Path:
    Image.new("RGB", (4, 4)).save(path)
    return path


# the runtime


def test_runtime_is_fetched_once_and_kept(tmp_path: Path, cache: Path, runtime: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    published = tmp_path / "registry" / "onnxruntime-web" / "-" / ARCHIVE
    published.parent.mkdir(parents=True)
    shutil.copyfile(runtime, published)
    said: list[str] = []
    with served(tmp_path / "registry") as url:
        monkeypatch.setenv("npm_config_registry", url)
        assert fetch_runtime(say=said.append) == runtime.read_bytes()
    assert said == [f"fetches {ARCHIVE} (33 MB) from {url.rstrip('/')}, once, and keeps it in {cache}"]
    assert fetch_runtime(registry=NOWHERE, say=said.append) == runtime.read_bytes()
    assert len(said) == 1
    assert [path.name for path in cache.iterdir()] == [ARCHIVE]


def test_runtime_that_was_spoilt_is_fetched_again(cache: Path, runtime: Path) -> None:
    cache.mkdir(parents=True)
    (cache / ARCHIVE).write_bytes(runtime.read_bytes()[:-1])
    with pytest.raises(FileFormatError, match="cannot be fetched"):
        fetch_runtime(registry=NOWHERE)


def test_runtime_of_another_content_is_refused(tmp_path: Path, cache: Path, runtime: Path) -> None:
    published = tmp_path / "registry" / "onnxruntime-web" / "-" / ARCHIVE
    published.parent.mkdir(parents=True)
    published.write_bytes(b"something else")
    with served(tmp_path / "registry") as url, pytest.raises(FileFormatError, match="SHA-512 differs"):
        fetch_runtime(registry=url)
    assert not cache.exists()
    with pytest.raises(FileFormatError, match="SHA-512 differs"):
        fetch_runtime(published)


@pytest.mark.parametrize(
    ("registry", "error", "message"),
    [
        (NOWHERE, FileFormatError, f"cannot be fetched .*`npm pack onnxruntime-web@.*`--runtime {ARCHIVE}`.*`--registry`"),
        ("ftp://there", ArgumentError, "`registry` must be an address"),
        ("https://", FileFormatError, "cannot be fetched"),
    ],
)
def test_registry_that_does_not_answer(cache: Path, registry: str, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        fetch_runtime(registry=registry)


def test_secrets_of_a_registry_are_not_told(cache: Path) -> None:
    said: list[str] = []
    with pytest.raises(FileFormatError) as caught:
        fetch_runtime(registry="http://me:hunter2@127.0.0.1:9/npm?token=hunter2", say=said.append)
    assert "hunter2" not in f"{said} {caught.value}"
    assert "from http://127.0.0.1:9/npm, once" in said[0]


def test_missing_runtime_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileFormatError, match=r"missing\.tgz cannot be read"):
        fetch_runtime(tmp_path / "missing.tgz")


def test_only_named_members_are_unpacked(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "runtime"
    folder.mkdir(parents=True)
    backends = unpack_runtime(
        archive({**MODULES, "../evil": b"1", "/tmp/evil": b"2", "package/other": b"3"}), folder, webgpu=False
    )
    assert {path.name for path in folder.iterdir()} - {"ThirdPartyNotices.txt"} == {
        *("LICENSE.txt", "ort.wasm.bundle.min.js", "ort-wasm-simd-threaded.wasm.gz"),
    }
    assert gzip.decompress((folder / "ort-wasm-simd-threaded.wasm.gz").read_bytes()) == b"wasm binary"
    assert backends == {
        "wasm": {"module": "runtime/ort.wasm.bundle.min.js", "file": "runtime/ort-wasm-simd-threaded.wasm.gz", "bytes": 31}
    }
    assert "Microsoft" in (folder / "LICENSE.txt").read_text(encoding="utf-8")
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["runtime"]


# the site


def test_site_holds_what_it_says(tmp_path: Path, bundle: Path, runtime: Path) -> None:
    example = picture(tmp_path / "a face.dat.png")
    site = build_site(bundle, tmp_path / "site", runtime=runtime, examples=[example])
    found = {path.relative_to(site.path).as_posix() for path in site.path.rglob("*") if path.is_file()}
    assert found == set(site.files)
    assert site.bytes == sum((site.path / name).stat().st_size for name in found)
    assert {path.name for path in STATIC.iterdir()} - {"runtime-licence.txt", "detector-licence.txt"} <= found
    assert (site.path / "model.json").read_bytes() == (bundle / "model.json").read_bytes()
    described = json.loads((site.path / "site.json").read_text())
    assert [network["name"] for network in described["networks"]] == ["dense", "slim", "slim int8"]
    assert described["examples"] == [{"file": "example-1.png", "name": "a face.dat"}]
    for network in described["networks"]:
        assert (site.path / network["file"]).read_bytes() == (bundle / network["file"]).read_bytes()
        assert network["bytes"] == (bundle / network["file"]).stat().st_size
    assert {name.partition("/")[2] for name in found if name.startswith("runtime/")} >= {
        *("ort.wasm.bundle.min.js", "ort.jspi.bundle.min.js", "LICENSE.txt"),
    }


def test_page_loads_nothing_from_elsewhere(tmp_path: Path, bundle: Path, runtime: Path) -> None:
    site = build_site(bundle, tmp_path / "site", runtime=runtime)
    page = (site.path / "index.html").read_text(encoding="utf-8")
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', page)
    assert policy is not None
    assert policy[1].startswith("default-src 'none'")
    sources = {word for rule in policy[1].split("; ") for word in rule.split()[1:]}
    assert sources == {"'none'", "'self'", "'wasm-unsafe-eval'"}
    for path in STATIC.iterdir():
        if path.suffix in (".js", ".css", ".html"):
            text = path.read_text(encoding="utf-8")
            assert not re.search(r"//\w+\.\w|(src|href)=\"/|url\(", text), path.name
    assert not re.search(r"<script(?![^>]*src=)|\son\w+=|\sstyle=", page)


def test_title_is_text(tmp_path: Path, bundle: Path, runtime: Path) -> None:
    for title, text in ((None, "&lt;b&gt;undle"), ('"A" & <i>', "&quot;A&quot; &amp; &lt;i&gt;"), ("$version", "$version")):
        site = build_site(bundle, tmp_path / "site", runtime=runtime, title=title, force=True)
        assert f"<h1>{text}</h1>" in (site.path / "index.html").read_text(encoding="utf-8")


def test_site_without_webgpu(tmp_path: Path, bundle: Path, runtime: Path) -> None:
    site = build_site(bundle, tmp_path / "site", runtime=runtime, webgpu=False)
    assert not [name for name in site.files if "jspi" in name]
    assert "webgpu" not in json.loads((site.path / "site.json").read_text())["runtime"]


def test_runtime_that_lacks_a_part_is_refused(tmp_path: Path, bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = archive({name: data for name, data in MODULES.items() if "jspi" not in name})
    pin(monkeypatch, given)
    (tmp_path / "given.tgz").write_bytes(given)
    build_site(bundle, tmp_path / "site", runtime=tmp_path / "given.tgz", webgpu=False)
    with pytest.raises(FileFormatError, match=r"holds no package/dist/ort-wasm-simd-threaded\.jspi\.wasm"):
        build_site(bundle, tmp_path / "other", runtime=tmp_path / "given.tgz")
    assert not (tmp_path / "other").exists()


def test_version_is_of_the_content(tmp_path: Path, bundle: Path, runtime: Path) -> None:
    """The same for the same site; another one as soon as anything differs."""

    def version(name: str, **options: Any) -> str:
        site = build_site(bundle, tmp_path / name, runtime=runtime, **{"title": "A", **options})
        listed = json.loads((site.path / "site.json").read_text())
        for text in ("index.html", "sw.js"):
            assert listed["version"] in (site.path / text).read_text(encoding="utf-8")
        assert set(listed["offline"]) <= set(site.files) - {"site.json", "sw.js"}
        return str(listed["version"])

    one, two = picture(tmp_path / "a.png"), tmp_path / "b" / "a.png"
    two.parent.mkdir()
    Image.new("RGB", (5, 4)).save(two)
    versions = [
        version("1"),
        version("3", title="B"),
        version("4", webgpu=False),
        version("5", examples=[one]),
        version("6", examples=[two]),
    ]
    assert version("2") == versions[0]
    assert len(set(versions)) == len(versions)


def test_modules_are_asked_for_ahead(tmp_path: Path, bundle: Path, runtime: Path) -> None:
    """All that the page's script imports, the runtime, and the network that answers first: without a round trip for each."""
    site = build_site(bundle, tmp_path / "site", runtime=runtime)
    page = (site.path / "index.html").read_text(encoding="utf-8")
    imported = set(re.findall(r"from '\./(\w+\.js)'", (STATIC / "app.js").read_text(encoding="utf-8")))
    assert set(re.findall(r'rel="modulepreload" href="([^"]+)"', page)) == imported
    ahead = re.findall(r'rel="preload" as="fetch" href="([^"]+)"', page)
    assert ahead == ["site.json", "model.json", "runtime/ort-wasm-simd-threaded.wasm.gz", "model.onnx"]
    assert set(ahead) <= set(site.files)


def test_old_site_is_replaced_and_nothing_else(tmp_path: Path, bundle: Path, runtime: Path) -> None:
    out = tmp_path / "site"
    build_site(bundle, out, runtime=runtime, examples=[picture(tmp_path / "a.png")])
    with pytest.raises(ArgumentError, match="exists already"):
        build_site(bundle, out, runtime=runtime)
    assert "example-1.png" not in build_site(bundle, out, runtime=runtime, force=True).files
    (out / "runtime" / "mine.txt").write_text("keep")
    with pytest.raises(ArgumentError, match=r"runtime/mine\.txt, which is not ours"):
        build_site(bundle, out, runtime=runtime, force=True)
    assert (out / "runtime" / "mine.txt").read_text() == "keep"
    other = tmp_path / "other"
    other.mkdir()
    (other / "index.html").write_text("mine")
    with pytest.raises(ArgumentError, match=r"index\.html, which is not ours"):
        build_site(bundle, other, runtime=runtime, force=True)


def test_failure_leaves_nothing(tmp_path: Path, bundle: Path, runtime: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise FileFormatError("spoilt")

    monkeypatch.setattr(slimnet.web.site, "unpack_runtime", fail)
    with pytest.raises(FileFormatError, match="spoilt"):
        build_site(bundle, tmp_path / "new" / "site", runtime=runtime)
    assert not (tmp_path / "new").exists()


def test_bad_examples(tmp_path: Path, bundle: Path, runtime: Path) -> None:
    text = tmp_path / "text.png"
    text.write_text("no picture")
    for path, message in ((text, "is no picture that browsers read"), (tmp_path / "missing.png", "cannot be read")):
        with pytest.raises(ArgumentError, match=message):
            build_site(bundle, tmp_path / "site", runtime=runtime, examples=[path])
    assert not (tmp_path / "site").exists()


def test_changed_bundle_is_refused(tmp_path: Path, bundle: Path, runtime: Path) -> None:
    changed = tmp_path / "changed"
    shutil.copytree(bundle, changed)
    with (changed / "dense.onnx").open("ab") as file:
        file.write(b"\0")
    with pytest.raises(FileFormatError, match=r"dense\.onnx is not the file that was exported"):
        build_site(changed, tmp_path / "site", runtime=runtime)


def test_only_what_the_bundle_lists_is_published(tmp_path: Path, bundle: Path, runtime: Path) -> None:
    """A card that is not listed is somebody else's; one that is a link is no card at all."""
    other = tmp_path / "other"
    shutil.copytree(bundle, other)
    model = json.loads((other / "model.json").read_text(encoding="utf-8"))
    del model["files"]["MODEL_CARD.md"]
    (other / "model.json").write_bytes(sealed(model))
    site = build_site(other, tmp_path / "site", runtime=runtime)
    assert "MODEL_CARD.md" not in site.files and not (site.path / "MODEL_CARD.md").exists()
    (tmp_path / "secret").write_text("secret")
    (other / "MODEL_CARD.md").unlink()
    (other / "MODEL_CARD.md").symlink_to(tmp_path / "secret")
    with pytest.raises(FileFormatError, match=r"MODEL_CARD\.md is a symbolic link"):
        build_site(other, tmp_path / "new", runtime=runtime)
    assert not (tmp_path / "new").exists()


def test_other_preprocessing_is_refused(tmp_path: Path, bundle: Path, runtime: Path) -> None:
    """Of a bundle that is whole: the page does one thing, and must not do it to a network that wants another."""
    other = tmp_path / "other"
    shutil.copytree(bundle, other)
    model = json.loads((other / "model.json").read_text(encoding="utf-8"))
    model["preprocessing"]["alpha"] = "white"
    (other / "model.json").write_bytes(sealed(model))
    with pytest.raises(FileFormatError, match=r"`preprocessing.alpha` must be \"dropped\", got \"white\""):
        build_site(other, tmp_path / "site", runtime=runtime)


# the style


def luminance(colour: str) -> float:
    """Relative luminance of #rrggbb (WCAG 2)."""
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
def test_contrast(scheme: int) -> None:
    """Text at 4.5 : 1 (WCAG AA), bars against their rails at 3 : 1."""
    style = (STATIC / "style.css").read_text(encoding="utf-8")
    colours = dict(re.findall(r"--([\w-]+): (#\w{6});", re.findall(r":root \{(.*?)\}", style, re.DOTALL)[scheme]))
    pairs = [("text", "back"), ("text", "panel"), ("quiet", "back"), ("quiet", "panel"), ("accent", "back")]
    pairs += [("on-accent", "accent"), ("error-text", "error-back"), ("bar", "rail"), ("bar", "panel")]
    for front, ground in pairs:
        darker, lighter = sorted(luminance(colours[name]) for name in (front, ground))
        assert (lighter + 0.05) / (darker + 0.05) >= (3 if front == "bar" else 4.5), (front, ground)

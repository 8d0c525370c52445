"""Broken and hostile bundles, for every command that reads one."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path

from hostile import onnx_files, values
from hostile.cases import Record, Task, attempt, flipped, honest, simple, with_modules
from hostile.given import BENCH, RUNTIME, Given, patch_runtime, sealed
from hostile.judge import Fault
from hostile.sandbox import Command, Outcome, Sandbox, run_cli

PART = "bundles"
JSONS = ("model.json", "config.json", "plan.json", "report.json")
FILES = (*JSONS, "model.onnx", "dense.onnx", "slim.safetensors", "MODEL_CARD.md", "infer.py")
Change = Callable[[Path, Path], object]  # the bundle, the folder outside


def _web() -> int:
    patch_runtime(Path(RUNTIME).read_bytes())
    return run_cli(["web", "x", "--out", "site", "--runtime", RUNTIME])


def _load() -> None:
    import slimnet

    slimnet.load_slim("x")


def commands() -> tuple[Command, ...]:
    """Every command that reads a bundle; some are given one in the place of a run."""
    return (
        Command("predict", ("predict", "x", "good.png")),
        Command("predict --json", ("predict", "x", "good.png", "--json")),
        Command("evaluate", ("evaluate", "x")),
        Command("verify", ("verify", "x")),
        Command("bench", ("bench", "x", *BENCH)),
        Command("bench --runtime torch", ("bench", "x", *BENCH, "--runtime", "torch")),
        Command("web", ("web", "x", "--out", "site", "--runtime", RUNTIME), output="site", status_of=_web),
        Command("load_slim", call=_load),
        Command("report", ("report", "x", "--out", "page"), output="page"),
        Command("export --compact", ("export", "x", "--out", "new", "--compact"), output="new"),
    )


def lay_out(change: Change, *, seal: bool = True) -> Callable[[Sandbox, Given], None]:
    """A changed bundle in ``x``, with what else the commands need."""

    def prepare(sandbox: Sandbox, given: Given) -> None:
        for name in ("good.png", RUNTIME):
            given.copy(name, sandbox.work / name)
        given.copy("bundle", sandbox.work / "x")
        given.copy("bundle", sandbox.outside / "bundle")
        change(sandbox.work / "x", sandbox.outside)
        if seal:
            sealed(sandbox.work / "x")

    return prepare


def _json(name: str, count: int, rng: random.Random, given: Path) -> Iterator[tuple[str, Change]]:
    value = json.loads((given / "bundle" / name).read_text())
    for number, (what, text) in enumerate(values.changes(value, count, rng)):
        yield f"{name} {number}: {what}", _text(name, text)


def _text(name: str, text: str | bytes) -> Change:
    data = text if isinstance(text, bytes) else text.encode()
    return lambda bundle, outside: (bundle / name).write_bytes(data)


WHOLE = {
    "empty": b"",
    "a byte": b"\xff",
    "UTF-16": '{"format": "slimnet-bundle"}'.encode("utf-16"),
    "a BOM": b"\xef\xbb\xbf{}",
    "NUL": b"\0" * 1000,
    "a list": b"[]",
    "escapes": b'\x1b[2J{"\x1b]0;x\x07": \x9b}',
    "text": b"hello\nFORGED",
    "100,000 deep": values.DEEP[0].encode(),
    "a 5,000-digit number": b"9" * 5000,
}
"""What a whole file is replaced by."""


def _bytes(rng: random.Random) -> Iterator[tuple[str, Change]]:
    for name in FILES:
        for what in ("truncated", "flipped", "flipped in its head"):
            place, bit = rng.randrange(1 << 30), rng.randrange(8)
            if what == "truncated":
                yield f"{name} truncated", lambda b, o, n=name, p=place: _truncate(b / n, p)
            else:
                at = place if what == "flipped" else place % 64
                yield f"{name} {what}", lambda b, o, n=name, p=at, k=bit: flipped(b / n, p, k)
    for name in FILES[:-2]:
        for what, data in rng.sample(sorted(WHOLE.items()), 3):
            yield f"{name} is {what}", _text(name, data)
    for number in range(25):
        place, bit = rng.randrange(1 << 30), rng.randrange(8)
        yield f"model.onnx with bit {place}.{bit} flipped", lambda b, o, p=place, k=bit: flipped(b / "model.onnx", p, k)
        if number % 5 == 0:
            yield (
                f"slim.safetensors with bit {place % 4000}.{bit} flipped",
                lambda b, o, p=place % 4000, k=bit: flipped(b / "slim.safetensors", p, k),
            )


def _truncate(path: Path, place: int) -> None:
    os.truncate(path, place % max(1, path.stat().st_size))


def _link(name: str, target: str) -> Change:
    """A file becomes a link; ``{outside}`` in the target is the folder outside."""

    def change(bundle: Path, outside: Path) -> None:
        (bundle / name).unlink(missing_ok=True)
        (bundle / name).symlink_to(target.format(outside=outside))

    return change


def _replace(name: str, make: Callable[[Path], object]) -> Change:
    def change(bundle: Path, outside: Path) -> None:
        (bundle / name).unlink(missing_ok=True)
        make(bundle / name)

    return change


def _sparse(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(3 << 30)


def _unlisted_card(bundle: Path, outside: Path) -> None:
    """MODEL_CARD.md is taken off the list, and is a link (it would be published)."""
    (bundle / "MODEL_CARD.md").unlink()
    _edit(bundle / "model.json", lambda model: model["files"].pop("MODEL_CARD.md"))
    (bundle / "MODEL_CARD.md").symlink_to(outside / "secret.txt")


def _edit(path: Path, change: Callable[[dict], object]) -> None:
    value = json.loads(path.read_text())
    change(value)
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def _structure() -> Iterator[tuple[str, Change]]:
    for name in FILES:
        yield f"{name} is a link to the same file outside", _link(name, f"{{outside}}/bundle/{name}")
    for name in ("model.json", "config.json", "model.onnx", "slim.safetensors"):
        yield f"{name} is missing", lambda b, o, n=name: (b / n).unlink()
        yield f"{name} is a pipe", _replace(name, os.mkfifo)
        yield f"{name} is a folder", _replace(name, Path.mkdir)
        yield f"{name} is a link to /dev/zero", _link(name, "/dev/zero")
        yield f"{name} is a link in a circle", _link(name, name)
        yield f"{name} has 3 GiB", _replace(name, _sparse)
    yield "a pipe beside the files", lambda b, o: os.mkfifo(b / "extra")
    yield "an unlisted card that is a link", _unlisted_card
    yield "a foreign file", lambda b, o: (b / "evil.py").write_text("raise SystemExit")
    yield "a foreign file named with escapes", lambda b, o: (b / "\x1b[2J\nFORGED").write_text("")
    yield "a folder __pycache__", lambda b, o: (b / "__pycache__").mkdir()
    yield "a foreign link", lambda b, o: (b / "more").symlink_to(o / "folder")
    for name in ("../../outside/secret.txt", "/etc/passwd", "../x/model.onnx", "a/b", "\x1b[2J", "n" * 5000):
        yield (
            f"files lists {name[:30]!r}",
            lambda b, o, n=name: _edit(b / "model.json", lambda m: m["files"].update({n: {"bytes": 1, "sha256": "0" * 64}})),
        )
        yield (
            f"fp32 lies in {name[:30]!r}",
            lambda b, o, n=name: _edit(b / "model.json", lambda m: m["precisions"]["fp32"].update(file=n)),
        )


FACTORIES = ("sys:exit", "os:_exit", "os:abort", "http.server:test", "this:s", "antigravity:geohash", "turtledemo.__main__:main")
FACTORIES += (
    "x.evil:make",
    "evil:make",
    "x.infer:main",
    "x.package:make",
    "code:interact",
    "pdb:set_trace",
    "builtins:breakpoint",
)
FACTORIES += (
    "../outside/evil:make",
    ":",
    "a:",
    ":b",
    "slimnet_cli:main",
    "os:system",
    "torch.hub:load",
    "posix:fork",
    "timm:resnet18",
)
UNSEEN = frozenset(
    (
        "this",
        "antigravity",
        "turtledemo",
        "turtledemo.__main__",
        "evil",
        "x",
        "x.evil",
        "x.infer",
        "x.package",
        "pdb",
        "code",
    )
)
"""Modules that only a hostile file names: none may be imported."""


def _factory(name: str) -> Change:
    """The network is made by ``name``; hostile modules of that name lie about."""

    def change(bundle: Path, outside: Path) -> None:
        canary = bundle.parents[1] / "CANARY"
        code = f"open({str(canary)!r}, 'w').write('x')\ndef make(*a, **k): raise SystemExit\n"
        for path in (bundle / "evil.py", bundle.parent / "evil.py", bundle / "package" / "__init__.py"):
            path.parent.mkdir(exist_ok=True)
            path.write_text(code)
        if name == "x.infer:main":
            (bundle / "infer.py").write_text(code)
        _edit(bundle / "config.json", lambda config: config.update(model=name, in_channels=3))

    return change


def _without_manifest(change: Change) -> Change:
    """What reads the rest of the bundle then checks no hash."""

    def both(bundle: Path, outside: Path) -> None:
        change(bundle, outside)
        (bundle / "model.json").unlink()

    return both


LABELS = {
    "a title": "\x1b]0;title\x07",
    "a cleared screen": "\x1b[2J\x1b[H",
    "C1": "\x9b31mred",
    "a forged line": "x 99 %\nFORGED good.png: happy 99.99 %",
    "a carriage return": "x\rFORGED good.png",
    "bidirectional text": "\u202egnp.doog\u202c",
    "NUL": "a\0b",
    "DEL": "\x7f\x7f\x7f",
    "HTML": "<script>alert(1)</script>",
    "10⁶ letters": "x" * 10**6,
    "nothing": "",
    "a form feed": "a\x0cb\x0bc",
    "a line separator": "a\u2028FORGED",
}


def _label(text: str) -> Change:
    def change(bundle: Path, outside: Path) -> None:
        _edit(bundle / "model.json", lambda model: model.update(labels=[text + str(i) for i in range(len(model["labels"]))]))
        stamp = json.dumps([text + str(i) for i in range(10)])
        import onnx

        for name in ("model.onnx", "dense.onnx"):
            proto = onnx.load(str(bundle / name))
            for entry in proto.metadata_props:
                if entry.key == "slimnet.labels":
                    entry.value = stamp
            (bundle / name).write_bytes(proto.SerializeToString())

    return change


def _onnx(name: str) -> Change:
    def change(bundle: Path, outside: Path) -> None:
        (bundle / "link").symlink_to(outside / "secret.bin") if "link" in name else None
        for file in ("model.onnx", "dense.onnx"):
            onnx_files.write(bundle / file, name)
        _edit(bundle / "model.json", lambda m: m["precisions"]["fp32"].update(bytes=(bundle / "model.onnx").stat().st_size))

    return change


def _alone(name: str) -> Task:
    """An ONNX file by itself, for what takes one."""

    def run(sandbox: Sandbox, given: Given) -> Iterator[Record]:
        work = sandbox.fresh()
        (work / "x.onnx").write_bytes(onnx_files.changed((given.folder / "bundle" / "model.onnx").read_bytes(), name))
        (work / "good.onnx").write_bytes((given.folder / "bundle" / "dense.onnx").read_bytes())
        (work / "link").symlink_to(sandbox.outside / "secret.bin")
        for command in (
            Command("bench a.onnx b.onnx", ("bench", "good.onnx", "x.onnx", *BENCH)),
            Command("evaluate a.onnx", ("evaluate", "x.onnx", "--data", "digits")),
        ):
            yield attempt(sandbox, command, untouched=("x.onnx", "good.onnx"))

    return Task(PART, f"a file alone: {name}", run)


def _no_script(sandbox: Sandbox) -> Callable[[Outcome], Iterator[Fault]]:
    """A label of HTML that reaches a page as it is."""

    def look(outcome: Outcome) -> Iterator[Fault]:
        for folder in ("site", "page"):
            page = next((sandbox.work / folder).glob("*.html"), None) if (sandbox.work / folder).is_dir() else None
            if page is not None and "<script>alert(1)" in page.read_text(encoding="utf-8"):
                yield Fault("code", f"the label is a script in {page.name}")

    return look


def tasks(rng: random.Random, given: Given) -> Iterator[Task]:
    """All of them: about 500."""
    every = commands()
    yield honest(PART, lay_out(lambda b, o: None), [c for c in every if c.name not in ("report", "export --compact")])
    for name, count in (("model.json", 80), ("config.json", 50), ("plan.json", 50), ("report.json", 24)):
        for number, (what, change) in enumerate(_json(name, count, rng, given.folder)):
            unsealed = number % 6 == 5
            hidden = name in ("config.json", "plan.json") and number % 6 == 4
            label = f"{what}{' (hash not mended)' if unsealed else ' (no model.json)' if hidden else ''}"
            yield simple(PART, label, lay_out(_without_manifest(change) if hidden else change, seal=not unsealed), every)
    for name in FACTORIES:
        yield simple(PART, f"made by {name}", lay_out(_factory(name)), with_modules(every, UNSEEN), untouched=())
    for name in FACTORIES[:8]:
        prepare = lay_out(_without_manifest(_factory(name)))
        yield simple(PART, f"made by {name} (no model.json)", prepare, with_modules(every, UNSEEN), untouched=())
    for what, change in (*_bytes(rng), *_structure()):
        yield simple(PART, what, lay_out(change), every, untouched=())
    for what, text in LABELS.items():
        yield _labelled(what, text, every)
    for name in onnx_files.CHANGES:
        yield simple(PART, name, lay_out(_onnx(name)), every)
        yield _alone(name)


def _labelled(what: str, text: str, every: tuple[Command, ...]) -> Task:
    def run(sandbox: Sandbox, given: Given) -> Iterator[Record]:
        sandbox.fresh()
        lay_out(_label(text))(sandbox, given)
        for command in every:
            yield attempt(sandbox, command, untouched=("x",), more=_no_script(sandbox))

    return Task(PART, f"labels with {what}", run)

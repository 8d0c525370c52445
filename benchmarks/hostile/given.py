"""What the cases begin from: a run, one that is not finished, a bundle, weights; made by slimnet's own commands on the digits."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import os
import re
import shutil
import signal
import sys
import tarfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hostile.sandbox import Command, Outcome, Sandbox, run_cli

SIDE = 8
NETWORK = ("--model", "resnet8", "--num-classes", "10", "--in-channels", "1", "--image-size", str(SIDE))
TRAIN = (
    *("--model", "resnet8", "--epochs", "4", "--finetune-epochs", "1", "--batch-size", "64", "--lr", "0.05", "--seed", "3"),
    *("--train-fraction", "0.2", "--precision", "fp32", "--set", "channels_last=false", "--device", "cpu", "--quiet"),
)
BENCH = ("--rounds", "2", "--seconds", "0")
RUNTIME = "onnxruntime-web.tgz"


@dataclass(frozen=True)
class Given:
    """Folders that are copied, never changed.

    Attributes:
        folder: where they lie: ``run``, ``unfinished``, ``bundle``, ``other`` (another bundle of the same run), ``good.png``.
        modules: all that the commands imported.
        seconds: what training and export took.
    """

    folder: Path
    modules: tuple[str, ...]
    seconds: dict[str, float]

    def write(self) -> None:
        """Keep what is known of them for another time."""
        (self.folder / "about.json").write_text(json.dumps({"modules": self.modules, "seconds": self.seconds}))

    def copy(self, name: str, to: Path) -> Path:
        """A copy of one of them."""
        source = self.folder / name
        if source.is_dir():
            shutil.copytree(source, to, copy_function=shutil.copyfile)
        else:
            shutil.copyfile(source, to)
        return to


def make(folder: Path, scratch: Path) -> Given:
    """Make them, or take those that are there from an earlier time.

    Raises:
        RuntimeError: if slimnet cannot even do this.
    """
    about = folder / "about.json"
    if about.is_file():
        value = json.loads(about.read_text())
        return Given(folder, tuple(value["modules"]), value["seconds"])
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    sandbox = Sandbox(scratch)
    work = sandbox.fresh()
    seconds = {"train": _good(sandbox, "train", *TRAIN, "--out", "run").seconds}
    sandbox.execute(Command("train", ("train", *TRAIN, "--out", "unfinished")), while_running=_stop_at(work / "unfinished"))
    if (work / "unfinished" / "model.safetensors").exists() or not (work / "unfinished" / "checkpoint.safetensors").exists():
        raise RuntimeError("the training could not be stopped half-way")
    seconds["export"] = _good(sandbox, "export", "run", "--out", "bundle").seconds
    _good(sandbox, "export", "run", "--out", "other", "--opset", "19")
    _good(sandbox, "export", "run", "--out", "small", "--compact")
    _picture(work / "good.png")
    (work / RUNTIME).write_bytes(_runtime_archive())
    found = sandbox.execute(Command("modules", call=lambda: _all_commands(work)))
    modules = tuple(json.loads(found.out.decode().splitlines()[-2]))
    for name in ("run", "unfinished", "bundle", "other", "small"):
        shutil.copytree(work / name, folder / name)
    for name in ("good.png", RUNTIME):
        shutil.copyfile(work / name, folder / name)
    sandbox.close()
    given = Given(folder, modules, seconds)
    given.write()
    return given


def _good(sandbox: Sandbox, *argv: str) -> Outcome:
    done = sandbox.execute(Command(argv[0], argv))
    if done.status != 0:
        raise RuntimeError(f"slimnet {' '.join(argv)} gave {done.status}: {done.err.decode()}")
    return done


def _stop_at(run: Path) -> Any:
    """Sends SIGTERM once there is a checkpoint."""
    sent: list[int] = []

    def look(pid: int, _: float) -> None:
        if not sent and (run / "checkpoint.safetensors").exists():
            sent.append(pid)
            os.kill(pid, signal.SIGTERM)

    return look


def _all_commands(work: Path) -> None:
    """Run every command, so that what they import is known; print the names."""
    patch_runtime((work / RUNTIME).read_bytes())
    lines: Sequence[Sequence[str]] = (
        ("train", *TRAIN, "--out", "a"),
        ("export", "run", "--out", "b"),
        *(("report", "run", "--out", "c"), ("evaluate", "bundle"), ("verify", "bundle"), ("predict", "bundle", "good.png")),
        *(("bench", "bundle", *BENCH, "--runtime", "onnxruntime,torch"), ("web", "bundle", "--out", "d", "--runtime", RUNTIME)),
        ("inspect", "run/model.safetensors", *NETWORK),
    )
    for line in lines:
        run_cli(line)
    names = [name for name in sys.modules if not name.startswith(("hostile", "__m", "robustness", "test_"))]
    sys.stdout.write("\n" + json.dumps(sorted(names)) + "\n")


def _picture(path: Path) -> None:
    import numpy as np
    from PIL import Image

    Image.fromarray((np.arange(SIDE * SIDE) * 4 % 256).astype("uint8").reshape(SIDE, SIDE)).save(path)


def _runtime_archive() -> bytes:
    """What stands in for onnxruntime-web: the files that `slimnet web` takes out of it, empty."""
    from slimnet.web import runtime

    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name in (*runtime._WASM, *runtime._WEBGPU, "package/ThirdPartyNotices.txt"):
            info = tarfile.TarInfo(name)
            info.size = 3
            archive.addfile(info, io.BytesIO(b"abc"))
    return buffer.getvalue()


def patch_runtime(archive: bytes) -> None:
    """Let this process take the archive for the published one."""
    from slimnet.web import runtime

    runtime._SHA512 = base64.b64encode(hashlib.sha512(archive).digest()).decode()
    if hasattr(runtime, "_BYTES"):
        runtime._BYTES = len(archive)


def _filled(size: int, digest: str) -> Callable[[re.Match[str]], str]:
    return lambda found: f"{found[1]}{size}{found[2]}{digest}"


def sealed(folder: Path) -> None:
    """Make ``model.json`` of a changed bundle true again, as one who forges it would; where it is no object, it stays."""
    path = folder / "model.json"
    if path.is_symlink() or not path.is_file():
        return
    text = path.read_text(encoding="utf-8", errors="surrogateescape")
    for file in folder.iterdir():
        if file.is_file() and file != path and file.stat().st_size < 1 << 26:
            data = file.read_bytes()
            entry = rf'("{re.escape(file.name)}": \{{\s*"bytes": )\d+(,\s*"sha256": ")[0-9a-f]{{64}}'
            digest = hashlib.sha256(data).hexdigest()
            text = re.sub(entry, _filled(len(data), digest), text)
    blank = re.sub(r'("sha256": ")[0-9a-f]{64}("\s*\}\s*)\Z', lambda found: f"{found[1]}{'0' * 64}{found[2]}", text)
    data = blank.encode("utf-8", errors="surrogateescape")
    digest = hashlib.sha256(data).hexdigest()
    path.write_bytes(re.sub(rb'("sha256": ")0{64}("\s*\}\s*)\Z', lambda f: f[1] + digest.encode() + f[2], data))

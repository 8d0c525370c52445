"""What it takes to compare with other people's packages: an environment, a process in it that is told what to do, its answers."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray
from onnx_files import environment
from packaging.requirements import Requirement

from slimnet._json import decode, read_text
from slimnet.errors import FileFormatError, MeasureError, TimeLimitError, unknown
from slimnet.evaluation.f1 import f1_scores

LIMIT = 3600.0
"""Seconds that an order may take, and the start."""
ONE_THREAD = dict.fromkeys(
    ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"), "1"
)
NO_NETWORK = dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), "http://127.0.0.1:9")
"""Nobody listens there: what is downloaded at run time is an error."""
MOST_LINE = 1 << 22
COMPLETE = "complete"
"""The file in an environment that says what was installed in it."""


def pip_environment(folder: Path, packages: str) -> tuple[list[str], Path]:
    """The interpreter of an environment that is made where it is missing, and the folder of what is installed in it.

    Raises:
        MeasureError: if it does not install.
    """
    _forget(folder, packages)
    try:
        python = environment(folder, folder.name, packages, sys.executable)
    except subprocess.CalledProcessError as error:
        raise MeasureError(f"{packages} does not install (status {error.returncode})") from None
    (folder / COMPLETE).write_text(packages, encoding="utf-8")
    (installed,) = folder.glob("lib/python*/site-packages")
    return [str(python)], installed


def npm_environment(folder: Path, packages: str) -> tuple[list[str], Path]:
    """The same for packages of npm; none of their scripts is run."""
    _forget(folder, packages)
    if not (folder / COMPLETE).exists():
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        (folder / "package.json").write_text('{"private": true}', encoding="utf-8")
        command = ["npm", "install", "--ignore-scripts", "--no-audit", "--no-fund", "--silent", *packages.split()]
        try:
            subprocess.run(command, cwd=folder, check=True)
        except (subprocess.CalledProcessError, FileNotFoundError) as error:
            raise MeasureError(f"{packages} does not install ({error})") from None
        (folder / COMPLETE).write_text(packages, encoding="utf-8")
    return ["node"], folder / "node_modules"


def _forget(folder: Path, packages: str) -> None:
    """An environment of other packages is made anew."""
    marker = folder / COMPLETE
    if marker.exists() and marker.read_text(encoding="utf-8") != packages:
        marker.unlink()


def installed_bytes(folder: Path) -> int:
    """All that is installed in an environment, but pip."""
    return sum(
        path.stat().st_size
        for path in folder.rglob("*")
        if path.is_file() and not path.is_symlink() and path.relative_to(folder).parts[0].partition("-")[0] != "pip"
    )


def closure_bytes(package: str) -> int:
    """The files of a package that is installed here, and of all that it needs."""
    wanted, sizes = [Requirement(package)], dict[str, int]()
    asked = set[tuple[str, frozenset[str]]]()
    while wanted:
        requirement = wanted.pop()
        if (requirement.name, frozenset(requirement.extras)) in asked:
            continue
        asked.add((requirement.name, frozenset(requirement.extras)))
        try:
            found = distribution(requirement.name)
        except PackageNotFoundError:
            continue
        sizes[found.metadata["Name"]] = _bytes(found)
        wanted += [need for need in map(Requirement, found.requires or ()) if _is_needed(need, requirement.extras)]
    return sum(sizes.values())


def _is_needed(need: Requirement, extras: set[str]) -> bool:
    return need.marker is None or any(need.marker.evaluate({"extra": extra}) for extra in ("", *extras))


def _bytes(found: Distribution) -> int:
    paths = [Path(str(found.locate_file(file))) for file in found.files or ()]
    return sum(path.stat().st_size for path in paths if path.is_file())


class Process:
    """A script of a peer that runs, and does as it is told.

    Attributes:
        about: what it said at its start: ``versions``, ``ways``.
    """

    def __init__(self, process: subprocess.Popen[bytes], answers: IO[bytes], log: Path) -> None:
        self._process, self._answers, self._log = process, answers, log
        self.about: dict[str, Any] = self._answer("starting")["ready"]

    def ask(self, **order: Any) -> dict[str, Any]:
        """Tell it what to do, and wait for its answer.

        Raises:
            MeasureError: if it ends, or answers with something else than a JSON object.
            TimeLimitError: if it takes longer than LIMIT.
        """
        pipe = self._process.stdin
        assert pipe is not None
        try:
            pipe.write(json.dumps(order).encode() + b"\n")
            pipe.flush()
        except BrokenPipeError:
            raise MeasureError(self._end()) from None
        return self._answer(str(order["do"]))

    def _answer(self, what: str) -> dict[str, Any]:
        late = threading.Event()

        def end() -> None:
            late.set()
            self._process.kill()

        timer = threading.Timer(LIMIT, end)
        timer.start()
        try:
            line = self._answers.readline(MOST_LINE)
        finally:
            timer.cancel()
        if late.is_set():
            raise TimeLimitError(f"{what} took longer than {LIMIT:g} s")
        if not line:
            raise MeasureError(self._end())
        answer = decode(line, "the answer")
        if not isinstance(answer, dict):
            raise MeasureError(f"the answer is no JSON object: {answer!r:.80}")
        return answer

    def _end(self) -> str:
        """Its last words."""
        status = self._process.wait()
        lines = self._log.read_text(encoding="utf-8", errors="replace").split("\n")
        errors = [line.strip() for line in lines if "Error" in line] or [""]
        return f"ended with status {status}: {errors[-1]:.200}"


@contextmanager
def running(command: Sequence[str], log: Path, **variables: str) -> Iterator[Process]:
    """A process in a clean environment, with one thread and without a network.

    It answers through a pipe of its own, whose number it finds in ``PEER_ANSWERS``; what it prints goes to ``log``.
    """
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "NODE_", "SLIMNET_"))}
    read, write = os.pipe()
    given = {"PEER_ANSWERS": str(write), "TF_CPP_MIN_LOG_LEVEL": "2"} | variables
    with os.fdopen(read, "rb") as answers, log.open("wb") as printed:
        try:
            process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=printed,
                stderr=printed,
                pass_fds=(write,),
                env=clean | ONE_THREAD | NO_NETWORK | given,
                cwd=log.parent,
            )
        finally:
            os.close(write)
        try:
            yield Process(process, answers, log)
        finally:
            process.kill()
            with suppress(BrokenPipeError):
                process.communicate()


def read_answers(path: Path, count: int, words: Mapping[str, str | None], classes: Sequence[str]) -> NDArray[np.int64]:
    """What a package said of each face, as numbers of classes.

    Args:
        path: JSON, a list of labels in the package's own words, null where it gave none.
        count: of faces.
        words: label of the package → class, None where there is no such class.
        classes: by their numbers.

    Returns:
        (count,) numbers of classes; ``len(classes)`` where there is no answer, or one that is no class.

    Raises:
        FileFormatError: if it is not such a list, or has a label that ``words`` does not have.
    """
    labels = decode(read_text(path), str(path))
    if not isinstance(labels, list) or len(labels) != count:
        raise FileFormatError(f"{path} must hold a list of {count:,} labels.")
    numbers = {None: len(classes)}
    for label, name in words.items():
        numbers[label] = len(classes) if name is None else classes.index(name)
    for label in labels:
        if not (label is None or isinstance(label, str)):
            raise FileFormatError(f"{path} must hold labels, it has {label!r:.80}.")
        if label not in numbers:
            raise FileFormatError(f"{path}: {unknown('unknown label', label, words)}")
    return np.asarray([numbers[label] for label in labels], np.int64)


def score(true: NDArray[np.int64], found: NDArray[np.int64], again: NDArray[np.bool_], classes: Sequence[str]) -> dict[str, Any]:
    """How good answers are; one that is no class is wrong.

    Args:
        true: (N,) numbers of classes.
        found: (N,) the same, or ``len(classes)``.
        again: (N,) which images also stand in the training split.
        classes: by their numbers; each occurs in ``true``.

    Returns:
        ``accuracy``, ``macro_f1`` (the mean F1 of the classes), ``f1`` of each, ``accuracy_without_duplicates``, ``no_class``
        (how many answers are none), ``confusion`` (rows are true; the last column is for what is no class).
    """
    size, right = len(classes), true == found
    confusion = np.zeros((size + 1, size + 1), np.int64)
    np.add.at(confusion, (true, found), 1)
    scores = [value or 0.0 for value in f1_scores(confusion.tolist())[:size]]
    return {
        "accuracy": float(right.mean()),
        "macro_f1": sum(scores) / size,
        "f1": dict(zip(classes, scores, strict=True)),
        "accuracy_without_duplicates": float(right[~again].mean()),
        "no_class": int((found == size).sum()),
        "confusion": confusion[:size].tolist(),
    }

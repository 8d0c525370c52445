"""A package of the npm registry, as it was published."""

from __future__ import annotations

import base64
import hashlib
import io
import os
import tarfile
import urllib.error
import urllib.request
from dataclasses import dataclass

from slimnet.errors import ArgumentError, FileFormatError
from slimnet.progress import Say, say_from

_say = say_from(__name__)
_REGISTRY = "https://registry.npmjs.org"
_SECONDS = 60  # without a byte


@dataclass(frozen=True)
class Package:
    """One version of a package.

    Attributes:
        name: with its scope, as ``@scope/name``.
        version: of it.
        size: of its archive, in bytes.
        sha512: of its archive, in base64, as npm writes it.
        flag: the flag that takes the archive, where it was fetched elsewhere.
        hint: what to do without a network; default: to give it with the flag.
    """

    name: str
    version: str
    size: int
    sha512: str
    flag: str
    hint: str = ""

    @property
    def archive(self) -> str:
        """Its file name, as ``npm pack`` gives it."""
        return f"{self.name.removeprefix('@').replace('/', '-')}-{self.version}.tgz"

    def is_right(self, data: bytes) -> bool:
        """Whether these bytes are the archive as it was published."""
        return base64.b64encode(hashlib.sha512(data).digest()).decode() == self.sha512


def fetch(package: Package, *, registry: str | None = None, say: Say = _say, told: str = "") -> bytes:
    """The archive, from the registry.

    Args:
        package: which.
        registry: address of an npm registry; by default ``npm_config_registry``, or else the public one.
        say: takes a line of progress.
        told: this line, with the registry's address in the place of ``{registry}``.

    Raises:
        FileFormatError: if it cannot be had, or is another file.
        ArgumentError: if the registry's address is none.
    """
    address = _address(registry)
    line = told or f"fetching {package.archive} ({package.size / 1e6:.0f} MB), once"
    say(line.replace("{registry}", _without_secrets(address)))
    return _download(package, f"{address}/{package.name}/-/{package.name.rpartition('/')[2]}-{package.version}.tgz")


def member(archive: bytes, name: str) -> bytes | None:
    """A file of an archive, by its name; None where there is none."""
    try:
        with tarfile.open(fileobj=io.BytesIO(archive), mode="r:gz") as tar:
            for found in tar:
                if found.name == name and (content := tar.extractfile(found)) is not None:
                    return content.read()
    except (tarfile.TarError, OSError, EOFError):
        return None
    return None


def _download(package: Package, url: str) -> bytes:
    shown = _without_secrets(url)
    try:
        with urllib.request.urlopen(url, timeout=_SECONDS) as response:
            data: bytes = response.read(package.size + 1)
    except (urllib.error.URLError, OSError, ValueError) as error:
        reason = getattr(error, "reason", None) or error
        hint = package.hint or f"without a network, fetch it elsewhere and give it with {package.flag} {package.archive}"
        raise FileFormatError(f"{shown} cannot be fetched ({reason}): {hint}.") from None
    if not package.is_right(data):
        raise FileFormatError(f"{shown} is not the file that was published: its SHA-512 differs.")
    return data


def _without_secrets(address: str) -> str:
    """An address without a name and password that may stand in it, nor what follows a question mark."""
    scheme, _, rest = address.partition("://")
    host, slash, path = rest.partition("?")[0].partition("/")
    return f"{scheme}://{host.rpartition('@')[2]}{slash}{path}"


def _address(given: str | None) -> str:
    configured = (value for name, value in os.environ.items() if name.lower() == "npm_config_registry")
    address = given or next(configured, "") or _REGISTRY
    if not address.startswith(("https://", "http://")):
        raise ArgumentError(f"`registry` must be an address that begins with https://, got {address!r}.")
    return address.rstrip("/")

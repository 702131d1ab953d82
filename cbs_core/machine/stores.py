"""Object stores and web servers, by fsspec: read by ranges, written in one step.

Libraries of stores are imported when an address asks for one. Credentials are found as these find
them (environment, files, a machine's role), never in an address. All stores that are written to put
an object whole or not at all, so that none stands half under its name. Objects whose names end in a
slash, as consoles make them for empty folders, are no files.
"""

import glob
import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, cast

from cbs_core.contract.errors import (
    CbsError,
    ConfigError,
    SinkError,
    SourceError,
    SourceLostError,
)
from cbs_core.contract.stored import WEB, Stored
from cbs_core.machine.addresses import masked

EXTRAS = {"s3": "s3", "gs": "gs", "http": "http", "https": "http", "memory": ""}
"""Scheme -> the extra that it needs."""

WRITTEN = ("s3", "gs", "memory")

AHEAD = 4 << 20
"""Bytes that are read at once: of a window of a video some, of its index at the end one."""


def stored(text: object) -> Stored | None:
    """Returns the file that an address names; None of a path, or of what is no store."""
    scheme, colons, _ = str(text).partition("://")
    return Stored(str(text)) if colons and scheme.lower() in EXTRAS else None


def local(text: str) -> str:
    """Returns a path for ``file://``; all else as it is.

    Example:
        >>> local("file:///films/a.mp4"), local("s3://b/a.mp4")
        ('/films/a.mp4', 's3://b/a.mp4')

    Raises:
        ConfigError: it names a machine: ``file://films`` is no folder here.
    """
    from urllib.parse import unquote, urlsplit

    if not text.startswith("file://"):
        return text
    parts = urlsplit(text)
    if parts.netloc not in ("", "localhost"):
        raise ConfigError(f"'{text}' is no path of this machine: say file:///FOLDER, or the path")
    return unquote(parts.path)


def opened(file: Stored) -> BinaryIO:
    """Opens a file that is read by ranges, as they are sought.

    Raises:
        SourceError: it cannot be read, or its server serves no ranges.
    """
    with _told(file, SourceError):
        handle = _system(file).open(file.address, "rb", block_size=AHEAD, cache_type="readahead")
        handle.seek(0, 2)
        handle.seek(0)
        return cast(BinaryIO, _Ranges(file, handle))


class _Ranges(io.RawIOBase):
    """Bytes of a store; where they are lost midway, that is told in a line, and once.

    FFmpeg reads on after an error, and PyAV prints the traceback of each but the last.
    """

    def __init__(self, file: Stored, handle: BinaryIO) -> None:
        self._file, self._handle = file, handle
        self._lost = False

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        if self._lost:
            return 0
        try:
            with _told(self._file, SourceLostError):
                got = self._handle.read(len(buffer))
        except CbsError:
            self._lost = True
            raise
        buffer[: len(got)] = got
        return len(got)

    def seek(self, place: int, whence: int = io.SEEK_SET, /) -> int:
        return self._handle.seek(place, whence)

    def tell(self) -> int:
        return self._handle.tell()

    def close(self) -> None:
        if not self.closed:
            self._handle.close()
        super().close()


def has_ranges(file: Stored) -> bool:
    """Tells whether a file can be read by ranges.

    Raises:
        SourceError: it cannot be read at all.
    """
    try:
        opened(file).close()
    except SourceError as error:
        if file.scheme in WEB and isinstance(error.__cause__, ValueError):
            return False
        raise
    return True


def size(file: Stored) -> int:
    """Returns its bytes.

    Raises:
        SourceError: they are not known.
    """
    with _told(file, SourceError):
        return int(_system(file).size(file.address))


def stamp(file: Stored) -> str:
    """Returns what tells a file from a changed one.

    Raises:
        SourceError: it is not there, or cannot be had.
    """
    with _told(file, SourceError):
        return _stamp(_system(file).info(file.address))


def _stamp(info: dict[str, Any]) -> str:
    known = (
        info.get(key) for key in ("size", "ETag", "etag", "md5Hash", "LastModified", "created")
    )
    return " ".join(str(one) for one in known if one is not None)


def is_file(file: Stored) -> bool:
    """Tells whether there is a file of that very name; not of a web server's, which has no others.

    Raises:
        ConfigError: an extra is not installed.
    """
    return file.scheme in WEB or bool(_system(file).isfile(file.address))


def listed(pattern: Stored) -> list[tuple[Stored, str]]:
    """Returns all files below a folder, or like a glob, in order, each with its `stamp`.

    Raises:
        SourceError: the store cannot be read.
    """
    with _told(pattern, SourceError):
        system, address = _system(pattern), pattern.address
        if glob.has_magic(address):
            found = system.glob(address, detail=True)
        else:
            found = system.find(address.rstrip("/") + "/", detail=True)
        return [
            (Stored(f"{pattern.scheme}://{name.lstrip('/')}"), _stamp(info))
            for name, info in sorted(found.items())
            if info["type"] == "file" and not name.endswith("/")
        ]


def fetch(file: Stored, to: Path) -> None:
    """Copies a whole file here.

    Raises:
        SourceError: it cannot be read.
    """
    with _told(file, SourceError):
        _system(file).get_file(file.address, str(to))


class TakenError(SinkError):
    """There is a file of that name."""


class Store:
    """What lies below an address, by its name relative to that.

    Args:
        address: ``s3://bucket/folder``.

    Raises:
        ConfigError: nothing can be written to such a one, or an extra is not installed.
    """

    def __init__(self, address: str) -> None:
        self.root = Stored(address.rstrip("/"))
        if self.root.scheme not in WRITTEN:
            raise ConfigError(
                f"'{self.root}' cannot be written to: name a folder, or one of "
                f"{', '.join(f'{one}://' for one in WRITTEN)}"
            )

    def at(self, name: str) -> Stored:
        """Returns a file's address."""
        return Stored(f"{self.root.address}/{name}")

    def names(self, below: str) -> list[str]:
        """Returns the names of all files below a folder's, in order; of a file its own."""
        folder = self.at(below)
        with _told(folder, SinkError):
            found = _system(folder).find(folder.address)
        start = len(self.root.address.partition("://")[2]) + 1
        return sorted(one.lstrip("/")[start:] for one in found if not one.endswith("/"))

    def put(self, file: Path, name: str, *, over: bool) -> str:
        """Copies a file there, in one step; returns its address.

        Raises:
            TakenError: it is there, and may not be replaced.
            SinkError: it cannot be written.
        """
        to = self.at(name)
        with _told(to, SinkError):
            mode = "overwrite" if over else "create"
            _system(to).put_file(str(file), to.address, mode=mode)
        return to.address

    def write(self, content: bytes, name: str, *, over: bool) -> None:
        """Writes a small file, likewise."""
        to = self.at(name)
        with _told(to, SinkError):
            _system(to).pipe_file(to.address, content, mode="overwrite" if over else "create")

    def read(self, name: str) -> bytes:
        """Returns a small file's content."""
        file = self.at(name)
        with _told(file, SinkError):
            return bytes(_system(file).cat_file(file.address))

    def remove(self, names: list[str]) -> None:
        """Removes files."""
        if names:
            with _told(self.root, SinkError):
                _system(self.root).rm([self.at(name).address for name in names])


def _system(file: Stored) -> Any:
    import fsspec  # type: ignore[import-untyped]

    try:
        return fsspec.filesystem(file.scheme, use_listings_cache=False)
    except ImportError as error:
        raise ConfigError(
            f"'{file}' needs {error.name or file.scheme}: "
            f"pip install 'class-based-styling[{EXTRAS[file.scheme]}]'"
        ) from error


@contextmanager
def _told(file: Stored, kind: type[CbsError]) -> Iterator[None]:
    """Has whatever a store raises told in a line."""
    try:
        yield
    except CbsError:
        raise
    except FileExistsError as error:
        raise TakenError(
            f"'{file}' is there already: name another output=, or say overwrite=true"
        ) from error
    except Exception as error:  # each library has its own
        raise kind(f"'{file}': {_reason(file, error)}") from error


def _reason(file: Stored, error: Exception) -> str:
    name, text = type(error).__name__, masked(" ".join(str(error).split()))
    bucket = f"{file.scheme}://{file.address.partition('://')[2].partition('/')[0]}"
    if "bucket does not exist" in text or "NoSuchBucket" in text:
        return f"there is no bucket '{bucket}': check its name, or make it"
    if "Credential" in name or "credentials" in text.lower():
        return (
            "there are no credentials for it: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or "
            "AWS_PROFILE"
            if file.scheme == "s3"
            else "there are no credentials for it: set GOOGLE_APPLICATION_CREDENTIALS"
        )
    if isinstance(error, FileNotFoundError):
        return "there is no such file: check the address"
    if isinstance(error, PermissionError):
        return f"access is refused ({text[:120]}): check the credentials and the bucket's rights"
    return f"it cannot be had ({name}: {text[:160]})"

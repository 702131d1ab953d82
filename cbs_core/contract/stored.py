"""A file that lies in an object store or on a web server, named by its address."""

from dataclasses import dataclass
from pathlib import PurePosixPath
from urllib.parse import urlsplit

WEB = ("http", "https")
"""Schemes of which what follows ``?`` is no part of a file's name."""


@dataclass(frozen=True, slots=True)
class Stored:
    """Such a file; it may stand where a path of a file that is read may stand.

    Example:
        >>> file = Stored("https://me:secret@films.example/in/a.mp4?key=x")
        >>> file.name, file.suffix, str(file)
        ('a.mp4', '.mp4', 'https://films.example/in/a.mp4')
    """

    address: str

    @property
    def scheme(self) -> str:
        """Which kind of store: ``s3``."""
        return self.address.partition("://")[0].lower()

    @property
    def path(self) -> PurePosixPath:
        """What follows the bucket, or the host."""
        parts = urlsplit(self.address)
        if self.scheme in WEB:
            return PurePosixPath(parts.path)
        return PurePosixPath(self.address.partition("://")[2])

    @property
    def name(self) -> str:
        """Its last part."""
        return self.path.name

    @property
    def stem(self) -> str:
        """The name without its suffix."""
        return self.path.stem

    @property
    def suffix(self) -> str:
        """The suffix, with its dot."""
        return self.path.suffix

    def __str__(self) -> str:
        if self.scheme not in WEB:
            return self.address
        host = urlsplit(self.address).netloc.rpartition("@")[2]
        return f"{self.scheme}://{host}{self.path}"

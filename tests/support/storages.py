"""The storages that the contract suite runs on, and a hand that works on their files.

A :class:`Hand` does what an operator, another program or a crash does: it puts, removes
and renames files without Trough, by the storage's own ordinary means.
"""

from __future__ import annotations

import os
import shutil
from abc import ABC, abstractmethod
from pathlib import Path

import hdfs
import urllib3.exceptions

from trough.storage.hdfs.webhdfs import HdfsRetryPolicy

#: Short enough for a test in which a server is gone: what is there may be slow to answer.
HASTE = HdfsRetryPolicy(attempts=3, pause=0.05)

#: A time at which nothing is fresh any more, in seconds since the epoch.
SETTLED = 1_700_000_000.0


class Hand(ABC):
    """Works on the files below a storage's root; paths are relative to it."""

    url: str
    #: What reading a file raises that was replaced since it was opened; to be read again.
    broken_off: tuple[type[Exception], ...] = ()

    @abstractmethod
    def put(self, path: str, content: bytes) -> None:
        """Create or overwrite a file, in place, with its directories."""

    def put_whole(self, path: str, content: bytes) -> None:
        """As :meth:`put`, and nobody sees half of it: written beside, and renamed."""
        directory, _, name = path.rpartition("/")
        beside = f"{directory}/.{name}".lstrip("/")
        self.put(beside, content)
        self.rename(beside, path)

    @abstractmethod
    def read(self, path: str) -> bytes:
        """A file's content."""

    @abstractmethod
    def remove(self, path: str) -> None:
        """Remove a file or a directory with all that is in it."""

    @abstractmethod
    def rename(self, path: str, target: str) -> None:
        """Rename a file or directory."""

    @abstractmethod
    def set_modified(self, path: str, modified: float) -> None:
        """Set the modification time of a file or directory, seconds since the epoch."""

    @abstractmethod
    def names(self) -> list[str]:
        """Every file below the root, hidden ones included, sorted."""

    @abstractmethod
    def directories(self) -> list[str]:
        """Every directory, the root included as an empty path."""

    def settle(self, modified: float = SETTLED) -> None:
        """Make everything look as if it had been there, unchanged, since a time."""
        for path in (*self.names(), *self.directories()):
            self.set_modified(path, modified)


class DirectoryHand(Hand):
    """Works on a directory."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.url = f"file://{root}"

    def put(self, path: str, content: bytes) -> None:
        target = self.root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)

    def read(self, path: str) -> bytes:
        return (self.root / path).read_bytes()

    def remove(self, path: str) -> None:
        target = self.root / path
        if target.is_dir():
            shutil.rmtree(target)
        else:
            target.unlink()

    def rename(self, path: str, target: str) -> None:
        (self.root / path).rename(self.root / target)

    def set_modified(self, path: str, modified: float) -> None:
        # Where it is right already, to set it would itself be a change.
        if (self.root / path).stat().st_mtime != modified:
            os.utime(self.root / path, (modified, modified))

    def names(self) -> list[str]:
        found = (path for path in self.root.rglob("*") if not path.is_dir())
        return sorted(str(path.relative_to(self.root)) for path in found)

    def directories(self) -> list[str]:
        found = (path for path in self.root.rglob("*") if path.is_dir())
        return ["", *sorted(str(path.relative_to(self.root)) for path in found)]


class HdfsHand(Hand):
    """Works on a directory of HDFS, with the package's client alone."""

    broken_off = (urllib3.exceptions.ProtocolError,)

    def __init__(self, servers, root: str) -> None:
        self.url = servers.url(root)
        self.root = root
        self.client = hdfs.InsecureClient(
            f"http://{servers.host}:{servers.port}", user=servers.user, timeout=30
        )

    def _path(self, path: str) -> str:
        return f"{self.root}/{path}".rstrip("/")

    def put(self, path: str, content: bytes) -> None:
        self.client.write(self._path(path), data=content, overwrite=True)

    def put_whole(self, path: str, content: bytes) -> None:
        self.client.delete(self._path(path))  # HDFS renames over nothing
        super().put_whole(path, content)

    def read(self, path: str) -> bytes:
        with self.client.read(self._path(path)) as file:
            return file.read()

    def remove(self, path: str) -> None:
        assert self.client.delete(self._path(path), recursive=True)

    def rename(self, path: str, target: str) -> None:
        self.client.rename(self._path(path), self._path(target))

    def set_modified(self, path: str, modified: float) -> None:
        self.client.set_times(self._path(path), modification_time=int(modified * 1000))

    def _walk(self):
        for directory, _, names in self.client.walk(self.root):
            yield directory.removeprefix(self.root).strip("/"), names

    def names(self) -> list[str]:
        return sorted(
            f"{directory}/{name}".lstrip("/") for directory, names in self._walk() for name in names
        )

    def directories(self) -> list[str]:
        return sorted(directory for directory, _ in self._walk())

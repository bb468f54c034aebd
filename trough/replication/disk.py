"""The few calls with which a follower stores its copies on disk.

They are one interface. So a test can simulate a file system that loses unflushed data. Each call
raises OSError.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import struct
from pathlib import Path
from typing import Protocol

from trough.util import atomic_files

# SQLite's lock bytes: pending, reserved, and the range for shared locks.
_LOCK_START, _LOCK_SIZE = 0x40000000, 512
_FLOCK = struct.Struct("hhqqi4x")


class File(Protocol):
    """An open file."""

    def read(self, offset: int, size: int) -> bytes:
        """Bytes from an offset; fewer at the end of the file."""

    def write(self, offset: int, data: bytes | memoryview) -> None:
        """Write all of `data`."""

    def size(self) -> int:
        """Bytes of the file."""

    def truncate(self, size: int) -> None:
        """Cut off what is behind `size` bytes."""

    def flush(self) -> None:
        """Flush the bytes and the size to disk."""

    def is_still_there(self) -> bool:
        """Whether the file still has its name, and only that one."""

    def lock(self) -> None:
        """Lock the file against SQLite in every process, until it is closed.

        :raises BlockingIOError: SQLite has the file open
        """

    def close(self) -> None:
        """Close it, and release the lock."""


class Disk(Protocol):
    """A file system."""

    def open(self, path: Path, create: bool = False) -> File:
        """Open a file for reading and writing; `create`: replace it with an empty one."""

    def load(self, path: Path) -> bytes | None:
        """The content of a file; None if there is no file."""

    def names(self, directory: Path) -> list[str]:
        """The names in a directory; none if it is missing."""

    def make_directory(self, path: Path) -> None:
        """Make a directory and its missing parents, on disk."""

    def rename(self, source: Path, target: Path) -> None:
        """Rename a file, and replace a file of the new name."""

    def remove(self, path: Path) -> None:
        """Remove a file, if it exists."""

    def flush_directory(self, path: Path) -> None:
        """Flush all names in a directory to disk."""

    def free(self, path: Path) -> int:
        """Bytes that may still be written."""


class LocalFile:
    """A :class:`File` of the operating system."""

    def __init__(self, path: Path, create: bool) -> None:
        flags = os.O_RDWR | os.O_CLOEXEC | (os.O_CREAT | os.O_TRUNC if create else 0)
        self._path = path
        self._descriptor = os.open(path, flags, 0o644)

    def read(self, offset: int, size: int) -> bytes:
        return os.pread(self._descriptor, size, offset)

    def write(self, offset: int, data: bytes | memoryview) -> None:
        view = memoryview(data)
        while len(view):
            done = os.pwrite(self._descriptor, view, offset)  # may write only a part
            view, offset = view[done:], offset + done

    def size(self) -> int:
        return os.fstat(self._descriptor).st_size

    def truncate(self, size: int) -> None:
        os.ftruncate(self._descriptor, size)

    def flush(self) -> None:
        os.fdatasync(self._descriptor)  # flushes the size as well, if it changed

    def is_still_there(self) -> bool:
        return atomic_files.is_still_at(self._descriptor, self._path)

    def lock(self) -> None:
        # The lock is of the open file, not of the process: closing another descriptor keeps it.
        whole = _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, _LOCK_START, _LOCK_SIZE, 0)
        fcntl.fcntl(self._descriptor, fcntl.F_OFD_SETLK, whole)

    def close(self) -> None:
        os.close(self._descriptor)


class LocalDisk:
    """The :class:`Disk` of the operating system."""

    def open(self, path: Path, create: bool = False) -> File:
        return LocalFile(path, create)

    def load(self, path: Path) -> bytes | None:
        with contextlib.suppress(FileNotFoundError):
            return path.read_bytes()
        return None

    def names(self, directory: Path) -> list[str]:
        with contextlib.suppress(FileNotFoundError):
            return [path.name for path in directory.iterdir()]
        return []

    def make_directory(self, path: Path) -> None:
        atomic_files.make_directories(path)

    def rename(self, source: Path, target: Path) -> None:
        source.replace(target)

    def remove(self, path: Path) -> None:
        path.unlink(missing_ok=True)

    def flush_directory(self, path: Path) -> None:
        atomic_files.fsync_directory(path)

    def free(self, path: Path) -> int:
        return shutil.disk_usage(path).free


def store(disk: Disk, path: Path, data: bytes) -> None:
    """Replace a small file as a whole; it is on disk on return."""
    temporary = path.with_name(atomic_files.temporary_name(path.name))
    file = disk.open(temporary, create=True)
    try:
        file.write(0, data)
        file.flush()
    finally:
        file.close()
    disk.rename(temporary, path)
    disk.flush_directory(path.parent)

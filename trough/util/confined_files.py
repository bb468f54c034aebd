"""Files below one directory, reached without a way out of it.

Other users, and other programs, put files into canonical storage. A symbolic link there may
point at any file of the machine, Trough's own included. To open such a file, and to close
it again, drops every POSIX lock that the process holds on it: SQLite would then lose its
database to another process. So a path is walked part by part from the root, each part
opened with ``O_PATH | O_NOFOLLOW``, which neither reads the file nor touches a lock. Links
are read here and not by the kernel; ``openat2`` would refuse an absolute link even where it
points below the root, and does not exist everywhere. Only a plain file that is not one of
Trough's own is opened for reading.

Directories on the way are never links. A link to a file is followed as long as it stays
below the root.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import stat
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

#: Links that are followed for one path, as many as the kernel follows.
MOST_LINKS = 40

_LOOK = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
#: Without O_NONBLOCK a pipe that took the file's place would be waited for.
_READ = os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC

LEADS_OUT = "a symbolic link that leads out of the storage"
LEADS_NOWHERE = "a symbolic link that leads nowhere"
LINKED_DIRECTORY = "a symbolic link to a directory is not followed"
NOT_PLAIN = "not a plain file"
OWN = "one of Trough's own files"


#: What SQLite keeps beside a database until all of it is in the one file.
COMPANIONS = ("-wal", "-journal")


class UnusablePath(Exception):
    """Something lies at a path that must not be opened; the message is the reason."""


@dataclass(frozen=True, slots=True)
class Located:
    """A plain file that may be opened, as long as the block that gave it lasts.

    :ivar descriptor: opened with ``O_PATH``
    :ivar directory: descriptor of the directory that it is in, links resolved
    :ivar name: in that directory
    """

    descriptor: int
    directory: int
    name: str
    status: os.stat_result

    def open(self) -> BinaryIO:
        """Open it for reading, unbuffered.

        :raises OSError: it cannot be read, or another file took its place
        """
        try:
            opened = os.open(f"/proc/self/fd/{self.descriptor}", os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:  # no /proc here
            opened = os.open(self.name, _READ, dir_fd=self.directory)
            if not os.path.samestat(os.fstat(opened), self.status):
                os.close(opened)
                raise
        return os.fdopen(opened, "rb", buffering=0)

    def size_beside(self, suffix: str) -> int:
        """Bytes of the file beside it whose name has this suffix; 0 for none."""
        try:
            return os.stat(self.name + suffix, dir_fd=self.directory, follow_symlinks=False).st_size
        except FileNotFoundError:
            return 0


class ConfinedRoot:
    """The files below `root`.

    :param is_own: whether a file is one that must never be opened by its path
    :param directory_mode: of directories that are made
    """

    def __init__(
        self,
        root: Path,
        is_own: Callable[[os.stat_result], bool] = lambda _: False,
        directory_mode: int = 0o700,
    ) -> None:
        self._root = root
        self._is_own = is_own
        self._directory_mode = directory_mode

    @contextlib.contextmanager
    def locate(self, path: str) -> Iterator[Located]:
        """Find the plain file that `path`, relative to the root, leads to.

        :raises Unusable: what lies there must not be opened
        :raises FileNotFoundError: nothing lies there
        :raises OSError: the storage cannot be read
        """
        with _Walk(self._root) as walk:
            located = walk.to_file(path)
            if not stat.S_ISREG(located.status.st_mode):
                raise UnusablePath(NOT_PLAIN)
            if self._is_own(located.status):
                raise UnusablePath(OWN)
            yield located

    @contextlib.contextmanager
    def directory(self, path: str, create: bool = False) -> Iterator[int]:
        """A descriptor of the directory at `path`, relative to the root.

        :param create: make the missing ones, each flushed to disk
        :raises Unusable: one on the way is a link
        :raises FileNotFoundError: it is not there
        """
        with contextlib.ExitStack() as opened:
            descriptor = os.open(self._root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            opened.callback(os.close, descriptor)
            for part in filter(None, path.split("/")):
                made = create and _make_directory(part, descriptor)
                descriptor = _open_directory(part, descriptor)
                opened.callback(os.close, descriptor)
                if made:
                    os.fchmod(descriptor, self._directory_mode)
            yield descriptor


def _make_directory(name: str, parent: int) -> bool:
    """Make a directory where it is missing, flushed to disk; whether it was."""
    try:
        os.mkdir(name, 0o700, dir_fd=parent)
    except FileExistsError:
        return False
    os.fsync(parent)
    return True


def _open_directory(name: str, parent: int) -> int:
    try:
        return os.open(name, _DIRECTORY, dir_fd=parent)
    except OSError as error:
        with contextlib.suppress(OSError):
            if stat.S_ISLNK(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode):
                raise UnusablePath(LINKED_DIRECTORY) from error
        raise


class _Walk:
    """One way from a root to a file; its descriptors are closed at its end."""

    def __init__(self, root: Path) -> None:
        self._root = root
        #: The root and the directories below it that were entered.
        self._entered: list[int] = []
        self._file: int | None = None

    def __enter__(self) -> _Walk:
        self._entered.append(os.open(self._root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for descriptor in self._entered:
            os.close(descriptor)
        if self._file is not None:
            os.close(self._file)

    def to_file(self, path: str) -> Located:
        """Follow `path` and the links at its end."""
        parts, links = deque(path.split("/")), 0
        while True:
            name = parts.popleft()
            if name == "..":
                self._leave()
            elif name not in ("", "."):
                try:
                    target = self._enter(name, last=not parts, linked=links > 0)
                except FileNotFoundError:
                    if links:
                        raise UnusablePath(LEADS_NOWHERE) from None
                    raise
                if isinstance(target, Located):
                    return target
                if target is not None:
                    links += 1
                    if links > MOST_LINKS:
                        raise UnusablePath(LEADS_NOWHERE)
                    parts.extendleft(reversed(self._below_root(target)))
            if not parts:
                raise UnusablePath(NOT_PLAIN)

    def _leave(self) -> None:
        if len(self._entered) == 1:
            raise UnusablePath(LEADS_OUT)
        os.close(self._entered.pop())

    def _enter(self, name: str, last: bool, linked: bool) -> Located | str | None:
        """Take one step.

        :param linked: whether a link led here
        :return: the file at the end; where a link leads; None for a directory on the way
        """
        descriptor = os.open(name, _LOOK, dir_fd=self._entered[-1])
        status = os.fstat(descriptor)
        if stat.S_ISLNK(status.st_mode):
            try:
                if not last and not linked:
                    raise UnusablePath(LINKED_DIRECTORY)
                return os.readlink("", dir_fd=descriptor)
            finally:
                os.close(descriptor)
        if last:
            self._file = descriptor
            return Located(descriptor, self._entered[-1], name, status)
        self._entered.append(descriptor)
        if not stat.S_ISDIR(status.st_mode):
            raise NotADirectoryError(f"{name} is no directory")
        return None

    def _below_root(self, target: str) -> list[str]:
        """The parts of a link's target; an absolute one begins again at the root."""
        if not target.startswith("/"):
            return target.split("/")
        for root in {str(self._root), os.path.realpath(self._root)}:
            if target.startswith(f"{root.rstrip('/')}/"):
                for descriptor in self._entered[1:]:
                    os.close(descriptor)
                del self._entered[1:]
                return target[len(root.rstrip("/")) :].split("/")
        raise UnusablePath(LEADS_OUT)


def half_a_database(companion: str) -> str:
    """Why a segment's file is skipped that has such a file with content beside it.

    :param companion: the name of that file
    """
    return (
        f"not all of it is in the one file: {companion} lies beside it; run "
        f'sqlite3 {companion.removesuffix("-wal").removesuffix("-journal")} "PRAGMA '
        'journal_mode=DELETE" there, or put a whole file in its place'
    )


def check_whole(located: Located) -> None:
    """Refuse a database whose last transactions are in a file beside it.

    :raises Unusable: naming that file
    """
    for companion in COMPANIONS:
        if located.size_beside(companion):
            raise UnusablePath(half_a_database(located.name + companion))


#: Seconds by which a file system's clock may be behind that of the process, and its times rounded.
CLOCK_SECONDS = 2.0


class OwnFiles:
    """Which files are Trough's own, by device and inode and not by name.

    :param databases: SQLite databases that this process may have open, and other single files
    :param directories: where everything belongs to Trough, such as local copies
    """

    def __init__(self, databases: tuple[Path, ...] = (), directories: tuple[Path, ...] = ()):
        self._databases = databases
        self._directories = directories
        self._lock = threading.Lock()
        #: Files of the directories that have a second name, as of when they were listed.
        self._linked: frozenset[tuple[int, int]] = frozenset()
        self._listed = 0.0

    def snapshot(self) -> Callable[[os.stat_result], bool]:
        """A test for files that holds for a short while.

        Directories are only looked through for a file that has a second name: another name in
        canonical storage is what makes a file of these directories appear there.
        """
        named = set()
        for database in self._databases:
            for suffix in ("", "-wal", "-shm", "-journal"):
                with contextlib.suppress(OSError):
                    named.add(_identity(Path(f"{database}{suffix}").stat()))

        def is_own(status: os.stat_result) -> bool:
            if _identity(status) in named:
                return True
            if status.st_nlink < 2 or not self._directories:
                return False
            return _identity(status) in self._linked_when(status)

        return is_own

    def _linked_when(self, status: os.stat_result) -> frozenset[tuple[int, int]]:
        """A list of files with a second name that is later than the last name of this one.

        A new name changes the time of a file's status. So one list serves all files that got
        their names before it: a backup by ``cp -al`` gives a second name to each.
        """
        with self._lock:
            if status.st_ctime + CLOCK_SECONDS >= self._listed:
                now = time.time()
                found = map(_linked_below, self._directories)
                self._linked = frozenset(itertools.chain.from_iterable(found))
                self._listed = now
            return self._linked


def _identity(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino


def _linked_below(directory: Path) -> Iterator[tuple[int, int]]:
    for folder, _, names in os.walk(directory):
        for name in names:
            with contextlib.suppress(OSError):
                status = os.lstat(f"{folder}/{name}")
                if status.st_nlink > 1 and stat.S_ISREG(status.st_mode):
                    yield _identity(status)

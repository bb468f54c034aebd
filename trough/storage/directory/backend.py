"""Canonical storage in a directory of a file system: one machine's disk, or a mount.

It promises what :mod:`trough.storage` does, on any file system with atomic rename:

* Symbolic links to files are read through; that such a file's target changed is seen
  only by a full look. Linked directories are not followed, and are said to be skipped:
  a loop, or one file under two names, would pass for many segments.
* When the root is gone, or another directory lies in its place (a mount that is not
  there), every call fails as unavailable, rather than telling that all segments went.
* The processes of one machine that publish one segment at once take turns for the last
  step, by a lock on the directory.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import functools
import os
import stat
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import BinaryIO

from trough import errors
from trough.model import CanonicalCopy
from trough.storage import Changes, Listing, Progress
from trough.storage.directory.scan import Look
from trough.storage.listing import Directory, Walk, changes_since
from trough.storage.paths import below, shown
from trough.storage.threaded import Staged
from trough.util import atomic_files
from trough.util.threads import Cancellation

#: How often a file that changes while it is copied is tried again.
ATTEMPTS = 5

#: Seconds between two attempts to lock a directory; others do so for a rename's time.
LOCKED_SECONDS = 0.02


class DirectoryBackend:
    """Blocking calls on the directory `root`; see :class:`trough.storage.threaded.Backend`.

    :param root: an absolute path; created by :meth:`prepare` where it is missing
    :param now: seconds since the epoch, by the clock of the file system
    """

    def __init__(self, root: Path, now: Callable[[], float] = time.time) -> None:
        self.root = str(root)
        self._path = root
        self._now = now
        self._inode: int | None = None

    def prepare(self, cancellation: Cancellation) -> None:
        with self._canonical_errors():
            if self._inode is None:
                atomic_files.make_directories(self._path)
                self._inode = self._path.stat().st_ino
            else:
                # Whatever lies there by now is not made anew, nor taken for the storage.
                self._check_root()

    # -- looking ---------------------------------------------------------------

    def look(self, cancellation: Cancellation, since: Listing | None, full: bool) -> Changes:
        with self._canonical_errors():
            return changes_since(since, full, functools.partial(self._walk, cancellation))

    def _walk(self, cancellation: Cancellation, known: Mapping[str, Directory], full: bool) -> Walk:
        self._check_root()
        now = self._now()
        walk = Walk()
        pending = [""]
        while pending:
            cancellation.check()
            path = pending.pop()
            try:
                directory = self._directory(path, known.get(path), full, now)
            except (FileNotFoundError, NotADirectoryError):
                walk.whole = False
            else:
                walk.directories[path] = directory
                pending += [below(path, name) for name in directory.children]
        self._check_root()
        return walk

    def _directory(self, path: str, known: Directory | None, full: bool, now: float) -> Directory:
        """The directory as it is now: `known` itself where nothing changed."""
        status = (self._path / path).stat(follow_symlinks=not path)
        # The last one nobody can put back, as rsync does with the other when it restores.
        identity = (status.st_ino, status.st_mtime_ns, status.st_ctime_ns)
        if known is not None and not full and known.is_still(identity, now):
            return known
        look = Look(path, now, status.st_mtime)
        look.run(self._path / path)
        return look.result(identity)

    def find(self, cancellation: Cancellation, segment: str, path: str) -> CanonicalCopy | None:
        with self._canonical_errors():
            try:
                status = (self._path / path).stat()
            except (FileNotFoundError, NotADirectoryError):
                self._check_root()
                return None
            if not stat.S_ISREG(status.st_mode):
                return None
            return CanonicalCopy(segment, path, status.st_size, _milliseconds(status))

    # -- fetching --------------------------------------------------------------

    def fetch(
        self,
        cancellation: Cancellation,
        copy: CanonicalCopy,
        destination: Path,
        progress: Progress,
    ) -> CanonicalCopy:
        for attempt in range(ATTEMPTS):
            # The first second is the likeliest time for a copy by hand to be done in.
            cancellation.wait(attempt * 0.25)
            with self._opened(copy) as source:
                before = os.fstat(source.fileno())
                atomic_files.check_room(destination.parent, before.st_size)
                with (
                    contextlib.suppress(_ChangedMeanwhile),
                    atomic_files.replacing(destination) as target,
                ):
                    checksum = self._copy(source, target, before.st_size, cancellation, progress)
                    if _content(os.fstat(source.fileno())) != _content(before):
                        raise _ChangedMeanwhile
                    return CanonicalCopy(
                        copy.segment, copy.path, before.st_size, _milliseconds(before), checksum
                    )
        raise errors.Unavailable(
            f"{self._path / copy.path} keeps changing while it is copied",
            "a canonical copy is replaced by rename, and never written in place",
        )

    def _opened(self, copy: CanonicalCopy) -> BinaryIO:
        with self._canonical_errors():
            try:
                return (self._path / copy.path).open("rb", buffering=0)
            except (FileNotFoundError, NotADirectoryError) as error:
                self._check_root()
                raise errors.NoSuchSegment(
                    f"no canonical copy of segment {copy.segment} at {self._path / copy.path}"
                ) from error

    def _copy(
        self,
        source: BinaryIO,
        target: BinaryIO,
        size: int,
        cancellation: Cancellation,
        progress: Progress,
    ) -> str:
        digest, done = atomic_files.new_hash(), 0
        chunks = atomic_files.read_chunks(source, cancellation.check)
        while True:
            # Only reading can fail on the canonical side here.
            with self._canonical_errors():
                chunk = next(chunks, None)
            if chunk is None:
                return atomic_files.checksum_text(digest)
            if done + len(chunk) > size:  # it grows, perhaps as fast as we read
                raise _ChangedMeanwhile
            digest.update(chunk)
            atomic_files.write_all(target, chunk)
            done += len(chunk)
            progress(done)

    # -- publishing ------------------------------------------------------------

    def stage(
        self,
        cancellation: Cancellation,
        source: Path,
        segment: str,
        path: str,
        progress: Progress,
    ) -> Staged:
        target = self._path / path
        temporary = target.with_name(atomic_files.temporary_name(target.name))
        with source.open("rb", buffering=0) as content, self._canonical_errors():
            self._check_root()
            atomic_files.make_directories(target.parent)
            try:
                size, checksum = _upload(content, temporary, cancellation, progress)
                _verify(temporary, size, checksum, cancellation)
            except BaseException:
                temporary.unlink(missing_ok=True)
                raise
        return Staged(segment, path, str(temporary.relative_to(self._path)), size, checksum)

    def commit(self, cancellation: Cancellation, staged: Staged) -> CanonicalCopy:
        target, temporary = self._path / staged.path, self._path / staged.temporary
        with self._canonical_errors():
            try:
                with _locked(target.parent, lambda: _still_wanted(cancellation, staged)):
                    modified = _make_later(temporary, target)
                    staged.check_permission()
                    atomic_files.replace_file(temporary, target)
            except BaseException:
                temporary.unlink(missing_ok=True)
                raise
        return CanonicalCopy(staged.segment, staged.path, staged.size, modified, staged.checksum)

    def discard(self, cancellation: Cancellation, staged: Staged) -> None:
        with self._canonical_errors():
            (self._path / staged.temporary).unlink(missing_ok=True)

    def delete(self, cancellation: Cancellation, copy: CanonicalCopy) -> bool:
        target = self._path / copy.path
        with self._canonical_errors():
            try:
                target.unlink()
            except (FileNotFoundError, NotADirectoryError):
                self._check_root()
                return False
            atomic_files.fsync_directory(target.parent)
            return True

    # -- what can go wrong -----------------------------------------------------

    def _check_root(self) -> None:
        """Refuse to take a missing mount for an empty storage."""
        inode = self._path.stat().st_ino
        if self._inode not in (None, inode):
            raise errors.Unavailable(
                f"another directory lies at {self._path} than when it was opened",
                "mount the storage again, or restart to accept what is there",
            )

    @contextlib.contextmanager
    def _canonical_errors(self) -> Iterator[None]:
        """Turn errors of the operating system on this side into our own."""
        try:
            yield
        except OSError as error:
            what = f"canonical storage {self._path}: {error.strerror or error}"
            if error.filename:
                what += f": {shown(os.fsdecode(error.filename))}"
            raise errors.Unavailable(what, _HINTS.get(error.errno or 0, "")) from error


_HINTS = {
    errno.ENOSPC: "free space there",
    errno.EDQUOT: "raise the quota there",
    errno.EACCES: "let the user that Trough runs as read and write there",
    errno.EPERM: "let the user that Trough runs as read and write there",
    errno.EROFS: "mount it for writing",
    errno.ENOENT: "is it mounted?",
}


class _ChangedMeanwhile(Exception):
    """The file was written to while it was read."""


def _content(status: os.stat_result) -> tuple[int, int]:
    """What moves when an open file is written to."""
    return (status.st_size, status.st_mtime_ns)


def _milliseconds(status: os.stat_result) -> int:
    return status.st_mtime_ns // 1_000_000


def _upload(
    source: BinaryIO, temporary: Path, cancellation: Cancellation, progress: Progress
) -> tuple[int, str]:
    """Copy to the canonical side, down to its disk; returns length and checksum."""
    digest, done = atomic_files.new_hash(), 0
    with temporary.open("xb", buffering=0) as target:
        for chunk in atomic_files.read_chunks(source, cancellation.check):
            digest.update(chunk)
            atomic_files.write_all(target, chunk)
            done += len(chunk)
            progress(done)
        os.fsync(target.fileno())
        # What is verified is to come from the disk, not from the page cache.
        os.posix_fadvise(target.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    return done, atomic_files.checksum_text(digest)


def _verify(path: Path, size: int, checksum: str, cancellation: Cancellation) -> None:
    found_size, found = path.stat().st_size, atomic_files.checksum(path, cancellation.check)
    if (found_size, found) != (size, checksum):
        raise errors.Unavailable(
            f"{path} reads back as {found_size} bytes with {found}, "
            f"and {size} bytes with {checksum} were written",
            "the disk or its controller is damaged; the former canonical copy is untouched",
        )


@contextlib.contextmanager
def _locked(directory: Path, between: Callable[[], None]) -> Iterator[None]:
    """Keep other processes of this machine from renaming in `directory`.

    :param between: called again and again until nobody else does so; raises to end that
    """
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        while not _try_lock(descriptor):
            between()
        yield
    finally:
        os.close(descriptor)


def _try_lock(descriptor: int) -> bool:
    # A thread that waits for a lock in the kernel could not be told to end that.
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _still_wanted(cancellation: Cancellation, staged: Staged) -> None:
    cancellation.wait(LOCKED_SECONDS)
    staged.check_permission()


def _make_later(temporary: Path, target: Path) -> int:
    """Make the upload's modification time later than the target's; returns it."""
    try:
        former = _milliseconds(target.stat())
    except FileNotFoundError:
        return _milliseconds(temporary.stat())
    # By one millisecond, or by two seconds where the file system rounds that away.
    for step in (1, 2000):
        modified = _milliseconds(temporary.stat())
        if modified > former:
            return modified
        later = (former + step) * 1_000_000
        os.utime(temporary, ns=(later, later))
    return _milliseconds(temporary.stat())

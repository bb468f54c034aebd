"""Canonical storage in a directory of a file system: one machine's disk, or a mount.

It promises what :mod:`trough.storage` does, on any file system with atomic rename:

* A symbolic link to a file is followed as long as it stays below the root. Only a full scan
  notices that its target changed. Linked directories are not followed, not even to publish: a loop,
  or one file under two names, would count as many segments. Only plain files are opened, and none
  of Trough's own (:mod:`trough.util.confined_files`).
* A file with a write-ahead log or a journal beside it lacks rows. It is skipped.
* If the root is gone, or another directory lies in its place (a missing mount), every call fails
  as unavailable. It never reports that all segments are gone.
* Processes of one machine that publish the same segment at once take turns for the last step, by a
  lock on the directory.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import functools
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

from trough import errors
from trough.model import CanonicalCopy
from trough.storage import Changes, Listing, Progress
from trough.storage.directory.scan import DirectoryScan
from trough.storage.listing import Directory, Walk, changes_since
from trough.storage.paths import below, shown
from trough.storage.threaded import PermissionExpired, Staged
from trough.util import atomic_files
from trough.util.confined_files import ConfinedRoot, Located, OwnFiles, UnusablePath, check_whole
from trough.util.file_batch import FileBatch
from trough.util.private_files import GroupAccess, warn_of_access
from trough.util.threads import Cancellation

#: How often a file that changes while it is copied is tried again.
ATTEMPTS = 5

#: Seconds between two attempts to lock a directory; others do so for a rename's time.
LOCKED_SECONDS = 0.02


class DirectoryBackend:
    """Blocking calls on the directory `root`; see :class:`trough.storage.threaded.Backend`.

    :param root: an absolute path; created by :meth:`prepare` where it is missing
    :param now: seconds since the epoch, by the clock of the file system
    :param own: files that are never segments
    :param group: what the group of the root may do with what is made below it
    """

    #: A descriptor for each file is open at once.
    batch = 128

    def __init__(
        self,
        root: Path,
        now: Callable[[], float] = time.time,
        own: OwnFiles | None = None,
        group: GroupAccess = GroupAccess.NONE,
    ) -> None:
        self.root = str(root)
        self._path = root
        self._now = now
        self._own = own or OwnFiles()
        self._group = group
        self._files = ConfinedRoot(root, directory_mode=group.directory_mode)
        self._inode: int | None = None

    def prepare(self, cancellation: Cancellation) -> None:
        with self._canonical_errors():
            if self._inode is None:
                missing = not self._path.exists()
                atomic_files.make_directories(self._path)
                if missing:
                    self._path.chmod(self._group.directory_mode)
                warn_of_access(
                    self._path,
                    self._group,
                    "the files that Trough makes there are private; see GROUP_ACCESS",
                )
                self._inode = self._path.stat().st_ino
            else:
                # What lies there by now is neither created again nor used as the storage.
                self._check_root()

    # -- looking ---------------------------------------------------------------

    def look(self, cancellation: Cancellation, since: Listing | None, full: bool) -> Changes:
        with self._canonical_errors():
            return changes_since(since, full, functools.partial(self._walk, cancellation))

    def _walk(self, cancellation: Cancellation, known: Mapping[str, Directory], full: bool) -> Walk:
        self._check_root()
        now = self._now()
        is_own = self._own.snapshot()
        walk = Walk()
        pending = [""]
        while pending:
            cancellation.check()
            path = pending.pop()
            try:
                directory = self._directory(path, known.get(path), full, now, is_own)
            except (FileNotFoundError, NotADirectoryError, UnusablePath):
                walk.whole = False
            else:
                walk.directories[path] = directory
                pending += [below(path, name) for name in directory.children]
        self._check_root()
        return walk

    def _directory(
        self,
        path: str,
        known: Directory | None,
        full: bool,
        now: float,
        is_own: Callable[[os.stat_result], bool],
    ) -> Directory:
        """The directory as it is now: `known` itself where nothing changed."""
        files = ConfinedRoot(self._path, is_own)
        with files.directory(path) as descriptor:
            status = os.fstat(descriptor)
            # The last one cannot be set back; rsync sets back the other one when it restores.
            identity = (status.st_ino, status.st_mtime_ns, status.st_ctime_ns)
            if known is not None and not full and known.is_still(identity, now):
                return known
            look = DirectoryScan(files, is_own, path, now, status.st_mtime)
            look.run(descriptor)
        return look.result(identity)

    def find(self, cancellation: Cancellation, segment: str, path: str) -> CanonicalCopy | None:
        with self._canonical_errors(path):
            try:
                with self._located(path) as located:
                    status = located.status
            except (FileNotFoundError, NotADirectoryError):
                self._check_root()
                return None
            return CanonicalCopy(segment, path, status.st_size, _milliseconds(status))

    @contextlib.contextmanager
    def _located(
        self, path: str, is_own: Callable[[os.stat_result], bool] | None = None
    ) -> Iterator[Located]:
        """The whole plain file at a path.

        :param is_own: a test for Trough's own files; None: one of this moment
        :raises Unusable: there is something else
        """
        with ConfinedRoot(self._path, is_own or self._own.snapshot()).locate(path) as located:
            check_whole(located)
            yield located

    # -- fetching --------------------------------------------------------------

    def probe(self, cancellation: Cancellation, copy: CanonicalCopy) -> None:
        with (
            contextlib.suppress(errors.NoSuchSegment, errors.UnusableFile),
            self._opened(copy) as source,
            self._canonical_errors(copy.path),
        ):
            source.read(1)

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
                size = os.fstat(source.fileno()).st_size
                atomic_files.check_room(destination.parent, size)
                with (
                    contextlib.suppress(_ChangedMeanwhile),
                    atomic_files.replacing(destination) as target,
                ):
                    return self._copied(copy, source, target, cancellation, progress)
        raise errors.Unavailable(
            f"{self._path / copy.path} keeps changing while it is copied",
            "a canonical copy is replaced by rename, and never written in place",
        )

    def fetch_many(
        self, cancellation: Cancellation, wanted: Sequence[tuple[CanonicalCopy, Path]]
    ) -> list[CanonicalCopy | errors.TroughError]:
        fetched: list[CanonicalCopy | errors.TroughError | None] = []
        is_own = self._own.snapshot()
        with FileBatch() as files:
            for copy, destination in wanted:
                cancellation.check()
                try:
                    with self._opened(copy, is_own) as source, files.writing(destination) as target:
                        if os.fstat(source.fileno()).st_size > copy.size:
                            raise _ChangedMeanwhile  # perhaps by much: it needs more room
                        got = self._copied(copy, source, target, cancellation, _no_progress)
                    fetched.append(got)
                except _ChangedMeanwhile:
                    fetched.append(None)
                except errors.TroughError as error:
                    fetched.append(error)
            files.install()
        return [
            got or self._once_more(cancellation, *asked)
            for asked, got in zip(wanted, fetched, strict=True)
        ]

    def _once_more(
        self, cancellation: Cancellation, copy: CanonicalCopy, destination: Path
    ) -> CanonicalCopy | errors.TroughError:
        """Fetch a file that changed while it was copied."""
        try:
            return self.fetch(cancellation, copy, destination, _no_progress)
        except errors.TroughError as error:
            return error

    def _copied(
        self,
        copy: CanonicalCopy,
        source: BinaryIO,
        target: BinaryIO,
        cancellation: Cancellation,
        progress: Progress,
    ) -> CanonicalCopy:
        before = os.fstat(source.fileno())
        checksum = self._copy(source, target, before.st_size, cancellation, progress)
        if _content(os.fstat(source.fileno())) != _content(before):
            raise _ChangedMeanwhile
        return CanonicalCopy(
            copy.segment, copy.path, before.st_size, _milliseconds(before), checksum
        )

    def _opened(
        self, copy: CanonicalCopy, is_own: Callable[[os.stat_result], bool] | None = None
    ) -> BinaryIO:
        with self._canonical_errors(copy.path):
            try:
                with self._located(copy.path, is_own) as located:
                    return located.open()
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
        chunks = atomic_files.read_chunks(source, cancellation.check, size)
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
        directory, name = os.path.split(path)
        temporary = atomic_files.temporary_name(name)
        with source.open("rb", buffering=0) as content, self._canonical_errors(directory):
            self._check_root()
            with self._files.directory(directory, create=True) as parent:
                try:
                    size, checksum = self._upload(
                        content, parent, temporary, cancellation, progress
                    )
                    self._verify(parent, temporary, size, checksum, cancellation)
                except BaseException:
                    _unlink(temporary, parent)
                    raise
        return Staged(segment, path, below(directory, temporary), size, checksum)

    def commit(self, cancellation: Cancellation, staged: Staged) -> CanonicalCopy:
        directory, name = os.path.split(staged.path)
        temporary = os.path.split(staged.temporary)[1]
        with self._canonical_errors(directory), self._files.directory(directory) as parent:
            try:
                _lock(parent, lambda: _still_wanted(cancellation, staged))
                modified = _make_later(parent, temporary, name)
                staged.check_permission()
                os.rename(temporary, name, src_dir_fd=parent, dst_dir_fd=parent)
                os.fsync(parent)
            except PermissionExpired:
                raise  # the upload is still good
            except BaseException:
                _unlink(temporary, parent)
                raise
        return CanonicalCopy(staged.segment, staged.path, staged.size, modified, staged.checksum)

    def discard(self, cancellation: Cancellation, staged: Staged) -> None:
        directory, name = os.path.split(staged.temporary)
        with self._canonical_errors(directory), self._files.directory(directory) as parent:
            _unlink(name, parent)

    def delete(self, cancellation: Cancellation, copy: CanonicalCopy) -> bool:
        directory, name = os.path.split(copy.path)
        with self._canonical_errors(directory):
            try:
                with self._files.directory(directory) as parent:
                    os.unlink(name, dir_fd=parent)
                    os.fsync(parent)
            except (FileNotFoundError, NotADirectoryError):
                self._check_root()
                return False
            return True

    def _upload(
        self,
        source: BinaryIO,
        parent: int,
        temporary: str,
        cancellation: Cancellation,
        progress: Progress,
    ) -> tuple[int, str]:
        """Copy to the canonical side, down to its disk; returns length and checksum."""
        digest, done = atomic_files.new_hash(), 0
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        descriptor = os.open(temporary, flags, 0o600, dir_fd=parent)
        with os.fdopen(descriptor, "wb", buffering=0) as target:
            os.fchmod(descriptor, self._group.file_mode)
            for chunk in atomic_files.read_chunks(source, cancellation.check):
                digest.update(chunk)
                atomic_files.write_all(target, chunk)
                done += len(chunk)
                progress(done)
            os.fsync(descriptor)
            # What is verified is to come from the disk, not from the page cache.
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        return done, atomic_files.checksum_text(digest)

    def _verify(
        self, parent: int, name: str, size: int, checksum: str, cancellation: Cancellation
    ) -> None:
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC
        with os.fdopen(os.open(name, flags, dir_fd=parent), "rb", buffering=0) as file:
            found_size = os.fstat(file.fileno()).st_size
            found = atomic_files.checksum_of(file, cancellation.check)
        if (found_size, found) != (size, checksum):
            raise errors.Unavailable(
                f"{name} in {self._path} reads back as {found_size} bytes with {found}, "
                f"and {size} bytes with {checksum} were written",
                "the disk or its controller is damaged; the former canonical copy is untouched",
            )

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
    def _canonical_errors(self, path: str = "") -> Iterator[None]:
        """Turn errors of the operating system on this side into our own."""
        try:
            yield
        except UnusablePath as reason:
            raise errors.UnusableFile(
                f"canonical storage {self._path}: {shown(path)}: {reason}"
            ) from reason
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


def _no_progress(done: int) -> None:
    """A small file has none."""


class _ChangedMeanwhile(Exception):
    """The file was written to while it was read."""


def _content(status: os.stat_result) -> tuple[int, int]:
    """What moves when an open file is written to."""
    return (status.st_size, status.st_mtime_ns)


def _milliseconds(status: os.stat_result) -> int:
    return status.st_mtime_ns // 1_000_000


def _unlink(name: str, parent: int) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(name, dir_fd=parent)


def _lock(directory: int, between: Callable[[], None]) -> None:
    """Keep other processes of this machine from renaming in a directory, until it is closed.

    :param between: called repeatedly while another process holds it; raises to end the wait
    """
    while not _try_lock(directory):
        between()


def _try_lock(descriptor: int) -> bool:
    # A wait for a lock in the kernel cannot be cancelled.
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _still_wanted(cancellation: Cancellation, staged: Staged) -> None:
    cancellation.wait(LOCKED_SECONDS)
    staged.check_permission()


def _make_later(parent: int, temporary: str, target: str) -> int:
    """Make the upload's modification time later than the target's; returns it."""
    try:
        former = _milliseconds(os.stat(target, dir_fd=parent))
    except FileNotFoundError:
        return _milliseconds(os.stat(temporary, dir_fd=parent))
    # By one millisecond, or by two seconds where the file system rounds that away.
    for step in (1, 2000):
        modified = _milliseconds(os.stat(temporary, dir_fd=parent))
        if modified > former:
            return modified
        later = (former + step) * 1_000_000
        os.utime(temporary, ns=(later, later), dir_fd=parent)
    return _milliseconds(os.stat(temporary, dir_fd=parent))

"""Canonical storage in HDFS, by way of WebHDFS.

It promises what :mod:`trough.storage` does. What that rests on:

* A file rename with the option to overwrite is one step under the NameNode's lock: a
  reader finds the former file or the new one.
* A file's identity stays when it is renamed, and a file that is closed never changes
  without its modification time doing so.
* An upload is verified by reading it back. HDFS's own checksum of a file is an MD5 of
  MD5s of one CRC-32C for each 512 bytes: to compute that from the local file takes a
  CRC-32C in C, which Python lacks, and says nothing about what a reader would get. The
  price is that an upload moves each byte twice.

Uploads left behind are swept after a day rather than an hour: HDFS does not move the
modification time of a file that is being written.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path

from trough import errors, files
from trough.model import CanonicalCopy
from trough.storage import Changes, Listing, Progress
from trough.storage.blocking import Staged
from trough.storage.listing import (
    AT_ONCE,
    NEVER,
    Directory,
    Files,
    below,
    compare,
    reason_to_skip_directory,
    segment_of,
    shown,
)
from trough.storage.webhdfs import PIECE, Changed, FileStatus, NotThere, WebHdfs
from trough.threads import Cancellation

#: Seconds: two changes of a directory within one millisecond, seen by a clock that is
#: known to a second.
RACY = 3.0

#: Seconds after which an upload that nobody finished is a crash's. A promotion may take
#: six hours, and its file keeps the time at which it was begun.
LEFT_OVER_AGE = 86400.0

#: Entries that a NameNode gives at once unless configured otherwise (dfs.ls.limit).
PAGE = 1000

#: How often a file that is replaced while it is fetched is tried again.
ATTEMPTS = 5

#: What tells a directory's state apart, or a file from its successor.
_Identity = tuple[int, int]


class HdfsBackend:
    """Blocking calls on one directory of HDFS; see :class:`trough.storage.blocking.Backend`.

    :param root: an absolute path; created by :meth:`prepare` where it is missing
    """

    def __init__(self, web: WebHdfs, root: str) -> None:
        self.root = root
        self._web = web
        # Two publications of one segment by this process take turns for the last step.
        self._commits = threading.Lock()

    def prepare(self, cancellation: Cancellation) -> None:
        self._web.make_directory(cancellation, self.root)

    def _absolute(self, path: str) -> str:
        return f"{self.root.rstrip('/')}/{path}" if path else self.root

    # -- looking ---------------------------------------------------------------

    def look(self, cancellation: Cancellation, since: Listing | None, full: bool) -> Changes:
        known = since.directories if since is not None else {}
        root = self._root(cancellation)
        now = self._web.now()
        directories: dict[str, Directory] = {}
        pending: list[tuple[str, _Identity]] = [("", _identity(root))]
        while pending:
            path, identity = pending.pop()
            before = known.get(path)
            # It may be gone since its name was read; that moved its parent's time.
            with contextlib.suppress(NotThere):
                if isinstance(before, Directory) and not full and before.is_still(identity, now):
                    directories[path] = before
                    pending += self._children(cancellation, path, before)
                else:
                    look = _Look(path, identity, now)
                    for page in self._web.entries(cancellation, self._absolute(path)):
                        look.add(page)
                    self._sweep(cancellation, path, look.left_over)
                    directories[path] = look.result()
                    pending += look.children
        return compare(since, directories)

    def _children(
        self, cancellation: Cancellation, path: str, before: Directory
    ) -> list[tuple[str, _Identity]]:
        """The present state of the directories in one whose entries are known."""
        wanted = {below(path, name) for name in before.children}
        pages = 1 + (len(before.files) + len(wanted)) // PAGE
        if pages < len(wanted):  # fewer requests than one for each
            found = [
                (below(path, status.name), _identity(status))
                for page in self._web.entries(cancellation, self._absolute(path))
                for status in page
                if status.is_directory
            ]
            return [(child, identity) for child, identity in found if child in wanted]
        statuses = ((child, self._status(cancellation, child)) for child in sorted(wanted))
        return [
            (child, _identity(status))
            for child, status in statuses
            if status is not None and status.is_directory
        ]

    def _sweep(self, cancellation: Cancellation, path: str, names: list[str]) -> None:
        for name in names:
            self._web.delete(cancellation, self._absolute(below(path, name)))

    def find(self, cancellation: Cancellation, segment: str, path: str) -> CanonicalCopy | None:
        status = self._status(cancellation, path)
        if status is None or not status.is_file:
            return None
        return CanonicalCopy(segment, path, status.size, status.modified)

    def _status(self, cancellation: Cancellation, path: str) -> FileStatus | None:
        return self._web.status(cancellation, self._absolute(path))

    def _root(self, cancellation: Cancellation) -> FileStatus:
        root = self._web.status(cancellation, self.root)
        if root is None or not root.is_directory:
            raise errors.Unavailable(
                f"there is no directory {self.root} in HDFS at {self._web.url}",
                "it was there when the storage was opened; was it moved?",
            )
        return root

    # -- fetching --------------------------------------------------------------

    def fetch(
        self,
        cancellation: Cancellation,
        copy: CanonicalCopy,
        destination: Path,
        progress: Progress,
    ) -> CanonicalCopy:
        for _ in range(ATTEMPTS):
            status = self._status(cancellation, copy.path)
            if status is None or not status.is_file:
                self._root(cancellation)
                raise errors.NoSuchSegment(
                    f"no canonical copy of segment {copy.segment} at {self._absolute(copy.path)}"
                )
            files.check_room(destination.parent, status.size)
            with contextlib.suppress(Changed, NotThere), files.replacing(destination) as target:
                digest, done = files.new_hash(), 0
                for piece in self._pieces(cancellation, copy.path, status):
                    digest.update(piece)
                    files.write_all(target, piece)
                    done += len(piece)
                    progress(done)
                return CanonicalCopy(
                    copy.segment,
                    copy.path,
                    status.size,
                    status.modified,
                    files.checksum_text(digest),
                )
        raise errors.Unavailable(
            f"{self._absolute(copy.path)} was replaced again and again while it was fetched"
        )

    def _pieces(self, cancellation: Cancellation, path: str, status: FileStatus) -> Iterator[bytes]:
        return self._web.read(cancellation, self._absolute(path), status)

    # -- publishing ------------------------------------------------------------

    def stage(
        self,
        cancellation: Cancellation,
        source: Path,
        segment: str,
        path: str,
        progress: Progress,
    ) -> Staged:
        directory, _, name = path.rpartition("/")
        temporary = below(directory, files.temporary_name(name))
        upload = _Upload(source, cancellation, progress)
        self._root(cancellation)
        self._web.make_directory(cancellation, self._absolute(directory))
        try:
            self._web.write(cancellation, self._absolute(temporary), upload.pieces)
            status = self._verify(cancellation, temporary, upload)
        except BaseException:
            self._remove(temporary)
            raise
        return Staged(segment, path, temporary, upload.size, upload.checksum, status.identity)

    def _verify(self, cancellation: Cancellation, path: str, upload: _Upload) -> FileStatus:
        status = self._status(cancellation, path)
        if status is None:
            raise errors.Unavailable(f"the upload {self._absolute(path)} has disappeared")
        digest = files.new_hash()
        try:
            for piece in self._pieces(cancellation, path, status):
                digest.update(piece)
        except (Changed, NotThere) as error:
            raise errors.Unavailable(
                f"the upload {self._absolute(path)} was touched by somebody else"
            ) from error
        found = files.checksum_text(digest)
        if (status.size, found) != (upload.size, upload.checksum):
            raise errors.Unavailable(
                f"{self._absolute(path)} reads back as {status.size} bytes with {found}, "
                f"and {upload.size} bytes with {upload.checksum} were written",
                "the former canonical copy is untouched; check HDFS with fsck",
            )
        return status

    def commit(self, cancellation: Cancellation, staged: Staged) -> CanonicalCopy:
        try:
            with self._commits:
                modified = self._make_later(cancellation, staged)
                self._web.replace(
                    cancellation,
                    self._absolute(staged.temporary),
                    self._absolute(staged.path),
                    int(str(staged.identity)),
                )
        except BaseException as error:
            self._remove(staged.temporary)
            if isinstance(error, NotThere):
                raise errors.Unavailable(
                    f"the upload {self._absolute(staged.temporary)} has disappeared",
                    "promote again",
                ) from error
            raise
        return CanonicalCopy(staged.segment, staged.path, staged.size, modified, staged.checksum)

    def _make_later(self, cancellation: Cancellation, staged: Staged) -> int:
        """Make the upload's modification time later than the target's; returns it."""
        upload = self._status(cancellation, staged.temporary)
        if upload is None:
            raise NotThere
        former = self._status(cancellation, staged.path)
        if former is None or upload.modified > former.modified:
            return upload.modified
        later = former.modified + 1
        self._web.set_modified(cancellation, self._absolute(staged.temporary), later)
        return later

    def discard(self, cancellation: Cancellation, staged: Staged) -> None:
        self._web.delete(cancellation, self._absolute(staged.temporary))

    def _remove(self, path: str) -> None:
        """Remove an upload that failed. Where that fails too, it is swept one day."""
        # Not with the call's own cancellation, which may be why we are here.
        with contextlib.suppress(errors.Unavailable, NotThere):
            self._web.delete(Cancellation(), self._absolute(path))

    def delete(self, cancellation: Cancellation, copy: CanonicalCopy) -> bool:
        if self.find(cancellation, copy.segment, copy.path) is None:
            self._root(cancellation)
            return False
        self._web.delete(cancellation, self._absolute(copy.path))
        return True


def _identity(status: FileStatus) -> _Identity:
    return (status.identity, status.modified)


class _Upload:
    """The content of a local file, and what was found out while it was read."""

    def __init__(self, source: Path, cancellation: Cancellation, progress: Progress) -> None:
        self.size = 0
        self.checksum = ""
        self._source = source
        self._cancellation = cancellation
        self._progress = progress

    def pieces(self) -> Iterator[bytes]:
        """The content from its beginning; anew for each attempt."""
        digest, done = files.new_hash(), 0
        with self._source.open("rb", buffering=0) as source:
            while piece := source.read(PIECE):
                self._cancellation.check()
                digest.update(piece)
                yield piece
                done += len(piece)
                self._progress(done)
        self.size, self.checksum = done, files.checksum_text(digest)


class _Look:
    """Makes a :class:`Directory` of the pages of its listing.

    :ivar children: paths and states of the directories in it
    :ivar left_over: names of uploads that a crash left behind
    """

    def __init__(self, path: str, identity: _Identity, now: float) -> None:
        self._path = path
        self._identity = identity
        self._now = now
        self._files: list[FileStatus] = []
        self._ids: list[str] = []
        self._skipped: dict[str, str] = {}
        self._look_again = AT_ONCE if abs(now - identity[1] / 1000) < RACY else NEVER
        self._names: list[str] = []
        self.children: list[tuple[str, _Identity]] = []
        self.left_over: list[str] = []

    def add(self, page: list[FileStatus]) -> None:
        """Take in a page of the listing."""
        for status in page:
            if status.name.startswith("."):
                if status.is_file and files.is_temporary(status.name):
                    self._left_over(status)
            elif status.is_directory:
                self._child(status)
            elif status.is_file:
                self._file(status)
            else:
                self._skipped[shown(status.name)] = "not a plain file"

    def result(self) -> Directory:
        """The directory, all pages taken in."""
        packed = Files(
            self._ids,
            [status.modified for status in self._files],
            [status.size for status in self._files],
        )
        return Directory(
            self._identity,
            packed,
            packed.strays(self._path),
            tuple(self._names),
            self._skipped,
            self._look_again,
        )

    def _child(self, status: FileStatus) -> None:
        reason = reason_to_skip_directory(status.name)
        if reason:
            self._skipped[shown(status.name)] = reason
        else:
            self._names.append(status.name)
            self.children.append((below(self._path, status.name), _identity(status)))

    def _file(self, status: FileStatus) -> None:
        try:
            segment = segment_of(status.name)
        except errors.BadSegmentId as error:
            self._skipped[shown(status.name)] = str(error)
            return
        if segment is None:
            return
        self._ids.append(segment)
        self._files.append(status)
        if self._may_be_open(status):
            self._look_again = AT_ONCE

    def _may_be_open(self, status: FileStatus) -> bool:
        """Whether a program may still be writing a file under its final name.

        Its directory's time does not move when it is done. Until then its length is
        that of its finished blocks, and its time that of its beginning.
        """
        written = status.modified / 1000
        return abs(self._now - written) < RACY or (
            self._now - written < LEFT_OVER_AGE and status.size % (status.block_size or 1) == 0
        )

    def _left_over(self, status: FileStatus) -> None:
        due = status.modified / 1000 + LEFT_OVER_AGE
        if due <= self._now:
            self.left_over.append(status.name)
        else:
            self._look_again = min(self._look_again, due)

"""Canonical storage in HDFS, over WebHDFS.

It promises what :mod:`trough.storage` does. That relies on the following:

* A file rename with the option to overwrite is one step under the NameNode's lock: a
  reader finds the former file or the new one.
* A file keeps its identity when it is renamed. A closed file never changes without its
  modification time.
* An upload is verified by reading it back, so each byte moves twice. HDFS's own checksum of a file
  is an MD5 of MD5s of one CRC-32C per 512 bytes. Computing that from the local file takes a CRC-32C
  in C, which Python lacks, and proves nothing about what a reader gets.

Left-over uploads are removed after a day and not after an hour: HDFS does not update the
modification time of a file that is being written.
"""

from __future__ import annotations

import contextlib
import functools
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path

from trough import errors
from trough.model import CanonicalCopy
from trough.storage import Changes, Listing, Progress
from trough.storage.hdfs.scan import HdfsScan, State, state_of
from trough.storage.hdfs.silence import Silent
from trough.storage.hdfs.webhdfs import PIECE, Changed, FileStatus, NotThere, WebHdfs
from trough.storage.listing import Directory, Walk, changes_since
from trough.storage.paths import below
from trough.storage.threaded import PermissionExpired, Staged
from trough.util import atomic_files
from trough.util.confined_files import COMPANIONS, half_a_database
from trough.util.threads import Cancellation

#: Entries that a NameNode gives at once unless configured otherwise (dfs.ls.limit).
PAGE = 1000

#: How often a file that is replaced while it is fetched is tried again.
ATTEMPTS = 5

#: Seconds to wait before each try at removing a file that may not be there yet.
_LATE = (0.0, 0.1, 0.2, 0.4, 0.8, 1.6)


class HdfsBackend:
    """Blocking calls on one directory of HDFS; see :class:`trough.storage.threaded.Backend`.

    :param root: an absolute path; created by :meth:`prepare` where it is missing
    """

    def __init__(self, web: WebHdfs, root: str) -> None:
        self.root = root
        self._web = web
        self._was_there = False
        # Two publications of one segment by this process take turns for the last step.
        self._commits = threading.Lock()

    def prepare(self, cancellation: Cancellation) -> None:
        if self._was_there:
            self._root(cancellation)  # which must not be created again, empty
        else:
            self._web.make_directory(cancellation, self.root)
            self._was_there = True

    def _absolute(self, path: str) -> str:
        return f"{self.root.rstrip('/')}/{path}" if path else self.root

    # -- looking ---------------------------------------------------------------

    def look(self, cancellation: Cancellation, since: Listing | None, full: bool) -> Changes:
        return changes_since(since, full, functools.partial(self._walk, cancellation))

    def _walk(self, cancellation: Cancellation, known: Mapping[str, Directory], full: bool) -> Walk:
        root = self._root(cancellation)
        now = self._web.now()
        walk = Walk()
        pending: list[tuple[str, State]] = [("", state_of(root))]
        while pending:
            path, identity = pending.pop()
            before = known.get(path)
            try:
                if before is not None and not full and before.is_still(identity, now):
                    walk.directories[path] = before
                    pending += self._children(cancellation, path, before)
                else:
                    look = HdfsScan(path, identity, now)
                    for page in self._web.entries(cancellation, self._absolute(path)):
                        look.add(page)
                    self._sweep(cancellation, path, look.left_over)
                    walk.directories[path] = look.result()
                    pending += look.children
            except NotThere:
                walk.whole = False
        if self._root(cancellation).identity != root.identity:
            walk.whole = False
        return walk

    def _children(
        self, cancellation: Cancellation, path: str, before: Directory
    ) -> list[tuple[str, State]]:
        """The present state of the directories in one whose entries are known."""
        wanted = {below(path, name) for name in before.children}
        pages = 1 + (len(before.files) + len(wanted)) // PAGE
        if pages < len(wanted):  # fewer requests than one for each
            found = [
                (below(path, status.name), state_of(status))
                for page in self._web.entries(cancellation, self._absolute(path))
                for status in page
                if status.is_directory
            ]
            return [(child, identity) for child, identity in found if child in wanted]
        return [(child, state_of(self._there(cancellation, child))) for child in sorted(wanted)]

    def _there(self, cancellation: Cancellation, path: str) -> FileStatus:
        status = self._status(cancellation, path)
        if status is None:
            raise NotThere
        return status

    def _sweep(self, cancellation: Cancellation, path: str, names: list[str]) -> None:
        for name in names:
            self._web.delete(cancellation, self._absolute(below(path, name)))

    def find(self, cancellation: Cancellation, segment: str, path: str) -> CanonicalCopy | None:
        status = self._status(cancellation, path)
        if status is None or not status.is_file:
            return None
        self._check_whole(cancellation, path)
        return CanonicalCopy(segment, path, status.size, status.modified)

    def _status(self, cancellation: Cancellation, path: str) -> FileStatus | None:
        return self._web.status(cancellation, self._absolute(path))

    def _check_whole(self, cancellation: Cancellation, path: str) -> None:
        """Refuse a database whose last transactions are in a file beside it.

        :raises trough.errors.UnusableFile: naming that file
        """
        for companion in COMPANIONS:
            beside = self._status(cancellation, path + companion)
            if beside is not None and beside.is_file and beside.size:
                name = beside.name or f"{path.rpartition('/')[2]}{companion}"
                raise errors.UnusableFile(
                    f"{self._absolute(path)} in HDFS: {half_a_database(name)}"
                )

    def _root(self, cancellation: Cancellation) -> FileStatus:
        root = self._web.status(cancellation, self.root)
        if root is None or not root.is_directory:
            raise errors.Unavailable(
                f"there is no directory {self.root} in HDFS at {self._web.url}",
                "it was there when the storage was opened; was it moved?",
            )
        return root

    # -- fetching --------------------------------------------------------------

    def probe(self, cancellation: Cancellation, copy: CanonicalCopy) -> None:
        try:
            self._web.probe(cancellation, self._absolute(copy.path))
        except NotThere:
            self._root(cancellation)

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
            self._check_whole(cancellation, copy.path)
            atomic_files.check_room(destination.parent, status.size)
            with (
                contextlib.suppress(Changed, NotThere),
                atomic_files.replacing(destination) as target,
            ):
                digest, done = atomic_files.new_hash(), 0
                for piece in self._pieces(cancellation, copy.path, status):
                    digest.update(piece)
                    atomic_files.write_all(target, piece)
                    done += len(piece)
                    progress(done)
                return CanonicalCopy(
                    copy.segment,
                    copy.path,
                    status.size,
                    status.modified,
                    atomic_files.checksum_text(digest),
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
        self._make_directory(cancellation, directory)

        def attempt() -> tuple[str, _Upload]:
            temporary = below(directory, atomic_files.temporary_name(name))
            return temporary, self._upload(cancellation, source, temporary, progress)

        with self._disappearing(path):
            temporary, upload = self._web.repeat(cancellation, attempt)
            try:
                status = self._verify(cancellation, temporary, upload)
            except BaseException:
                self._remove(temporary)
                raise
        return Staged(segment, path, temporary, upload.size, upload.checksum, status.identity)

    def _make_directory(self, cancellation: Cancellation, directory: str) -> None:
        if directory and self._status(cancellation, directory) is not None:
            return
        self._root(cancellation)  # which is not to be created
        if directory:
            self._web.make_directory(cancellation, self._absolute(directory))

    def _upload(
        self, cancellation: Cancellation, source: Path, temporary: str, progress: Progress
    ) -> _Upload:
        upload = _Upload(source, cancellation, progress)
        try:
            self._web.write(cancellation, self._absolute(temporary), upload.pieces())
        except BaseException as error:
            # A silent DataNode creates the file once it goes on: nobody waits for that.
            self._remove(temporary, late=upload.begun and not isinstance(error, Silent))
            raise
        return upload

    @contextlib.contextmanager
    def _disappearing(self, path: str) -> Iterator[None]:
        """Report that an upload, or its directory, disappeared during the work."""
        try:
            yield
        except (NotThere, Changed) as error:
            raise errors.Unavailable(
                f"the upload for {self._absolute(path)} was removed or touched by somebody else",
                "the former canonical copy is untouched",
            ) from error

    def _verify(self, cancellation: Cancellation, path: str, upload: _Upload) -> FileStatus:
        status = self._there(cancellation, path)
        digest = atomic_files.new_hash()
        for piece in self._pieces(cancellation, path, status):
            digest.update(piece)
        found = atomic_files.checksum_text(digest)
        if (status.size, found) != (upload.size, upload.checksum):
            raise errors.Unavailable(
                f"{self._absolute(path)} reads back as {status.size} bytes with {found}, "
                f"and {upload.size} bytes with {upload.checksum} were written",
                "the former canonical copy is untouched; check HDFS with fsck",
            )
        return status

    def commit(self, cancellation: Cancellation, staged: Staged) -> CanonicalCopy:
        try:
            with self._commits, self._disappearing(staged.path):
                modified = self._make_later(cancellation, staged)
                self._web.replace(
                    cancellation,
                    self._absolute(staged.temporary),
                    self._absolute(staged.path),
                    staged.identity,
                    staged.check_permission,
                )
        except PermissionExpired:
            raise  # the upload is still good
        except BaseException:
            self._remove(staged.temporary)
            raise
        return CanonicalCopy(staged.segment, staged.path, staged.size, modified, staged.checksum)

    def _make_later(self, cancellation: Cancellation, staged: Staged) -> int:
        """Make the upload's modification time later than the target's; returns it."""
        upload = self._there(cancellation, staged.temporary)
        former = self._status(cancellation, staged.path)
        if former is None or upload.modified > former.modified:
            return upload.modified
        later = former.modified + 1
        self._web.set_modified(cancellation, self._absolute(staged.temporary), later)
        return later

    def discard(self, cancellation: Cancellation, staged: Staged) -> None:
        self._web.delete(cancellation, self._absolute(staged.temporary))

    def _remove(self, path: str, late: bool = False) -> None:
        """Remove an upload that failed. Where that fails too, it is swept one day.

        :param late: whether a DataNode may be about to create the file only now: it goes
            on with a request whose connection was broken off
        """
        # Not with the call's own cancellation, which may be why we are here.
        cancellation = Cancellation()
        with contextlib.suppress(errors.Unavailable, NotThere):
            for pause in _LATE if late else (0.0,):
                cancellation.wait(pause)
                if self._web.delete(cancellation, self._absolute(path)):
                    return

    def delete(self, cancellation: Cancellation, copy: CanonicalCopy) -> bool:
        if self.find(cancellation, copy.segment, copy.path) is None:
            self._root(cancellation)
            return False
        self._web.delete(cancellation, self._absolute(copy.path))
        return True


class _Upload:
    """The content of a local file, and what was found out while it was read.

    :ivar begun: whether any of it was asked for: a server is there that takes it
    """

    def __init__(self, source: Path, cancellation: Cancellation, progress: Progress) -> None:
        self.begun = False
        self.size = 0
        self.checksum = ""
        self._source = source
        self._cancellation = cancellation
        self._progress = progress

    def pieces(self) -> Iterator[bytes]:
        """The content, once."""
        self.begun = True
        digest, done = atomic_files.new_hash(), 0
        with self._source.open("rb", buffering=0) as source:
            while piece := source.read(PIECE):
                self._cancellation.check()
                digest.update(piece)
                yield piece
                done += len(piece)
                self._progress(done)
        self.size, self.checksum = done, atomic_files.checksum_text(digest)

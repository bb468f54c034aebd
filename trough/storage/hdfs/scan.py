"""Makes a known directory of what WebHDFS lists, for canonical storage. Pure."""

from __future__ import annotations

from array import array

from trough import errors
from trough.storage.hdfs.webhdfs import FileStatus
from trough.storage.listing import AT_ONCE, NEVER, Directory, files_but_halves
from trough.storage.paths import (
    SUFFIX,
    below,
    database_of,
    reason_to_skip_directory,
    segment_of,
    shown,
)
from trough.util import atomic_files
from trough.util.confined_files import half_a_database

#: Seconds: two changes of a directory within one millisecond, seen by a clock that is
#: known to a second.
RACY = 3.0

#: Seconds after which an unfinished upload counts as left by a crash. A promotion may take
#: six hours, and HDFS leaves a file the time at which it was begun until it is closed.
LEFT_OVER_AGE = 86400.0

#: Seconds for which a file that looks as if it were still being written is watched; one
#: that is written under its final name for longer is for the full look to find.
OPEN_FILE_AGE = 3600.0

#: A directory's state: its identity and modification time.
State = tuple[int, int]


def state_of(status: FileStatus) -> State:
    """What moves whenever something is created, renamed or removed in a directory."""
    return (status.identity, status.modified)


class HdfsScan:
    """Makes a :class:`Directory` of the pages of its listing.

    :ivar children: paths and states of the directories in it
    :ivar left_over: names of uploads that a crash left behind
    """

    def __init__(self, path: str, identity: State, now: float) -> None:
        self._path = path
        self._identity = identity
        self._now = now
        self._ids: list[str] = []
        self._modified = array("q")
        self._sizes = array("q")
        self._skipped: dict[str, str] = {}
        #: Why segments do not count whose files are listed.
        self._halves: dict[str, str] = {}
        self._look_again = AT_ONCE if abs(now - identity[1] / 1000) < RACY else NEVER
        self._names: list[str] = []
        self.children: list[tuple[str, State]] = []
        self.left_over: list[str] = []

    def add(self, page: list[FileStatus]) -> None:
        """Take in a page of the listing."""
        for status in page:
            if status.name.startswith("."):
                if status.is_file and atomic_files.is_temporary(status.name):
                    self._left_over(status)
            elif status.is_directory:
                self._child(status)
            elif status.is_file and (database := database_of(status.name)):
                self._companion(status, database)
            elif status.is_file:
                self._file(status)
            else:
                self._skipped[shown(status.name)] = "not a plain file"

    def _companion(self, status: FileStatus, database: str) -> None:
        # It may be filled or emptied, and nothing moves the directory's time then.
        self._look_again = AT_ONCE
        if status.size:
            self._halves[database.removesuffix(SUFFIX)] = half_a_database(shown(status.name))

    def result(self) -> Directory:
        """The directory, all pages taken in."""
        packed = files_but_halves(
            self._ids, self._modified, self._sizes, self._halves, self._skipped
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
            self.children.append((below(self._path, status.name), state_of(status)))

    def _file(self, status: FileStatus) -> None:
        try:
            segment = segment_of(status.name)
        except errors.BadSegmentId as error:
            self._skipped[shown(status.name)] = str(error)
            return
        if segment is None:
            return
        self._ids.append(segment)
        self._modified.append(status.modified)
        self._sizes.append(status.size)
        if self._may_be_open(status):
            self._look_again = AT_ONCE

    def _may_be_open(self, status: FileStatus) -> bool:
        """Whether a program may still be writing a file under its final name.

        Its directory's time does not move when it is done. Until then its length is
        that of its finished blocks, and its time that of its beginning.
        """
        written = status.modified / 1000
        return abs(self._now - written) < RACY or (
            self._now - written < OPEN_FILE_AGE and status.size % (status.block_size or 1) == 0
        )

    def _left_over(self, status: FileStatus) -> None:
        due = status.modified / 1000 + LEFT_OVER_AGE
        if due <= self._now:
            self.left_over.append(status.name)
        else:
            self._look_again = min(self._look_again, due)

"""Reads one directory of a file system, for canonical storage.

Written for a directory of a thousand segments, and for a storage of a million: each file
costs one `stat` and little else. Blocking.
"""

from __future__ import annotations

import errno
import os
import stat
from array import array
from collections.abc import Callable

from trough import errors
from trough.model import is_segment_id
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
from trough.util.confined_files import (
    LEADS_NOWHERE,
    LINKED_DIRECTORY,
    NOT_PLAIN,
    OWN,
    ConfinedRoot,
    UnusablePath,
    check_whole,
    half_a_database,
)

#: Seconds within which two changes may leave one modification time: FAT's and some
#: network file systems' times are that coarse.
RACY = 2.0

#: Seconds without a change after which an upload counts as left by a crash.
LEFT_OVER_AGE = 3600.0

#: What a file system itself keeps at its root, unreadable to most.
_NOT_OURS = frozenset({"lost+found"})


class DirectoryScan:
    """Reads the entries of one directory.

    :param files: finds what links lead to
    :param is_own: whether a file is one of Trough's own
    :param path: relative to the root
    :param now: by the clock of the file system
    :param modified: of the directory itself, seconds since the epoch
    """

    def __init__(
        self,
        files: ConfinedRoot,
        is_own: Callable[[os.stat_result], bool],
        path: str,
        now: float,
        modified: float,
    ) -> None:
        self._root_files = files
        self._is_own = is_own
        self._path = path
        self._now = now
        self._ids: list[str] = []
        self._modified = array("q")
        self._sizes = array("q")
        self._children: list[str] = []
        self._skipped: dict[str, str] = {}
        #: Why segments do not count whose files are listed.
        self._halves: dict[str, str] = {}
        self._look_again = AT_ONCE if abs(now - modified) < RACY else NEVER

    def result(self, identity: object) -> Directory:
        # Being copied in by hand, perhaps: its directory's time does not move with it.
        lately, soon = (self._now - RACY) * 1000, (self._now + RACY) * 1000
        # The latest first: it settles the matter for nearly all directories.
        if max(self._modified, default=0) > lately and any(
            lately < modified < soon for modified in self._modified
        ):
            self._look_again = AT_ONCE
        packed = files_but_halves(
            self._ids, self._modified, self._sizes, self._halves, self._skipped
        )
        return Directory(
            identity,
            packed,
            packed.strays(self._path),
            tuple(self._children),
            self._skipped,
            self._look_again,
        )

    def run(self, descriptor: int) -> None:
        """Read the entries of an open directory."""
        # By descriptor: a stat by name in an open directory costs half of one by path.
        with os.scandir(descriptor) as entries:
            for entry in entries:
                try:
                    # Written out here, since there may be a million of these.
                    name = entry.name
                    if (
                        name.endswith(SUFFIX)
                        and is_segment_id(segment := name[: -len(SUFFIX)])
                        and entry.is_file(follow_symlinks=False)
                    ):
                        self._add(segment, entry.stat(follow_symlinks=False))
                    else:
                        self._entry(entry, descriptor)
                except FileNotFoundError:
                    # Removed since the directory was read, which moved its time.
                    continue

    def _entry(self, entry: os.DirEntry[str], descriptor: int) -> None:
        name = entry.name
        if name.startswith("."):
            if atomic_files.is_temporary(name):
                self._left_over(entry, descriptor)
        elif entry.is_dir(follow_symlinks=False):
            self._child(name)
        elif entry.is_symlink() and _leads_to_directory(entry):
            self._skipped[shown(name)] = LINKED_DIRECTORY
        elif database := database_of(name):
            self._companion(entry, database)
        else:
            self._file(entry)

    def _companion(self, entry: os.DirEntry[str], database: str) -> None:
        # It may be filled or emptied, and nothing moves the directory's time then.
        self._look_again = AT_ONCE
        if entry.stat(follow_symlinks=False).st_size:
            self._halves[database.removesuffix(SUFFIX)] = half_a_database(shown(entry.name))

    def _file(self, entry: os.DirEntry[str]) -> None:
        try:
            segment = segment_of(entry.name)
        except errors.BadSegmentId as error:
            self._skipped[shown(entry.name)] = str(error)
            return
        if segment is None:
            return
        if not entry.is_symlink():
            self._skipped[entry.name] = NOT_PLAIN
            return
        try:
            with self._root_files.locate(below(self._path, entry.name)) as located:
                check_whole(located)
                self._add(segment, located.status)
        except UnusablePath as reason:
            self._skipped[entry.name] = str(reason)
        except FileNotFoundError:
            self._skipped[entry.name] = LEADS_NOWHERE

    def _add(self, segment: str, status: os.stat_result) -> None:
        if self._is_own(status):
            self._skipped[segment + SUFFIX] = OWN
            return
        self._ids.append(segment)
        self._modified.append(status.st_mtime_ns // 1_000_000)
        self._sizes.append(status.st_size)

    def _child(self, name: str) -> None:
        reason = reason_to_skip_directory(name)
        if reason:
            self._skipped[shown(name)] = reason
        elif name not in _NOT_OURS:
            self._children.append(name)

    def _left_over(self, entry: os.DirEntry[str], descriptor: int) -> None:
        """Remove an upload that a crash left behind, or come back when it is old enough."""
        if not entry.is_file(follow_symlinks=False):
            return
        due = entry.stat(follow_symlinks=False).st_mtime + LEFT_OVER_AGE
        if due > self._now:
            self._look_again = min(self._look_again, due)
            return
        try:
            os.unlink(entry.name, dir_fd=descriptor)
        except PermissionError as error:
            # The segments beside it are reported all the same.
            self._skipped[entry.name] = f"left over, and not to be removed: {error.strerror}"


def _leads_to_directory(entry: os.DirEntry[str]) -> bool:
    """Whether a link leads to a directory; one that leads in a circle does not."""
    try:
        return stat.S_ISDIR(entry.stat().st_mode)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ELOOP, errno.ENOTDIR):
            return False
        raise

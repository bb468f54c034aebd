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
from pathlib import Path

from trough import errors
from trough.model import is_segment_id
from trough.storage.listing import AT_ONCE, NEVER, Directory, Files
from trough.storage.paths import SUFFIX, reason_to_skip_directory, segment_of, shown
from trough.util import atomic_files

#: Seconds within which two changes may leave one modification time: FAT's and some
#: network file systems' times are that coarse.
RACY = 2.0

#: Seconds after which an upload that nobody touched is a crash's.
LEFT_OVER_AGE = 3600.0

#: What a file system itself keeps at its root, unreadable to most.
_NOT_OURS = frozenset({"lost+found"})


class Look:
    """Reads the entries of one directory.

    :param path: relative to the root
    :param now: by the clock of the file system
    :param modified: of the directory itself, seconds since the epoch
    """

    def __init__(self, path: str, now: float, modified: float) -> None:
        self._path = path
        self._now = now
        self._ids: list[str] = []
        self._modified = array("q")
        self._sizes = array("q")
        self._children: list[str] = []
        self._skipped: dict[str, str] = {}
        self._look_again = AT_ONCE if abs(now - modified) < RACY else NEVER

    def result(self, identity: object) -> Directory:
        # Being copied in by hand, perhaps: its directory's time does not move with it.
        lately, soon = (self._now - RACY) * 1000, (self._now + RACY) * 1000
        # The latest first: it settles the matter for nearly all directories.
        if max(self._modified, default=0) > lately and any(
            lately < modified < soon for modified in self._modified
        ):
            self._look_again = AT_ONCE
        packed = Files(self._ids, self._modified, self._sizes)
        return Directory(
            identity,
            packed,
            packed.strays(self._path),
            tuple(self._children),
            self._skipped,
            self._look_again,
        )

    def run(self, path: Path) -> None:
        # By descriptor: a stat by name in an open directory costs half of one by path.
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        try:
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
        finally:
            os.close(descriptor)

    def _entry(self, entry: os.DirEntry[str], descriptor: int) -> None:
        name = entry.name
        if name.startswith("."):
            if atomic_files.is_temporary(name):
                self._left_over(entry, descriptor)
        elif entry.is_dir(follow_symlinks=False):
            self._child(name)
        elif entry.is_symlink() and _leads_to(entry, stat.S_ISDIR):
            self._skipped[shown(name)] = "a symbolic link to a directory is not followed"
        else:
            self._file(entry)

    def _file(self, entry: os.DirEntry[str]) -> None:
        try:
            segment = segment_of(entry.name)
        except errors.BadSegmentId as error:
            self._skipped[shown(entry.name)] = str(error)
            return
        if segment is None:
            return
        if not _leads_to(entry, stat.S_ISREG):
            self._skipped[entry.name] = (
                "a symbolic link that leads nowhere" if entry.is_symlink() else "not a plain file"
            )
            return
        self._add(segment, entry.stat())

    def _add(self, segment: str, status: os.stat_result) -> None:
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
            # No reason to tell nothing of the segments beside it.
            self._skipped[entry.name] = f"left over, and not to be removed: {error.strerror}"


def _leads_to(entry: os.DirEntry[str], kind: Callable[[int], bool]) -> bool:
    """Whether there is something of a kind where a name leads; nothing is in a circle."""
    try:
        return kind(entry.stat().st_mode)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ELOOP):
            return False
        raise

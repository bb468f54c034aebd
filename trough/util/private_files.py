"""Files that only the user of Trough may read.

Segments hold crawled data, and the registry records where everything is. Both are made with mode
0600, and directories with 0700, whatever the umask of the process. A setting gives a group access
to what processes of several users share: canonical storage in a directory, and the registry.
"""

from __future__ import annotations

import contextlib
import enum
import errno
import os
import stat
from pathlib import Path

from twisted.logger import Logger

_log = Logger()

#: What SQLite keeps beside a database, with the same mode.
_COMPANIONS = ("-wal", "-shm", "-journal")


class GroupAccess(enum.IntEnum):
    """What the group of a file may do; the value is the file's mode bits for the group."""

    NONE = 0
    READ = 0o040
    WRITE = 0o060

    @property
    def file_mode(self) -> int:
        """Of a file."""
        return 0o600 | self

    @property
    def directory_mode(self) -> int:
        """Of a directory; what is made in a shared one belongs to its group."""
        return 0o700 | self | (0o2010 if self else 0)


def make_private() -> None:
    """Have this process, and those that it starts, make files for their user alone."""
    os.umask(0o077)


def tighten(path: Path, group: GroupAccess = GroupAccess.NONE) -> None:
    """Take access from others than `group` allows, or log a warning where that fails.

    :param path: of a file or directory; nothing is done where there is none
    """
    with contextlib.suppress(FileNotFoundError):
        mode = stat.S_IMODE(path.stat().st_mode)
        allowed = 0o2000 | 0o700 | group | (0o010 if group else 0)
        if not mode & ~allowed:
            return
        try:
            path.chmod(mode & allowed)
        except OSError as error:
            _log.warn(
                "{path}: others have access (mode {mode:o}), and that cannot be changed: "
                "{reason}; run chmod {wanted:o}",
                path=path,
                mode=mode,
                reason=error.strerror,
                wanted=mode & allowed,
            )
        else:
            _log.info(
                "{path}: took access from others, mode {mode:o} is {now:o} now",
                path=path,
                mode=mode,
                now=mode & allowed,
            )


def tighten_database(path: Path, group: GroupAccess = GroupAccess.NONE) -> None:
    """As :func:`tighten`, for a database and what SQLite keeps beside it.

    For a group it is made here where it is missing: SQLite gives the mode of the database to
    the files beside it.
    """
    if group:
        with contextlib.suppress(FileExistsError):
            path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
            try:
                os.fchmod(descriptor, group.file_mode)
            finally:
                os.close(descriptor)
    for companion in ("", *_COMPANIONS):
        tighten(Path(f"{path}{companion}"), group)


def check_database(path: Path) -> None:
    """Find out whether this process may write to a database and to what SQLite keeps beside it.

    Nothing is opened: closing a file gives up the locks that SQLite holds on it in this process.

    :raises PermissionError: it may not
    """
    for companion in ("", *_COMPANIONS):
        file = Path(f"{path}{companion}")
        if file.exists() and not _may(file, os.R_OK | os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(file))
    if path.parent.exists() and not _may(path.parent, os.W_OK | os.X_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path.parent))


def _may(path: Path, what: int) -> bool:
    return os.access(path, what, effective_ids=os.access in os.supports_effective_ids)


def warn_of_access(path: Path, group: GroupAccess, hint: str) -> None:
    """Log a warning where others may read a directory that is not this process's alone."""
    with contextlib.suppress(FileNotFoundError):
        mode = stat.S_IMODE(path.stat().st_mode)
        if mode & 0o007 or (mode & 0o070 and not group):
            _log.warn(
                "{path}: others have access (mode {mode:o}); {hint}",
                path=path,
                mode=mode,
                hint=hint,
            )

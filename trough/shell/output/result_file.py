"""A file of results, which takes its place when it is complete.

Rows go into a hidden file in the same directory. It replaces the file that was named when the
query has succeeded. So a failed query leaves the previous results intact. A target that cannot be
replaced (a pipe, a device, ``/dev/stdout``) is written directly. A file that a rename would take
from its owner, its links or its directory is filled at the end.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import IO, TextIO, cast

from trough import errors
from trough.formats import columnar

# Names in these directories are descriptors of this process, and devices. Another process opened
# a regular file behind one, and expects the same file, and the same position in it.
_DESCRIPTORS = (Path("/dev"), Path("/proc"))

_PERMISSIONS = stat.S_IRWXU | stat.S_IRWXG | stat.S_IRWXO


@contextlib.contextmanager
def result_file(path: Path, binary: bool) -> Iterator[TextIO]:
    """A text file that becomes `path` when the block ends; if it raises, `path` stays as it was.

    :param binary: whether the format is one of bytes, see :mod:`trough.formats.columnar`
    :raises trough.errors.BadRequest: it cannot be written; names `path` and the reason
    """
    how = columnar.ERRORS if binary else "backslashreplace"
    try:
        with _bytes_for(path) as descriptor:
            with os.fdopen(
                descriptor, "w", encoding="utf-8", errors=how, newline="", closefd=False
            ) as file:
                yield file
    except OSError as error:
        if isinstance(error, BrokenPipeError):  # the reader closed the pipe
            raise
        raise errors.BadRequest(f"{path}: {error.strerror or error}") from error


@contextlib.contextmanager
def _bytes_for(path: Path) -> Iterator[int]:
    """The descriptor to write to."""
    found = _status(path)
    if found is not None and (not stat.S_ISREG(found.st_mode) or _is_descriptor(path)):
        yield from _opened(os.open(path, os.O_WRONLY | os.O_APPEND))
        return
    target = Path(os.path.realpath(path))  # a link stays a link
    if found is None:
        yield from _renamed(target, None)
        return
    os.close(os.open(target, os.O_WRONLY))  # a rename would not check this right
    own = found.st_uid == os.geteuid() and found.st_gid in {os.getegid(), *os.getgroups()}
    if own and found.st_nlink == 1 and os.access(target.parent, os.W_OK | os.X_OK):
        yield from _renamed(target, found)
    else:
        yield from _filled(target)


def _status(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except FileNotFoundError:
        return None


def _is_descriptor(path: Path) -> bool:
    return any(path.absolute().is_relative_to(directory) for directory in _DESCRIPTORS)


def _opened(descriptor: int) -> Iterator[int]:
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _renamed(target: Path, former: os.stat_result | None) -> Iterator[int]:
    """A new file beside `target`, with the group and mode of the `former` one."""
    from trough.util.atomic_files import temporary_name  # slow to import

    beside = target.with_name(temporary_name("results"))
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    try:
        if former is not None:
            os.fchown(descriptor, -1, former.st_gid)
            os.fchmod(descriptor, stat.S_IMODE(former.st_mode) & _PERMISSIONS)
        yield from _opened(descriptor)
        beside.replace(target)
    finally:
        with contextlib.suppress(OSError):
            beside.unlink()


def _filled(target: Path) -> Iterator[int]:
    """A nameless file, which is copied into `target` at the end. A full disk may cut it off."""
    import tempfile

    with tempfile.TemporaryFile() as held:
        yield held.fileno()
        held.seek(0)
        with target.open("wb") as file:
            shutil.copyfileobj(cast(IO[bytes], held), file)

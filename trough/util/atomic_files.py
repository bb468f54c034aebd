"""Local files that appear whole or not at all, and stay.

A file is written under a hidden name beside its target, flushed to disk, and moved
over the target by one rename, whose directory is flushed too: after a power cut either
the old file or the new one is there. What a crash left behind is known by its name.
Everything in here blocks; nothing knows what is in the files.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
import secrets
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from trough import errors

#: Bytes that are read and written at once: large enough that a disk or a network is
#: the limit and not the interpreter, small enough that a cancel is prompt.
CHUNK = 1 << 20

# A dot, the target's name, random digits, and an ending that only Trough uses. So a sweep never
# removes a hidden file of another program.
_TEMPORARY = re.compile(r"\..+\.[0-9a-f]{16}\.unfinished", re.DOTALL)

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})


def temporary_name(name: str) -> str:
    """A hidden name, never used before, for a file that becomes `name`."""
    return f".{name}.{secrets.token_hex(8)}.unfinished"


def is_temporary(name: str) -> bool:
    """Whether `name` is one that :func:`temporary_name` makes."""
    return _TEMPORARY.fullmatch(name) is not None


def fsync_directory(path: Path | str) -> None:
    """Flush a directory: what was created, renamed or removed in it stays so."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def is_still_at(descriptor: int, path: Path | str) -> bool:
    """Whether an open file is the one at `path`, and has no other name: nobody removed or
    replaced it. Raises OSError."""
    opened = os.fstat(descriptor)
    try:
        named = Path(path).stat()
    except FileNotFoundError:
        return False
    return opened.st_nlink == 1 and os.path.samestat(opened, named)


def make_directories(path: Path) -> None:
    """Create `path` and its missing parents, each flushed to disk. Idempotent."""
    missing = []
    while not path.is_dir():
        missing.append(path)
        path = path.parent
    for directory in reversed(missing):
        directory.mkdir(exist_ok=True)
        fsync_directory(directory.parent)


def replace_file(temporary: Path, target: Path) -> None:
    """Make the flushed file `temporary` be `target`, whether or not there is one, and
    flush the directory that both are in."""
    temporary.replace(target)
    fsync_directory(target.parent)


@contextlib.contextmanager
def replacing(target: Path) -> Iterator[BinaryIO]:
    """Write a file that becomes `target` when the block ends.

    If the block raises, `target` stays as it was and nothing is left beside it.

    :raises trough.errors.DiskFull: no room for it
    :raises trough.errors.Unavailable: it cannot be written for another reason
    """
    temporary = target.with_name(temporary_name(target.name))
    with in_our_words(target):
        try:
            with temporary.open("xb", buffering=0) as file:
                yield file
                os.fsync(file.fileno())
            replace_file(temporary, target)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise


@contextlib.contextmanager
def in_our_words(path: Path | str) -> Iterator[None]:
    """Translate OSError on a local file into an error of :mod:`trough.errors`.

    :raises trough.errors.DiskFull: no space, or over quota, naming `path`
    :raises trough.errors.Unavailable: anything else, naming what it happened to
    """
    try:
        yield
    except OSError as error:
        if is_no_room(error):
            raise errors.DiskFull(f"no room for {path}", "free space on that disk") from error
        reason = f"{error.filename or path}: {error.strerror or error}"
        raise errors.Unavailable(reason, "look at that file and its disk") from error


def is_no_room(error: OSError) -> bool:
    """Whether an error of the operating system says that a disk or a quota is full."""
    return error.errno in _FULL


def check_room(directory: Path, size: int) -> None:
    """Refuse a file that cannot fit, before the disk is filled up by trying.

    :param directory: where it would go; has to exist
    :param size: bytes
    :raises trough.errors.DiskFull: there is less room than that
    """
    with in_our_words(directory):
        free = shutil.disk_usage(directory).free
    if size > free:
        raise errors.DiskFull(
            f"no room in {directory}: {size} bytes are needed and {free} are free",
            "free space on that disk",
        )


def write_all(file: BinaryIO, data: bytes | memoryview) -> None:
    """Write all of `data` to an unbuffered file, which may take it in parts."""
    view = memoryview(data)
    while len(view):
        view = view[file.write(view) :]


def new_hash() -> hashlib._Hash:
    """The hash behind every checksum: SHA-256. Processors have instructions for it, so it is as
    fast here as weaker checksums."""
    return hashlib.sha256()


def checksum_text(digest: hashlib._Hash) -> str:
    """A checksum as it is written down: ``sha256:`` and hexadecimal digits."""
    return f"{digest.name}:{digest.hexdigest()}"


def checksum(path: Path | str, check: Callable[[], object] | None = None) -> str:
    """The checksum of a file's content, ``sha256:hex``.

    :param check: called before each chunk; ends the work by raising
    """
    with Path(path).open("rb", buffering=0) as file:
        return checksum_of(file, check)


def checksum_of(file: BinaryIO, check: Callable[[], object] | None = None) -> str:
    """As :func:`checksum`, of the rest of an unbuffered file."""
    digest = new_hash()
    for chunk in read_chunks(file, check):
        digest.update(chunk)
    return checksum_text(digest)


def read_chunks(
    file: BinaryIO, check: Callable[[], object] | None = None, size: int = CHUNK
) -> Iterator[memoryview]:
    """The rest of an unbuffered file in chunks, each valid until the next is asked for.

    :param check: as for :func:`checksum`
    :param size: bytes that there are likely to be; most files need no buffer of a whole chunk
    """
    buffer = memoryview(bytearray(min(CHUNK, size + 1)))
    while True:
        if check is not None:
            check()
        # A raw file's readinto is not part of BinaryIO's type.
        length = file.readinto(buffer)  # type: ignore[attr-defined]
        if not length:
            return
        yield buffer[:length]

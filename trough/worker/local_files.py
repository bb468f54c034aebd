"""The files in a worker's data directory, and what is done to them. Blocking.

Errors of the operating system are translated into those of :mod:`trough.errors`. So the worker goes
on serving and tries again: a disk may be full, or lose a file, while everything else works.

::

    catalogue.db            what the worker remembers (trough.worker.catalogue)
    segments/300/300001.sqlite   local copies, laid out like the canonical ones
    snapshots/              states that are being promoted; emptied at start
    aside/                  unpromoted writes whose lock was lost; never emptied by Trough
    cold/                   fetched cold segments (trough.worker.cold_cache); emptied at start
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import time
from pathlib import Path
from typing import Any

from twisted.logger import Logger

from trough.model import canonical_path
from trough.sql import log_mark
from trough.util.atomic_files import (
    check_room,
    checksum,
    fsync_directory,
    in_our_words,
    make_directories,
    replacing,
    write_all,
)
from trough.worker.catalogue import Catalogue, Entry

_log = Logger()

#: What SQLite and replication keep beside a database.
COMPANIONS = ("-wal", "-shm", "-journal", log_mark.SUFFIX)

#: Bytes that copies leave free for writes, snapshots and the catalogue: this share of the
#: disk, or so many.
RESERVED_SHARE, RESERVE = 0.02, 1 << 30


#: Folders in which everything is the worker's own.
FOLDERS = ("segments", "snapshots", "aside", "cold")


def catalogue_path(directory: Path) -> Path:
    """Where the catalogue is."""
    return directory / "catalogue.db"


def path_of(directory: Path, segment: str) -> Path:
    """Where the local copy of `segment` is."""
    return directory / "segments" / canonical_path(segment)


def path_text(directory: Path, segment: str) -> str:
    """As :func:`path_of`, in a tenth of its time: a worker that starts asks it for all."""
    return f"{directory}/segments/{canonical_path(segment)}"


def snapshot_path(snapshots: Path, segment: str) -> Path:
    """Where a state of `segment` is put on its way to or from canonical storage."""
    return snapshots / f"{segment}.sqlite"


def make_way(path: Path) -> None:
    """Make `path` ready for a whole new file to be renamed there.

    SQLite would take a ``-wal`` of an earlier database for the new one's.
    """
    with in_our_words(path):
        # On disk itself, or a power cut might take what is fsynced in it.
        make_directories(path.parent)
        for companion in COMPANIONS:
            Path(f"{path}{companion}").unlink(missing_ok=True)


def check_room_for_copy(path: Path, size: int) -> None:
    """Refuse a copy that would leave less than the reserve.

    Not before all of the disk is taken would a writer find that it cannot write.

    :param size: bytes
    :raises trough.errors.DiskFull: there is too little room
    """
    with in_our_words(path):
        make_directories(path.parent)
        reserve = min(RESERVE, int(shutil.disk_usage(path.parent).total * RESERVED_SHARE))
    check_room(path.parent, size + reserve)


def make_room_for_snapshot(snapshot: Path, source: str) -> None:
    """Make sure that the state of a database fits where it is to be put.

    A disk that is filled up by trying refuses the writes to all segments meanwhile.

    :raises trough.errors.DiskFull: there is too little room
    """
    with in_our_words(snapshot):
        make_directories(snapshot.parent)  # an operator may have removed it
        size = Path(source).stat().st_size if Path(source).exists() else 0
    check_room(snapshot.parent, size)


def empty(directory: Path) -> None:
    """Remove all that is in a directory, which is made where it is missing.

    It stays the same directory: executors were let into that one (trough.util.confinement).
    """
    with in_our_words(directory):
        directory.mkdir(parents=True, exist_ok=True)
        for path in directory.iterdir():
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)


def size_and_checksum(snapshot: Path) -> tuple[int, str]:
    """Size in bytes and checksum of a file."""
    with in_our_words(snapshot):
        return snapshot.stat().st_size, checksum(snapshot)


def remove(path: str | Path) -> None:
    """Remove a database and what SQLite keeps beside it, if they are there."""
    with in_our_words(path):
        for companion in ("", *COMPANIONS):
            Path(f"{path}{companion}").unlink(missing_ok=True)


def identify(path: str) -> tuple[int, int]:
    """Size in bytes and modification time in nanoseconds of a file."""
    with in_our_words(path):
        return _identity(path)


def _identity(path: str) -> tuple[int, int]:
    found = Path(path).stat()
    return found.st_size, found.st_mtime_ns


def size_on_disk(*paths: str) -> int:
    """Bytes of copies' files, and of their write-ahead logs where they are written; 0 for those
    that are gone."""
    size = 0
    for path in paths:
        for each in (path, f"{path}-wal"):
            with in_our_words(path), contextlib.suppress(FileNotFoundError):
                size += Path(each).stat().st_size
    return size


def move_aside(directory: Path, segment: str, epoch: int, now: float) -> str | None:
    """Move a local copy into ``aside/``.

    :return: its name there, which has the segment, the lock's epoch, and the time:
        ``ID.EPOCH.TIME.sqlite``; None where the file was removed from outside, so that
        nothing is left to be kept
    """
    source = path_of(directory, segment)
    with in_our_words(source):
        (directory / "aside").mkdir(exist_ok=True)  # an operator may have removed it
        target = _new_name_aside(directory, segment, epoch, now)
        moved = False
        for companion in ("-wal", "-journal", ""):
            beside = Path(f"{source}{companion}")
            if beside.exists():
                beside.replace(f"{target}{companion}")
                moved = True
        for companion in ("-shm", log_mark.SUFFIX):
            Path(f"{source}{companion}").unlink(missing_ok=True)
        if moved:
            fsync_directory(target.parent)
            fsync_directory(source.parent)
    return target.name if moved else None


def _new_name_aside(directory: Path, segment: str, epoch: int, now: float) -> Path:
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(now))
    target, number = directory / "aside" / f"{segment}.{epoch}.{stamp}.sqlite", 1
    while target.exists():
        number += 1
        target = target.with_name(f"{segment}.{epoch}.{stamp}.{number}.sqlite")
    return target


def aside_names(directory: Path) -> list[str]:
    """Names of the databases in ``aside/``, sorted."""
    return sorted(path.name for path in (directory / "aside").glob("*.sqlite"))


def read_json(path: Path) -> Any:
    """What a process has left for this one in a file."""
    with in_our_words(path):
        return json.loads(path.read_text(encoding="utf-8"))


def replace_copy(source: Path, destination: Path) -> None:
    """Have a copy of a whole file in the place of another; it is on disk at the return."""
    with in_our_words(destination), source.open("rb") as content:
        with replacing(destination) as file:
            while portion := content.read(1 << 20):
                write_all(file, portion)


def aside_path(directory: Path, name: str) -> Path:
    """Where a file aside is."""
    return directory / "aside" / name


def aside_sizes(directory: Path) -> dict[str, int]:
    """Bytes of each database in ``aside/``, with what is beside it, by name."""
    return {name: size_on_disk(str(aside_path(directory, name))) for name in aside_names(directory)}


def open_and_reconcile(directory: Path) -> tuple[Catalogue, list[Entry]]:
    """Open the catalogue, match it with the files, and remove a crash's left-overs.

    :return: the catalogue, and the entries whose files are there and whole
    :raises trough.errors.DiskFull: the catalogue cannot be opened for want of room
    """
    for name in ("segments", "aside"):
        make_directories(directory / name)
    empty(directory / "snapshots")
    catalogue = Catalogue(catalogue_path(directory))
    try:
        return catalogue, _reconcile(directory, catalogue)
    except BaseException:
        catalogue.close()
        raise


def _reconcile(directory: Path, catalogue: Catalogue) -> list[Entry]:
    good: list[Entry] = []
    bad: list[Entry] = []
    for entry in catalogue.entries():
        (good if _is_whole(directory, entry) else bad).append(entry)
    for entry in bad:
        _log.warn("{segment}: local copy is not as it was left", segment=entry.segment)
    catalogue.remove(entry.segment for entry in bad)
    _sweep(directory, {path_text(directory, entry.segment) for entry in good})
    return good


def _is_whole(directory: Path, entry: Entry) -> bool:
    """Whether the file is the one that the catalogue describes.

    A file that is written changes all the time, and SQLite recovers it. A file that is only read
    has to be exactly the file that was installed: a crash may have come between the arrival of a
    newer file and the note of it. A crash may also come between the note that a file is written
    and its change to write-ahead logging. No write can have reached such a file.
    """
    path = path_text(directory, entry.segment)
    try:
        found = _identity(path)
    except FileNotFoundError:
        return False
    if entry.writable:
        if log_mark.is_broken(path):  # a follower takes the write lock over
            return False
        return entry.unpromoted or _is_written_ahead(path)
    return found == (entry.file_size, entry.file_modified)


def _is_written_ahead(path: str) -> bool:
    """Whether the header of a database declares a write-ahead log."""
    with Path(path).open("rb") as file:
        return file.read(20)[18:] == b"\2\2"


def _sweep(directory: Path, known: set[str]) -> None:
    """Remove files that have no entry; move aside those with a write-ahead log."""
    for folder, _, names in os.walk(directory / "segments"):
        for base in {_database_of(f"{folder}/{name}") for name in names} - known:
            wal, whole = Path(f"{base}-wal"), Path(base).exists()
            if whole and base.endswith(".sqlite") and wal.exists() and wal.stat().st_size:
                segment = Path(base).name.removesuffix(".sqlite")
                move_aside(directory, segment, 0, time.time())
            remove(base)


def _database_of(path: str) -> str:
    """The database that a file is, or that it is beside."""
    for companion in COMPANIONS:
        path = path.removesuffix(companion)
    return path


def is_there(path: str) -> bool:
    """Whether there is a file.

    :raises trough.errors.Unavailable: that cannot be found out
    """
    with in_our_words(path):
        return Path(path).is_file()

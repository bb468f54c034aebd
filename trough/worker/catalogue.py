"""Keeps what a worker remembers of its local copies across restarts.

It is one small SQLite database in the worker's data directory. For each copy it keeps which
canonical version it is of, under which lock it is written, and whether it may hold writes that are
in no canonical copy. Every change is on disk when the call returns.

Calls block; call it on a thread of its own. The registry's and this database are opened with the
standard library's ``sqlite3``. They run only Trough's SQL, so they need none of the sandbox that
:mod:`trough.sql.sqlite` is for.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import astuple, dataclass, fields
from pathlib import Path

from trough import errors
from trough.model import CanonicalCopy
from trough.util.sqlite_transaction import (
    numbered_scripts,
    statements_of,
    transaction,
    version_number,
)


@dataclass(slots=True)
class Entry:
    """One local copy; the columns of ``local_copy``, where each is explained."""

    segment: str
    path: str
    modified: int = 0
    size: int = 0
    checksum: str = ""
    epoch: int = 0
    unpromoted: bool = False
    publishing: str = ""
    file_size: int = 0
    file_modified: int = 0
    dirty_since: float = 0.0

    @property
    def writable(self) -> bool:
        """Whether this worker writes the segment, under the lock of `epoch`."""
        return self.epoch > 0

    @property
    def canonical(self) -> CanonicalCopy:
        """The canonical version that the local copy began as, or last became."""
        return CanonicalCopy(self.segment, self.path, self.size, self.modified, self.checksum)

    def adopt(self, copy: CanonicalCopy) -> None:
        """Take `copy` as the canonical version held."""
        self.path, self.size = copy.path, copy.size
        self.modified, self.checksum = copy.modified, copy.checksum


_COLUMNS = tuple(field.name for field in fields(Entry))
_PUT = "INSERT OR REPLACE INTO local_copy ({}) VALUES ({})".format(
    ", ".join(_COLUMNS), ", ".join("?" * len(_COLUMNS))
)


#: Bytes that are taken at the start for when the disk is full.
ROOM = 256 << 10


class Catalogue:
    """The database of local copies at `path`.

    :raises trough.errors.BadSettings: it was written by a later version of Trough, or is damaged
    :raises trough.errors.DiskFull: no room for what SQLite needs to open it
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._database = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        try:
            self._open()
        except BaseException as error:
            self._database.close()
            if isinstance(error, sqlite3.OperationalError) and _is_full(error):
                raise self._no_room(error) from error
            if isinstance(error, sqlite3.DatabaseError):
                raise self._damaged(error) from error
            raise

    def _open(self) -> None:
        self._database.execute("PRAGMA journal_mode = WAL")
        self._database.execute("PRAGMA synchronous = FULL")
        scripts = numbered_scripts("trough.worker", "catalogue")
        number: int | None = 0
        if self._database.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
            number = version_number(self._database, "number", "catalogue_version")
        if number is None:
            raise self._damaged("it has no version")
        if number > len(scripts):
            raise errors.BadSettings(
                f"{self._path} has version {number}; this Trough knows up to {len(scripts)}",
                "it was written by a later Trough: use that one",
            )
        if number < len(scripts):
            with transaction(self._database):
                for script in scripts[number:]:
                    for statement in statements_of(script):
                        self._database.execute(statement)
                self._database.execute("UPDATE catalogue_version SET number = ?", (len(scripts),))
        self._take_room()

    def _take_room(self) -> None:
        """Have free pages, and a log of some length, for when the disk is full: what a promotion
        notes must find room then, for promotions are the way out."""
        try:
            with transaction(self._database):
                self._database.execute("CREATE TABLE room (room)")
                self._database.execute("INSERT INTO room VALUES (zeroblob(?))", (ROOM,))
                self._database.execute("DROP TABLE room")
            self._start_log_again()
        except sqlite3.OperationalError as error:
            if not _is_full(error):
                raise

    def _start_log_again(self) -> None:
        self._database.execute("PRAGMA wal_checkpoint(RESTART)").fetchall()

    def close(self) -> None:
        """Close the database."""
        self._database.close()

    def entries(self) -> list[Entry]:
        """All local copies, by segment id.

        :raises trough.errors.BadSettings: the database is damaged
        """
        try:
            rows = self._database.execute(
                f"SELECT {', '.join(_COLUMNS)} FROM local_copy ORDER BY segment"
            ).fetchall()
        except sqlite3.DatabaseError as error:
            raise self._damaged(error) from error
        found = [Entry(*row) for row in rows]
        for entry in found:
            entry.unpromoted = bool(entry.unpromoted)
        return found

    def put(self, *entries: Entry) -> None:
        """Add or replace entries, all in one commit.

        :raises trough.errors.DiskFull: no room; nothing changed
        :raises trough.errors.Unavailable: the disk cannot be written; nothing changed
        """
        rows = [astuple(entry) for entry in entries]
        try:
            with self._change():
                self._database.executemany(_PUT, rows)
        except errors.DiskFull:
            try:
                self._start_log_again()
            except sqlite3.OperationalError as error:
                raise self._no_room(error) from error
            with self._change():  # from the beginning of the log, which is long enough
                self._database.executemany(_PUT, rows)

    def remove(self, segments: Iterable[str]) -> None:
        """Forget entries, all in one commit; those that are unknown are passed over.

        :raises trough.errors.DiskFull: no room; nothing changed
        :raises trough.errors.Unavailable: the disk cannot be written; nothing changed
        """
        with self._change():
            self._database.executemany(
                "DELETE FROM local_copy WHERE segment = ?", [(segment,) for segment in segments]
            )

    @contextmanager
    def _change(self) -> Iterator[None]:
        try:
            with transaction(self._database):
                yield
        except sqlite3.DatabaseError as error:
            if isinstance(error, sqlite3.IntegrityError):
                raise  # a mistake of ours
            if _is_full(error):
                raise self._no_room(error) from error
            raise errors.Unavailable(f"the catalogue {self._path}: {error}") from error

    def _damaged(self, reason: object) -> errors.BadSettings:
        return errors.BadSettings(
            f"the catalogue {self._path} is damaged: {reason}",
            "keep LOCAL_DATA aside, for writes in it that were not promoted, and start with an "
            "empty one",
        )

    def _no_room(self, error: sqlite3.Error) -> errors.DiskFull:
        message = f"no room for the catalogue {self._path}: {error}"
        return errors.DiskFull(message, "free space on that disk")


def _is_full(error: sqlite3.Error) -> bool:
    # The latter for the index of its write-ahead log, which SQLite makes when it opens it.
    return error.sqlite_errorcode in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_SHMSIZE)

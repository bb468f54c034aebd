"""Stores a base on a follower: the database file, then all of its WAL."""

from __future__ import annotations

import contextlib
from pathlib import Path

from trough import errors
from trough.replication.disk import Disk
from trough.replication.log import BasePart
from trough.replication.shadow_pair import Pair, database_path, log_path


class BaseInstall:
    """Writes the pieces to a new pair of files, and checks the result. Raises OSError.

    :ivar number: of the files
    :ivar page_size: of the database, in bytes, once it is complete
    """

    def __init__(self, disk: Disk, directory: Path, number: int, first: BasePart) -> None:
        self.number = number
        self.page_size = 0
        self._disk = disk
        self._directory = directory
        self._first = first
        self._place = 0
        self._of_log = False
        self._pair = Pair(disk, directory, number, create=True)

    def add(self, part: BasePart) -> Pair | None:
        """Write a piece.

        :return: the pair, flushed and checked, once it is complete; the caller owns it then
        :raises trough.errors.BadLogPart: the piece is out of order, or no part of a base
        """
        first = self._first
        if (part.log, part.generation, part.before) != (first.log, first.generation, first.before):
            raise errors.BadLogPart("a piece belongs to another base")
        if part.of_log and not self._of_log:
            if self._place != first.size:
                raise errors.BadLogPart("a base lacks the end of its database")
            self._of_log, self._place = True, 0
        if part.of_log != self._of_log or part.place != self._place:
            raise errors.BadLogPart(
                f"a piece of a base is for {part.place}, and {self._place} comes next"
            )
        self._place += len(part.content)
        if self._place > part.size or (not part.of_log and part.size != first.size):
            raise errors.BadLogPart("a base is larger than it began")
        self._pair.write(part.of_log, part.place, part.content)
        if not part.last:
            return None
        self._check(part.size)
        return self._pair

    def _check(self, size: int) -> None:
        """Check both files, and flush them."""
        pair = self._pair
        pair.flush()
        page_size = pair.page_size()
        if page_size is None:
            raise errors.BadLogPart("a base is no database of SQLite")
        pair.verify()
        if pair.offset != size or not pair.ends_a_transaction():
            raise errors.BadLogPart(
                f"of the WAL of a base, {size} bytes, {pair.offset} are whole transactions"
            )
        if pair.header is not None and pair.header.page_size != page_size:
            raise errors.BadLogPart("the database and the WAL of a base have different pages")
        self._disk.flush_directory(self._directory)
        self.page_size = page_size

    def drop(self) -> None:
        """Drop the base that is under way."""
        self._pair.close()
        with contextlib.suppress(OSError):  # a sweep removes them later
            self._disk.remove(database_path(self._directory, self.number))
            self._disk.remove(log_path(self._directory, self.number))

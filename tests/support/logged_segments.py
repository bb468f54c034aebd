"""A segment whose WAL is replicated, as an executor writes it and the worker reads it."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from time import monotonic
from typing import Any

from trough.replication.holder_log import WalReader
from trough.replication.log import PART_SIZE, LogPart
from trough.sql import segment_files, sqlite
from trough.sql.writing import SqlWrite, Writer

SCHEMA = "CREATE TABLE event(id INTEGER PRIMARY KEY, content BLOB)"


class LoggedSegment:
    """The holder's side, in one process.

    :ivar ends: positions that were reported after commits
    :ivar reader: the log as the worker's process reads it
    """

    def __init__(self, path: Path, page_size: int = 4096, kept: int = 4) -> None:
        self.path = path
        self.engine = sqlite.Engine()
        with contextlib.closing(sqlite3.connect(path)) as connection:
            connection.execute(f"PRAGMA page_size={page_size}")
            connection.executescript(SCHEMA)
        segment_files.make_writable(self.engine, str(path))
        segment_files.begin_log(self.engine, str(path))
        self.ends: list[int] = []
        self.open(kept)

    @classmethod
    def again(cls, path: Path) -> LoggedSegment:
        """A segment that has a log already, or gets one, as a new process opens it."""
        made = cls.__new__(cls)
        made.path, made.engine, made.ends = path, sqlite.Engine(), []
        segment_files.begin_log(made.engine, str(path))
        made.open()
        return made

    def open(self, kept: int = 4) -> None:
        """Begin as a new process does."""
        self.handles = segment_files.writing_handles(self.engine, kept)
        self.writer = Writer(
            self.engine,
            self.handles,
            lambda write: None,
            committed=lambda segment, generation, end: self.ends.append(end),
        )
        self.reader = WalReader(self.path)

    def write(self, *texts: str, parameters: Any = None) -> list[SqlWrite]:
        """Apply each text, all in one commit."""
        writes = [SqlWrite(n, text, parameters, monotonic() + 60) for n, text in enumerate(texts)]
        rest: Any = writes
        while rest:
            rest = self.writer.apply("s", str(self.path), 1, rest)
        return writes

    def insert(self, number: int = 1, size: int = 100) -> int:
        """Insert rows, one commit; return where the log ends."""
        (write,) = self.write(
            f"WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {number}) "
            f"INSERT INTO event(content) SELECT randomblob({size}) FROM n"
        )
        assert write.error is None
        assert write.position is not None
        return write.position

    def checkpoint(self) -> None:
        """Move all of the WAL into the database."""
        segment_files.checkpoint_log(self.engine, str(self.path), self.reader.end())

    def parts(self, start: int, end: int, limit: int = PART_SIZE) -> Iterator[LogPart]:
        """The log from `start` to `end`."""
        while start < end:
            part = self.reader.read(start, end, limit)
            yield part
            start = part.end

    @contextlib.contextmanager
    def a_reader(self) -> Iterator[sqlite3.Connection]:
        """Somebody who reads the segment as it is now, for as long as the block lasts."""
        connection = self.engine.open_reader(str(self.path), True)
        with contextlib.closing(connection):
            connection.execute("BEGIN")
            connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
            yield connection

    def close(self) -> None:
        """Close everything that is open."""
        self.handles.clear()
        self.reader.close()

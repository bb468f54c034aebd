"""Change notices of the registry.

SQLite sends no notice of a change. But it has a number that changes with every commit, and reading
it costs next to nothing. One connection reads it ten times a second, for all watches. Only if it
changed does it look for rows with a later transaction number than a watch has seen. So a notice
arrives within a tenth of a second or two, from any process, and costs by the change and not by
what is stored.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from trough import errors
from trough.metadata import AssignmentChanges, LockChanges, Watch
from trough.metadata.sqlite import reads
from trough.metadata.sqlite.database import Database
from trough.model import Assignment
from trough.util.threads import ThreadPoolService

_log = Logger()

#: Seconds between two looks.
INTERVAL = 0.1

Changes = AssignmentChanges | LockChanges
#: Given a connection and the last transaction number seen (None: nothing was seen),
#: what is new and the number up to which it is.
Source = Callable[[sqlite3.Connection, int | None], tuple[Changes, int]]


def assignment_source(node: str) -> Source:
    """What is new about one worker's assignments."""

    def changes(connection: sqlite3.Connection, seen: int | None) -> tuple[Changes, int]:
        value, since, full = _place(connection, seen)
        changed = connection.execute(
            "SELECT segment, node, ring, path, size, modified, generation, assigned_on"
            "  FROM assignment WHERE node = ? AND changed > ?",
            (node, since),
        )
        removed = connection.execute(
            "SELECT segment FROM removal WHERE node = ? AND changed > ?", (node, since)
        )
        return AssignmentChanges(
            full=full,
            changed=[Assignment(*row) for row in changed],
            removed=[] if full else [row[0] for row in removed],
        ), value

    return changes


def lock_changes(connection: sqlite3.Connection, seen: int | None) -> tuple[Changes, int]:
    """What is new about all write locks."""
    value, since, full = _place(connection, seen)
    rows = connection.execute(
        f"SELECT {reads.LOCK_COLUMNS} FROM lock WHERE changed > ?", (since,)
    ).fetchall()
    return LockChanges(
        full=full,
        held=[reads.lock(row) for row in rows if row[1] is not None],
        released=[] if full else [row[0] for row in rows if row[1] is None],
    ), value


def _place(connection: sqlite3.Connection, seen: int | None) -> tuple[int, int, bool]:
    """The last number given, the one to look from, and whether to report everything."""
    value, horizon = connection.execute("SELECT value, horizon FROM sequence").fetchone()
    # A number that went back means another file in the place of the one we knew.
    full = seen is None or not horizon <= seen <= value
    return value, 0 if full or seen is None else seen, full


class SqliteWatch(Watch):
    """One listener and the last notice that it got.

    :param now: seconds by the reactor's clock
    """

    def __init__(self, source: Source, listener: Callable[[Any], None], now: float) -> None:
        self.source = source
        self.seen: int | None = None
        self.stopped = False
        self._listener = listener
        self.outdated_since: float | None = now

    def looked(self, now: float, failed: bool) -> None:
        """The registry was read, and changes were reported; or it cannot be read."""
        if not failed:
            self.outdated_since = None
        elif self.outdated_since is None:
            self.outdated_since = now

    def stop(self) -> None:
        self.stopped = True

    def tell(self, changes: Changes, seen: int) -> None:
        """Hand on what is new, if anything is."""
        self.seen = seen
        if self.stopped or not (changes.full or _anything(changes)):
            return
        try:
            self._listener(changes)
        except Exception:
            _log.failure("a listener to changes of the registry failed")


def _anything(changes: Changes) -> bool:
    if isinstance(changes, LockChanges):
        return bool(changes.held or changes.released)
    return bool(changes.changed or changes.removed)


class Watcher:
    """Looks for changes on behalf of all watches of a process.

    :param open_database: called on a thread of `threads`
    """

    def __init__(
        self, open_database: Callable[[], Database], threads: ThreadPoolService, reactor: Any
    ) -> None:
        self._open_database = open_database
        self._threads = threads
        self._reactor = reactor
        self._database: Database | None = None
        self._version: int | None = None
        self._watches: list[SqliteWatch] = []
        #: What kind of error the last look failed with.
        self._trouble: type[Exception] | None = None
        self._looking: Deferred[LoopingCall] | None = None
        self._loop = LoopingCall(self._look)
        self._loop.clock = reactor

    def add(self, source: Source, listener: Callable[[Any], None]) -> Watch:
        """Begin a watch; its first notice has everything."""
        watch = SqliteWatch(source, listener, self._reactor.seconds())
        self._watches.append(watch)
        if not self._loop.running:
            self._looking = self._loop.start(INTERVAL)
        return watch

    async def stop(self) -> None:
        """End all watches, and wait for the look under way."""
        for watch in self._watches:
            watch.stop()
        if self._loop.running:
            self._loop.stop()
        if self._looking is not None:
            await self._looking
        if self._database is not None:
            self._database.close()

    async def _look(self) -> None:
        self._watches = [watch for watch in self._watches if not watch.stopped]
        if not self._watches:
            return
        asking = list(self._watches)
        try:
            news = await self._threads.run(self._news, asking)
        except Exception as error:
            self._failed(error)
            self._note(asking, failed=True)
            return
        self._trouble = None
        for watch, changes, seen in news:
            watch.tell(changes, seen)
        self._note(asking, failed=False)

    def _note(self, watches: Iterable[SqliteWatch], failed: bool) -> None:
        for watch in watches:
            watch.looked(self._reactor.seconds(), failed)

    def _failed(self, error: Exception) -> None:
        # The loop goes on, ten times a second: one word when the trouble begins is enough.
        if type(error) is self._trouble:
            return
        self._trouble = type(error)
        if isinstance(error, errors.TroughError):
            _log.warn("cannot look for changes: {error}", error=error)
        else:
            _log.failure("looking for changes failed", Failure(error))

    def _news(self, watches: Iterable[SqliteWatch]) -> list[tuple[SqliteWatch, Changes, int]]:
        """On a thread: the next notice of each watch."""
        if self._database is None:
            self._database = self._open_database()
        # Asked for before the rows are read: what comes in between is seen twice, not never.
        version = self._database.data_version()
        moved = version != self._version
        asking = [watch for watch in watches if moved or watch.seen is None]
        found = self._database.read(_ask, asking) if asking else []
        self._version = version
        return found


def _ask(
    connection: sqlite3.Connection, now: float, watches: Iterable[SqliteWatch]
) -> list[tuple[SqliteWatch, Changes, int]]:
    return [(watch, *watch.source(connection, watch.seen)) for watch in watches]

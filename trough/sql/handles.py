"""Open connections on segments, kept for the next query.

Opening a small segment and reading its schema takes longer than most queries on it. So this
module keeps a bounded number of connections, and closes the least recently used first. A query
takes a handle for itself alone, and a suspended query keeps its own. So a client that never
reads on does not block other queries, and every new query on a segment that is written sees the
last commit.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

from trough.sql.commit_log import CommitLog
from trough.sql.sqlite import Connection


class Handle:
    """A connection on one segment's file.

    :ivar names: for each SQL text that was run on it, what its user noted of its columns
    :ivar cursor: for the query that has the handle; making one costs as much as a query
    :ivar generation: of the file
    :ivar page_limit: pages that the file may grow to; 0 where no limit was set
    :ivar writable: whether the file is being written
    :ivar log: what replication needs of a connection that writes, or None
    :ivar makes_json: whether it was given the function that JSON by SQLite needs
    :ivar virtual: whether the segment has virtual tables; None while this is unknown
    :ivar repeats: for SQL texts whether they give the same again while the file is the same
    """

    __slots__ = (
        *("connection", "cursor", "generation", "log", "makes_json"),
        *("names", "page_limit", "path", "repeats", "segment", "virtual", "writable"),
    )

    def __init__(
        self, connection: Connection, segment: str, path: str, generation: int, writable: bool
    ) -> None:
        self.connection = connection
        self.cursor = connection.cursor()
        self.segment = segment
        self.path = path
        self.generation = generation
        self.writable = writable
        self.names: dict[str, Any] = {}
        self.repeats: dict[str, bool] = {}
        self.virtual: bool | None = None
        self.makes_json = False
        self.page_limit = 0
        self.log: CommitLog | None = None

    def close(self) -> None:
        """Close the connection, and what belongs to it."""
        self.connection.close()
        if self.log is not None:
            self.log.close()


class Handles:
    """The handles of one process.

    :param open_connection: opens the file at a path, which may be being written
    :param limit: how many are kept at most
    :param log_of: gives the log of a connection on the file at a path, or None
    """

    def __init__(
        self,
        open_connection: Callable[[str, bool], Connection],
        limit: int,
        log_of: Callable[[Connection, str], CommitLog | None] | None = None,
    ) -> None:
        self._open = open_connection
        self._limit = limit
        self._log_of = log_of
        self._kept: dict[str, Handle] = {}
        self._taken: Counter[str] = Counter()
        self._released: dict[str, list[Callable[[], None]]] = {}

    def __len__(self) -> int:
        return len(self._kept)

    def take(self, segment: str, path: str, generation: int, writable: bool) -> Handle:
        """A handle on the present file of a segment, for one user at a time.

        Raises what SQLite raises.
        """
        handle = self._kept.pop(segment, None)
        if handle is not None:
            if (
                handle.generation == generation
                and handle.writable == writable
                and handle.path == path
            ):
                return handle
            handle.close()
        handle = Handle(self._open(path, writable), segment, path, generation, writable)
        if self._log_of is not None:
            handle.log = self._log_of(handle.connection, path)
        return handle

    def give(self, handle: Handle) -> None:
        """Give back a handle on which nothing runs any more."""
        segment = handle.segment
        if segment in self._kept or segment in self._released:
            handle.close()
            return
        kept = self._kept
        kept[segment] = handle
        if len(kept) > self._limit:
            kept.pop(next(iter(kept))).close()

    def kept(self, segment: str) -> Handle | None:
        """The unused handle on a segment, if there is one; it stays where it is."""
        return self._kept.get(segment)

    def clear(self) -> int:
        """Close all handles that are kept, for their memory; return how many."""
        kept = list(self._kept.values())
        self._kept.clear()
        for handle in kept:
            handle.close()
        return len(kept)

    # -- what is suspended, and forgotten ----------------------------------------------

    def hold(self, handle: Handle) -> None:
        """Note that `handle` stays taken, until :meth:`let_go`."""
        self._taken[handle.segment] += 1

    def let_go(self, handle: Handle) -> None:
        """Undo :meth:`hold`, after the handle was given back."""
        segment = handle.segment
        self._taken[segment] -= 1
        if self._taken[segment]:
            return
        del self._taken[segment]
        for released in self._released.pop(segment, ()):
            released()

    def forget(self, segment: str, released: Callable[[], None] | None = None) -> bool:
        """Close what is open on a segment.

        :param released: called once nothing is open, unless that is so already
        :return: whether nothing is open
        """
        kept = self._kept.pop(segment, None)
        if kept is not None:
            kept.close()
        if not self._taken.get(segment):
            return True
        if released is not None:
            self._released.setdefault(segment, []).append(released)
        return False

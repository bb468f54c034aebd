"""Change notices of RethinkDB, by changefeeds.

A changefeed ends with its connection, with a failover of its table, and when its reader is too
slow. Each time it starts again with everything, and its listener gets a full notice. RethinkDB's
feeds may report a change twice, and may skip a change that was undone. In the end they amount to
what is stored.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from rethinkdb import errors as reql
from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger

from trough import errors
from trough.metadata import Watch
from trough.metadata.rethinkdb.cluster import LONGEST_PAUSE, RethinkCluster
from trough.metadata.rethinkdb.connection import Feed

_log = Logger()

SHORTEST_PAUSE = 0.1

Row = Mapping[str, Any]
#: Called with whether it is everything, rows that are new or changed, and rows that are gone.
Told = Callable[[bool, list[Row], list[Row]], None]


class FeedError(Exception):
    """The feed passed something over."""


class FeedReader:
    """Makes notices of a feed's documents; without I/O."""

    def __init__(self, told: Told) -> None:
        self._told = told
        self._initial: dict[str, Row] | None = {}

    def documents(self, documents: list[Row]) -> None:
        """Take a batch.

        :raises FeedError: the feed has gaps, and has to start again
        """
        new: dict[str, Row] = {}
        gone: dict[str, Row] = {}
        for document in documents:
            if "error" in document:
                raise FeedError(document["error"])
            if document.get("state") == "ready":
                self._ready(new, gone)
            elif "state" not in document:
                _apply(document, new, gone)
        if self._initial is not None:
            self._keep(new, gone)
        elif new or gone:
            self._told(False, list(new.values()), list(gone.values()))

    def _keep(self, new: dict[str, Row], gone: dict[str, Row]) -> None:
        assert self._initial is not None
        self._initial.update(new)
        for key in gone:
            self._initial.pop(key, None)

    def _ready(self, new: dict[str, Row], gone: dict[str, Row]) -> None:
        if self._initial is None:
            return
        self._keep(new, gone)
        initial, self._initial = self._initial, None
        new.clear()
        gone.clear()
        self._told(True, list(initial.values()), [])


def _apply(document: Row, new: dict[str, Row], gone: dict[str, Row]) -> None:
    row, old = document.get("new_val"), document.get("old_val")
    if row is not None:
        new[row["id"]] = row
        gone.pop(row["id"], None)
    elif old is not None:
        gone[old["id"]] = old
        new.pop(old["id"], None)


class FeedWatch(Watch):
    """A watch that lasts, over any number of changefeeds.

    :param term: starts one
    """

    def __init__(self, cluster: RethinkCluster, term: Any, told: Told) -> None:
        self._cluster = cluster
        self._term = term
        self._told = told
        self._feed: Feed | None = None
        self.outdated_since: float | None = cluster.seconds()
        self._stopped = False
        self._pause = SHORTEST_PAUSE
        self.running = Deferred.fromCoroutine(self._run())
        self.running.addErrback(lambda failure: failure.trap(CancelledError))
        self.running.addErrback(lambda failure: _log.failure("a watch failed", failure=failure))

    def stop(self) -> None:
        self._stopped = True
        if self._feed is not None:
            self._feed.stop()
        self.running.cancel()

    async def _run(self) -> None:
        while not self._stopped:
            reader = FeedReader(self._tell)
            try:
                self._feed = await self._cluster.feed(self._term, partial(self._take, reader))
                await self._feed.ended
            except CancelledError:
                raise
            except (errors.TroughError, reql.ReqlError, FeedError) as error:
                if self._stopped:
                    return
                _log.info("watching again: {error}", error=getattr(error, "message", error))
            if self.outdated_since is None:
                self.outdated_since = self._cluster.seconds()
            await self._cluster.pause(self._pause)
            self._pause = min(LONGEST_PAUSE, self._pause * 2)

    def _take(self, reader: FeedReader, rows: list[Row]) -> None:
        try:
            reader.documents(rows)
        except FeedError as error:
            assert self._feed is not None
            self._feed.stop(error)

    def _tell(self, full: bool, new: list[Row], gone: list[Row]) -> None:
        if self._stopped:
            return
        self._pause = SHORTEST_PAUSE
        if full:
            self.outdated_since = None
        try:
            self._told(full, new, gone)
        except Exception:
            _log.failure("a listener to changes failed")

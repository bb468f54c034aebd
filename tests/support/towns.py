"""A Twisted client in a real registry, in which a test writes down the servers that it runs,
and what the client's queries find."""

from __future__ import annotations

from line_servers import LineServer
from twisted.internet import defer, reactor
from waiting import EXPECTED_WITHIN

from trough import model
from trough.cluster_client.client import Cluster
from trough.metadata.sqlite.store import SqliteMetadata


class Found:
    """A listener that keeps what it is told, and says every event.

    :ivar rows: by segment
    :ivar events: name of the event and segment, in order
    """

    def __init__(self, forgets=True) -> None:
        self.rows_of = {}
        self.names_of = {}
        self.counts = {}
        self.failures = {}
        self.marks = {}
        self.events = []
        self._forgets = forgets
        self._waiting = []

    def columns(self, segment, names):
        self._happened("columns", segment)
        assert segment not in self.names_of
        self.names_of[segment] = names

    def rows(self, segment, rows):
        self._happened("rows", segment)
        self.rows_of.setdefault(segment, []).extend(rows)

    def done(self, segment, count):
        self._happened("done", segment)
        assert count == len(self.rows_of.get(segment, []))
        self.counts[segment] = count

    def failed(self, segment, error):
        self._happened("failed", segment)
        self.failures[segment] = error

    def state(self, segment, mark):
        self.marks[segment] = mark

    def restarted(self, segment):
        self._happened("restarted", segment)
        if self._forgets:
            self.rows_of.pop(segment, None)
            self.names_of.pop(segment, None)
        return self._forgets

    def _happened(self, event, segment):
        self.events.append((event, segment))
        waiting, self._waiting = self._waiting, []
        for wanted, deferred in waiting:
            if wanted == (event, segment):
                deferred.callback(None)
            else:
                self._waiting.append((wanted, deferred))

    def happens(self, event, segment):
        """Fires when this event happens next."""
        deferred = defer.Deferred()
        self._waiting.append(((event, segment), deferred))
        return deferred.addTimeout(EXPECTED_WITHIN, reactor)


async def say_known(metadata, known=True, unplaced=()):
    """Have whoever leads, or somebody who leads for a moment, say that the store tells of all
    segments."""
    leader = await metadata.campaign(model.Leader("sync", "for-a-moment", url="http://x/"))
    await metadata.save_inventory(leader, known, list(unplaced))
    if leader.identity == "for-a-moment":
        await metadata.resign(leader)


class Town:
    """A real registry in which a test writes down the servers that it runs."""

    def __init__(self, path) -> None:
        self.metadata = SqliteMetadata(path / "registry.db", reactor)
        self.cluster = Cluster(self.metadata, reactor)

    async def worker(self, node, server, *segments, load=0.0, role=model.READ, http=""):
        """Register a worker, and the copies that it serves."""
        line = server.address if isinstance(server, LineServer) else ""
        line = server if isinstance(server, str) else line
        await self.metadata.register_worker(
            model.Worker(node, f"id-{node}", line=line, load=load, ttl=3600.0, write_url=http)
        )
        await self.serve(node, *segments, role=role, http=http)

    async def serve(self, node, *segments, role=model.READ, http=""):
        """Publish copies."""
        await self.metadata.publish_copies(
            [
                model.Copy(segment, node, role, f"{http or 'http://x/'}?segment={segment}")
                for segment in segments
            ]
        )

    async def lead(self, server):
        """Make a server the leader."""
        former = await self.metadata.leader()
        if former is not None:
            await self.metadata.resign(former)
        line = server if isinstance(server, str) else server.address
        await self.metadata.campaign(
            model.Leader("sync", line, url="http://x/", line=line, ttl=3600.0)
        )

    async def know(self, known=True, unplaced=()):
        """Have a leader say that the registry tells of all segments."""
        await say_known(self.metadata, known, unplaced)

    def query(self, segments, sql="SELECT a FROM t", *arguments, listener=None, **options):
        """The query, and what it finds."""
        found = listener or Found()
        return self.cluster.query(segments, sql, *arguments, listener=found, **options), found

    async def found(self, segments, **options):
        """What a query finds, once it has ended."""
        query, found = self.query(segments, **options)
        await settled(query.done)
        return found


def settled(deferred):
    """The same Deferred, with a net under it."""
    return deferred.addTimeout(EXPECTED_WITHIN, reactor)

"""The connection of a script to the cluster: short queries without a reactor.

Importing Twisted takes longer than a short query. So a query of one segment goes to its worker
on a blocking connection. The whole client (:mod:`trough.shell.cluster.remote`) does everything
else, and takes over if the query fails here. It is created when it is first needed. It handles
other copies, cold segments, failures and writes. The answers are the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, cast

from trough import errors
from trough.cli import metadata_url
from trough.metadata.blocking import BlockingMetadata
from trough.metadata.open_blocking import open_blocking
from trough.metadata.url import SqliteAddress, parse
from trough.model import READ, WRITE, Copy
from trough.protocols.line.blocking import BlockingConnection
from trough.shell.cluster.events import EventListener
from trough.shell.session import (
    Done,
    Event,
    Failed,
    MoreRows,
    Parameters,
    Remote,
    Restarted,
    RunningQuery,
)
from trough.tls import TlsFiles


class DirectRemote:
    """See :class:`trough.shell.session.Remote`. The whole client does what is missing here.

    :param token: sent to servers that require one
    :param tls: which certificates to trust
    :param whole: creates the whole client, when it is first needed
    """

    def __init__(
        self,
        metadata: BlockingMetadata,
        token: str | None,
        tls: TlsFiles,
        whole: Callable[[], Remote],
    ) -> None:
        self._metadata = metadata
        self._token = token
        self._tls = tls
        self._make_whole = whole
        self._whole: Remote | None = None
        self._kept: tuple[str, BlockingConnection] | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self.whole(), name)

    def whole(self) -> Remote:
        """The whole client. From now on every question goes to it."""
        if self._whole is None:
            self._whole = self._make_whole()
            self._leave()
        return self._whole

    def query(
        self,
        segments: Sequence[str],
        sql: str,
        parameters: Parameters = None,
        forgets: bool = True,
    ) -> RunningQuery:
        if len(segments) != 1 or self._whole is not None:
            return self.whole().query(segments, sql, parameters, forgets)
        return _DirectQuery(self, segments[0], sql, parameters, forgets)

    def copies(self, segments: Sequence[str]) -> dict[str, list[Copy]]:
        found = self._metadata.copies_of(segments)
        readable = {
            segment: [copy for copy in copies if copy.role == READ]
            for segment, copies in found.items()
        }
        return {segment: copies for segment, copies in readable.items() if copies}

    def close(self) -> None:
        self._leave()
        self._metadata.close()
        if self._whole is not None:
            self._whole.close()

    # -- for queries ---------------------------------------------------------------------

    def connection(self, segment: str) -> BlockingConnection:
        """A connection to a worker that serves a segment. The caller gives it back.

        :raises trough.errors.TroughError: there is none, or none that is easily found
        """
        copies = self._metadata.copies_of([segment]).get(segment, [])
        readable = [copy for copy in copies if copy.role == READ]
        writers = {copy.node for copy in copies if copy.role == WRITE}
        # The worker that writes a segment has its newest state.
        for copy in [copy for copy in readable if copy.node in writers] or readable:
            for worker in self._metadata.workers():
                if worker.node == copy.node and worker.line:
                    return self._connected(worker.line)
        raise errors.NoSuchSegment(f"no worker serves segment {segment}")

    def _connected(self, address: str) -> BlockingConnection:
        kept, self._kept = self._kept, None
        if kept is not None and kept[0] == address:
            return kept[1]
        if kept is not None:
            kept[1].close()
        return BlockingConnection(address, self._token, self._tls)

    def give_back(self, connection: BlockingConnection, usable: bool) -> None:
        """Take a connection back. If it is usable, the next query uses it."""
        if usable and self._whole is None:
            self._kept = (connection.address, connection)
        else:
            connection.close()

    def _leave(self) -> None:
        if self._kept is not None:
            self._kept[1].close()
            self._kept = None


class _DirectQuery:
    """A query of one segment; see :class:`trough.shell.session.RunningQuery`."""

    def __init__(
        self,
        remote: DirectRemote,
        segment: str,
        sql: str,
        parameters: Parameters,
        forgets: bool,
    ) -> None:
        self._remote = remote
        self._segment = segment
        self._sql = sql
        self._parameters = parameters
        self._forgets = forgets
        self._connection: BlockingConnection | None = None

    def __enter__(self) -> _DirectQuery:
        return self

    def __exit__(self, *_: object) -> None:
        if self._connection is not None:
            self._connection.close()

    def events(self, tick: float) -> Iterator[Event | None]:
        """See :class:`trough.shell.session.RunningQuery`."""
        told = False
        # The first rows wait for more, or for the end: a short answer cut off shows nothing.
        held: list[Event] = []
        try:
            for event in self._direct(tick):
                if event is None:
                    yield None
                    continue
                more = isinstance(event, MoreRows) and any(
                    isinstance(each, MoreRows) for each in held
                )
                held.append(event)
                if told or more or isinstance(event, Done | Failed):
                    told = True
                    yield from held
                    held.clear()
            return
        except errors.TroughError as error:
            if told and not self._forgets:
                yield Failed(self._segment, error)
                return
        if told:
            yield Restarted(self._segment)
        again = self._remote.whole().query(
            [self._segment], self._sql, self._parameters, self._forgets
        )
        with again as query:
            yield from query.events(tick)

    def _direct(self, tick: float) -> Iterator[Event | None]:
        """The worker's answer.

        :raises trough.errors.TroughError: another worker may answer, or the query is refused
        """
        heard: list[Event] = []
        listener = EventListener(lambda event, _: heard.append(event), self._forgets)
        connection = self._connection = self._remote.connection(self._segment)
        steps = connection.query([self._segment], self._sql, self._parameters, listener, tick)
        for step in steps:
            for event in heard:
                if isinstance(event, Failed) and errors.may_pass(event.error):
                    raise event.error
                yield event
            if not heard:
                yield None
            heard.clear()
            if step is not None:
                self._connection = None
                self._remote.give_back(connection, usable=True)


def connect(url: str, token: str | None, tls: TlsFiles, whole: Callable[[], Remote]) -> Remote:
    """Connect a script to the cluster that `url` names.

    :param whole: creates the whole client
    :raises trough.errors.BadSettings: naming what is wrong about the URL
    :raises trough.errors.Unavailable: naming the store, and why it cannot be reached
    """
    address = parse(url)
    if not isinstance(address, SqliteAddress):
        # Its driver takes as long to import as the reactor.
        return whole()
    metadata_url.check_file(address)
    metadata = open_blocking(url)
    metadata.workers()  # fails if the file is not a registry
    return cast(Remote, DirectRemote(metadata, token, tls, whole))

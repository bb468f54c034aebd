"""The shell's connection to the cluster: :class:`trough.shell.session.Remote`, implemented by
the Twisted client on the reactor's thread.

The shell has one of these. No other part of the shell depends on Twisted, the metadata store or
a worker.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from twisted.internet import defer, task

from trough.access.tokens import Credential
from trough.cli.outage import PATIENCE, Outage, say_on_stderr
from trough.cluster_client.client import Cluster
from trough.errors import TroughError
from trough.metadata.open import open_metadata
from trough.metadata.url import parse
from trough.model import Copy, Lock, Schema, Worker
from trough.shell.cluster.events import EventListener
from trough.shell.cluster.known_workers import KnownWorkers
from trough.shell.cluster.probe import check_reachable
from trough.shell.cluster.reactor_bridge import Bridge, ThreadStream, run_reactor
from trough.shell.session import (
    Event,
    Parameters,
    ProgressEvent,
    Published,
    RunningQuery,
    SegmentResult,
    Started,
    Written,
)
from trough.tls import TlsFiles
from trough.tls.client import ClientTls

#: Segments promoted or deleted at the same time.
AT_ONCE = 16

#: Seconds between two checks of their progress.
_TICK = 0.1

#: Seconds between two requests for the progress of a promotion.
WATCHED_EVERY = 1.0

#: Seconds that closing may take; the end of the process closes the rest.
CLOSE_SECONDS = 3.0


class _Running:
    """A running query; see :class:`trough.shell.session.RunningQuery`.

    :ivar kept: number of segments whose worker had kept the answer; set when the query is over
    """

    kept = 0

    def __init__(self, bridge: Bridge, start: Callable[[ThreadStream[Event]], Any]) -> None:
        self._bridge = bridge
        self._call: Any = None
        self._stream: ThreadStream[Event] = ThreadStream(bridge, self._pause, self._resume)
        bridge.post(self._start, start)

    def __enter__(self) -> _Running:
        return self

    def __exit__(self, *_: object) -> None:
        self._bridge.post(self._cancel)

    def events(self, tick: float) -> Iterator[Event | None]:
        """See :class:`trough.shell.session.RunningQuery`."""
        return self._stream.items(tick)

    # -- on the reactor's thread ------------------------------------------------

    def _start(self, start: Callable[[ThreadStream[Event]], Any]) -> None:
        try:
            self._call = start(self._stream)
        except Exception as error:
            self._stream.end(error)
            return
        self._call.done.addCallbacks(self._ended, lambda failure: self._stream.end(failure.value))

    def _ended(self, stats: Any) -> None:
        self.kept = getattr(stats, "kept", 0)
        self._stream.end()

    def _cancel(self) -> None:
        self._stream.end()
        if self._call is not None:
            self._call.cancel()

    def _pause(self) -> None:
        if self._call is not None:
            self._call.pause()

    def _resume(self) -> None:
        if self._call is not None:
            self._call.resume()


class ClusterRemote:
    """See :class:`trough.shell.session.Remote`."""

    def __init__(
        self, bridge: Bridge, cluster: Cluster, known: KnownWorkers, stop: Callable[[], None]
    ) -> None:
        self._bridge = bridge
        self._cluster = cluster
        self._known = known
        self._stop = stop
        self._closed = False

    def query(
        self,
        segments: Sequence[str],
        sql: str,
        parameters: Parameters = None,
        forgets: bool = True,
    ) -> RunningQuery:
        def start(stream: ThreadStream[Event]) -> Any:
            listener = EventListener(stream.put, forgets)
            # The queries of a GATHER repeat, and drop no rows on the way.
            return self._cluster.query(
                segments, sql, parameters or None, listener=listener, keep=not forgets
            )

        return _Running(self._bridge, start)

    def write(self, segment: str, sql: str, schema: str) -> Written:
        async def write() -> int:
            return await self._cluster.write(segment, sql, schema=schema)

        return Written(self._bridge.call(write))

    def create(self, segment: str, schema: str) -> None:
        self._bridge.call(self._cluster.provision, segment, schema)

    def copies(self, segments: Sequence[str]) -> dict[str, list[Copy]]:
        return self._bridge.call(self._cluster.where, segments)

    def matching(self, pattern: str | None) -> Iterator[list[str]]:
        pages = self._cluster.matching(pattern)

        async def next_page() -> list[str] | None:
            try:
                return await pages.__anext__()
            except StopAsyncIteration:
                return None

        try:
            while (page := self._bridge.call(next_page)) is not None:
                yield page
        finally:
            # A caller that stops early must not leave the search running.
            self._bridge.post(lambda: defer.Deferred.fromCoroutine(_close(pages)))

    def promote(self, segments: Sequence[str]) -> Iterator[ProgressEvent | None]:
        watched = self._cluster.published if len(segments) == 1 else None
        return self._each(segments, self._cluster.promote, watched)

    def revert(self, segment: str, preview: bool) -> dict[str, Any]:
        return self._bridge.call(self._cluster.revert, segment, preview)

    def delete(self, segments: Sequence[str]) -> Iterator[ProgressEvent | None]:
        return self._each(segments, self._cluster.delete)

    def schemas(self) -> list[str]:
        return self._bridge.call(self._cluster.schemas)

    def schema(self, name: str) -> str:
        return self._bridge.call(self._cluster.schema, name).sql

    def put_schema(self, name: str, sql: str) -> bool:
        new = name not in self.schemas()
        self._bridge.call(self._cluster.put_schema, Schema(name, sql))
        return new

    def workers(self) -> list[Worker]:
        return self._bridge.call(self._cluster.workers)

    def locks(self) -> list[Lock]:
        return self._bridge.call(self._cluster.metadata.locks)

    def status(self) -> dict[str, Any]:
        return self._bridge.call(self._status)

    async def _status(self) -> dict[str, Any]:
        # First: without a store there is nothing else to report or to wait for.
        workers = await self._cluster.workers()
        told: dict[str, Any] = {"sync": await _or_reason(self._cluster.status())}
        for worker in workers:
            told[worker.node] = await _or_reason(self._cluster.worker_status(worker.node))
        return told

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True

        async def close() -> None:
            self._known.remember(self._cluster.asked_workers)
            closing = defer.Deferred.fromCoroutine(self._cluster.close())
            await closing.addTimeout(CLOSE_SECONDS, self._bridge.reactor)

        with contextlib.suppress(defer.TimeoutError, TroughError):
            self._bridge.call(close)
        self._stop()

    def _each(
        self,
        segments: Sequence[str],
        function: Callable[[str], Awaitable[Any]],
        watched: Callable[[str], Awaitable[tuple[int, int]]] | None = None,
    ) -> Iterator[ProgressEvent | None]:
        """Call `function` for each segment, some at a time. Report each start and each result.

        Leaving the iterator cancels the running calls, and starts no more.

        :param watched: returns the bytes done of a running call, and its total bytes
        """
        stream: ThreadStream[ProgressEvent] = ThreadStream(self._bridge, _nothing, _nothing)
        waiting = iter(segments)
        running: list[defer.Deferred[None]] = []
        watching: list[defer.Deferred[None]] = []

        async def work() -> None:
            for segment in waiting:
                stream.put(Started(segment))
                try:
                    await function(segment)
                except TroughError as error:
                    stream.put(SegmentResult(segment, error))
                else:
                    stream.put(SegmentResult(segment))

        async def watch(segment: str) -> None:
            # A small segment needs no line, nor does a token without the right to know.
            with contextlib.suppress(TroughError):
                while watched is not None:
                    await task.deferLater(self._bridge.reactor, WATCHED_EVERY)
                    stream.put(Published(segment, *await watched(segment)))

        def start() -> None:
            watching.append(defer.Deferred.fromCoroutine(watch(segments[0])))
            watching[0].addErrback(lambda failure: failure.trap(defer.CancelledError))
            running.extend(defer.Deferred.fromCoroutine(work()) for _ in range(AT_ONCE))
            # An error of another kind ends everything, and the caller shows it.
            whole = defer.gatherResults(running, consumeErrors=True)
            whole.addCallbacks(
                lambda _: stream.end(), lambda f: stream.end(f.value.subFailure.value)
            )

        def stop() -> None:
            stream.end()
            for deferred in (*running, *watching):
                deferred.cancel()

        self._bridge.post(start)
        try:
            yield from stream.items(_TICK)
        finally:
            self._bridge.post(stop)


async def _close(pages: AsyncIterator[list[str]]) -> None:
    with contextlib.suppress(TroughError):
        await pages.aclose()  # type: ignore[attr-defined]  # the client's is a generator


def _nothing() -> None:
    """Results of whole segments are small: their source needs no pause."""


async def _or_reason(telling: Awaitable[dict[str, Any]]) -> dict[str, Any]:
    try:
        return await telling
    except TroughError as error:
        return {"error": str(error)}


def connect(
    url: str, token: str | None, tls: TlsFiles, workers: Path | None, verbose: bool
) -> ClusterRemote:
    """Start the reactor and open the cluster that `url` names.

    :param token: sent to servers that require one
    :param tls: which certificates to trust
    :param workers: the file of the workers that the last command asked, if there is one
    :param verbose: log to stderr
    :raises trough.errors.BadSettings: naming what is wrong about the URL
    :raises trough.errors.Unavailable: naming the store, and why it cannot be reached
    """
    from twisted.internet import reactor

    address = parse(url)
    metadata = open_metadata(url, reactor, patience=PATIENCE)
    _begin_log(verbose)
    stop = run_reactor()
    bridge = Bridge(
        reactor,
        Outage(lambda: metadata.absence, reactor.seconds, say_on_stderr),  # type: ignore[attr-defined]
    )
    credential = Credential.of(token) if token else None
    cluster = Cluster(metadata, reactor, credential, tls=ClientTls(tls, reactor))
    known = KnownWorkers(workers, str(address))
    try:
        bridge.post(cluster.begin_connecting, known.addresses())
        bridge.call(check_reachable, address, reactor)
        bridge.call(cluster.open)
    except BaseException:
        stop()
        raise
    return ClusterRemote(bridge, cluster, known, stop)


def _begin_log(verbose: bool) -> None:
    """Log to stderr if `verbose`, otherwise nowhere: log lines would break into a prompt."""
    import sys

    from twisted.logger import globalLogBeginner, textFileLogObserver

    observers = [textFileLogObserver(sys.stderr)] if verbose else []
    globalLogBeginner.beginLoggingTo(observers, redirectStandardIO=False, discardBuffer=True)

"""RethinkDB's servers as one: queries over whichever of them answers.

One host at a time is connected, the next one when that is lost, with a growing and
jittered pause between rounds. A query that a lost connection or a failover ended is asked
again until its deadline, since all of Trough's may be (see :mod:`trough.metadata`); one
that is at fault itself fails at once, with the driver's error.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping
from typing import Any, cast

from rethinkdb import errors as reql
from twisted.internet import defer
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionRefusedError, TimeoutError
from twisted.internet.protocol import Factory
from twisted.internet.task import deferLater
from twisted.logger import Logger

from trough import errors
from trough.metadata import StoreOutage, UserRefused
from trough.metadata.rethinkdb import clocks
from trough.metadata.rethinkdb.connection import (
    PING,
    ConnectionLost,
    Feed,
    RethinkConnection,
    plain,
)
from trough.metadata.rethinkdb.terms import NOT_NOW, RethinkRefused
from trough.metadata.url import RethinkAddress, host_and_port
from trough.tls import TlsFiles
from trough.tls.client import ClientTls
from trough.util.trouble_log import Section
from trough.util.waiting import Waiters

_log = Logger()

#: Seconds. A query outlives the failover of a table's primary: of three servers on one
#: machine, that took 2.8 s when it was killed, and 18.5 s when it was stopped.
DEADLINE = 30.0
CONNECT = 5.0
LONGEST_PAUSE = 5.0


class Ambiguous(RethinkRefused):
    """Several tables, or databases, have one name."""


# Of tables and databases, and of indexes.
_MISSING = ("does not exist", "was not found")


class Missing(RethinkRefused):
    """There is no such table, or no such database."""


class RethinkCluster:
    """All hosts of one address, one of them connected.

    :param deadline: seconds for a query, its repetitions included
    :param ping: seconds between signs of life
    :ivar unchecked: whether nobody has looked yet if all tables are there, so that a query that
        misses one fails with :class:`Missing` at once
    """

    def __init__(
        self,
        address: RethinkAddress,
        reactor: Any,
        deadline: float = DEADLINE,
        ping: float = PING,
    ) -> None:
        self.address = address
        self.unchecked = False
        self._ping = ping
        self.deadline = deadline
        self._reactor = reactor
        self._tls = ClientTls(TlsFiles(ca=address.ca or None), reactor, setting="RETHINKDB_TLS")
        if address.ca:
            self._tls.context()  # unusable addresses are found out now
        # Not all processes on the first host.
        self._hosts = random.sample(address.hosts, len(address.hosts))
        self._connection: RethinkConnection | None = None
        self._wanted: Waiters[RethinkConnection] = Waiters()
        self._keeping: Deferred[None] | None = None
        self._failures: dict[tuple[str, int], str] = {}
        self._reason: errors.TroughError = self._no_answer()
        self._lost_at = reactor.seconds()
        # The errors of queries that wait for a failover, the oldest first.
        self._refusals: dict[object, StoreOutage] = {}

    def start(self) -> None:
        """Begin to connect, and stay connected until :meth:`stop`. Idempotent."""
        if self._keeping is None:
            self._lost_at = self._reactor.seconds()
            self._keeping = Deferred.fromCoroutine(self._keep_connected())
            self._keeping.addErrback(lambda failure: failure.trap(defer.CancelledError))
            self._keeping.addErrback(lambda f: _log.failure("staying connected failed", failure=f))

    async def stop(self) -> None:
        """Give up the connection and everything that waits for it. Idempotent."""
        keeping, self._keeping = self._keeping, None
        if keeping is None:
            return
        self._reason = errors.Cancelled(f"{self.address} was closed")
        connection, self._connection = self._connection, None
        keeping.cancel()
        self._wanted.fail(self._reason)
        if connection is not None:
            connection.close()
            await connection.when_lost()

    async def run(
        self, term: Any, options: Mapping[str, Any] | None = None, *, patient: bool = True
    ) -> Any:
        """Run a query whose result is one value.

        :param options: of the query, as ``durability``
        :param patient: wait for a failover to end; else :class:`RethinkRefused` comes at once
        :raises trough.errors.Unavailable: no answer within the deadline
        :raises trough.errors.BadSettings: RethinkDB does not let this user do it
        :raises rethinkdb.errors.ReqlError: the query is at fault
        """
        run = object()
        try:
            return await self._run(term, options, patient, run)
        finally:
            self._refusals.pop(run, None)

    async def _run(
        self, term: Any, options: Mapping[str, Any] | None, patient: bool, run: object
    ) -> Any:
        ends = self._reactor.seconds() + self.deadline
        pause = 0.05
        while True:
            left = max(0.001, ends - self._reactor.seconds())
            connection = await self.connected(left)
            left = max(0.001, ends - self._reactor.seconds())
            try:
                return await connection.ask(term, left, options)
            except NOT_NOW as error:
                if "is ambiguous" in error.message:
                    raise Ambiguous(f"{self.address}: {error.message}") from error
                if self.unchecked and any(text in error.message for text in _MISSING):
                    raise Missing(f"{self.address}: {error.message}") from error
                if not patient or self._reactor.seconds() + pause > ends:
                    raise RethinkRefused(f"{self.address}: {error.message}") from error
                refusal = StoreOutage(f"{self.address}: {error.message}", self._reactor.seconds())
                self._refusals.setdefault(run, refusal)
            except ConnectionLost:
                if self._keeping is None or self._reactor.seconds() + pause > ends:
                    raise
            except reql.ReqlPermissionError as error:
                raise UserRefused(
                    f"{self.address}: {error.message}", f"grant it to user {self.address.user}"
                ) from error
            await self.pause(pause)
            pause = min(1.0, pause * 2)

    async def clock_offsets(self) -> dict[str, float]:
        """See :meth:`trough.metadata.Metadata.clock_offsets`."""
        return await clocks.offsets(
            {
                host_and_port(*host): Deferred.fromCoroutine(self._clock_offset(*host))
                for host in self._hosts
            }
        )

    async def _clock_offset(self, host: str, port: int) -> float:
        connection = await self._connect(host, port)
        try:
            return await clocks.offset_of(connection, time.time)
        finally:
            connection.close()

    async def feed(self, term: Any, rows: Callable[[list[Any]], None]) -> Feed:
        """Start a changefeed on the present connection."""
        return (await self.connected(self.deadline)).feed(term, rows)

    def seconds(self) -> float:
        """The time, by the reactor's clock."""
        return float(self._reactor.seconds())

    async def pause(self, seconds: float) -> None:
        """Wait, as before trying again: half to the whole of `seconds`, by chance, so
        that those who lost the same server do not all come back together."""
        await deferLater(self._reactor, seconds * random.uniform(0.5, 1.0))

    async def connected(self, seconds: float) -> RethinkConnection:
        """Wait for the present connection.

        :raises trough.errors.Unavailable: there is none in time; with the reason
        """
        if self._connection is not None:
            return self._connection
        if self._keeping is None or isinstance(self._reason, errors.BadSettings):
            raise self._reason
        try:
            return await self._wanted.wait().addTimeout(seconds, self._reactor)
        except defer.TimeoutError:
            raise self._reason from None

    @property
    def absence(self) -> StoreOutage | None:
        """See :attr:`trough.metadata.Metadata.absence`."""
        connection = self._connection
        if connection is None:
            return StoreOutage(self._reason.message, self._lost_at)
        since = connection.silent_since
        if since is not None:
            return StoreOutage(f"RethinkDB at {connection.peer} is silent", since)
        refusals = list(self._refusals.values())  # in one step, for other threads
        return refusals[0] if refusals else None

    # -- staying connected -----------------------------------------------------

    async def _keep_connected(self) -> None:
        pause, told = 0.1, False
        while True:
            in_vain = True
            for host, port in self._hosts:
                try:
                    connection = await self._connect(host, port)
                    await self._use(connection)
                    if isinstance(connection.gone, errors.BadSettings):
                        raise connection.gone  # the user was refused after the first queries
                except defer.CancelledError:
                    raise
                except errors.BadSettings as error:
                    self._reason = error
                    self._wanted.fail(error)
                except Exception as error:  # Twisted's connection errors share no base
                    self._failures[host, port] = _why(error)
                    if not isinstance(self._reason, errors.BadSettings):
                        self._reason = self._no_answer()
                else:
                    pause, told, in_vain = 0.1, False, False
                    self._failures = {(host, port): "the connection was lost"}
                    self._reason = self._no_answer()
            if in_vain and not told:
                # A waiting caller gets the error at its deadline; the log has it now.
                told = True
                refused = isinstance(self._reason, errors.BadSettings)
                section = Section.REFUSED_USER if refused else Section.RETHINKDB
                _log.warn("{line}", line=section.of_line(self._reason.message))
            await self.pause(pause)
            pause = min(LONGEST_PAUSE, pause * 2)

    def _no_answer(self) -> errors.Unavailable:
        hosts = (
            f"{host_and_port(*host)}: {self._failures.get(host, 'no answer yet')}"
            for host in self._hosts
        )
        return errors.Unavailable(f"no RethinkDB server answers: {'; '.join(hosts)}")

    async def _connect(self, host: str, port: int) -> RethinkConnection:
        peer = host_and_port(host, port)
        factory = Factory.forProtocol(
            lambda: RethinkConnection(self.address, peer, self._reactor, self._ping)
        )
        endpoint = self._tls.endpoint(
            self._reactor, host, port, CONNECT, encrypted=bool(self.address.ca)
        )
        connection = cast(RethinkConnection, await endpoint.connect(factory))
        try:
            return await connection.ready.addTimeout(CONNECT, self._reactor)
        except BaseException:
            connection.close()
            raise

    async def _use(self, connection: RethinkConnection) -> None:
        self._connection = connection
        _log.info("connected to RethinkDB at {peer}", peer=connection.peer)
        self._wanted.fire(connection)
        try:
            await connection.when_lost()
        finally:
            self._connection = None
            self._lost_at = connection.silent_since or self._reactor.seconds()
        _log.warn("lost RethinkDB at {peer}", peer=connection.peer)


def _why(error: Exception) -> str:
    """Why a host was not connected, in a few words."""
    if isinstance(error, defer.TimeoutError | TimeoutError):
        return f"no answer within {CONNECT:g} s"
    if isinstance(error, ConnectionRefusedError):
        return "connection refused"
    return plain(error).rstrip(".")

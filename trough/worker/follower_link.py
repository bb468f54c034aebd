"""Sends one segment's log to one follower, in order, with several parts on the way at once.

A link belongs to a holder (:class:`trough.worker.replicated.ReplicatedSegment`), which decides what
to send. A newer order replaces an older one that is not sent yet. If a link cannot send an order,
it reports that. Then it sends nothing until the holder asks the follower to join again.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from trough import errors
from trough.model import Member
from trough.replication.log import BasePart, HolderLog, LogPart
from trough.replication.messages import Behind, Confirmed, Rejected
from trough.replication.orders import More, Order, OrderKind, Reply
from trough.util.waiting import Waiters

_log = Logger()

#: Parts on the way to a follower at once: 8 MiB at most.
WINDOW = 8


class LinkOwner(Protocol):
    """Receives the reports of a link."""

    segment: str

    async def read_part(self, start: int, end: int) -> LogPart:
        """The log from `start` on, see :meth:`trough.replication.log.HolderLog.read`."""

    def replied(self, member: Member, reply: Confirmed | Behind | Rejected, matches: bool) -> None:
        """The follower has replied."""

    def moved(self, member: Member) -> None:
        """The follower makes progress."""

    def needs_base(self, member: Member) -> None:
        """The log does not reach back to the follower's end."""

    def unreachable(self, member: Member) -> None:
        """Orders that were sent may be lost."""

    def refused(self, member: Member, reason: errors.TroughError) -> None:
        """The follower cannot follow."""

    def log_broken(self, reason: errors.TroughError) -> None:
        """This worker's log is not readable."""


class OwnLogBroken(Exception):
    """This worker's log is broken, and not the follower's."""

    def __init__(self, reason: errors.LogBroken) -> None:
        super().__init__(str(reason))
        self.reason = reason


@contextmanager
def _own_log() -> Iterator[None]:
    """Translate LogBroken from reading this worker's log into OwnLogBroken."""
    try:
        yield
    except errors.LogBroken as reason:
        raise OwnLogBroken(reason) from reason


class FollowerLink:
    """See the module's text.

    :param run: runs a function that blocks
    :param send: sends an order to the member
    """

    def __init__(
        self,
        owner: LinkOwner,
        member: Member,
        log: HolderLog,
        run: Callable[..., Awaitable[Any]],
        send: Callable[[Member, Order], Awaitable[Reply]],
    ) -> None:
        self._owner = owner
        self._member = member
        self._log = log
        self._run = run
        self._send = send
        #: Grows whenever the work under way is no longer wanted.
        self._turn = 0
        self._epoch = 0
        #: The part of the log to send: from, to.
        self._next = 0
        self._upto = 0
        self._flying = 0
        self._sending = False
        self._landed: Waiters[None] = Waiters()

    def close(self) -> None:
        """Stop sending and reporting. Idempotent."""
        self._restart()

    def join(self, epoch: int, end: int) -> None:
        """Ask the follower to join, and drop all other work."""
        self._start(epoch, self._join, end)

    def append(self, epoch: int, start: int, end: int) -> None:
        """Send the log from `start` to `end`."""
        self._epoch = epoch
        if start != self._upto:
            self._next = start
        self._upto = end
        if not self._sending:
            self._sending = True
            self._follow(self._append(self._turn))

    def base(self, epoch: int, end: int) -> None:
        """Send a base up to `end`, which replaces the follower's copy."""
        self._start(epoch, self._base, end)

    # -- sending -------------------------------------------------------------------------

    def _restart(self) -> int:
        self._turn += 1
        self._next = self._upto = -1
        self._flying, self._sending = 0, False
        self._landed.fire(None)
        return self._turn

    def _start(self, epoch: int, work: Callable[[int, int], Any], end: int) -> None:
        self._epoch = epoch
        self._follow(work(self._restart(), end))

    def _follow(self, work: Any) -> None:
        turn = self._turn
        Deferred.fromCoroutine(work).addErrback(self._failed, turn)

    def _failed(self, failure: Failure, turn: int) -> None:
        if turn != self._turn:
            return
        self._restart()
        error = failure.value
        if isinstance(error, OwnLogBroken):
            self._owner.log_broken(error.reason)
        elif isinstance(error, errors.LogGone):
            self._owner.needs_base(self._member)
        elif isinstance(error, errors.LogBroken | errors.DiskFull):
            self._owner.refused(self._member, error)
        elif isinstance(error, errors.Unavailable):
            self._owner.unreachable(self._member)
        elif isinstance(error, errors.TroughError):
            self._owner.refused(self._member, error)
        else:
            _log.failure("a log could not be sent to {node}", failure, node=self._member.node)
            self._owner.refused(self._member, errors.Unavailable(str(error)))

    async def _read(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Run a function that reads this worker's log.

        :raises OwnLogBroken: this worker's log is broken
        """
        with _own_log():
            return await self._run(function, *arguments)

    async def _join(self, turn: int, end: int) -> None:
        digest = await self._read(self._log.digest_at, end)
        if turn != self._turn:
            return
        order = self._order(OrderKind.JOIN, end=end, digest=digest or b"")
        await self._answered(turn, await self._send(self._member, order))

    async def _append(self, turn: int) -> None:
        while turn == self._turn and self._next < self._upto:
            with _own_log():
                part = await self._owner.read_part(self._next, self._upto)
            if turn != self._turn:
                return
            if part.start == self._next:  # else the holder asks for another position by now
                self._next = part.end
                await self._fly(turn, self._order(OrderKind.APPEND, part=part.encode()))
        if turn == self._turn:
            self._sending = False

    async def _fly(self, turn: int, order: Order) -> None:
        """Send a part, and return as soon as the next one may be sent."""
        self._flying += 1
        self._follow(self._land(turn, order))
        if self._flying >= WINDOW and turn == self._turn:
            await self._landed.wait()

    async def _land(self, turn: int, order: Order) -> None:
        reply = await self._send(self._member, order)
        if turn != self._turn:
            return
        self._flying -= 1
        await self._answered(turn, reply)
        if turn == self._turn:
            self._landed.fire(None)

    async def _base(self, turn: int, end: int) -> None:
        pieces: Iterator[BasePart] = await self._read(self._log.base, end)
        try:
            while (piece := await self._read(next, pieces, None)) is not None:
                if turn != self._turn:
                    return
                order = self._order(OrderKind.BASE, part=piece.encode())
                reply = await self._send(self._member, order)
                if turn != self._turn:
                    return
                if not isinstance(reply, More):
                    await self._answered(turn, reply)
                    return
                self._owner.moved(self._member)
        finally:
            closing = getattr(pieces, "close", None)
            if closing is not None:
                await self._run(closing)

    def _order(
        self, kind: OrderKind, end: int = 0, digest: bytes = b"", part: bytes = b""
    ) -> Order:
        member = self._member
        return Order(kind, self._owner.segment, member.disk, self._epoch, end, digest, part)

    async def _answered(self, turn: int, reply: Reply) -> None:
        if isinstance(reply, More):
            raise errors.ProtocolError(f"{self._member.node} replied as if to a piece of a base")
        matches = False
        if isinstance(reply, Behind):
            digest = await self._read(self._log.digest_at, reply.end)
            matches = digest is not None and digest == reply.digest
        if turn == self._turn:
            self._owner.replied(self._member, reply, matches)

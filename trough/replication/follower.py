"""The rules of a follower: what it stores, what it rejects, and how it takes over.

A follower has promised an epoch: it rejects all older epochs for good, also after a restart. It
has *joined* an epoch once its log is a part of that holder's log. From then on its log only grows,
so late and repeated orders are harmless.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Protocol

from trough.model import Member
from trough.replication.messages import (
    Append,
    Base,
    Behind,
    Confirmed,
    Join,
    LockRow,
    Order,
    Rejected,
    Reply,
)


class Log(Protocol):
    """The part of a follower's log that decisions need."""

    @property
    def end(self) -> int:
        """The position behind the last byte."""

    def digest_at(self, position: int) -> Any:
        """The digest of the log up to `position`; None beyond its end."""


@dataclass(frozen=True, slots=True)
class Follower:
    """What a follower stores durably, beside its log.

    :ivar promised: it rejects orders of older epochs
    :ivar joined: the epoch for which its log is a part of the holder's log
    """

    promised: int = 0
    joined: int = 0


@dataclass(frozen=True, slots=True)
class Decision:
    """How a follower handles an order. It carries out the fields in their order, each durable
    before the next, and replies last.

    :ivar promised: the epoch that it stores first
    :ivar truncate: position at which it cuts its log, or None
    :ivar append: a part of the log that it stores at the end, or None
    :ivar base: the base that replaces its whole log, or None
    :ivar state: the state that it stores then
    :ivar reply: to the sender, except a :class:`Confirmed`, see :func:`decide`
    """

    promised: int
    state: Follower
    reply: Reply
    truncate: int | None = None
    append: Append | None = None
    base: Base | None = None


def decide(state: Follower, order: Order, log: Log) -> Decision:
    """Decide how to handle a holder's order."""
    if order.epoch < state.promised:
        return Decision(state.promised, state, Rejected(state.promised))
    promised = replace(state, promised=order.epoch)
    match order:
        case Join():
            return _join(promised, order, log)
        case Append():
            return _append(promised, order, log)
        case Base():
            return _base(promised, order, log)


def _join(state: Follower, order: Join, log: Log) -> Decision:
    epoch = order.epoch
    if state.joined == epoch:  # a late or repeated order: confirmed data stays
        return Decision(epoch, state, Confirmed(epoch, log.end))
    if log.end >= order.end and log.digest_at(order.end) == order.digest:
        # The cut part was never acknowledged: the holder's log has all acknowledged writes.
        joined = replace(state, joined=epoch)
        return Decision(epoch, joined, Confirmed(epoch, order.end), truncate=order.end)
    return Decision(epoch, state, Behind(epoch, log.end, log.digest_at(log.end)))


def _append(state: Follower, order: Append, log: Log) -> Decision:
    epoch = order.epoch
    if state.joined == epoch and order.end <= log.end:  # repeated
        return Decision(epoch, state, Confirmed(epoch, log.end))
    if log.end != order.start or log.digest_at(log.end) != order.digest:
        return Decision(epoch, state, Behind(epoch, log.end, log.digest_at(log.end)))
    joined = replace(state, joined=epoch)
    return Decision(epoch, joined, Confirmed(epoch, order.end), append=order)


def _base(state: Follower, order: Base, log: Log) -> Decision:
    epoch = order.epoch
    if state.joined == epoch and order.end <= log.end:  # late or repeated
        return Decision(epoch, state, Confirmed(epoch, log.end))
    joined = replace(state, joined=epoch)
    return Decision(epoch, joined, Confirmed(epoch, order.end), base=order)


def take_over(state: Follower, row: LockRow, me: Member) -> tuple[Follower, LockRow] | None:
    """The state to store durably, and then the row to write, in order to hold the lock.

    A holder that starts again also takes over, from itself: its earlier orders may still be on the
    way.

    :return: None if `me` may lack acknowledged writes
    """
    if me != row.holder and me not in row.followers:
        return None
    epoch = max(row.epoch + 1, state.promised)
    return replace(state, promised=epoch), row.changed(
        holder=me, epoch=epoch, followers=row.followers - {me}
    )

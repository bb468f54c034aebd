"""The messages that workers send each other about one segment's log, as values.

A holder sends an :class:`Order` to a follower and gets a reply: one of
:mod:`trough.replication.messages`, or :class:`More` for a piece of a base that is not the last.
:func:`obey` carries an order out on the follower's disk.

An order names the disk that it is for. A worker that lost its disk has another one, and rejects
orders for its old disk.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum

from trough.replication import follower, messages
from trough.replication.log import BasePart, FollowerLog, LogPart

#: Version of the orders. A worker rejects other versions, and is then not chosen as a follower.
VERSION = 1


class OrderKind(StrEnum):
    """Which order of :mod:`trough.replication.messages` it is; TAKE: take the lock that the
    holder gives up."""

    JOIN = "join"
    APPEND = "append"
    BASE = "base"
    TAKE = "take"


@dataclass(frozen=True, slots=True)
class Order:
    """From the holder of a segment's write lock to a follower.

    :ivar disk: of the follower
    :ivar end: of the holder's log, for a join
    :ivar digest: of the holder's log at `end`, for a join
    :ivar part: a part of the log, or a piece of a base, encoded
    """

    kind: OrderKind
    segment: str
    disk: str
    epoch: int
    end: int = 0
    digest: bytes = b""
    part: bytes = b""


@dataclass(frozen=True, slots=True)
class More:
    """The follower stored a piece of a base, and needs the next one."""


Reply = messages.Reply | More


def obey(log: FollowerLog, order: Order) -> Reply:
    """Carry out an order; its effect is on disk before the reply. Blocks.

    :raises trough.errors.BadLogPart: the part was damaged, or does not fit; nothing was changed
    :raises trough.errors.DiskFull: no space for the part; nothing was changed
    :raises trough.errors.LogBroken: the copy of the log is lost
    """
    match order.kind:
        case OrderKind.JOIN:
            log.check_room()
            asked = messages.Join(order.epoch, order.end, order.digest)
            return _carried_out(log, follower.decide(log.state, asked, log))
        case OrderKind.APPEND:
            part = LogPart.decode(order.part)
            append = messages.Append(order.epoch, part.start, part.end, part.before, part)
            return _carried_out(log, follower.decide(log.state, append, log))
        case OrderKind.BASE:
            return _based(log, order.epoch, BasePart.decode(order.part))
        case OrderKind.TAKE:
            raise AssertionError("no order for the log")


def _based(log: FollowerLog, epoch: int, piece: BasePart) -> Reply:
    """Store a piece of a base. Only the last piece changes the log."""
    if piece.last:
        base = messages.Base(epoch, piece.generation + piece.size, piece)
        return _carried_out(log, follower.decide(log.state, base, log))
    state = log.state
    if epoch < state.promised:
        return messages.Rejected(state.promised)
    log.remember(replace(state, promised=epoch))
    log.add_base(piece)
    return More()


def _carried_out(log: FollowerLog, decision: follower.Decision) -> messages.Reply:
    """Carry out a decision, each step on disk before the next one."""
    log.remember(replace(log.state, promised=decision.promised))
    if decision.truncate is not None:
        log.truncate(decision.truncate)
    if decision.append is not None:
        log.append(decision.append.content)
    if decision.base is not None:
        log.add_base(decision.base.content)
    log.remember(decision.state)
    return decision.reply

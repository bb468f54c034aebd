"""The rules of a holder: what it sends, when it acknowledges, and how it changes the row.

The functions take a state and return the next one with the actions to carry out. They never change
a state. :attr:`Holder.acknowledged` is the position up to which the worker may answer writes with
success.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from trough.model import Member
from trough.replication.messages import Behind, Confirmed, LockRow, Rejected


class Phase(enum.IntEnum):
    """How far the holder is with a follower.

    JOINING: it was asked to join and has not answered; BASE: a base is on the way; STREAMING: its
    log is a part of the holder's log.
    """

    JOINING = 1
    BASE = 2
    STREAMING = 3


@dataclass(frozen=True, slots=True)
class FollowerProgress:
    """One follower, as the holder knows it.

    :ivar confirmed: the position that it has on disk, in this epoch
    :ivar sent: the position up to which it was sent the log
    """

    phase: Phase = Phase.JOINING
    confirmed: int = -1
    sent: int = -1


@dataclass(frozen=True, slots=True)
class Holder:
    """What a holder knows.

    :ivar row: the lock's row, as the store confirmed it last
    :ivar end: of the holder's log
    :ivar synced: the position up to which the log is on the holder's disk
    :ivar begun: where the log ended when this epoch began: everything before it may have been
        acknowledged in an older epoch
    :ivar acknowledged: the position up to which the log is on the disks of the holder and of each
        required follower
    :ivar followers: in the row, and candidates
    :ivar wanted: the row that a change under way writes; None while there is none
    :ivar unwanted: followers that have to leave the row
    :ivar fenced: whether another worker holds the lock, or may hold it
    """

    row: LockRow
    end: int
    synced: int
    begun: int
    acknowledged: int = 0
    followers: Mapping[Member, FollowerProgress] = field(default_factory=dict)
    wanted: LockRow | None = None
    unwanted: frozenset[Member] = frozenset()
    fenced: bool = False

    @property
    def required(self) -> frozenset[Member]:
        """The followers that have to confirm a write: the row names them, or may name them."""
        wanted = self.wanted.followers if self.wanted is not None else frozenset()
        return self.row.followers | wanted


@dataclass(frozen=True, slots=True)
class SendJoin:
    """Send :class:`trough.replication.messages.Join` with the end of the holder's log."""

    to: Member


@dataclass(frozen=True, slots=True)
class SendLog:
    """Send :class:`trough.replication.messages.Append`."""

    to: Member
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class SendBase:
    """Send :class:`trough.replication.messages.Base`."""

    to: Member


@dataclass(frozen=True, slots=True)
class ChangeRow:
    """Change the row to `wanted`, if it is `expected`; then call :func:`row_is`."""

    expected: LockRow
    wanted: LockRow


@dataclass(frozen=True, slots=True)
class ReadRow:
    """Read the row, strictly; then call :func:`row_is`.

    :ivar rejected: pass it on to :func:`row_is`
    """

    rejected: int


Action = SendJoin | SendLog | SendBase | ChangeRow | ReadRow
Step = tuple[Holder, list[Action]]


def begin(row: LockRow, end: int) -> Step:
    """Hold the lock under `row`, which names this worker.

    :param end: of the holder's log, all of it on disk
    """
    followers = {member: FollowerProgress() for member in sorted(row.followers)}
    return _settled(
        Holder(row, end, end, end, followers=followers), [SendJoin(each) for each in followers]
    )


def appended(holder: Holder, end: int) -> Step:
    """A transaction was committed to the holder's log, which now ends at `end`."""
    actions: list[Action] = []
    followers = dict(holder.followers)
    for member, progress in followers.items():
        if progress.phase is Phase.STREAMING and progress.sent < end:
            actions.append(SendLog(member, progress.sent, end))
            followers[member] = replace(progress, sent=end)
    return replace(holder, end=end, followers=followers), actions


def synced(holder: Holder, end: int) -> Step:
    """The log is on the holder's disk up to `end`."""
    return _settled(replace(holder, synced=max(holder.synced, end)), [])


def replied(
    holder: Holder, sender: Member, reply: Confirmed | Behind | Rejected, matches: bool
) -> Step:
    """A follower has replied.

    :param matches: for :class:`trough.replication.messages.Behind`: whether the holder's log has
        that digest at that position
    """
    progress = holder.followers.get(sender)
    if isinstance(reply, Rejected):
        # Another worker took over, or tried and failed. The row shows which.
        return holder, [ReadRow(reply.epoch)] if reply.epoch > holder.row.epoch else []
    if progress is None or reply.epoch != holder.row.epoch:
        return holder, []
    if isinstance(reply, Behind):
        return _catch_up(holder, sender, progress, reply.end if matches else None)
    now = FollowerProgress(
        Phase.STREAMING,
        max(progress.confirmed, reply.end),
        max(progress.sent, reply.end),
    )
    actions: list[Action] = []
    if now.sent < holder.end:
        actions.append(SendLog(sender, now.sent, holder.end))
        now = replace(now, sent=holder.end)
    return _settled(_with(holder, sender, now), actions)


def _catch_up(holder: Holder, member: Member, progress: FollowerProgress, end: int | None) -> Step:
    if end is None:
        now = replace(progress, phase=Phase.BASE, sent=holder.end)
        return _with(holder, member, now), [SendBase(member)]
    now = replace(progress, phase=Phase.STREAMING, sent=holder.end)
    return _with(holder, member, now), [SendLog(member, end, holder.end)]


def lost(holder: Holder, member: Member) -> Step:
    """Orders to a follower may be lost: ask it to join again."""
    progress = holder.followers.get(member)
    if progress is None:
        return holder, []
    again = replace(progress, phase=Phase.JOINING, sent=progress.confirmed)
    return _with(holder, member, again), [SendJoin(member)]


def stuck(holder: Holder, member: Member) -> Step:
    """A follower made no progress for too long: go on without it."""
    if member in holder.required:
        return _settled(replace(holder, unwanted=holder.unwanted | {member}), [])
    followers = {each: progress for each, progress in holder.followers.items() if each != member}
    return replace(holder, followers=followers), []


def candidate(holder: Holder, member: Member) -> Step:
    """Ask `member` to follow; it enters the row once it has caught up."""
    if member in holder.followers or member == holder.row.holder:
        return holder, []
    return _with(holder, member, FollowerProgress()), [SendJoin(member)]


def row_is(holder: Holder, row: LockRow, rejected: int = 0) -> Step:
    """The store's answer to a change or a strict read: the present row.

    :param rejected: the highest epoch by which a follower rejected an order
    """
    if (row.epoch, row.revision) < (holder.row.epoch, holder.row.revision):
        return holder, []  # a late answer
    if row.holder != holder.row.holder or row.epoch not in _epochs(holder):
        return replace(holder, fenced=True), []
    if row.epoch != holder.row.epoch:  # a new epoch of this holder: all followers have to join it
        now, actions = begin(row, holder.end)
        return replace(now, unwanted=holder.unwanted & row.followers), actions
    if rejected > row.epoch and holder.wanted is None:
        wanted = row.changed(epoch=rejected + 1)
        return replace(holder, row=row, wanted=wanted), [ChangeRow(row, wanted)]
    changed = holder.wanted is not None and row == holder.wanted
    if not changed and holder.wanted is not None and row == holder.row:
        # Read before the change was carried out, or refused: it is still under way.
        return holder, []
    followers = {
        member: progress
        for member, progress in holder.followers.items()
        if member in row.followers or member not in holder.unwanted
    }
    now = replace(
        holder,
        row=row,
        wanted=None,
        followers=followers,
        unwanted=holder.unwanted & row.followers,
    )
    return _settled(now, [])


def row_unknown(holder: Holder) -> Step:
    """The outcome of a change is unknown: request the change once more.

    The change is conditional on the old row, so it happens at most once.
    """
    if holder.wanted is None:
        return holder, []
    return holder, [ChangeRow(holder.row, holder.wanted)]


def _epochs(holder: Holder) -> tuple[int, ...]:
    wanted = holder.wanted.epoch if holder.wanted is not None else holder.row.epoch
    return (holder.row.epoch, wanted)


def _with(holder: Holder, member: Member, progress: FollowerProgress) -> Holder:
    return replace(holder, followers={**holder.followers, member: progress})


def _settled(holder: Holder, actions: list[Action]) -> Step:
    """Acknowledge what is confirmed, and change the row if that is due."""
    if holder.fenced:
        return holder, actions
    confirmed = [holder.followers[each].confirmed for each in holder.required]
    acknowledged = max(holder.acknowledged, min([holder.synced, *confirmed]))
    holder = replace(holder, acknowledged=acknowledged)
    if holder.wanted is None:
        wanted = _due(holder)
        if wanted != holder.row:
            holder = replace(holder, wanted=wanted)
            actions = [*actions, ChangeRow(holder.row, wanted)]
    return holder, actions


def _due(holder: Holder) -> LockRow:
    """The row as it should be: without unwanted followers, and with one that has caught up."""
    leaving = holder.unwanted & holder.row.followers
    if leaving:
        return holder.row.changed(followers=holder.row.followers - leaving)
    for member, progress in sorted(holder.followers.items()):
        known = max(holder.acknowledged, holder.begun)
        caught_up = progress.phase is Phase.STREAMING and progress.confirmed >= known
        if caught_up and member not in holder.row.followers and member not in holder.unwanted:
            return holder.row.changed(followers=holder.row.followers | {member})
    return holder.row

"""The messages between holders, followers and the metadata store about one segment.

A *position* is an int. It counts what was appended to a segment's log since its base. A *digest*
identifies everything up to a position: two logs with the same digest at one position are equal up
to there.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from trough.model import Member


@dataclass(frozen=True, slots=True)
class LockRow:
    """The lock's row in the metadata store; each change is conditional on the whole row.

    :ivar epoch: grows with each change of the holder, and when a holder starts again
    :ivar revision: grows with each change within an epoch: a late change finds another row, even
        if holder, epoch and followers are the same again
    :ivar followers: the members that have every acknowledged write
    """

    holder: Member
    epoch: int
    revision: int
    followers: frozenset[Member] = frozenset()

    def changed(self, **fields: Any) -> LockRow:
        """The next row, with these fields."""
        return replace(self, revision=self.revision + 1, **fields)


# -- from the holder to a follower -----------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Join:
    """Follow this holder from now on; its log ends at `end`."""

    epoch: int
    end: int
    digest: Any


@dataclass(frozen=True, slots=True)
class Append:
    """The log from `start` to `end`.

    :ivar digest: at `start`
    """

    epoch: int
    start: int
    end: int
    digest: Any
    content: Any


@dataclass(frozen=True, slots=True)
class Base:
    """All of the log up to `end`; it replaces the follower's copy."""

    epoch: int
    end: int
    content: Any


Order = Join | Append | Base


# -- from a follower to the holder -----------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Confirmed:
    """The holder's log up to `end` is on the follower's disk."""

    epoch: int
    end: int


@dataclass(frozen=True, slots=True)
class Behind:
    """The follower's log ends at `end`, before the holder's log, or differs from it.

    :ivar digest: at `end`
    """

    epoch: int
    end: int
    digest: Any


@dataclass(frozen=True, slots=True)
class Rejected:
    """The order's epoch is older than `epoch`, which the follower has promised."""

    epoch: int


Reply = Confirmed | Behind | Rejected

"""Whether a worker answers a read from its own copy, and with which mark.

The one rule behind both protocols. It is a function of values: who holds the segment's write
lock, whether the worker knows all locks, and for how long it has had no word from the metadata
store. The promise is in ``docs/design.rst``: an answer without a mark contains every write that
was acknowledged before the question was sent, unless the worker had no way to know that.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum, auto

#: The mark of an answer whose rows are the last promoted state: the writer cannot be asked.
LAST_PROMOTED = "last-promoted"

#: The mark of an answer which the worker cannot confirm to be the present state.
UNCONFIRMED = "unconfirmed"


class LockHolder(Enum):
    """Who holds the write lock of a segment, as far as a worker knows."""

    NOBODY = auto()
    MYSELF = auto()
    #: Another worker, which lives.
    LIVE = auto()
    #: Another worker, which lives by its row and could not be connected to just now.
    UNREACHABLE = auto()
    #: Another worker, which is not alive.
    DEAD = auto()


@dataclass(frozen=True, slots=True)
class Knowledge:
    """What a worker knows about the cluster at the moment of a read.

    :ivar locks_known: whether the list of write locks was complete once since the start
    :ivar may_wait: whether a read may still wait for that list
    :ivar confirmed: whether the metadata store answered within one heartbeat interval
    :ivar verdict: what :func:`decide` says of a copy that nobody writes and that is not behind.
        Most reads ask for it, and it is the same for all of them
    """

    locks_known: bool
    may_wait: bool
    confirmed: bool
    verdict: Verdict = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "verdict", decide(self, LockHolder.NOBODY))


class Verdict(Enum):
    """What to do with a read of a segment that has a copy here.

    :ivar answers: whether the worker answers now
    :ivar mark: the word that an answer carries; empty for none
    """

    #: Wait until the list of write locks is complete, then decide again.
    WAIT = "wait"
    #: Another worker has the newest rows.
    ELSEWHERE = "elsewhere"
    #: Answer, without a mark.
    ANSWER = ""
    #: Answer with the mark of the same name.
    ANSWER_LAST_PROMOTED = LAST_PROMOTED
    ANSWER_UNCONFIRMED = UNCONFIRMED

    answers: bool
    mark: str

    def __init__(self, word: str) -> None:
        self.answers = word not in ("wait", "elsewhere")
        self.mark = word if self.answers else ""


# Python 3.11 calls a function for each ``Verdict.ANSWER``; all together took longer than the
# rest of a decision, and each read takes one.
_NOBODY, _MYSELF, _LIVE = LockHolder.NOBODY, LockHolder.MYSELF, LockHolder.LIVE
_WAIT, _ELSEWHERE, _ANSWER = Verdict.WAIT, Verdict.ELSEWHERE, Verdict.ANSWER
_LAST_PROMOTED, _UNCONFIRMED = Verdict.ANSWER_LAST_PROMOTED, Verdict.ANSWER_UNCONFIRMED


def decide(
    knowledge: Knowledge,
    holder: LockHolder,
    *,
    in_place_of_holder: bool = False,
    behind: bool = False,
) -> Verdict:
    """Decide about a read of a segment that has a copy here.

    :param in_place_of_holder: another worker passed the read on because it cannot connect to
        the very holder that is known here
    :param behind: a newer version of the canonical copy was announced and is not here yet
    """
    if not knowledge.locks_known:
        return _WAIT if knowledge.may_wait else _UNCONFIRMED
    if holder is _LIVE and not in_place_of_holder:
        return _ELSEWHERE
    if not knowledge.confirmed:
        # Of two marks the weaker promise: what is known of the holder may be out of date, too.
        return _UNCONFIRMED
    if holder is _MYSELF:
        return _ANSWER
    if holder is not _NOBODY:
        return _LAST_PROMOTED
    return _UNCONFIRMED if behind else _ANSWER

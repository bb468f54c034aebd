"""Copies that are assigned to a worker and that it cannot make.

A fetch that fails is tried again, and most succeed soon. One that has failed for a minute needs an
operator: storage may be away for this worker alone, or another directory may be mounted in its
place, where the files are not.
"""

from __future__ import annotations

from twisted.internet.interfaces import IReactorTime

from trough import errors
from trough.util.wording import counted

#: Seconds for which a copy may fail before an operator has to act.
TOLERATED = 60.0


class LateCopies:
    """See the module's text."""

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        #: When each copy first failed; the oldest one is the first.
        self._since: dict[str, float] = {}
        self._reason = ""

    def failed(self, segment: str, reason: errors.TroughError) -> None:
        """A copy could not be made."""
        self._since.setdefault(segment, self._clock.seconds())
        self._reason = reason.message

    def ended(self, segment: str) -> None:
        """A copy is here, or no longer assigned. Idempotent."""
        self._since.pop(segment, None)

    @property
    def count(self) -> int:
        """How many there are."""
        return len(self._since)

    @property
    def trouble(self) -> str:
        """What needs an operator; empty: nothing."""
        oldest = next(iter(self._since.values()), None)
        if oldest is None or self._clock.seconds() - oldest <= TOLERATED:
            return ""
        return f"{counted(self.count, 'copy', 'copies')} cannot be made here: {self._reason}"

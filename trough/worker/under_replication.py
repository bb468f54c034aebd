"""Which segments that a worker writes have fewer followers than wanted, and since when."""

from __future__ import annotations

from typing import Any

from twisted.internet.interfaces import IReactorTime

from trough.util.trouble_log import Section
from trough.util.wording import counted

#: Seconds for which a segment may have too few followers before an operator has to act.
TOLERATED = 60.0


class UnderReplication:
    """See the module's text.

    :param wanted: followers of each segment
    """

    def __init__(self, wanted: int, clock: IReactorTime) -> None:
        self._wanted = wanted
        self._clock = clock
        #: When each segment was first seen with too few; the oldest one is the first.
        self._since: dict[str, float] = {}

    def note(self, segment: str, followers: int) -> None:
        """A segment has so many followers in its lock's row."""
        if followers < self._wanted:
            self._since.setdefault(segment, self._clock.seconds())
        else:
            self._since.pop(segment, None)

    def ended(self, segment: str) -> None:
        """A segment is no longer written here. Idempotent."""
        self._since.pop(segment, None)

    @property
    def _seconds(self) -> float:
        """For how long the oldest one has had too few."""
        oldest = next(iter(self._since.values()), None)
        return 0.0 if oldest is None else self._clock.seconds() - oldest

    def status(self) -> dict[str, Any]:
        """Fields for the worker's status."""
        return {
            "under_replicated": len(self._since),
            "under_replicated_seconds": round(self._seconds, 1),
        }

    def trouble(self) -> str:
        """What needs an operator, and the section of the guide; or empty."""
        now = self._clock.seconds()
        short = sum(now - since > TOLERATED for since in self._since.values())
        if not short:
            return ""
        text = f"{counted(short, 'segment')} with fewer copies of the writes than WRITE_COPIES"
        return Section.UNDER_REPLICATED.add_to(text)

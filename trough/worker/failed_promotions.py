"""Segments whose last promotion failed for a reason that is not the client's."""

from __future__ import annotations

from trough import errors
from trough.util.trouble_log import Section
from trough.util.wording import counted
from trough.worker.refusals import PROMOTIONS, Refusals
from trough.worker.segments import Segments


class FailedPromotions:
    """The failed promotions of one worker, with or without an order of a client.

    A segment counts until its next promotion succeeds, or until it has nothing to promote.
    """

    def __init__(self, segments: Segments, refusals: Refusals) -> None:
        self._segments = segments
        self._refusals = refusals
        self._failed: set[str] = set()

    def note(self, segment: str, reason: errors.TroughError) -> None:
        """A promotion failed; log it."""
        if self._refusals.note(PROMOTIONS, reason):
            self._failed.add(segment)

    @property
    def trouble(self) -> str:
        """How many cannot be promoted, and the section of the guide; or empty."""
        self._failed = set(filter(self._waits, self._failed))
        if not self._failed:
            return ""
        return Section.PROMOTIONS.add_to(
            f"{counted(len(self._failed), 'segment')} cannot be promoted"
        )

    def _waits(self, segment: str) -> bool:
        copy = self._segments.get(segment)
        return copy is not None and copy.entry.unpromoted

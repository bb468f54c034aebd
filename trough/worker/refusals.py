"""Reports what this worker refuses, or cannot do, for a reason that is not the client's."""

from __future__ import annotations

from trough import errors
from trough.util.trouble_log import Section, TroubleLog

#: What a client can mend, or asked for itself.
_CLIENTS = (
    errors.BadRequest,
    errors.NotFound,
    errors.NoWriteLock,
    errors.Moved,
    errors.Cancelled,
    errors.DeadlineExceeded,
)

WRITES, PROMOTIONS, COPIES = "writes refused", "promotions refused", "copies put off"

_SECTIONS = {
    WRITES: Section.WRITES,
    PROMOTIONS: Section.PROMOTIONS,
    COPIES: Section.STORAGE,
}


class Refusals:
    """The refusals of one worker."""

    def __init__(self, log: TroubleLog) -> None:
        self._log = log

    def note(self, what: str, reason: BaseException | None) -> bool:
        """Take notice of a refusal.

        :param what: one of the constants of this module
        :param reason: what a client can mend is not reported
        :return: whether it is an operator's matter
        """
        if not isinstance(reason, errors.TroughError) or isinstance(reason, _CLIENTS):
            return False
        self._log.report(section_of(what, reason), what, reason)
        return True

    def status(self) -> dict[str, int]:
        """Refusals because of a full disk since the start, by what was refused."""
        counts = self._log.counts
        return {
            "refused_writes": counts[Section.DISK_FULL, WRITES],
            "refused_promotions": counts[Section.DISK_FULL, PROMOTIONS],
        }


def section_of(what: str, reason: BaseException) -> Section:
    """The section of the guide that describes it."""
    if isinstance(reason, errors.DiskFull):
        return Section.DISK_FULL
    if isinstance(reason, errors.UnderReplicated):
        return Section.UNDER_REPLICATED
    if isinstance(reason, errors.CorruptSegment):
        return Section.DAMAGED
    return _SECTIONS[what]

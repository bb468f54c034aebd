"""Which canonical copies were found to be damaged, so that none is fetched again and again.

A local copy that is damaged is replaced by the canonical one. Where that is damaged as well,
another fetch is of no use until a whole copy is put there, which is another version. So failures
are remembered by version and checksum, and tries become rarer.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from trough.model import CanonicalCopy
from trough.util.bounded_lru import BoundedLru

#: Seconds until the second try, twice as long with each further one, and at most.
FIRST, MOST = 10.0, 3600.0

#: Segments that are remembered, the latest ones.
REMEMBERED = 10_000


@dataclass(slots=True)
class _Damaged:
    version: tuple[int, int]
    checksum: str
    next_try: float
    tries: int = 0
    fetched: bool = False
    reported: bool = False

    def is_of(self, copy: CanonicalCopy) -> bool:
        return copy.version == self.version or bool(
            self.checksum and copy.checksum == self.checksum
        )


class DamagedCopies:
    """See the module.

    :param now: seconds, by a clock that only counts
    """

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._found: BoundedLru[str, _Damaged] = BoundedLru(REMEMBERED)

    def may_fetch(self, copy: CanonicalCopy) -> bool:
        """Note that a copy which was fetched is damaged.

        :return: whether to fetch it again now
        """
        now, found = self._now(), self._found.get(copy.segment)
        # What was whole for long after a try was damaged here, and not in storage.
        if found is None or not found.is_of(copy) or now > found.next_try + MOST:
            found = _Damaged(copy.version, copy.checksum, now)
            self._found.put(copy.segment, found)
        if now < found.next_try:
            return False
        found.next_try = now + min(FIRST * 2**found.tries, MOST)
        found.tries += 1
        found.fetched = False
        return True

    def was_fetched(self, copy: CanonicalCopy) -> None:
        """Note that a try has brought the same copy; whether it is whole shows later."""
        found = self._found.get(copy.segment)
        if found is not None and found.is_of(copy):
            found.fetched = True

    def is_damaged_in_storage(self, segment: str) -> bool:
        """Whether a try has brought a damaged copy, asked after :meth:`may_fetch` refused;
        true once for each try."""
        found = self._found.get(segment)
        if found is None or not found.fetched:
            return False
        found.fetched = False
        return True

    def is_to_be_reported(self, segment: str) -> bool:
        """Whether this version was not reported yet; true once."""
        found = self._found.get(segment)
        if found is None:
            return False
        reported, found.reported = found.reported, True
        return not reported

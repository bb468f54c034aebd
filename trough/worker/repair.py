"""Replaces damaged copies.

The worker replaces a local copy in which SQLite finds damage by the canonical one, and keeps
unpromoted writes aside. Where the canonical copy is damaged itself, the worker fetches it again at
growing intervals.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from twisted.internet.defer import CancelledError
from twisted.logger import Logger

from trough.model import CanonicalCopy
from trough.worker.damaged_copies import DamagedCopies
from trough.worker.local_copies import LocalCopy
from trough.worker.shared import Shared
from trough.worker.write_locks import WriteLockManager

_log = Logger()


class Repair:
    """See the module.

    :param now: seconds, by a clock that only counts
    """

    def __init__(self, shared: Shared, writer: WriteLockManager, now: Callable[[], float]) -> None:
        self._shared = shared
        self._writer = writer
        self._damaged = DamagedCopies(now)

    async def replace(self, segments: Iterable[str]) -> None:
        """Replace copies that SQLite found to be damaged."""
        for segment in segments:
            copy = self._shared.segments.get(segment)
            canonical = self._canonical(segment, copy)
            if canonical is not None and not self._damaged.may_fetch(canonical):
                self._note_damage_in_storage(canonical)
                continue
            if copy is None:
                if self._shared.cold is not None:
                    self._shared.cold.discard(segment)
                    if canonical is not None:
                        self._damaged.was_fetched(canonical)
                continue
            _log.error("{segment}: the local copy is damaged", segment=segment)
            self._shared.publisher.withdraw(segment)
            try:
                await self._replace_damaged(segment, copy)
            except CancelledError:
                raise
            except Exception as reason:
                # On any error: the others are not to wait for that.
                _log.warn("{segment}: not replaced yet: {reason}", segment=segment, reason=reason)
                if self._shared.segments.get(segment) is None:
                    self._shared.publisher.withdraw(segment)
                self._shared.look_at([segment])

    def _canonical(self, segment: str, copy: LocalCopy | None) -> CanonicalCopy | None:
        """What would be fetched in the place of a damaged copy."""
        if copy is None:
            return None if self._shared.cold is None else self._shared.cold.canonical(segment)
        return None if copy.writable else copy.entry.canonical

    def _note_damage_in_storage(self, canonical: CanonicalCopy) -> None:
        segment = canonical.segment
        if not self._damaged.is_damaged_in_storage(segment):
            return
        self._shared.publisher.withdraw(segment)
        if self._damaged.is_to_be_reported(segment):
            _log.error(
                "{segment}: the canonical copy {path} is damaged: put a whole one there; until "
                "then it is fetched again ever more rarely",
                segment=segment,
                path=canonical.path,
            )

    async def _replace_damaged(self, segment: str, damaged: LocalCopy) -> None:
        if damaged.writable:
            await self._writer.give_up(segment, damaged.entry.epoch, "the local copy is damaged")
            return
        await self._shared.segments.fetch_again(damaged)
        copy = self._shared.segments.get(segment)
        if copy is not None:  # it may have been deleted meanwhile, or provisioned
            self._damaged.was_fetched(copy.entry.canonical)
            self._shared.publisher.serve(segment, copy.writable)

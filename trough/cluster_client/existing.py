"""Which segments there are, whether or not they can be read now.

A pattern means every segment that exists in which it is found: those that are assigned,
locked, or in canonical storage. That these are all is for the leader to say, who looks
through canonical storage; before it has, or while new segments are being assigned, the set
is not known, and whoever needs all of them is told so.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

from trough import errors
from trough.metadata import Metadata
from trough.model import Inventory

#: In an answer's list of missing segments, stands for those that nobody knows of. No
#: segment can be called so.
UNKNOWN = "*"


class SetUnknown(errors.Unavailable):
    """The segments found need not be all that there are."""


@dataclass(frozen=True, slots=True)
class SegmentSet:
    """The segments that a question is about.

    :ivar exist: they were found, and not named by whoever asked
    :ivar unknown: why there may be more of them, or None
    """

    ids: Sequence[str]
    exist: bool = False
    unknown: SetUnknown | None = None


async def existing(metadata: Metadata, pattern: str | None) -> AsyncIterator[list[str]]:
    """Pages of the ids of all segments that exist and match, each once.

    :raises SetUnknown: behind the last page: there may be more
    :raises trough.errors.BadRequest: the pattern is no regular expression
    """
    before = await metadata.inventory()
    pages = metadata.existing(pattern)
    try:
        async for page in pages:
            yield page
    finally:
        # Whoever has enough must not leave the search running behind.
        await pages.aclose()  # type: ignore[attr-defined]  # all stores' are generators
    after = await metadata.inventory()
    if before.known and before == after:
        return
    if after.change or not await _original_leads(metadata):
        raise SetUnknown(f"which segments there are is not known: {_reason(after)}", _AGAIN)


async def _original_leads(metadata: Metadata) -> bool:
    """Whether the leader is of the original system, which never says what it looked at."""
    leader = await metadata.leader()
    return leader is not None and not leader.line


def _reason(inventory: Inventory) -> str:
    if not inventory.change:
        return "no leader has looked through canonical storage yet"
    if not inventory.known:
        return "the leader has found segments in canonical storage and not assigned them all yet"
    return "new segments were found while they were listed"


_AGAIN = "ask again in a moment"

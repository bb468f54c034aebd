"""Which segments there are, whether or not they can be read now.

A pattern stands for every existing segment whose id it matches: those that are assigned, locked,
or in canonical storage. Only the leader knows whether these are all, because it scans canonical
storage. Before the scan, or while new segments are being assigned, the set is not known. A caller
that needs all segments then gets an error.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass

from trough import errors
from trough.metadata import Metadata
from trough.model import Inventory

#: In an answer's list of missing segments, stands for the unknown ones. No segment can
#: have this name.
UNKNOWN = "*"


class SetUnknown(errors.Unavailable):
    """The segments found need not be all that there are."""


@dataclass(frozen=True, slots=True)
class SegmentSet:
    """The segments that a query is about.

    :ivar exist: they were found, and not named by the caller
    :ivar unknown: why there may be more of them, or None
    """

    ids: Sequence[str]
    exist: bool = False
    unknown: SetUnknown | None = None


async def existing(metadata: Metadata, pattern: str | None) -> AsyncGenerator[list[str], None]:
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
        # A caller that stops early must not leave the search running.
        await pages.aclose()  # type: ignore[attr-defined]  # all stores' are generators
    after = await metadata.inventory()
    if not before.known or before != after:
        raise SetUnknown(f"which segments there are is not known: {_reason(after)}", _AGAIN)


def _reason(inventory: Inventory) -> str:
    if not inventory.change:
        return "no leader has looked through canonical storage yet"
    if not inventory.known:
        return "the leader has found segments in canonical storage and not assigned them all yet"
    return "new segments were found while they were listed"


_AGAIN = "ask again in a moment"

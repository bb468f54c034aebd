"""Which segments of a pattern cannot be read, so that no client takes the rest for everything.

Clients ask the metadata store for copies that can be read, as they always did. This module finds
the segments that exist besides.
"""

from __future__ import annotations

from collections.abc import Collection

from trough import errors
from trough.metadata.blocking import BlockingMetadata
from trough.util.wording import counted

#: Segments that are named in one message.
_NAMED = 10


def what_is_left_out(
    metadata: BlockingMetadata, regex: str | None, readable: Collection[str]
) -> str:
    """What is not among `readable`, the segments that match and can be read; one sentence,
    or empty where these are all."""
    try:
        known = metadata.inventory().known or _original_leads(metadata)
        left_out = sorted(set(metadata.existing(regex)).difference(readable))
    except errors.Unavailable as error:
        return f"whether segments that match {regex!r} are left out is not known: {error}"
    if left_out:
        more = f" and {len(left_out) - _NAMED:,} more" if len(left_out) > _NAMED else ""
        named = f"{', '.join(left_out[:_NAMED])}{more}"
        return f"{counted(len(left_out), 'segment')} of {regex!r} cannot be read now: {named}"
    if not known:
        return f"there may be more segments that match {regex!r}: the leader is still looking"
    return ""


def _original_leads(metadata: BlockingMetadata) -> bool:
    # It never says whether it has seen all.
    leader = metadata.leader()
    return leader is not None and not leader.line

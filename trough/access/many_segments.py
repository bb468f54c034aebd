"""Checks lists of segments that are too long for one turn of the reactor."""

from __future__ import annotations

from collections.abc import Sequence

from trough.access.rights import Grant
from trough.util.slices import in_slices


async def check_many(grant: Grant, segments: Sequence[str], found: bool = False) -> None:
    """See :meth:`trough.access.rights.Grant.check_segments`.

    :raises trough.errors.Forbidden: there are segments that the token is not for
    """
    limit = grant.limit
    if limit is None:
        return
    others = await in_slices(
        lambda some: (segment for segment in some if segment not in limit), segments
    )
    grant.refuse(others, found)

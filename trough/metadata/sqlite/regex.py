"""The copies of segments whose id matches a pattern, page by page, in task processes.

See :mod:`trough.metadata.patterns` for why they are not looked at in the server's process.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import astuple
from pathlib import Path
from time import process_time
from typing import Any

from trough.executors.pool.task_pool import TaskPool
from trough.metadata import conditions, patterns
from trough.metadata.sqlite import reads
from trough.metadata.sqlite.database import Database
from trough.model import Copy

#: Seconds of processor time after which a task gives back what it has found: well below its
#: first slice.
_TURN = 0.1


async def matching_pages(
    tasks: TaskPool, path: Path, pattern: str, size: int
) -> AsyncIterator[list[Copy]]:
    """Pages of the copies that can be read and match; none is empty.

    :param path: of the registry
    :param size: copies that are looked at in one transaction
    """
    place: reads.Place | None = ("", "")
    while place is not None:
        rows, place = await patterns.apply(tasks, matching_page, pattern, str(path), place, size)
        if rows:
            yield [Copy(*row) for row in rows]


def matching_page(
    pattern: str, path: str, after: reads.Place, size: int
) -> tuple[list[tuple[Any, ...]], reads.Place | None]:
    """Look at some copies, in a task process.

    :return: those that match, as tuples, and where to go on
    """
    matches = conditions.matcher(pattern)
    end = process_time() + _TURN
    place: reads.Place | None = after
    found: list[Copy] = []
    database = Database(Path(path))
    try:
        while place is not None and len(found) < size:
            page, place = database.read(reads.readable_page, matches, place, size)
            found += page
            if process_time() > end:
                break
    finally:
        database.close()
    return [astuple(copy) for copy in found], place

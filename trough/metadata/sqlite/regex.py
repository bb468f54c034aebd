"""The segments whose id matches a pattern, page by page, in task processes.

See :mod:`trough.metadata.patterns` for why they are not looked at in the server's process.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import closing
from dataclasses import astuple
from pathlib import Path
from time import process_time
from typing import TYPE_CHECKING, Any, TypeVar

from trough.metadata import conditions, patterns
from trough.metadata.sqlite import reads
from trough.metadata.sqlite.database import Database
from trough.model import Copy

if TYPE_CHECKING:
    from trough.executors.pool.task_pool import TaskPool

#: Seconds of processor time after which a task gives back what it has found: well below its
#: first slice.
_TURN = 0.1

T = TypeVar("T")
V = TypeVar("V")


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


async def existing_pages(
    tasks: TaskPool, path: Path, pattern: str, size: int, after: str = ""
) -> AsyncGenerator[list[str], None]:
    """As :func:`matching_pages`, ids of all segments that exist, in their order.

    :param after: where to begin; empty: with the first
    """
    # A place before the range of the pattern would have all up to there looked at.
    first, _ = conditions.id_range(pattern)
    place: str | None = after if after >= first else ""
    while place is not None:
        ids, place = await patterns.apply(tasks, existing_page, pattern, str(path), place, size)
        if ids:
            yield ids


def matching_page(
    pattern: str, path: str, after: reads.Place, size: int
) -> tuple[list[tuple[Any, ...]], reads.Place | None]:
    """Look at some copies, in a task process.

    :return: those that match, as tuples, and where to go on
    """
    matches = conditions.matcher(pattern)
    with closing(Database(Path(path))) as database:
        found, place = _some_pages(
            lambda place, size: database.read(reads.readable_page, matches, place, size),
            after,
            size,
        )
    return [astuple(copy) for copy in found], place


def existing_page(pattern: str, path: str, after: str, size: int) -> tuple[list[str], str | None]:
    """As :func:`matching_page`, ids of segments that exist."""
    ends = conditions.id_range(pattern)
    matches = conditions.matcher(pattern)
    with closing(Database(Path(path))) as database:
        return _some_pages(
            lambda place, size: database.read(reads.existing_page, matches, ends, place, size),
            after,
            size,
        )


def _some_pages(
    look: Callable[[Any, int], tuple[list[V], T | None]], after: T, size: int
) -> tuple[list[V], T | None]:
    """Some pages at once, for as long as a turn is and until `size` were found."""
    end = process_time() + _TURN
    place: T | None = after
    found: list[V] = []
    while place is not None and len(found) < size:
        page, place = look(place, size)
        found += page
        if process_time() > end:
            break
    return found, place

"""Rows of an original installation, or of somebody else, that Trough passes over."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from trough.metadata import ForeignRow
from trough.metadata.rethinkdb import reads, rows
from trough.model import why_no_segment_id

#: Rows that are read at once.
PAGE = 1000

#: The original leader's own row in ``assignment``.
RING_ASSIGNMENTS = "ring-assignments"


async def foreign_rows(run: Callable[[Any], Awaitable[Any]]) -> AsyncIterator[ForeignRow]:
    """All of them.

    :param run: runs a term
    """
    for table in ("services", "lock", "assignment"):
        last: Any = None
        while page := await run(reads.raw_page(table, last, PAGE)):
            for row in page:
                if reason := why_foreign(table, row):
                    yield ForeignRow(table, str(row["id"]), reason)
            last = page[-1]["id"]


def why_foreign(table: str, row: rows.Row) -> str:
    """Why a row is passed over, or ``""`` for one that counts."""
    key = row["id"]
    if (table, key) == ("assignment", RING_ASSIGNMENTS):
        return ""  # every original installation has it, and no program reads it
    known = {"lock": rows.locked, "assignment": rows.assignment, "services": _service}[table]
    if known(row) is not None:
        return ""
    segment = row.get("segment")
    if isinstance(segment, str) and (why := why_no_segment_id(segment)):
        return f"{segment!a:.200} is no segment id: {why}"
    return "its key, segment, worker and other fields do not agree, or have wrong types"


def _service(row: rows.Row) -> object:
    if row["id"] == rows.LEADER_ID:
        return row
    return rows.worker(row) if row.get("role") == rows.NODES else rows.copy(row, None)

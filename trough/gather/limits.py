"""What one GATHER may take."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from trough import errors
from trough.sql.json_rows import JsonRows

#: Bytes of a row that a GATHER takes, or answers with: every process on its way keeps it whole.
MOST_ROW = 4 << 20

#: What to do about a larger one.
ASK_ALONE = (
    "cut long values with substr(), or ask the segment itself: a worker sends rows of any size"
)


@dataclass(frozen=True, slots=True)
class Limits:
    """What a merge may take.

    :ivar rows: shipped or partial rows in all
    :ivar bytes: of the temporary file
    :ivar kept_rows: of a plain query, rows that wait until their segment is done, where
        segments may be missing; a segment with more than that may not be
    """

    rows: int = 20_000_000
    bytes: int = 1 << 30
    kept_rows: int = 200_000


def size_of(rows: Sequence[Sequence[Any]]) -> int:
    """About how many bytes rows have."""
    if isinstance(rows, JsonRows):
        return len(rows.text)
    size = 16 * len(rows)
    for row in rows:
        for value in row:
            size += len(value) if isinstance(value, str | bytes) else 8
    return size


def check_answer_row(row: Sequence[Any]) -> int:
    """About how many bytes a row of the answer has.

    :raises trough.errors.LimitExceeded: they are too many
    """
    size = size_of([row])
    if size > MOST_ROW:
        raise errors.LimitExceeded(
            f"a row of the answer has more than {MOST_ROW} bytes", "cut long values with substr()"
        )
    return size


def check_segment_rows(segment: str, rows: bytes) -> None:
    """Check rows that a segment sent at once: they are many small ones, or a large one.

    :raises trough.errors.LimitExceeded: it is too large
    """
    if len(rows) > MOST_ROW:
        raise errors.LimitExceeded(
            f"segment {segment} sent a row of more than {MOST_ROW} bytes", ASK_ALONE
        )

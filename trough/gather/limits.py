"""What one GATHER may take."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from trough.sql.json_rows import JsonRows


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

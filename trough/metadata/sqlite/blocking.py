"""Look-ups in the embedded registry for programs without Twisted; it is opened read only."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path

from trough.metadata import conditions
from trough.metadata.blocking import PORTION, BlockingMetadata
from trough.metadata.sqlite import reads
from trough.metadata.sqlite.database import Clock, DatabasePool
from trough.model import Copy, Inventory, Leader, Lock, Schema, Worker


class BlockingSqlite(BlockingMetadata):
    """The registry at `path`, read only."""

    def __init__(self, path: Path, clock: Clock | None = None) -> None:
        self._databases = DatabasePool(path, clock) if clock else DatabasePool(path)

    def leader(self) -> Leader | None:
        return self._databases.read(reads.leader)

    def workers(self) -> list[Worker]:
        return self._databases.read(reads.workers)

    def copies_of(self, segments: Collection[str]) -> dict[str, list[Copy]]:
        return self._databases.read(reads.copies_of, segments)

    def segments_matching(self, pattern: str | None) -> Iterator[Copy]:
        return self._matching(conditions.matcher(pattern))

    def _matching(self, matches: conditions.Matches) -> Iterator[Copy]:
        # In this process, unlike in the servers: a pattern can only stop its own author.
        place: reads.Place | None = ("", "")
        while place is not None:
            page, place = self._databases.read(reads.readable_page, matches, place, PORTION)
            yield from page

    def existing(self, pattern: str | None) -> Iterator[str]:
        matches, ends = conditions.matcher(pattern), conditions.id_range(pattern)
        place: str | None = ""
        while place is not None:
            page, place = self._databases.read(reads.existing_page, matches, ends, place, PORTION)
            yield from page

    def is_known(self, segment: str) -> bool:
        if self._databases.read(reads.lock_of, segment) is not None:
            return True
        return bool(self._databases.read(reads.assignments_of_segment, segment))

    def inventory(self) -> Inventory:
        return self._databases.read(reads.inventory)

    def locks(self, node: str | None = None) -> list[Lock]:
        return self._databases.read(reads.locks, node)

    def schemas(self) -> list[str]:
        return self._databases.read(reads.schemas)

    def schema(self, name: str) -> Schema:
        return self._databases.read(reads.schema, name)

    def close(self) -> None:
        self._databases.close()

"""What a person can do with the files that a worker keeps aside: list them, compare one with the
canonical copy, put one back as the segment's present state, and delete one.

A file aside holds writes that were acknowledged and never promoted. Nothing here chooses between
two histories of a segment. Putting a file back replaces the whole present state. That is allowed
only if all of it is promoted, so that no other write is lost.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from twisted.logger import Logger

from trough import errors
from trough.model import check_segment_id

if TYPE_CHECKING:
    from trough.worker.controller import LocalSyncController

_log = Logger()

_NAME = re.compile(r"(?P<segment>.+?)\.(?P<epoch>\d+)\.(?P<moved>\d{8}T\d{6}Z)(?:\.\d+)?\.sqlite")


@dataclass(frozen=True, slots=True)
class AsideFile:
    """A file in ``aside/``.

    :ivar segment: whose it is
    :ivar epoch: of the write lock that it was written under
    :ivar moved_at: when it was put there, as in its name
    """

    name: str
    segment: str
    epoch: int
    moved_at: str


def parse_name(name: str) -> AsideFile:
    """The segment, epoch and time in the name of a file aside.

    :raises trough.errors.NotFound: the name does not have that form
    :raises trough.errors.BadSegmentId: it has, but its first part is not a segment id
    """
    found = _NAME.fullmatch(name)
    if found is None or "/" in name:
        raise errors.NotFound(f"no file aside is called {name!a}", "trough-admin aside lists them")
    segment = check_segment_id(found["segment"])
    return AsideFile(name, segment, int(found["epoch"]), found["moved"])


class AsideFiles:
    """See the module's text.

    :param worker: whose files these are
    """

    def __init__(self, worker: LocalSyncController) -> None:
        self._worker = worker

    async def list(self) -> list[dict[str, Any]]:
        """All files, in the order of their names, with the keys ``name``, ``segment``, ``epoch``,
        ``moved_at`` and ``size`` (bytes).

        A file with any other name, which a person put there, has only ``name`` and ``size``.
        """
        files = []
        for name, size in (await self._worker.segments.aside_sizes()).items():
            try:
                file = parse_name(name)
            except errors.TroughError:
                files.append({"name": name, "size": size})
                continue
            files.append(
                {
                    "name": name,
                    "segment": file.segment,
                    "epoch": file.epoch,
                    "moved_at": file.moved_at,
                    "size": size,
                }
            )
        return files

    async def compare(self, name: str) -> dict[str, Any]:
        """How a file differs from the canonical copy of its segment.

        The keys are ``segment``, the segment's id; ``tables``, as returned by
        :func:`trough.sql.comparison.compare`; and ``promoted_at``, the time at which the canonical
        copy was published, in seconds since the Unix epoch. If there is no canonical copy,
        ``promoted_at`` is None and ``tables`` is empty.
        """
        file = await self._known(name)
        found = await self._worker.storage.find(file.segment)
        if found is None:
            return {"segment": file.segment, "promoted_at": None, "tables": {}}
        tables = await self._worker.segments.compare_aside(name, found)
        return {
            "segment": file.segment,
            "promoted_at": found.modified / 1000,
            "tables": tables,
        }

    async def put_back(self, name: str) -> dict[str, Any]:
        """Make a file the present, unpromoted state of its segment, written by this worker.

        The file aside stays. The segment is provisioned here for that.

        :raises trough.errors.Moved: another worker writes it
        :raises trough.errors.Conflict: it has writes that are not promoted
        """
        file = await self._known(name)
        return await self._worker.provisioning.carry_out(file.segment, self._put_back(file))

    async def _put_back(self, file: AsideFile) -> dict[str, Any]:
        worker, segment = self._worker, file.segment
        answer = await worker.provisioning.provision(segment, "default")
        async with worker.turns.hold(segment):
            announce = worker.writer.marks.before_write
            await worker.segments.put_back(segment, file.name, announce)
            worker.publisher.serve(segment, writable=True)
        _log.info("{segment}: {name} was put back", segment=segment, name=file.name)
        return {"segment": segment, "node": worker.myself.node, "write_url": answer["write_url"]}

    async def delete(self, name: str) -> None:
        """Remove a file for good."""
        await self._known(name)
        await self._worker.segments.delete_aside(name)
        _log.info("{name}: an operator deleted it from aside/", name=name)

    async def _known(self, name: str) -> AsideFile:
        file = parse_name(name)
        if name not in await self._worker.segments.aside_sizes():
            raise errors.NotFound(f"there is no {name} in aside/", "trough-admin aside lists them")
        return file

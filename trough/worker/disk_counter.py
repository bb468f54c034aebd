"""Detects that a worker's disk is an older image of itself.

A virtual machine that is reset to a snapshot has a disk without errors, but acknowledged writes
are missing. So the worker keeps a number in two places: in a file in LOCAL_DATA and in the
metadata store. The number grows while the worker writes. The worker flushes the file first and
updates the store afterwards. So after a crash or a power cut the disk is never behind. A disk that
is behind is an older one.

An older disk counts as another one. So it takes over nothing that it followed, and its followers
take over what it wrote (:mod:`trough.replication`). It may lack writes that it confirmed, and also
its promise to reject the orders of an older holder.

This cannot detect an image that was taken within the last heartbeat interval.
"""

from __future__ import annotations

from pathlib import Path

from twisted.logger import Logger

from trough import errors
from trough.metadata import Metadata
from trough.model import Worker
from trough.util import atomic_files
from trough.util.threads import ThreadPoolService
from trough.util.wording import counted
from trough.worker.data_directory import new_identity

_log = Logger()


class DiskCounter:
    """The number in the data directory of one worker.

    :param threads: where files are read and written
    """

    def __init__(self, directory: Path, threads: ThreadPoolService) -> None:
        self._path = directory / "counter"
        self._threads = threads

    async def read(self) -> int:
        """The number on the disk; 0 where there is none."""
        return await self._threads.run(self._read)

    async def bump(self) -> int:
        """Make it greater by one; the number once that is on disk.

        :raises trough.errors.DiskFull: no room; the number is as it was
        """
        return await self._threads.run(self._raise_to, 0)

    async def raise_to(self, least: int) -> None:
        """Make it `least`, unless it is greater already."""
        await self._threads.run(self._raise_to, least)

    async def become_another(self) -> str:
        """Have this disk count as another one; its new identity.

        :raises trough.errors.DiskFull: no room; the identity is as it was
        """
        return await self._threads.run(new_identity, self._path.parent)

    async def files_of_the_original(self) -> list[str]:
        """Names of files as the original Trough keeps copies: beside each other, right in
        LOCAL_DATA."""
        return await self._threads.run(self._files)

    def _files(self) -> list[str]:
        return sorted(path.name for path in self._path.parent.glob("*.sqlite"))

    def _read(self) -> int:
        try:
            return int(self._path.read_text())
        except FileNotFoundError:
            return 0

    def _raise_to(self, least: int) -> int:
        number = max(self._read() + 1, least)
        with atomic_files.replacing(self._path) as file:
            atomic_files.write_all(file, b"%d\n" % number)
        return number


async def check_disk(counter: DiskCounter, metadata: Metadata, myself: Worker, is_new: bool) -> str:
    """Refuse a disk that lacks what was written under locks that are still held.

    It would give these locks back, or promote less than was acknowledged, and that is for a
    person to decide. Locks with followers do not count: a follower takes them over. Without
    locks nothing is lost: copies are compared with canonical storage.

    :param is_new: whether nothing was ever kept in the data directory
    :return: the identity of the disk, which is another one if the disk is an older state
    :raises trough.errors.BadSettings: this worker holds write locks, and its disk is new or old
    """
    node = myself.node
    known = await metadata.disk_counter(node)
    found = 0 if is_new else await counter.read()
    if not is_new and found >= known:
        return myself.identity
    locks = [lock for lock in await metadata.locks(node) if not lock.followers]
    if locks:
        number = counted(len(locks), "write lock")
        held = f"{node} holds {number}, of segment {locks[0].segment} for one"
        if is_new and (files := await counter.files_of_the_original()):
            raise errors.BadSettings(
                f"LOCAL_DATA has {counted(len(files), 'file')} as the original Trough keeps them "
                f"({files[0]} for one), which are not used, and {held}",
                "the original has to promote everything before an upgrade (docs/operations.rst, "
                f"From the original Trough); then: trough-admin free-locks {node}",
            )
        raise _refusal(node, held, "" if is_new else f"{found}, not {known}")
    identity = myself.identity
    if found < known and not is_new:
        _log.warn(
            "LOCAL_DATA is an older state of this disk: its counter is {found}, not {known}. It "
            "counts as another disk, and follows no segment until it has a new base.",
            found=found,
            known=known,
        )
        await metadata.withdraw_worker(myself)
        identity = await counter.become_another()
    await counter.raise_to(known)
    return identity


def _refusal(node: str, held: str, numbers: str) -> errors.BadSettings:
    free = f"with what was not promoted: trough-admin free-locks {node}"
    if not numbers:
        return errors.BadSettings(
            f"LOCAL_DATA is empty, and {held}: what was written to them has been kept elsewhere",
            f"is its disk mounted? If it is lost, {free}",
        )
    return errors.BadSettings(
        f"LOCAL_DATA is an older state of this disk (its counter is {numbers}), and {held}: "
        "what was written to them since is missing here",
        f"was a snapshot restored? Put the newest disk back. If it is lost, {free}",
    )

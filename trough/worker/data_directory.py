"""A worker's data directory: whose it is, and that only one process uses it."""

from __future__ import annotations

import contextlib
import fcntl
import os
import uuid
from pathlib import Path

from twisted.application import service

from trough import errors
from trough.storage.paths import SUFFIX
from trough.util import atomic_files
from trough.worker import local_files


def check_apart(local_data: Path, storage: Path, registry: Path | None) -> None:
    """Refuse directories that would be taken for each other's files.

    :param storage: the root of canonical storage; it may lie in `local_data`, beside the
        worker's folders
    :param registry: the file of an embedded metadata store
    :raises trough.errors.BadSettings: naming the two
    """
    storage_ways, data_ways = _ancestors(storage), _ancestors(local_data)
    if storage_ways[0] in data_ways:
        raise errors.BadSettings(
            f"LOCAL_DATA {local_data} lies in the canonical storage {storage}",
            "name a directory beside it: each file in there would pass for a segment",
        )
    for name in local_files.FOLDERS:
        folder = _ancestors(local_data / name)[0]
        if folder in storage_ways:
            raise errors.BadSettings(
                f"the canonical storage {storage} lies in {local_data / name}",
                "name a directory that the worker does not sweep",
            )
        if registry is not None and folder in _ancestors(registry):
            raise errors.BadSettings(
                f"the registry {registry} lies in {local_data / name}",
                "name a place that the worker does not sweep",
            )
    if (
        registry is not None
        and registry.suffix == SUFFIX
        and storage_ways[0] in _ancestors(registry)
    ):
        raise errors.BadSettings(
            f"the registry {registry} has a segment's name, in canonical storage",
            "name a file elsewhere, or one that does not end in .sqlite",
        )


def _ancestors(path: Path) -> list[object]:
    """`path` and all that it is in: device and inode, which a bind mount keeps, where it is
    there, and else its resolved name."""
    resolved = path.resolve()
    found: list[object] = []
    for each in (resolved, *resolved.parents):
        try:
            status = each.stat()
        except OSError:
            found.append(each)
        else:
            found.append((status.st_dev, status.st_ino))
    return found


def new_identity(path: Path) -> str:
    """Have a data directory count as another disk; its new identity, which is on disk. Blocks.

    :raises trough.errors.DiskFull: no room; the identity is as it was
    """
    identity = uuid.uuid4().hex
    with atomic_files.replacing(path / "identity") as file:
        atomic_files.write_all(file, identity.encode())
    return identity


class DataDirectory(service.Service):
    """Locks the directory for as long as the process lives.

    The operating system drops the lock when the process ends, also after a crash.

    The directory belongs to one worker for good. Write locks are held under a worker's name. Under
    another name, everything that was not promoted would have to go aside.

    :param node: the worker's name
    :param snapshots: a directory of this worker elsewhere, made like those in `path`
    :ivar identity: random, made at the first start and kept; distinguishes this worker from
        another one that was given the same name
    """

    def __init__(self, path: Path, node: str, snapshots: Path | None = None) -> None:
        self._path = path
        self._lock: int | None = None
        if snapshots is not None:
            try:
                snapshots.mkdir(parents=True, exist_ok=True)
            except OSError as reason:
                raise errors.BadSettings(
                    f"SNAPSHOT_DIRECTORY: {snapshots} cannot be made: {reason.strerror}",
                    "name a directory that this user may write to",
                ) from reason
        try:
            path.mkdir(parents=True, exist_ok=True)
            for name in local_files.FOLDERS:  # before the executors that are let into them
                (path / name).mkdir(exist_ok=True)
            owner = self._kept("node", node)
            self.identity = self._kept("identity", uuid.uuid4().hex)
        except OSError as reason:
            raise errors.BadSettings(
                f"LOCAL_DATA {path} cannot be used: {reason.strerror}",
                "name a directory that this user may write to",
            ) from reason
        if owner != node:
            raise errors.BadSettings(
                f"LOCAL_DATA {path} belongs to the worker {owner}, and HOSTNAME is {node}",
                f"set HOSTNAME: {owner}; or, to have {node} use these files and put aside what "
                f"{owner} had not promoted, remove {path / 'node'}",
            )

    def _kept(self, name: str, value: str) -> str:
        """The content of a small file, which begins as `value`, whole or not at all."""
        path = self._path / name
        if not path.exists() or not path.read_text():
            self._write(path, value)
        return path.read_text().strip()

    def _write(self, path: Path, value: str) -> None:
        """Make a file that is not there, or that a crash left empty."""
        temporary = path.with_name(atomic_files.temporary_name(path.name))
        try:
            with temporary.open("x") as file:
                file.write(value)
                file.flush()
                os.fsync(file.fileno())
            if path.exists():
                temporary.replace(path)
            else:
                # Of two that start at once, the first one's counts, for both.
                with contextlib.suppress(FileExistsError):
                    os.link(temporary, path)
            atomic_files.fsync_directory(path.parent)
        finally:
            temporary.unlink(missing_ok=True)

    def privilegedStartService(self) -> None:
        """Take the lock.

        :raises SystemExit: another process has it, or the file cannot be used
        """
        super().privilegedStartService()
        path = self._path / "lock"
        try:
            lock = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as reason:
            # A worker that once ran as root leaves a file that no other user can open.
            raise SystemExit(
                f"trough: {path} cannot be opened for writing: {reason.strerror}; give this "
                "directory, and all files in it, to the user that runs the worker"
            ) from reason
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            raise SystemExit(
                f"trough: the data directory {self._path} is in use by another worker; "
                "give each worker its own LOCAL_DATA and HOSTNAME"
            ) from None
        self._lock = lock

    def stopService(self) -> None:
        """Release the lock."""
        super().stopService()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

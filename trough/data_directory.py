"""A worker's data directory: whose it is, and that only one process uses it."""

from __future__ import annotations

import fcntl
import os
import uuid
from pathlib import Path

from twisted.application import service

from trough import errors


class DataDirectory(service.Service):
    """Locks the directory for as long as the process lives.

    The operating system drops the lock with the process, however that ends.

    It belongs to one worker for good: write locks are held under a worker's name, and under
    another one everything that was not promoted would have to go aside.

    :param node: the worker's name
    :ivar identity: random, made at the first start and kept; tells this worker from
        another one that was given the same name
    """

    def __init__(self, path: Path, node: str) -> None:
        self._path = path
        self._lock: int | None = None
        try:
            path.mkdir(parents=True, exist_ok=True)
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
        """What a small file says, which begins as `value`."""
        path = self._path / name
        try:
            with path.open("x") as file:
                file.write(value)
                file.flush()
                os.fsync(file.fileno())
        except FileExistsError:
            pass
        return path.read_text().strip()

    def privilegedStartService(self) -> None:
        """Take the lock.

        :raises SystemExit: another process has it
        """
        super().privilegedStartService()
        lock = os.open(self._path / "lock", os.O_RDWR | os.O_CREAT, 0o644)
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
        """Let go of the lock."""
        super().stopService()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

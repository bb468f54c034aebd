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

    :ivar identity: random, made at the first start and kept; tells this worker from
        another one that was given the same name
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock: int | None = None
        try:
            path.mkdir(parents=True, exist_ok=True)
            self.identity = self._read_identity()
        except OSError as reason:
            raise errors.BadSettings(
                f"LOCAL_DATA {path} cannot be used: {reason.strerror}",
                "name a directory that this user may write to",
            ) from reason

    def _read_identity(self) -> str:
        path = self._path / "identity"
        try:
            with path.open("x") as file:
                file.write(uuid.uuid4().hex)
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

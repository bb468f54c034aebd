"""A file system that is soon full, for tests that fill it."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import pytest

from trough.sql.sqlite import sqlite3
from trough.worker.catalogue import ROOM


@contextmanager
def mounted(place: Path, size: str) -> Iterator[Path]:
    """A new file system at `place`; skips the test where none can be mounted.

    :param size: as tmpfs takes it, ``6m``
    """
    place.mkdir()
    mounting = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(place)], capture_output=True
    )
    if mounting.returncode:
        pytest.skip(f"no small file system can be mounted: {mounting.stderr.decode().strip()}")
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


@contextmanager
def without_room(disk: Path) -> Iterator[None]:
    """No byte is left on `disk`, nor in the room that a worker's catalogue keeps for itself."""
    catalogue = disk / "catalogue.db"
    with closing(sqlite3.connect(catalogue)) as reader, suppress(OSError):
        reader.execute("BEGIN")
        reader.execute("SELECT * FROM local_copy").fetchall()  # the log does not begin again
        with closing(sqlite3.connect(catalogue)) as writer, writer:
            writer.execute("CREATE TABLE greed AS SELECT zeroblob(?)", (2 * ROOM,))
        with (disk / "filling").open("wb", buffering=0) as file, suppress(OSError):
            while True:
                file.write(bytes(4096))
        yield
    (disk / "filling").unlink()


@pytest.fixture
def small_disk(tmp_path):
    """A file system of a few megabytes."""
    with mounted(tmp_path / "small", "6m") as place:
        yield place


@pytest.fixture
def tiny_disk(tmp_path):
    """A file system of one megabyte."""
    with mounted(tmp_path / "tiny", "1m") as place:
        yield place

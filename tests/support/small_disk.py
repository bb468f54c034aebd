"""A file system that is soon full, for tests that fill it."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


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

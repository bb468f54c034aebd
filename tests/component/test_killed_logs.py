"""Processes that write and follow a log, and are killed: `make kills` does more of it."""

from __future__ import annotations

import random
from pathlib import Path

import killed_logs
import pytest


@pytest.mark.parametrize("seed", range(2))
def test_kills_lose_nothing_that_was_acknowledged(tmp_path: Path, seed: int) -> None:
    """The databases are equal at the end, byte for byte, and have every acknowledged row."""
    done = killed_logs.run(tmp_path, random.Random(seed), 4)
    assert done.acknowledged

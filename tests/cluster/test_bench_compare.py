"""The comparison of two versions: both are served, asked in turn, and put side by side."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from places import ROOT

COMPARE = [sys.executable, str(ROOT / "bench" / "compare.py")]


def test_two_versions_are_measured_in_turn(tmp_path: Path) -> None:
    """Each pair of passes gives a ratio; the table has their median and their spread."""
    found = tmp_path / "found.json"
    only = ["--quick", "--rounds", "2", "--only", "point_reads_sequential"]
    done = subprocess.run(
        [*COMPARE, *only, "--json", str(found), str(ROOT), str(ROOT)],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    document = json.loads(found.read_text())
    (row,) = document["rows"]
    assert "SQLite" in document["machine"] and document["machine"] in done.stdout
    assert row["work"] in done.stdout
    for side in ("first", "second"):
        assert len(row[side]["wall"]) == 2 and row[side]["peak"] > 0
    pairs = sorted(
        one / other for one, other in zip(row["first"]["wall"], row["second"]["wall"], strict=True)
    )
    assert [row["rate"]["least"], row["rate"]["greatest"]] == pairs
    assert row["rate"]["median"] == sum(pairs) / 2


def test_what_is_no_version_is_named() -> None:
    """No traceback for a commit that does not exist."""
    done = subprocess.run(
        [*COMPARE, "no-such-commit", str(ROOT)], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 1
    assert "no-such-commit is no commit of" in done.stderr and "Traceback" not in done.stderr

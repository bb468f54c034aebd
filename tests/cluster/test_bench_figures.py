"""What ``make bench`` runs: it ends well, and leaves all figures as JSON."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from places import ROOT


def figures(tmp_path: Path, script: str, *options: str) -> dict[str, Any]:
    """Run one of the benchmarks; its document."""
    found = tmp_path / "found.json"
    command = [sys.executable, str(ROOT / "bench" / script), *options, "--json", str(found)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    document: dict[str, Any] = json.loads(found.read_text())
    assert "SQLite" in document["machine"] and document["machine"] in done.stdout
    return document


def test_a_row_has_its_baseline_its_memory_and_its_processor_time(tmp_path: Path) -> None:
    """Rates tell little on a shared machine without the rest."""
    document = figures(tmp_path, "run.py", "--quick", "--only", "point_reads_sequential")
    (row,) = document["rows"]
    assert row["unit"] == "reads/s"
    assert min(row["bare"], row["trough"], row["peak"], row["cpu"]) > 0


def test_point_reads_are_measured_beside_neighbours(tmp_path: Path) -> None:
    """The bulk load goes on meanwhile, or nothing was measured."""
    few = ["--reads", "20", "--scans", "3", "--fetches", "5"]
    document = figures(tmp_path, "bench_neighbours.py", *few)
    slower = max(document["before"], document["after"])
    assert document["ratio"] == document["beside"] / slower
    assert document["loaded"] > 0 and document["peak"] > 0

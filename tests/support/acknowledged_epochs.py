"""Judges under which epoch of a write lock each row was acknowledged, by the workers' audit logs.

The judge knows nothing of replication. A worker notes each write with its epoch. An epoch has one
worker. An attempt that began after another one was acknowledged has the same epoch or a later one:
so a holder that was replaced acknowledges nothing more.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path

from replicated_history import Attempt

_ROW = re.compile(r"VALUES \('([^']*)'\)")


@dataclass(frozen=True)
class Noted:
    """What the audit log has of one acknowledged row."""

    node: str
    epoch: int


def noted_rows(path: Path, segment: str) -> dict[str, Noted]:
    """The acknowledged rows of a segment, by an audit log that all workers write to."""
    found = {}
    for line in path.read_text().splitlines():
        entry = json.loads(line)
        written = entry["act"] == "write" and entry["outcome"] == "ok"
        if written and entry["segment"] == segment:
            row = _ROW.search(entry["sql"])
            assert row is not None, entry
            found[row[1]] = Noted(entry["node"], entry["epoch"])
    return found


def judge_epochs(attempts: list[Attempt], segment: str, noted: dict[str, Noted]) -> int:
    """Compare who acknowledged what under which epoch, and when; how many rows were compared.

    A killed worker takes its last entries along, so rows without one are left out.
    """
    holders: dict[int, str] = {}
    for each in noted.values():
        first = holders.setdefault(each.epoch, each.node)
        assert first == each.node, f"{first} and {each.node} acknowledged in epoch {each.epoch}"
    done = [
        each
        for each in attempts
        if each.segment == segment and each.acknowledged and each.row in noted
    ]
    ended = sorted(done, key=lambda each: each.ended)
    newest, passed = 0, 0
    for attempt in sorted(done, key=lambda each: each.begun):
        while ended[passed].ended < attempt.begun:
            newest = max(newest, noted[ended[passed].row].epoch)
            passed += 1
        epoch = noted[attempt.row].epoch
        assert epoch >= newest, (
            f"{segment}: {attempt} was acknowledged in epoch {epoch} by {noted[attempt.row].node}, "
            f"after an epoch {newest} had begun to acknowledge"
        )
    return len(done)

"""The audit log, on a thread that is not one."""

from __future__ import annotations

import json
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from trough.access.audit import FLUSH_SECONDS, MAX_ENTRIES, MAX_SQL, AuditLog


class World:
    """A log whose thread is this one; while `slow`, it waits with what it is to do."""

    def __init__(self, path: Path, keeps_sql: bool = False) -> None:
        self.clock, self.path = Clock(), path
        self.slow = False
        self._waiting: list[Callable[[], object]] = []
        self.log = AuditLog(path, "w01", keeps_sql, self._run, self.clock, now=lambda: 1.5)
        self.log.startService()

    def _run(self, function: Callable[..., None], *arguments: Any) -> Deferred[None]:
        started: Deferred[None] = Deferred()
        started.addCallback(lambda _: function(*arguments))
        self._waiting.append(lambda: started.callback(None))
        if not self.slow:
            self.finish()
        return started

    def finish(self) -> None:
        """Do what waits."""
        waiting, self._waiting = self._waiting, []
        for start in waiting:
            start()

    def entries(self) -> list[dict[str, Any]]:
        """What is in the file after a moment."""
        self.clock.advance(FLUSH_SECONDS)
        return [json.loads(line) for line in self.path.read_text().splitlines()]


def test_an_entry_says_who_did_what(tmp_path: Path) -> None:
    """With its time, without empty keys, in a file for its owner alone."""
    world = World(tmp_path / "audit.log")
    more = {"segment": "a\n", "sql": "DROP TABLE t", "via": ""}
    world.log.note("write", "ok", "crawler", "10.0.0.1:5", **more)
    assert not world.path.exists()
    assert world.entries() == [
        {
            "time": "1970-01-01T00:00:01.500+00:00",
            "node": "w01",
            "act": "write",
            "outcome": "ok",
            "token": "crawler",
            "peer": "10.0.0.1:5",
            "segment": "a\n",
        }
    ]
    assert stat.S_IMODE(world.path.stat().st_mode) == 0o600
    assert len(world.path.read_text().splitlines()) == 1


def test_sql_if_it_was_asked_for(tmp_path: Path) -> None:
    """Its beginning, as text whatever its bytes are."""
    world = World(tmp_path / "audit.log", keeps_sql=True)
    world.log.note("write", "ok", "", "p", sql=b"SELECT '\xff'")
    world.log.note("write", "ok", "", "p", sql="x" * (MAX_SQL + 1))
    first, second = world.entries()
    assert first["sql"] == "SELECT '\ufffd'"
    assert len(second["sql"]) == MAX_SQL


def test_a_log_that_is_rotated_away(tmp_path: Path) -> None:
    """The next entry begins a new file."""
    world = World(tmp_path / "audit.log")
    world.log.note("promote", "ok", "", "p")
    assert len(world.entries()) == 1
    world.path.rename(tmp_path / "audit.log.1")
    world.log.note("delete", "no-segment", "", "p")
    assert [entry["act"] for entry in world.entries()] == ["delete"]


def test_a_disk_that_does_not_keep_up(tmp_path: Path) -> None:
    """So many entries wait and no more; how many were dropped is in the log."""
    world = World(tmp_path / "audit.log")
    world.slow = True
    world.log.note("write", "ok", "", "p")
    world.clock.advance(FLUSH_SECONDS)
    for _ in range(MAX_ENTRIES + 3):
        world.log.note("write", "ok", "", "p")
    world.slow = False
    world.finish()
    entries = world.entries()
    assert len(entries) == 1 + MAX_ENTRIES + 1
    assert (entries[-1]["act"], entries[-1]["entries"]) == ("dropped", 3)


def test_a_file_that_cannot_be_written(tmp_path: Path) -> None:
    """The server goes on, and counts what is lost until the file can be written again."""
    world = World(tmp_path / "nowhere" / "audit.log")
    for _ in range(2):
        world.log.note("write", "ok", "", "p")
        world.clock.advance(FLUSH_SECONDS)
    (tmp_path / "nowhere").mkdir()
    assert [(entry["act"], entry["entries"]) for entry in world.entries()] == [("dropped", 2)]


def test_the_end(tmp_path: Path) -> None:
    """What was noted before the end is written, also what is noted while it is."""
    world = World(tmp_path / "audit.log")
    world.log.note("write", "ok", "", "p")
    assert world.log.stopService() is None
    assert len(world.entries()) == 1

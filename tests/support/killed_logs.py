"""Real processes that write and follow a log, and are killed at any moment.

``python killed_logs.py SECONDS [SEED]`` goes on for so long, and prints what it did. Each run ends
with a take-over: every row that both sides had must be in the database, once, and the database must
be that of the holder.
"""

from __future__ import annotations

import contextlib
import random
import sqlite3
import struct
import subprocess
import sys
import tempfile
import threading
from contextlib import closing
from pathlib import Path
from time import monotonic
from typing import BinaryIO

from logged_segments import LoggedSegment

from trough import errors
from trough.replication.log import BasePart, LogPart
from trough.replication.shadow import Shadow
from trough.sql import segment_files, sqlite

_HEAD = struct.Struct("!cI")


def write(path: Path) -> None:
    """The process that writes: ``write FIRST LAST SIZE`` or ``checkpoint POSITION`` a line."""
    segment = LoggedSegment.again(path)
    print("end", flush=True)
    for line in sys.stdin:
        verb, *numbers = line.split()
        try:
            if verb == "write":
                first, last, size = map(int, numbers)
                (done,) = segment.write(
                    f"WITH RECURSIVE n(i) AS (SELECT {first} UNION ALL SELECT i + 1 FROM n "
                    f"WHERE i < {last}) INSERT INTO event SELECT i, randomblob({size}) FROM n"
                )
                print("end", done.position, flush=True)
            else:
                segment_files.checkpoint_log(segment.engine, str(path), int(numbers[0]))
                print("end", numbers[0], flush=True)
        except errors.Unavailable:
            print("end", flush=True)


def follow(directory: Path) -> None:
    """The process that follows: each message is a letter, a size, and a part."""
    copy = Shadow(directory, reserve=0)
    print("end", copy.end, flush=True)
    while head := sys.stdin.buffer.read(_HEAD.size):
        kind, size = _HEAD.unpack(head)
        data = sys.stdin.buffer.read(size)
        if kind == b"B":
            copy.add_base(BasePart.decode(data))
        elif kind == b"L":
            copy.append(LogPart.decode(data))
        else:
            print("end", copy.take_over(Path(data.decode())), flush=True)
            return
        print("end", copy.end, flush=True)


class Killed(Exception):
    """A process is gone."""


class Child:
    """One of the processes. It is started when it is needed."""

    def __init__(self, role: str, path: Path) -> None:
        self._arguments = [sys.executable, __file__, role, str(path)]
        self._process: subprocess.Popen[bytes] | None = None
        self.kills = 0

    def start(self) -> int:
        """Start it if it does not run; where its log ends, if it did not."""
        if self._process is None:
            self._process = subprocess.Popen(
                self._arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE
            )
            return self._answer()
        return -1

    def _pipe(self) -> tuple[BinaryIO, BinaryIO]:
        process = self._process
        assert process is not None
        assert process.stdin is not None
        assert process.stdout is not None
        return process.stdin, process.stdout

    def ask(self, data: bytes, kill_after: float | None = None) -> int:
        """Send a message and return the number of the answer, or -1; raises :class:`Killed`."""
        self.start()
        timer = None
        if kill_after is not None:
            assert self._process is not None
            timer = threading.Timer(kill_after, self._process.kill)
            timer.start()
        try:
            with contextlib.suppress(BrokenPipeError):
                stream = self._pipe()[0]
                stream.write(data)
                stream.flush()
            return self._answer()
        finally:
            if timer is not None:
                timer.join()
                self.kills += 1
                self.end()

    def _answer(self) -> int:
        line = self._pipe()[1].readline().split()
        if not line:
            self.end()
            raise Killed
        return int(line[1]) if len(line) > 1 else -1

    def end(self) -> None:
        """Kill it, if it runs."""
        if self._process is not None:
            self._process.kill()
            with contextlib.suppress(BrokenPipeError):
                self._process.communicate()
            self._process = None


class Run:
    """A holder and a follower, and what both have.

    :ivar acknowledged: rows that were on both disks
    """

    def __init__(self, directory: Path, chance: random.Random) -> None:
        self.directory = directory
        self.chance = chance
        self.segment = LoggedSegment(directory / "1.sqlite", chance.choice((512, 4096)))
        self.segment.handles.clear()
        self.writer = Child("write", self.segment.path)
        self.follower = Child("follow", directory / "copy")
        self.acknowledged: set[int] = set()
        self._written: dict[int, int] = {}
        self._next = 1
        self._confirmed = 0

    def step(self, kill: bool) -> None:
        """A write, perhaps a checkpoint, and what the follower lacks; perhaps a kill in it."""
        chance = self.chance
        victim = chance.choice((self.writer, self.follower)) if kill else None
        after = chance.random() * 0.01
        with contextlib.suppress(Killed):
            self._write(after if victim is self.writer else None)
        end = self.segment.reader.end()
        with contextlib.suppress(Killed):
            self._send(end, after if victim is self.follower else None)
        self.acknowledged |= {row for row, at in self._written.items() if at <= self._confirmed}
        if self._confirmed == end and chance.random() < 0.4:
            with contextlib.suppress(Killed):
                self.writer.ask(f"checkpoint {end}\n".encode(), after if kill else None)

    def _write(self, kill_after: float | None) -> None:
        first, last = self._next, self._next + self.chance.randint(0, 20)
        self._next = last + 1
        size = self.chance.choice((10, 300, 5000))
        end = self.writer.ask(f"write {first} {last} {size}\n".encode(), kill_after)
        if end >= 0:
            self._written |= dict.fromkeys(range(first, last + 1), end)

    def _send(self, end: int, kill_after: float | None = None) -> None:
        started = self.follower.start()
        if started >= 0:
            assert started >= self._confirmed, "a follower lost what it confirmed"
            self._confirmed = started
        if not self._confirmed:
            for piece in self.segment.reader.base(end):
                self._confirmed = self._message(b"B", piece.encode())
        while self._confirmed < end:
            part = self.segment.reader.read(self._confirmed, end, 1 << 14)
            self._confirmed = self._message(b"L", part.encode(), kill_after)

    def _message(self, kind: bytes, data: bytes, kill_after: float | None = None) -> int:
        return self.follower.ask(_HEAD.pack(kind, len(data)) + data, kill_after)

    def finish(self) -> None:
        """Take over, and compare."""
        end = self.segment.reader.end()
        self._send(end)
        self.writer.end()
        target = self.directory / "taken.sqlite"
        assert self._message(b"T", str(target).encode()) == end
        self.follower.end()
        engine = sqlite.Engine()
        segment_files.checkpoint_log(engine, str(self.segment.path), end)
        assert target.read_bytes() == self.segment.path.read_bytes(), "the databases differ"
        with closing(sqlite3.connect(target)) as taken:
            assert taken.execute("PRAGMA integrity_check").fetchone() == ("ok",)
            rows = {row for (row,) in taken.execute("SELECT id FROM event")}
        assert self.acknowledged <= rows, "acknowledged rows are missing"

    def close(self) -> None:
        self.writer.end()
        self.follower.end()
        self.segment.close()


def run(directory: Path, chance: random.Random, kills: int) -> Run:
    """One run with so many kills; raises AssertionError where something is lost."""
    made = Run(directory, chance)
    with closing(made):
        while made.writer.kills + made.follower.kills < kills:
            made.step(chance.random() < 0.5)
        made.finish()
    return made


def main(seconds: float, seed: int) -> None:
    """Run for so long."""
    end, chance = monotonic() + seconds, random.Random(seed)
    runs = rows = kills = 0
    while monotonic() < end:
        with tempfile.TemporaryDirectory() as directory:
            done = run(Path(directory), chance, 8)
        runs, rows = runs + 1, rows + len(done.acknowledged)
        kills += done.writer.kills + done.follower.kills
    print(f"{runs} runs, {kills} kills, {rows} acknowledged rows, none missing")


if __name__ == "__main__":
    if sys.argv[1] == "write":
        write(Path(sys.argv[2]))
    elif sys.argv[1] == "follow":
        follow(Path(sys.argv[2]))
    else:
        main(float(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 0)

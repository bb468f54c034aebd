"""Power cuts: what a follower confirmed is there afterwards, whatever else the disk lost."""

from __future__ import annotations

import random
from bisect import bisect_left
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path

import pytest
from logged_segments import LoggedSegment
from lossy_disk import LossyDisk, PowerCut

from trough import errors
from trough.replication.log import BasePart, LogPart
from trough.replication.shadow import Shadow
from trough.replication.shadow_pair import Pair
from trough.util.atomic_files import is_temporary

COPY = Path("/copy")
TARGET = Path("/segments/1.sqlite")


@dataclass(frozen=True)
class History:
    """All that a holder sent, frame by frame.

    :ivar database: its file at the end, with nothing left in the WAL
    """

    base: list[BasePart]
    frames: list[LogPart]
    database: bytes

    @property
    def end(self) -> int:
        return self.frames[-1].end

    def digest_at(self, position: int) -> bytes:
        """The digest at a position behind the base."""
        return self.frames[bisect_left(self.frames, position, key=lambda part: part.start)].before

    def after(self, position: int, most: int) -> LogPart:
        """Up to `most` frames from a position, in one part."""
        first = bisect_left(self.frames, position, key=lambda part: part.start)
        parts = [self.frames[first]]
        for part in self.frames[first + 1 : first + most]:
            if part.generation != parts[0].generation:
                break
            parts.append(part)
        return replace(parts[0], content=b"".join(part.content for part in parts))


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory) -> History:
    """Four generations of a small database that grows and shrinks."""
    path = tmp_path_factory.mktemp("holder") / "1.sqlite"
    with closing(LoggedSegment(path, 512)) as segment:
        segment.insert(5)
        base = list(segment.reader.base(segment.reader.end()))
        start, frames = segment.reader.end(), []
        for _ in range(4):
            for _ in range(3):
                segment.insert(2)
            segment.insert(8, 300)  # several frames
            segment.write("DELETE FROM event WHERE id % 4 = 0")
            segment.write("UPDATE event SET content = zeroblob(90) WHERE id % 3 = 0")
            frames += segment.parts(start, segment.ends[-1], 1)
            start = segment.ends[-1]
            segment.checkpoint()
        # The last generation is empty: a mark of where it would begin.
        frames.append(replace(frames[-1], start=start, before=digest(segment, start), content=b""))
        return History(base, frames, path.read_bytes())


def digest(segment: LoggedSegment, position: int) -> bytes:
    found = segment.reader.digest_at(position)
    assert found is not None
    return found


class Follower:
    """A follower on a disk that loses what was not flushed.

    :ivar confirmed: the highest position that it confirmed
    """

    def __init__(self, history: History, chance: random.Random, kind: type[Shadow]) -> None:
        self.history = history
        self.chance = chance
        self.kind = kind
        self.disk = LossyDisk(chance)
        self.confirmed = 0

    def run(self, work: Callable[[Shadow], None], cuts: int) -> None:
        """Do some work with this many power cuts in it, each at a random change."""
        while True:
            self.disk.left = self.chance.randint(0, 40) if cuts else -1
            try:
                work(self.kind(COPY, reserve=0, disk=self.disk))
                return
            except PowerCut:
                cuts -= 1
                self.disk = self.disk.after_a_crash()
                self.check()

    def check(self) -> None:
        """What was confirmed is there, and is what the holder had."""
        copy = self.kind(COPY, reserve=0, disk=self.disk)
        assert not copy.lost
        assert copy.end >= self.confirmed
        if self.confirmed:
            assert copy.digest_at(copy.end) == self.history.digest_at(copy.end)
        copy.close()

    def follow(self, copy: Shadow) -> None:
        """Take the base and all that follows it."""
        if not copy.end:
            for piece in self.history.base:
                copy.add_base(piece)
        self.confirmed = max(self.confirmed, copy.end)
        while copy.end < self.history.end:
            copy.append(self.history.after(copy.end, self.chance.randint(1, 9)))
            self.confirmed = copy.end
            if self.chance.random() < 0.05:
                self.rejoin(copy)

    def rejoin(self, copy: Shadow) -> None:
        """Cut off a part of what is there, as when a new holder lacks it."""
        places = [
            part.start
            for part in self.history.frames
            if part.start <= copy.end and copy.digest_at(part.start) is not None
        ]
        place = self.chance.choice(places)
        self.confirmed = min(self.confirmed, place)
        copy.truncate(place)

    def take_over(self, copy: Shadow) -> None:
        """Become the segment."""
        assert copy.take_over(TARGET) == self.history.end


def survive(history: History, seed: int, kind: type[Shadow], cuts: int = 6) -> Follower:
    """Follow to the end and take over, with power cuts in both."""
    follower = Follower(history, random.Random(seed), kind)
    follower.run(follower.follow, cuts)
    follower.confirmed = 0  # positions are those of the target from here on
    while True:
        follower.disk.left = follower.chance.randint(0, 30) if cuts else -1
        try:
            follower.take_over(kind(COPY, reserve=0, disk=follower.disk))
            return follower
        except PowerCut:
            cuts -= 1
            follower.disk = follower.disk.after_a_crash()


@pytest.mark.parametrize("seed", range(60))
def test_nothing_confirmed_is_lost(history: History, seed: int) -> None:
    """Appending, a new generation, a base, a cut and a take-over survive power cuts."""
    follower = survive(history, seed, Shadow)
    assert follower.disk.load(TARGET) == history.database
    # Hidden names are swept when the worker starts.
    names = [name for name in follower.disk.names(TARGET.parent) if not is_temporary(name)]
    assert sorted(names) == [TARGET.name, f"{TARGET.name}-log"]


@pytest.mark.parametrize("seed", range(3))
def test_any_moment(history: History, seed: int) -> None:
    """One power cut at each change there is, one after the other."""
    for moment in count(seed, 3):
        follower = Follower(history, random.Random(moment), Shadow)
        follower.disk.left = moment
        with suppress(PowerCut):
            follower.follow(Shadow(COPY, reserve=0, disk=follower.disk))
            return
        follower.disk = follower.disk.after_a_crash()
        follower.check()
        follower.run(follower.follow, 0)
        follower.run(follower.take_over, 0)
        assert follower.disk.load(TARGET) == history.database


@pytest.mark.parametrize("seed", range(60))
def test_a_former_holder_follows(tmp_path: Path, seed: int) -> None:
    """Its files become a copy as a whole, whenever the power was cut."""
    chance = random.Random(seed)
    with closing(LoggedSegment(tmp_path / "1.sqlite", 512)) as segment:
        segment.insert(5)
        if seed % 3 == 0:
            segment.checkpoint()
        if seed % 3 < 2:
            segment.insert(5)
        end, names = segment.reader.end(), ("", "-wal", "-shm", "-log")
        expected = segment.reader.digest_at(end)
        disk = LossyDisk(chance)
        for name in names:
            disk.put(Path(f"{TARGET}{name}"), Path(f"{segment.path}{name}").read_bytes())
    for cut in range(seed % 20, -1, -1):
        disk.left = cut if cut else -1
        try:
            copy = Shadow(COPY, reserve=0, disk=disk)
            if disk.load(TARGET) is not None:
                copy.adopt(TARGET)
        except PowerCut:
            disk = disk.after_a_crash()
        else:
            break
    assert (copy.end, copy.digest_at(end)) == (end, expected)
    assert [name for name in disk.names(TARGET.parent) if not is_temporary(name)] == []


# -- the test itself ------------------------------------------------------------------


class WritesFirst(Shadow):
    """Begins a generation over the old one, and flushes the database after that."""

    def _roll_over(self, pair: Pair) -> None:
        mark = self._mark_of_the_end(pair)
        self._save(replace(self._state, mark=mark))
        pages = {frame.page: offset for offset, frame in pair._headers(pair.header)}
        for page, offset in pages.items():
            pair._database.write((page - 1) * 512, pair._log.read(offset, 512))
        pair._log.truncate(0)
        pair.offset, pair.header = 0, None


class ForgetsItsMark(Shadow):
    """Does not write where the next generation begins before it cuts the old one."""

    def _roll_over(self, pair: Pair) -> None:
        mark = self._mark_of_the_end(pair)
        pair.fold()
        pair.truncate(0)
        self._save(replace(self._state, mark=mark))


class FlushesNothing(Shadow):
    """Confirms what is in memory."""

    def append(self, part: LogPart) -> None:
        assert self._pair is not None
        flush, self._pair._flush = self._pair._flush, lambda file: None  # type: ignore[method-assign]
        try:
            super().append(part)
        finally:
            self._pair._flush = flush  # type: ignore[method-assign]


@pytest.mark.parametrize("kind", [WritesFirst, ForgetsItsMark, FlushesNothing])
def test_a_wrong_order_is_found(history: History, kind: type[Shadow]) -> None:
    """The disk of these tests loses enough to find each of the known mistakes."""
    found = 0
    for seed in range(60):
        try:
            follower = survive(history, seed, kind)
            found += follower.disk.load(TARGET) != history.database
        except (AssertionError, errors.TroughError):
            found += 1
        if found:
            return
    pytest.fail("nothing was lost")

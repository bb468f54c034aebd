"""A follower's copy: what it stores, what it rejects, and what it becomes."""

from __future__ import annotations

import os
import random
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from logged_segments import LoggedSegment

from trough import errors
from trough.replication.follower import Follower
from trough.replication.holder_log import WalReader
from trough.replication.log import BasePart, LogPart
from trough.replication.shadow import Shadow
from trough.sql import segment_files, sqlite, wal


class Pair:
    """A holder and a follower, and the way between them.

    :ivar confirmed: where the follower's log ended last
    """

    def __init__(self, root: Path, page_size: int = 4096) -> None:
        self.root = root
        self.holder = LoggedSegment(root / "1.sqlite", page_size)
        self.follower = Shadow(root / "copy", reserve=0)

    def send_base(self) -> None:
        for part in self.holder.reader.base(self.holder.reader.end()):
            self.follower.add_base(part)

    def send(self, limit: int = 1 << 20) -> None:
        """Send all that the follower lacks."""
        for part in self.holder.parts(self.follower.end, self.holder.reader.end(), limit):
            self.follower.append(LogPart.decode(part.encode()))

    def next_part(self) -> LogPart:
        """What the follower lacks, as one part."""
        return self.holder.reader.read(self.follower.end, self.holder.reader.end())

    def reopen(self) -> None:
        self.follower.close()
        self.follower = Shadow(self.root / "copy", reserve=0)

    def agree(self) -> bool:
        """Whether both name the same log."""
        end = self.holder.reader.end()
        return (self.follower.end, self.follower.digest_at(end)) == (
            end,
            self.holder.reader.digest_at(end),
        )

    def file(self, name: str) -> bytes:
        return (self.root / "copy" / name).read_bytes()

    def contents(self) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in (self.root / "copy").iterdir()}

    def close(self) -> None:
        self.holder.close()
        self.follower.close()


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    with closing(Pair(tmp_path)) as made:
        yield made


@pytest.fixture
def following(pair: Pair) -> Pair:
    """A follower with a base and some of the log."""
    pair.holder.insert(50)
    pair.send_base()
    pair.holder.insert(3)
    pair.send()
    return pair


# -- following -----------------------------------------------------------------------


def test_a_base_and_what_follows_it(pair: Pair) -> None:
    """The base has the database and the whole WAL; the log goes on behind it."""
    pair.holder.insert(100)
    pair.holder.checkpoint()
    pair.holder.insert(100)
    pair.send_base()
    assert pair.agree()
    for _ in range(3):
        pair.holder.insert(30)
        pair.send()
        assert pair.agree()
    assert pair.file("log.1") == Path(f"{pair.holder.path}-wal").read_bytes()


@pytest.mark.parametrize("page_size", [512, 4096, 65536])
@pytest.mark.parametrize("limit", [1, 1 << 20])
def test_the_database_is_equal_after_each_generation(
    tmp_path: Path, page_size: int, limit: int
) -> None:
    """When a generation begins, the follower's database is that of the holder, byte for byte."""
    with closing(Pair(tmp_path, page_size)) as pair:
        pair.send_base()
        for _ in range(4):
            pair.holder.insert(20, 300)
            pair.holder.write("DELETE FROM event WHERE id % 3 = 0", "UPDATE event SET content = 1")
            pair.send(limit)
            pair.holder.checkpoint()
            pair.holder.insert()
            pair.send(limit)
            assert pair.file("database.1") == pair.holder.path.read_bytes()
            assert pair.file("log.1") == Path(f"{pair.holder.path}-wal").read_bytes()


def test_a_database_that_shrinks(pair: Pair) -> None:
    """A VACUUM is part of the log, too, and the follower's file becomes as small."""
    pair.holder.insert(200, 3000)
    pair.send_base()
    with closing(segment_files.open_for_writes(pair.holder.engine, str(pair.holder.path))) as own:
        own.execute("DELETE FROM event")
        own.set_authorizer(None)
        own.execute("VACUUM")
    pair.send()
    pair.holder.checkpoint()
    pair.holder.insert()
    pair.send()
    assert pair.file("database.1") == pair.holder.path.read_bytes()
    assert len(pair.file("database.1")) < 100_000


def test_a_transaction_that_outgrew_the_cache(following: Pair) -> None:
    """Frames that were written before the COMMIT, and rewritten in place, arrive as they are."""
    following.holder.insert(5000, 2000)
    following.send(1 << 16)
    following.reopen()
    assert following.agree()


def test_what_was_rolled_back_is_not_sent(following: Pair) -> None:
    """The log ends with the last commit, however large the WAL is."""
    big = "SELECT randomblob(4000) FROM n"
    series = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 2000)"
    following.holder.write(f"{series} INSERT INTO event(content) {big}; SELECT nothing_such()")
    end = following.follower.end
    following.send()
    assert following.follower.end == end
    following.holder.insert()
    following.send()
    assert following.agree()
    assert len(following.file("log.1")) < 1 << 20


def test_a_reused_wal_is_not_taken_for_nothing_new(following: Pair) -> None:
    """A generation that is shorter than the one before leaves the WAL as large as it was."""
    holder = following.holder
    holder.insert(200, 2000)
    following.send()
    with holder.a_reader(), pytest.raises(errors.Unavailable):
        holder.checkpoint()
    size = Path(f"{holder.path}-wal").stat().st_size
    holder.insert()
    assert Path(f"{holder.path}-wal").stat().st_size == size
    following.send()
    assert following.agree()
    assert len(following.file("log.1")) < size
    assert following.file("database.1") == holder.path.read_bytes()


def test_a_new_process_knows_where_it_stands(following: Pair) -> None:
    """The state, the end and the digest outlive the process."""
    following.follower.remember(Follower(7, 5))
    end, digest = following.follower.end, following.follower.digest_at(following.follower.end)
    following.reopen()
    assert following.follower.state == Follower(7, 5)
    assert (following.follower.end, following.follower.digest_at(end)) == (end, digest)


def test_a_copy_that_was_closed_is_opened_without_a_look_at_each_frame(
    following: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its CRC is enough. Where that is wrong, each frame is looked at, and the rest cut off."""
    end = following.follower.end
    looks: list[int] = []
    look = wal.frames

    def counting(header: wal.Header, read: wal.Read, size: int) -> Iterator[tuple[int, wal.Frame]]:
        looks.append(size)
        return look(header, read, size)

    monkeypatch.setattr(wal, "frames", counting)
    following.reopen()
    assert looks == []
    assert following.follower.end == end
    path = following.root / "copy" / "log.1"
    following.follower.close()
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    following.follower = Shadow(following.root / "copy", reserve=0)
    assert looks == [len(data)]
    assert following.follower.end < end


def test_half_a_frame_of_a_crash_is_cut_off(following: Pair) -> None:
    """What was being written when the process was killed does not count."""
    end = following.follower.end
    following.holder.insert(5)
    part = following.next_part()
    following.follower.close()
    with (following.root / "copy" / "log.1").open("ab") as file:
        file.write(part.content[:-1])
    following.reopen()
    assert end <= following.follower.end < part.end
    assert following.follower.digest_at(end) == part.before
    following.send()
    assert following.agree()


# -- what is rejected -----------------------------------------------------------------


def bad_parts(pair: Pair, other: Path) -> Iterator[tuple[str, LogPart]]:
    """Parts that do not continue the follower's log, and what the refusal names."""
    start = pair.follower.end
    middle = pair.holder.insert()
    end = pair.holder.insert()
    good = pair.holder.reader.read(start, end)
    frame = 4096 + 24
    yield "begins at", pair.holder.reader.read(middle, end)
    yield "begins at", replace(good, start=start - frame, content=good.content)
    yield "another log", replace(good, log=b"x" * 16)
    yield "another log than this one", replace(good, before=b"x" * 32)
    yield "half a frame", replace(good, content=good.content[:-1])
    yield "half a frame", replace(good, content=b"")
    yield "half a frame", replace(good, content=good.content[:8] + b"saltsalt" + good.content[16:])
    yield "no generation", replace(good, generation=good.generation + 1)
    yield "without a valid header", replace(good, generation=start)
    with closing(LoggedSegment(other, 512)) as small:
        foreign = small.reader.read(0, small.insert())
    yield "another log", foreign
    yield (
        "pages of 512 bytes",
        replace(good, generation=start, content=foreign.content),
    )
    header = pair.file("log.1")[: wal.HEADER_SIZE]
    yield (
        "the salts of the one before",
        replace(good, generation=start, content=header + good.content),
    )


def test_parts_that_do_not_fit_change_nothing(following: Pair, tmp_path: Path) -> None:
    """Each is refused with its reason, and every file stays as it is."""
    before = following.contents()
    for reason, part in bad_parts(following, tmp_path / "2.sqlite"):
        with pytest.raises(errors.BadLogPart, match=reason):
            following.follower.append(part)
        assert following.contents() == before
    following.send()
    assert following.agree()


def test_a_generation_does_not_begin_in_a_transaction(following: Pair) -> None:
    """Half a transaction is never moved into the database."""
    holder = following.holder
    end = holder.insert(20, 3000)
    first = holder.reader.read(following.follower.end, end, 1)
    following.follower.append(first)
    holder.checkpoint()
    after = holder.insert()
    part = holder.reader.read(end, after)
    half = following.follower.end
    before = following.follower.digest_at(half)
    assert before is not None
    with pytest.raises(errors.BadLogPart, match="middle of a transaction"):
        following.follower.append(replace(part, generation=half, start=half, before=before))


def test_a_follower_without_a_base_takes_no_log(pair: Pair) -> None:
    """There is nothing that the log could continue."""
    part = pair.holder.reader.read(0, pair.holder.insert())
    assert (pair.follower.end, pair.follower.digest_at(0)) == (0, None)
    with pytest.raises(errors.BadLogPart, match="has no base"):
        pair.follower.append(part)
    assert pair.contents() == {}


def bad_bases(pieces: list[BasePart], other: Path) -> Iterator[tuple[str, list[BasePart]]]:
    """Two pieces that are no base, and what the refusal names."""
    database, log = pieces
    with closing(LoggedSegment(other, 512)) as small:
        small.insert(9)
        small.checkpoint()
        foreign = next(small.reader.base(small.reader.end())).content
    yield "begins with the first bytes", [log]
    yield "comes next", [database, replace(log, place=1)]
    yield "another base", [database, replace(log, log=b"x" * 16)]
    yield "lacks the end", [replace(database, content=database.content[:-1]), log]
    yield "larger than it began", [replace(database, content=database.content + b"x")]
    yield "are whole", [database, replace(log, content=log.content[:-1] + b"\xff")]
    yield "no database of SQLite", [replace(database, content=bytes(database.size)), log]
    yield "different pages", [replace(database, size=len(foreign), content=foreign), log]


def test_a_base_out_of_order_leaves_what_was_there(following: Pair, tmp_path: Path) -> None:
    """A piece that is missing, of another base, or with other pages gives the base up and nothing
    else."""
    following.holder.insert()
    pieces = list(following.holder.reader.base(following.holder.reader.end()))
    end = following.follower.end
    for reason, wrong in bad_bases(pieces, tmp_path / "2.sqlite"):
        with pytest.raises(errors.BadLogPart, match=reason):
            for piece in wrong:
                following.follower.add_base(piece)
        assert following.follower.end == end
    following.reopen()
    assert following.follower.end == end
    following.send()
    assert following.agree()


def test_a_base_replaces_what_was_there(following: Pair, tmp_path: Path) -> None:
    """Also the base of another log; the epochs stay."""
    following.follower.remember(Follower(3, 2))
    with closing(LoggedSegment(tmp_path / "2.sqlite", 512)) as other:
        other.insert(10)
        for part in other.reader.base(other.reader.end()):
            following.follower.add_base(part)
        assert following.follower.end == other.reader.end()
        assert following.follower.state == Follower(3, 2)
        assert set(following.contents()) == {"state", "database.2", "log.2"}
        following.reopen()
        assert following.follower.end == other.reader.end()


# -- cutting off ----------------------------------------------------------------------


def test_a_log_is_cut_where_a_frame_ends(following: Pair) -> None:
    """What was cut off does not come back, and the log goes on from there."""
    holder, follower = following.holder, following.follower
    place = follower.end
    digest = follower.digest_at(place)
    holder.insert(3)
    holder.insert(3)
    following.send()
    with pytest.raises(errors.BadLogPart, match="no frame at"):
        follower.truncate(place + 1)
    follower.truncate(place)
    following.reopen()
    assert following.follower.end == place
    assert following.follower.digest_at(place) == digest
    following.send()
    assert following.agree()


def test_a_log_is_cut_to_where_its_generation_began(following: Pair) -> None:
    """The digest there is that of the end of the generation before."""
    following.holder.checkpoint()
    place = following.follower.end
    digest = following.follower.digest_at(place)
    following.holder.insert(3)
    following.send()
    assert following.follower.digest_at(place) == digest
    following.follower.truncate(place)
    following.reopen()
    assert (following.follower.end, following.follower.digest_at(place)) == (place, digest)
    following.send()
    assert following.agree()


# -- the disk -------------------------------------------------------------------------


def test_a_short_write_is_continued(following: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """The system may write less than it was given."""
    write, chance = os.pwrite, random.Random(1)

    def short(descriptor: int, data: memoryview, offset: int) -> int:
        return write(descriptor, data[: chance.randint(1, len(data))], offset)

    monkeypatch.setattr(os, "pwrite", short)
    following.holder.insert(50)
    following.send()
    assert following.agree()
    monkeypatch.undo()
    following.reopen()
    assert following.agree()


@pytest.mark.parametrize("name", ["log.1", "database.1"])
@pytest.mark.parametrize("replaced", [False, True])
def test_a_file_that_was_removed_or_replaced(following: Pair, name: str, replaced: bool) -> None:
    """Nothing is confirmed into a file without a name."""
    path = following.root / "copy" / name
    content = path.read_bytes()
    path.unlink()
    if replaced:
        path.write_bytes(content)
    following.holder.insert()
    if name == "database.1":
        following.send()
        following.holder.checkpoint()
        following.holder.insert()
    with pytest.raises(errors.LogBroken, match="removed or replaced"):
        following.send()
    assert following.follower.end == 0
    with pytest.raises(errors.LogBroken):
        following.follower.take_over(following.root / "taken.sqlite")
    following.reopen()
    assert following.follower.lost
    following.send_base()
    assert following.agree()
    assert not following.follower.lost


def test_a_second_name_is_noticed(following: Pair) -> None:
    """Somebody may write by the other name."""
    os.link(following.root / "copy" / "log.1", following.root / "link")
    following.holder.insert()
    with pytest.raises(errors.LogBroken, match="replaced"):
        following.send()


def test_a_flush_that_failed_loses_the_copy(
    following: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second flush would seem to succeed, so there is none."""

    def failing(descriptor: int) -> None:
        monkeypatch.undo()
        raise OSError(5, "Input/output error")

    following.holder.insert()
    part = following.next_part()
    monkeypatch.setattr(os, "fdatasync", failing)
    with pytest.raises(errors.LogBroken, match="Input/output error"):
        following.follower.append(part)
    following.reopen()
    assert "Input/output error" in following.follower.lost


def test_a_full_disk_keeps_what_there_was(following: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """A part that has no room leaves the log as it is."""
    write = os.pwrite

    def full(descriptor: int, data: memoryview, offset: int) -> int:
        if len(data) <= 4096:
            raise OSError(28, "No space left on device")
        return write(descriptor, data[:4096], offset)

    end = following.follower.end
    following.holder.insert(50)
    part = following.next_part()
    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(errors.DiskFull):
        following.follower.append(part)
    monkeypatch.undo()
    assert following.follower.end == end
    following.reopen()
    assert following.follower.end == end
    following.send()
    assert following.agree()


def test_room_is_left_for_who_takes_over(following: Pair) -> None:
    """Below the low-water mark nothing is stored, and nothing is lost."""
    following.follower.close()
    following.follower = Shadow(following.root / "copy", reserve=1 << 60)
    following.holder.insert()
    with pytest.raises(errors.DiskFull, match="have to stay"):
        following.send()
    with pytest.raises(errors.DiskFull, match="have to stay"):
        following.send_base()
    following.reopen()
    following.send()
    assert following.agree()


def test_sqlite_cannot_open_a_copy(following: Pair) -> None:
    """Neither by Trough nor by hand: the database is locked for as long as it is followed."""
    path = following.root / "copy" / "database.1"
    for mode in ("ro", "rw"):
        with closing(sqlite3.connect(f"file:{path}?mode={mode}", uri=True, timeout=0)) as opened:
            with pytest.raises(sqlite3.OperationalError, match="locked"):
                opened.execute("SELECT * FROM event").fetchone()
    following.holder.insert()
    following.send()
    assert following.agree()


def test_a_copy_that_sqlite_has_open_is_not_followed(following: Pair) -> None:
    """The lock holds both ways."""
    following.follower.close()
    path = following.root / "copy" / "database.1"
    with closing(sqlite3.connect(path)) as opened:
        opened.execute("BEGIN")
        opened.execute("SELECT * FROM sqlite_schema").fetchone()
        with pytest.raises(errors.Unavailable, match="open in SQLite"):
            Shadow(following.root / "copy")
    following.reopen()
    assert following.agree()


# -- taking over, and following again --------------------------------------------------


def rows(path: Path) -> list[tuple[int, bytes]]:
    engine = sqlite.Engine()
    with closing(engine.open_reader(str(path), True)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        return connection.execute("SELECT * FROM event ORDER BY id").fetchall()


def test_a_copy_becomes_the_segment(following: Pair) -> None:
    """It has every row, is writable, and continues the log at the same position."""
    target = following.root / "taken.sqlite"
    for suffix in ("", "-wal", "-shm"):
        Path(f"{target}{suffix}").write_bytes(b"of an older copy")
    end = following.holder.reader.end()
    digest = following.holder.reader.digest_at(end)
    assert following.follower.take_over(target) == end
    assert rows(target) == rows(following.holder.path)
    with closing(WalReader(target)) as reader:
        assert (reader.end(), reader.digest_at(end)) == (end, digest)
    with pytest.raises(errors.BadLogPart, match="has no base"):
        following.holder.insert()
        following.follower.append(following.holder.reader.read(end, following.holder.reader.end()))
    assert set(following.contents()) == {"state"}


def test_half_a_transaction_is_left_out(following: Pair) -> None:
    """A follower may have the beginning of a large transaction; nobody was answered yet."""
    end = following.follower.end
    before = rows(following.holder.path)
    last = following.holder.insert(20, 3000)
    following.follower.append(following.holder.reader.read(end, last, 1))
    assert following.follower.end > end
    target = following.root / "taken.sqlite"
    assert following.follower.take_over(target) == end
    assert rows(target) == before


@pytest.mark.parametrize("checkpoint", [False, True])
def test_a_base_alone_becomes_the_segment(pair: Pair, checkpoint: bool) -> None:
    """Also where its WAL was empty."""
    pair.holder.insert(10)
    if checkpoint:
        pair.holder.checkpoint()
    pair.send_base()
    end = pair.holder.reader.end()
    digest = pair.holder.reader.digest_at(end)
    target = pair.root / "taken.sqlite"
    assert pair.follower.take_over(target) == end
    assert rows(target) == rows(pair.holder.path)
    with closing(WalReader(target)) as reader:
        assert (reader.end(), reader.digest_at(end)) == (end, digest)


def test_damage_is_found_before_taking_over(following: Pair) -> None:
    """A disk that changed a byte gives no segment with a hole."""
    path = following.root / "copy" / "log.1"
    with path.open("r+b") as file:
        file.seek(5000)
        byte = file.read(1)[0]
        file.seek(5000)
        file.write(bytes([byte ^ 1]))
    with pytest.raises(errors.LogBroken, match="damaged"):
        following.follower.take_over(following.root / "taken.sqlite")
    assert not (following.root / "taken.sqlite").exists()
    following.reopen()
    assert following.follower.lost


def test_the_old_holder_follows_the_new_one(following: Pair) -> None:
    """What it wrote and nobody confirmed is cut off; then it receives what came after."""
    old, target = following.holder, following.root / "taken.sqlite"
    place = following.follower.end
    old.insert(5)  # never sent
    old.close()
    assert following.follower.take_over(target) == place
    again = Shadow(following.root / "old", reserve=0)
    again.adopt(old.path)
    assert not [path for path in following.root.iterdir() if path.name.startswith("1.sqlite")]
    new = LoggedSegment.again(target)
    with closing(new), closing(again):
        assert again.end > place
        assert again.digest_at(place) == new.reader.digest_at(place)
        end = new.insert(3)
        again.truncate(place)
        for part in new.parts(place, end):
            again.append(part)
        assert (again.end, again.digest_at(end)) == (end, new.reader.digest_at(end))
        again.take_over(old.path)
        assert rows(old.path) == rows(target)


def test_a_promise_outlives_the_copy(following: Pair) -> None:
    """A holder that was replaced must not find a follower that knows nothing of that."""
    following.follower.remember(Follower(7, 5))
    following.follower.forget()
    following.reopen()
    assert following.follower.state == Follower(7, 0)
    assert (following.follower.end, set(following.contents())) == (0, {"state"})
    following.send_base()
    following.follower.remember(Follower(8, 8))
    following.follower.take_over(following.root / "taken.sqlite")
    assert following.follower.state == Follower(8, 0)
    following.reopen()
    assert following.follower.state == Follower(8, 0)


def test_who_lost_its_copy_has_joined_nothing(following: Pair) -> None:
    """It must not take the lock by what it had."""
    following.follower.remember(Follower(7, 7))
    (following.root / "copy" / "log.1").unlink()
    following.holder.insert()
    with pytest.raises(errors.LogBroken):
        following.send()
    assert following.follower.state == Follower(7, 0)
    following.reopen()
    assert following.follower.state == Follower(7, 0)


def test_a_take_over_that_a_crash_ended_is_finished(
    following: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where somebody cleared what lies beside the database that it had moved already. No
    late order is carried out meanwhile."""
    target, rename = following.root / "taken.sqlite", Path.replace
    end = following.holder.reader.end()
    digest = following.holder.reader.digest_at(end)
    assert following.follower.taking is None

    def crash(path: Path, to: Path) -> Path:
        done = rename(path, to)
        if to == target:
            monkeypatch.undo()
            raise KeyboardInterrupt
        return done

    monkeypatch.setattr(Path, "replace", crash)
    with pytest.raises(KeyboardInterrupt):
        following.follower.take_over(target)
    following.reopen()
    assert following.follower.taking == target
    expected = rows(following.holder.path)
    following.holder.insert()
    late = following.holder.reader.read(end, following.holder.reader.end())
    with pytest.raises(errors.BadLogPart, match="being taken over"):
        following.follower.append(late)
    with pytest.raises(errors.BadLogPart, match="being taken over"):
        following.send_base()
    Path(f"{target}-log").unlink()
    assert following.follower.take_over(target) == end
    assert following.follower.taking is None
    with closing(WalReader(target)) as reader:
        assert (reader.end(), reader.digest_at(end)) == (end, digest)
    assert rows(target) == expected

"""The replicated WAL of a segment: where it ends, when it begins again, and what breaks it."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from logged_segments import LoggedSegment

from trough import errors
from trough.sql import log_mark, segment_files, sqlite, wal


@pytest.fixture
def segment(tmp_path: Path) -> Iterator[LoggedSegment]:
    with closing(LoggedSegment(tmp_path / "1.sqlite")) as made:
        yield made


def wal_of(segment: LoggedSegment) -> Path:
    return Path(f"{segment.path}-wal")


def test_the_log_grows_with_each_commit(segment: LoggedSegment) -> None:
    """Each commit is reported with the end of its frames, and so is each write in it."""
    first, second = segment.insert(), segment.insert()
    assert 0 < first < second
    assert segment.ends == [first, second]
    assert second == wal_of(segment).stat().st_size
    assert segment.reader.end() == second


def test_writes_of_one_commit_share_its_end(segment: LoggedSegment) -> None:
    """Writes that were committed together have one position, and one report."""
    writes = segment.write(*["INSERT INTO event(content) VALUES(1)"] * 5)
    assert len({write.position for write in writes}) == 1
    assert segment.ends == [writes[0].position]


def test_a_segment_without_a_log_reports_nothing(tmp_path: Path) -> None:
    """Without replication a write has no position, and closing empties the WAL as before."""
    with closing(LoggedSegment(tmp_path / "1.sqlite")) as segment:
        segment.close()
        segment_files.retire(segment.engine, str(segment.path))
        segment_files.make_writable(segment.engine, str(segment.path))
        (write,) = segment.write("INSERT INTO event(content) VALUES(1)")
        assert (write.error, write.position, segment.ends) == (None, None, [])
    assert not wal_of(segment).exists()


def test_what_was_rolled_back_is_no_part_of_the_log(segment: LoggedSegment) -> None:
    """Frames of a transaction that outgrew the cache and failed make the file larger only."""
    end = segment.insert()
    spilling = (
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 3000) "
        "INSERT INTO event(content) SELECT randomblob(4000) FROM n"
    )
    (write,) = segment.write(f"{spilling}; SELECT no_such_function()")
    assert write.error is not None
    assert wal_of(segment).stat().st_size > end + (1 << 20)
    assert segment.reader.end() == end
    assert segment.insert() < end + 10 * 4120


@pytest.mark.parametrize("page_size", [512, 65536])
def test_page_sizes(tmp_path: Path, page_size: int) -> None:
    """The smallest and the largest page of SQLite."""
    with closing(LoggedSegment(tmp_path / "1.sqlite", page_size)) as segment:
        ends = [segment.insert(3) for _ in range(5)]
        assert segment.reader.end() == ends[-1] == wal_of(segment).stat().st_size
        assert (ends[-1] - 32) % (24 + page_size) == 0
        segment.checkpoint()
        assert segment.insert() > ends[-1]


def test_closing_keeps_the_wal(segment: LoggedSegment) -> None:
    """Neither an evicted handle, nor making the segment writable again, touches the WAL."""
    end = segment.insert()
    before = wal_of(segment).read_bytes()
    segment.close()
    segment_files.make_writable(segment.engine, str(segment.path))
    segment_files.begin_log(segment.engine, str(segment.path))
    assert wal_of(segment).read_bytes() == before
    segment.open()
    assert segment.reader.end() == end
    assert segment.insert() > end


def test_readers_and_snapshots_leave_the_wal(segment: LoggedSegment, tmp_path: Path) -> None:
    """The last close of a segment leaves its WAL as it is, and its log goes on."""
    end = segment.insert(50)
    segment.close()
    Path(f"{segment.path}-shm").unlink()
    before = wal_of(segment).read_bytes()
    with segment.a_reader() as reading:
        assert reading.execute("SELECT count(*) FROM event").fetchone() == (50,)
    segment_files.check(segment.engine, str(segment.path), True)
    copy = tmp_path / "copy.sqlite"
    segment_files.snapshot(segment.engine, str(segment.path), True, str(copy), lambda: None)
    assert wal_of(segment).read_bytes() == before
    with closing(sqlite3.connect(copy)) as snapshot:
        assert snapshot.execute("SELECT count(*) FROM event").fetchone() == (50,)
    segment.open()
    assert segment.insert() > end


def test_the_wal_grows_beyond_an_automatic_checkpoint(segment: LoggedSegment) -> None:
    """SQLite begins the WAL again by no write of its own."""
    salts = None
    for _ in range(8):
        end = segment.insert(40, 20000)
        header = wal.parse_header(wal_of(segment).read_bytes()[:32])
        assert header is not None
        assert salts in (None, header.salts)
        salts = header.salts
    assert end > 1500 * 4096


def test_positions_go_on_after_a_checkpoint(segment: LoggedSegment) -> None:
    """A checkpoint empties the WAL. The next generation begins where the last one ended."""
    end = segment.insert(10)
    digest = segment.reader.digest_at(end)
    segment.checkpoint()
    assert wal_of(segment).stat().st_size == 0
    assert segment.reader.end() == end
    assert segment.reader.digest_at(end) == digest
    assert segment.insert() == end + wal_of(segment).stat().st_size
    assert segment.reader.digest_at(end) == digest
    segment.checkpoint()
    segment.close()
    segment.open()
    third = segment.insert()
    assert third == segment.ends[1] + wal_of(segment).stat().st_size
    assert segment.reader.end() == third


def test_a_checkpoint_of_an_empty_wal_changes_nothing(segment: LoggedSegment) -> None:
    """Twice is as good as once."""
    end = segment.insert()
    segment.checkpoint()
    mark = log_mark.read(segment.path)
    segment.checkpoint()
    assert log_mark.read(segment.path) == mark
    assert segment.reader.end() == end


def test_only_what_is_acknowledged_is_moved(segment: LoggedSegment) -> None:
    """A log that goes on behind the acknowledged position is not touched."""
    first = segment.insert()
    second = segment.insert()
    with pytest.raises(errors.Unavailable, match=f"ends at {second}, .* up to {first}"):
        segment_files.checkpoint_log(segment.engine, str(segment.path), first)
    assert wal_of(segment).stat().st_size == second


def test_a_reader_prevents_a_checkpoint_and_loses_nothing(segment: LoggedSegment) -> None:
    """The checkpoint does not wait for the reader, and the log goes on in its generation."""
    segment.insert()
    with segment.a_reader() as reading:
        end = segment.insert()
        with pytest.raises(errors.Unavailable, match="a reader needs"):
            segment.checkpoint()
        assert segment.insert() > end
        assert reading.execute("SELECT count(*) FROM event").fetchone() == (1,)
    segment.checkpoint()
    assert segment.reader.end() == segment.ends[-1]


def test_a_reused_wal_is_a_new_generation(segment: LoggedSegment) -> None:
    """After a checkpoint that could only move, SQLite writes the WAL again from its beginning and
    leaves the old frames behind the new ones. They are not taken for the log."""
    segment.insert(200)
    end = segment.insert(20, 2000)
    with segment.a_reader(), pytest.raises(errors.Unavailable):
        segment.checkpoint()  # moves everything, and cannot cut the file off
    size = wal_of(segment).stat().st_size
    after = segment.insert()
    assert wal_of(segment).stat().st_size == size
    assert end < after < end + size
    assert segment.reader.end() == after
    (part,) = segment.parts(end, after)
    assert part.generation == part.start == end
    assert wal.parse_header(part.content[:32]) is not None


def test_a_wal_that_was_removed_breaks_the_log(segment: LoggedSegment) -> None:
    """SQLite would write on into a file without a name. The write is not acknowledged."""
    segment.insert()
    wal_of(segment).unlink()
    (write,) = segment.write("INSERT INTO event(content) VALUES(1)")
    assert isinstance(write.error, errors.OutcomeUnknown)
    assert "removed or replaced" in write.error.message
    (write,) = segment.write("INSERT INTO event(content) VALUES(1)")
    assert isinstance(write.error, errors.LogBroken)


def test_a_flush_that_failed_is_not_tried_again(
    segment: LoggedSegment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel reports a failed flush once, so that the next one would seem to succeed."""

    def failing(descriptor: int) -> None:
        monkeypatch.undo()
        raise OSError(5, "Input/output error")

    segment.insert()
    monkeypatch.setattr(os, "fdatasync", failing)
    (write,) = segment.write("INSERT INTO event(content) VALUES(1)")
    assert isinstance(write.error, errors.OutcomeUnknown)
    (write,) = segment.write("INSERT INTO event(content) VALUES(1)")
    assert isinstance(write.error, errors.LogBroken)


def test_a_commit_that_failed_by_the_disk_breaks_the_log(segment: LoggedSegment) -> None:
    """Its frames may be in the WAL, so nobody knows its outcome, and nothing follows it."""
    segment.insert()
    own = segment.engine.own

    def failing(connection: sqlite3.Connection, text: str) -> sqlite3.Cursor:
        if text == "COMMIT":
            error = sqlite.Error[0]("disk I/O error")
            error.sqlite_errorcode = 778
            raise error
        return own(connection, text)

    segment.engine.own = failing  # type: ignore[method-assign]
    insert = "INSERT INTO event(content) VALUES(1)"
    assert [type(write.error) for write in segment.write(insert, insert)] == (
        [errors.OutcomeUnknown] * 2
    )
    segment.engine.own = own  # type: ignore[method-assign]
    assert [type(write.error) for write in segment.write(insert)] == [errors.LogBroken]


def test_retiring_ends_the_log(segment: LoggedSegment) -> None:
    """A segment that is not written any more is one plain file."""
    segment.insert()
    segment.close()
    segment_files.retire(segment.engine, str(segment.path))
    assert [path.name for path in segment.path.parent.iterdir()] == [segment.path.name]


def test_a_damaged_mark_is_reported(segment: LoggedSegment) -> None:
    """Positions are never guessed."""
    mark = log_mark.path_of(segment.path)
    mark.write_bytes(mark.read_bytes().replace(b"[0,", b"[1,"))
    with pytest.raises(errors.LogBroken, match="is damaged"):
        log_mark.read(segment.path)

"""Writes that share a commit, each atomic for itself."""

import sqlite3
from time import monotonic

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from segments_on_disk import content, damage, make_segment

from trough import errors
from trough.sql import segment_files, sqlite
from trough.sql.writing import SqlWrite, Writer


class Applied:
    """A writer on one segment, and how many commits it made."""

    def __init__(self, path, rows=3):
        self.path = make_segment(path, rows)
        self.watched = None
        self.commits = 0
        self.engine = sqlite.Engine(self._tick)
        segment_files.make_writable(self.engine, self.path)
        self.handles = segment_files.writing_handles(self.engine, 4)
        self.writer = Writer(self.engine, self.handles, self._watch)
        own = self.engine.own

        def counting(connection, text):
            self.commits += text == "COMMIT"
            return own(connection, text)

        self.engine.own = counting

    def _watch(self, write):
        self.watched = write

    def _tick(self):
        if self.watched is not None and monotonic() > self.watched.deadline:
            self.engine.stopped = errors.DeadlineExceeded("too late")
            return 1
        return 0

    def apply(self, *texts, seconds=60.0):
        """Apply each; return their errors' classes, or the rows that they changed."""
        writes = [
            text if isinstance(text, SqlWrite) else SqlWrite(n, text, None, monotonic() + seconds)
            for n, text in enumerate(texts)
        ]
        rest = writes
        while rest:
            rest = self.writer.apply("s", self.path, 1, rest)
        return [write.changes if write.error is None else type(write.error) for write in writes]

    def ids(self):
        """Of the rows that are there, for whoever opens the file now."""
        return [row[0] for row in content(self.path, "SELECT id FROM crawled_url ORDER BY id")]


@pytest.fixture
def applied(tmp_path):
    """A writer on a segment with the ids 0, 1 and 2."""
    return Applied(tmp_path / "s.sqlite")


def insert(number, what="INSERT"):
    """SQL that adds one row."""
    return f"{what} INTO crawled_url(id) VALUES({number})"


def test_writes_that_wait_share_a_commit(applied):
    """Each says what it changed."""
    assert applied.apply(insert(10), "UPDATE crawled_url SET size = 1", insert(11)) == [1, 4, 1]
    assert applied.commits == 1
    assert applied.ids() == [0, 1, 2, 10, 11]


def test_a_write_that_fails_leaves_nothing_and_the_others_their_rows(applied):
    """Its earlier statements are taken back too."""
    assert applied.apply(insert(10), f"{insert(20)}; {insert(21)}; {insert(10)}", insert(11)) == [
        1,
        errors.BadSql,
        1,
    ]
    assert applied.ids() == [0, 1, 2, 10, 11]
    assert applied.commits == 1


@pytest.mark.parametrize("place", range(4))
def test_a_write_that_rolls_everything_back_is_run_without_the_others(applied, place):
    """INSERT OR ROLLBACK ends the whole transaction; the others are applied nevertheless."""
    texts = [insert(n) for n in (10, 11, 12)]
    texts.insert(place, f"{insert(20)}; {insert(0, 'INSERT OR ROLLBACK')}")
    results = [1, 1, 1]
    results.insert(place, errors.BadSql)
    assert applied.apply(*texts) == results
    assert applied.ids() == [0, 1, 2, 10, 11, 12]


def test_a_statement_that_keeps_what_it_did_before_failing_is_taken_back(applied):
    """INSERT OR FAIL would leave the rows before the one that failed."""
    text = "INSERT OR FAIL INTO crawled_url(id) VALUES(20), (21), (0), (22)"
    assert applied.apply(text) == [errors.BadSql]
    assert applied.apply(insert(10), text) == [1, errors.BadSql]
    assert applied.ids() == [0, 1, 2, 10]


def test_a_trigger_that_raises_rollback_is_no_way_out(applied):
    """Nor one that raises FAIL."""
    applied.apply(
        "CREATE TRIGGER a AFTER INSERT ON crawled_url WHEN new.id = 50 "
        "BEGIN SELECT raise(ROLLBACK, 'no fifty'); END;"
        "CREATE TRIGGER b AFTER INSERT ON crawled_url WHEN new.id = 60 "
        "BEGIN SELECT raise(FAIL, 'no sixty'); END;"
    )
    assert applied.apply(insert(10), insert(50), insert(11), insert(60), insert(12)) == [
        *(1, errors.BadSql, 1, errors.BadSql, 1)
    ]
    assert applied.ids() == [0, 1, 2, 10, 11, 12]


def test_a_deadline_ends_one_write_alone(applied):
    """What SQLite takes back with it is applied all the same."""
    endless = (
        f"{insert(20)}; WITH RECURSIVE n(i) AS (SELECT 100 UNION ALL SELECT i + 1 FROM n) "
        "INSERT INTO crawled_url(id) SELECT i FROM n"
    )
    stopped = SqlWrite(1, endless, None, monotonic() + 0.2)
    assert applied.apply(insert(10), stopped, insert(11)) == [1, errors.DeadlineExceeded, 1]
    assert applied.ids() == [0, 1, 2, 10, 11]


def test_what_is_cancelled_or_late_before_it_begins_is_not_begun(applied):
    """The others share the commit without it."""
    cancelled = SqlWrite(1, insert(20), None, monotonic() + 60)
    cancelled.cancelled = True
    late = SqlWrite(2, insert(21), None, monotonic() - 1)
    assert applied.apply(insert(10), cancelled, late) == [
        *(1, errors.Cancelled, errors.DeadlineExceeded)
    ]
    assert applied.ids() == [0, 1, 2, 10]


def test_rows_that_a_write_gives_are_dropped(applied):
    """RETURNING and SELECT do no harm."""
    assert applied.apply(
        "UPDATE crawled_url SET size = 1 RETURNING id", "SELECT * FROM crawled_url", insert(10)
    ) == [3, 0, 1]


def test_changes_by_triggers_are_counted(applied):
    """As SQLite's total_changes counts."""
    applied.apply(
        "CREATE TABLE log(a); CREATE TRIGGER t AFTER INSERT ON crawled_url "
        "BEGIN INSERT INTO log VALUES(1); END"
    )
    assert applied.apply(insert(10)) == [2]


def test_a_table_made_by_one_write_is_there_for_the_next(applied):
    """In the same commit, and also where the first was taken back."""
    assert applied.apply("CREATE TABLE x(a)", "INSERT INTO x VALUES(1)") == [0, 1]
    assert applied.apply(
        f"CREATE TABLE y(a); {insert(0)}", "INSERT INTO y VALUES(1)", "DROP TABLE x"
    ) == [errors.BadSql, errors.BadSql, 0]


def test_a_file_that_was_not_made_writable_is_not_written(tmp_path):
    """It may be open somewhere as one that never changes."""
    path = make_segment(tmp_path / "s.sqlite")
    engine = sqlite.Engine()
    writer = Writer(engine, segment_files.writing_handles(engine, 4), lambda _: None)
    write = SqlWrite(1, insert(-1), None, monotonic() + 60)
    writer.apply("s", path, 1, [write])
    assert isinstance(write.error, errors.Unavailable)
    assert "not been made writable" in str(write.error)


def test_a_damaged_or_missing_file_fails_every_write(applied, tmp_path):
    """And says so to each."""
    applied.handles.clear()
    damage(applied.path, 0, 1)
    assert applied.apply(insert(10), insert(11)) == [errors.CorruptSegment] * 2
    (tmp_path / "s.sqlite").unlink()
    assert applied.apply(insert(10)) == [errors.CorruptSegment]
    assert not (tmp_path / "s.sqlite").exists()


def test_megabytes_of_sql_are_applied(applied):
    """One statement of many rows, and many statements."""
    values = ",".join(f"({n},'{'x' * 40};''')" for n in range(1_000, 41_000))
    text = f"INSERT INTO crawled_url(id, url) VALUES {values}"
    many = ";".join(insert(n) for n in range(100_000, 120_000))
    assert applied.apply(text, many) == [40_000, 20_000]


TEXTS = st.sampled_from(
    [
        *("INSERT INTO crawled_url(id) VALUES({n})", "DELETE FROM crawled_url WHERE id = {n}"),
        "INSERT OR ROLLBACK INTO crawled_url(id) VALUES({n})",
        "INSERT OR FAIL INTO crawled_url(id) VALUES({n}), (100)",
        "INSERT OR REPLACE INTO crawled_url(id) VALUES({n})",
        *("SELECT 1", "nonsense", "COMMIT", "CREATE TABLE t{n}(a)", "DROP TABLE t{n}"),
        "INSERT INTO crawled_url(id) VALUES({n}); INSERT INTO crawled_url(id) VALUES(100)",
    ]
)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(TEXTS, st.integers(0, 5)), max_size=12))
def test_a_shared_commit_is_as_each_by_itself(tmp_path_factory, writes):
    """The same results and the same rows as one transaction after the other."""
    folder = tmp_path_factory.mktemp("writes")
    texts = [text.format(n=n) for text, n in writes]
    together = Applied(folder / "together.sqlite")
    single = Applied(folder / "single.sqlite")
    assert together.apply(*texts) == [single.apply(text)[0] for text in texts]
    for query in (
        "SELECT id FROM crawled_url ORDER BY id",
        "SELECT name FROM sqlite_schema ORDER BY name",
    ):
        assert content(together.path, query) == content(single.path, query)
    together.handles.clear()
    single.handles.clear()


def test_a_commit_is_on_disk_when_it_is_told(applied):
    """Another process that opens the file finds it, without the writer closing."""
    applied.apply(insert(10))
    with sqlite3.connect(applied.path) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert connection.execute("SELECT max(id) FROM crawled_url").fetchone() == (10,)
    writer = applied.handles.take("s", applied.path, 1, True)
    assert applied.engine.own(writer.connection, "PRAGMA synchronous").fetchone() == (2,)

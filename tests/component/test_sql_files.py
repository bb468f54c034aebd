"""What is done to a segment's file as a whole."""

import sqlite3
import subprocess
from contextlib import closing

import pytest
from segments_on_disk import SCHEMA, content, damage, make_segment

from trough import errors
from trough.sql import segment_files, sqlite
from trough.sql.sandbox import Mode
from trough.util import atomic_files


@pytest.fixture
def engine():
    """One of this process."""
    return sqlite.Engine()


def names(folder):
    """Of everything in a directory."""
    return sorted(path.name for path in folder.iterdir())


def test_a_new_segment_is_there_whole_and_alone(engine, tmp_path):
    """In WAL mode, with its tables, without companions."""
    path = tmp_path / "s.sqlite"
    segment_files.create(engine, str(path), SCHEMA)
    assert names(tmp_path) == ["s.sqlite"]
    assert content(path, "PRAGMA journal_mode") == [("wal",)]
    assert content(path) == []
    with closing(segment_files.open_for_writes(engine, str(path))) as connection:
        engine.own(connection, "INSERT INTO crawled_url(id) VALUES(1)")
    assert len(content(path)) == 1


@pytest.mark.parametrize("schema", ["", "-- nothing", ";;", b""])
def test_an_empty_schema_makes_an_empty_segment(engine, tmp_path, schema):
    """The default schema is such a one."""
    path = tmp_path / "s.sqlite"
    segment_files.create(engine, str(path), schema)
    assert content(path, "SELECT count(*) FROM sqlite_schema") == [(0,)]
    assert path.stat().st_size > 0
    sqlite.check_schema(schema)


@pytest.mark.parametrize(
    ("schema", "reason"),
    [
        ("CREATE TABLE a(b); nonsense", "syntax error"),
        ("CREATE TABLE a(b); ATTACH 'x' AS y", "ATTACH"),
        ("CREATE TABLE a(b); VACUUM INTO '/tmp/x'", "VACUUM"),
        ("CREATE TABLE a(b); PRAGMA writable_schema=ON", "writable_schema"),
        ("CREATE TABLE a(b CHECK(load_extension('x')))", "load_extension"),
        ("CREATE VIRTUAL TABLE a USING fts4(b)", "VIRTUAL"),
        ("CREATE VIRTUAL TABLE a USING fts5(b, tokenize='no such')", "no such tokenizer"),
        (b"CREATE TABLE \xff(b)", "UTF-8"),
        ("CREATE TABLE a(b);\0", "NUL"),
    ],
)
def test_a_schema_that_does_not_run_leaves_nothing(engine, tmp_path, schema, reason):
    """Tried beforehand, it is refused in the same words."""
    with pytest.raises(errors.BadSchema, match=reason):
        segment_files.create(engine, str(tmp_path / "s.sqlite"), schema)
    assert names(tmp_path) == []
    with pytest.raises(errors.BadSchema, match=reason):
        sqlite.check_schema(schema)


def test_a_schema_that_fills_a_segment_is_refused(engine, tmp_path, monkeypatch):
    """It makes tables; rows are written later. Nothing is left."""
    monkeypatch.setattr(sqlite, "NEW_SEGMENT_SIZE", 1 << 20)
    filling = "CREATE TABLE a(b); INSERT INTO a VALUES(zeroblob(2000000))"
    with pytest.raises(errors.BadSchema, match="1 MiB"):
        segment_files.create(engine, str(tmp_path / "s.sqlite"), filling)
    assert names(tmp_path) == []
    with pytest.raises(errors.BadSchema, match="1 MiB"):
        sqlite.check_schema(filling)


def test_a_file_that_is_there_is_not_replaced_by_an_empty_one(engine, tmp_path):
    """Its rows may be in no other file."""
    path = make_segment(tmp_path / "s.sqlite")
    with pytest.raises(errors.Conflict, match=r"s\.sqlite"):
        segment_files.create(engine, path, SCHEMA)
    assert len(content(path)) == 200


def test_a_copy_is_made_writable_and_retired(engine, tmp_path):
    """Both as often as one likes; what was written is in the one file then."""
    path = make_segment(tmp_path / "s.sqlite")
    for _ in range(2):
        segment_files.make_writable(engine, path)
    connection = segment_files.open_for_writes(engine, path)
    engine.own(connection, "DELETE FROM crawled_url WHERE id > 5")
    assert "s.sqlite-wal" in names(tmp_path)
    with pytest.raises(errors.Unavailable):
        engine.own(connection, "BEGIN IMMEDIATE")
        segment_files.retire(engine, path)
    engine.own(connection, "ROLLBACK")
    connection.close()
    for _ in range(2):
        segment_files.retire(engine, path)
    assert names(tmp_path) == ["s.sqlite"]
    assert (tmp_path / "s.sqlite").read_bytes()[18:20] == b"\x01\x01"
    with closing(engine.open_reader(path, writable=False)) as reader:
        assert engine.own(reader, "SELECT count(*) FROM crawled_url").fetchone() == (6,)


def test_what_a_killed_writer_committed_is_there_after_retiring(engine, tmp_path):
    """The WAL that it left is brought in."""
    path = tmp_path / "s.sqlite"
    segment_files.create(engine, str(path), "CREATE TABLE t(a)")
    script = (
        "import sqlite3, os; c = sqlite3.connect({!r}, isolation_level=None);"
        "c.execute('INSERT INTO t VALUES(7)'); os.kill(os.getpid(), 9)"
    )
    subprocess.run(["python3", "-c", script.format(str(path))], check=False)
    assert (tmp_path / "s.sqlite-wal").stat().st_size > 0
    segment_files.retire(engine, str(path))
    assert names(tmp_path) == ["s.sqlite"]
    assert content(path, "SELECT * FROM t") == [(7,)]


@pytest.mark.parametrize("writable", [False, True])
def test_a_snapshot_is_the_segment_as_it_is(engine, tmp_path, writable):
    """Rowids included, in a file without companions; also over an older one."""
    path = make_segment(tmp_path / "s.sqlite")
    with sqlite3.connect(path) as connection:
        connection.execute("DELETE FROM crawled_url WHERE id < 100")
        connection.execute("CREATE TABLE plain(a)")
        connection.execute("INSERT INTO plain(rowid, a) VALUES(42, 'x')")
    connection.close()
    if writable:
        segment_files.make_writable(engine, path)
    folder = tmp_path / "copies"
    folder.mkdir()
    copy = folder / "copy.sqlite"
    copy.write_bytes(b"old")
    segment_files.snapshot(engine, path, writable, str(copy), lambda: None)
    assert names(folder) == ["copy.sqlite"]
    assert copy.read_bytes()[18:20] == b"\x01\x01"
    assert content(copy, "SELECT rowid, a FROM plain") == [(42, "x")]
    assert content(copy) == content(path)


def test_a_snapshot_is_of_one_moment_while_the_writer_goes_on(engine, tmp_path, monkeypatch):
    """It neither sees half of a commit nor begins again with each."""
    monkeypatch.setattr(segment_files, "SNAPSHOT_PAGES", 5)
    path = make_segment(tmp_path / "s.sqlite", 5_000)
    segment_files.make_writable(engine, path)
    steps = []
    with closing(sqlite3.connect(path, isolation_level=None)) as writer:

        def write():
            steps.append(1)
            writer.execute("UPDATE crawled_url SET size = ?", [len(steps)])

        write()
        segment_files.snapshot(engine, path, True, str(tmp_path / "copy.sqlite"), write)
    assert len(steps) > 10
    assert content(tmp_path / "copy.sqlite", "SELECT DISTINCT size FROM crawled_url") == [(1.0,)]
    assert content(tmp_path / "copy.sqlite", "PRAGMA integrity_check") == [("ok",)]


def test_a_snapshot_that_is_given_up_leaves_the_old_one(engine, tmp_path):
    """And nothing beside it."""
    path = make_segment(tmp_path / "s.sqlite", 5_000)
    copy = tmp_path / "copy.sqlite"
    copy.write_bytes(b"old")

    def give_up():
        raise errors.Cancelled("enough")

    with pytest.raises(errors.Cancelled):
        segment_files.snapshot(engine, path, False, str(copy), give_up)
    assert copy.read_bytes() == b"old"
    assert names(tmp_path) == ["copy.sqlite", "s.sqlite"]


def test_a_damaged_segment_is_found_out(engine, tmp_path):
    """By looking through all of it."""
    path = make_segment(tmp_path / "s.sqlite", 20_000)
    segment_files.check(engine, path, False)
    segment_files.make_writable(engine, path)
    segment_files.check(engine, path, True)
    damage(path, 50, 51)
    with pytest.raises(errors.CorruptSegment, match=r"s\.sqlite is damaged"):
        segment_files.check(engine, path, True)
    damage(path, 0, 1)
    with pytest.raises(errors.CorruptSegment):
        segment_files.check(engine, path, False)
    with pytest.raises(errors.CorruptSegment):
        segment_files.make_writable(engine, path)


def test_what_a_crash_leaves_is_known_by_its_name(engine, tmp_path, monkeypatch):
    """Unfinished files are called as trough.util.atomic_files calls them."""
    seen = []
    monkeypatch.setattr(segment_files, "_flush", lambda path: seen.append(path.name))
    segment_files.create(engine, str(tmp_path / "s.sqlite"), SCHEMA)
    assert atomic_files.is_temporary(seen[0])


def test_a_full_disk_refuses_and_leaves_the_segment_whole(engine, tiny_disk, tmp_path):
    """A new file, a snapshot, and a write; what was there can still be read."""
    path = str(tiny_disk / "s.sqlite")
    segment_files.create(engine, path, "CREATE TABLE t(a); INSERT INTO t VALUES(1)")
    large = make_segment(tmp_path / "large.sqlite", 40_000)
    with pytest.raises(errors.DiskFull):
        segment_files.snapshot(engine, large, False, str(tiny_disk / "copy"), lambda: None)
    with pytest.raises(errors.DiskFull):
        filling = "CREATE TABLE t(a); INSERT INTO t VALUES(zeroblob(2000000))"
        segment_files.create(engine, str(tiny_disk / "new.sqlite"), filling)
    connection = segment_files.open_for_writes(engine, path)
    with pytest.raises(errors.DiskFull, match=r"s\.sqlite"):
        try:
            engine.write(connection, "INSERT INTO t VALUES(zeroblob(2000000))")
        except sqlite.Error as error:
            raise engine.error(error, path) from error
    connection.close()
    assert names(tiny_disk) == ["s.sqlite"]
    assert content(path, "SELECT * FROM t") == [(1,)]
    assert content(path, "PRAGMA integrity_check") == [("ok",)]


def applied(path, *texts):
    """Run each text as a write of its own, in a process that has not seen the file yet."""
    for text in texts:
        engine = sqlite.Engine()
        with closing(segment_files.open_for_writes(engine, str(path))) as connection:
            engine.own(connection, "BEGIN")
            engine.write(connection, text)
            engine.own(connection, "COMMIT")


@pytest.mark.parametrize(
    ("schema", "text", "rows"),
    [
        ("CREATE TABLE t(a, b TEXT AS (a REGEXP 'x'))", "INSERT INTO t VALUES ('x')", [("x", "1")]),
        (
            "CREATE TABLE t(a, b TEXT AS (SEEDCRAWLEDSTATUS(a)) STORED)",
            "INSERT INTO t VALUES (200)",
            [(200, "Crawled")],
        ),
        ("CREATE TABLE t(a CHECK (a REGEXP 'x'))", "INSERT INTO t VALUES ('x')", [("x",)]),
        (
            "CREATE TABLE t(a, b DEFAULT (SEEDCRAWLEDSTATUS(301)))",
            "INSERT INTO t(a) VALUES (1)",
            [(1, "Redirected")],
        ),
        (
            "CREATE TABLE t(a); CREATE INDEX i ON t(a REGEXP 'x');"
            "CREATE UNIQUE INDEX j ON t(a) WHERE a REGEXP 'y'",
            "INSERT INTO t VALUES ('x'); ALTER TABLE t RENAME COLUMN a TO b; REINDEX",
            [("x",)],
        ),
        (
            "CREATE TABLE t(a); CREATE VIEW v AS SELECT BUILDREDIRECTARRAY(a, 1, 'R', '') FROM t;"
            "CREATE TRIGGER g AFTER INSERT ON t WHEN new.a REGEXP 'x' "
            "BEGIN UPDATE t SET a = SEEDCRAWLEDSTATUS(0); END",
            "INSERT INTO t VALUES ('x')",
            [("Not crawled (queued)",)],
        ),
        ("CREATE VIRTUAL TABLE t USING fts5(a)", "INSERT INTO t VALUES ('x y')", [("x y",)]),
        (
            "CREATE VIRTUAL TABLE t USING rtree(a, b, c)",
            "INSERT INTO t VALUES (1, 2, 3)",
            [(1, 2.0, 3.0)],
        ),
    ],
)
def test_what_was_written_can_be_read_and_promoted(engine, tmp_path, schema, text, rows):
    """Each step in an engine that has not seen the file: a function that only the schema
    calls is there, and to look through the pages calls none."""
    path, copy = tmp_path / "s.sqlite", tmp_path / "copy.sqlite"
    segment_files.create(sqlite.Engine(), str(path), schema)
    applied(path, text)
    segment_files.snapshot(sqlite.Engine(), str(path), True, str(copy), lambda: None)
    segment_files.check(sqlite.Engine(), str(copy), False)
    with closing(engine.open_reader(str(copy), False)) as connection:
        cursor = engine.execute(connection.cursor(), Mode.READ, "SELECT * FROM t")
        assert cursor.fetchall() == rows


@pytest.mark.parametrize(
    ("text", "missing"),
    [
        ("SELECT * FROM g", "no such module: geopoly"),
        ("SELECT geopoly_area('[[0,0],[1,0],[1,1],[0,0]]')", "no such function: geopoly_area"),
    ],
)
def test_geopoly_is_refused_by_name(engine, tmp_path, text, missing):
    """A file with such a table is read but for that table, and promoted, where SQLite has none."""
    path, copy = make_segment(tmp_path / "s.sqlite", rows=3), tmp_path / "copy.sqlite"
    with closing(sqlite3.connect(path)) as connection, connection:
        if connection.execute("SELECT sqlite_compileoption_used('ENABLE_GEOPOLY')").fetchone()[0]:
            pytest.skip("this SQLite is built with geopoly")
        connection.execute("PRAGMA writable_schema = 1")
        connection.execute(
            "INSERT INTO sqlite_schema VALUES ('table', 'g', 'g', 0, "
            "'CREATE VIRTUAL TABLE g USING geopoly(label)')"
        )
    segment_files.snapshot(sqlite.Engine(), str(path), True, str(copy), lambda: None)
    segment_files.check(sqlite.Engine(), str(copy), False)
    with closing(engine.open_reader(str(copy), False)) as connection:
        with pytest.raises(sqlite.sqlite3.Error) as raised:
            engine.execute(connection.cursor(), Mode.READ, text)
        refusal = engine.error(raised.value, str(copy))
        assert isinstance(refusal, errors.BadSql)
        assert refusal.message.startswith(f"{missing} (the SQLite of this server is built without")
        assert "rtree" in refusal.hint
        cursor = engine.execute(connection.cursor(), Mode.READ, "SELECT count(*) FROM crawled_url")
        assert cursor.fetchall() == [(3,)]


def test_a_table_that_cannot_be_computed_is_no_damage(engine, tmp_path):
    """Values that SQLite refuses to compute keep no segment from promotion; damaged pages of
    another table are found all the same."""
    path = make_segment(tmp_path / "s.sqlite", rows=2000)
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("CREATE TABLE a(b)")
        connection.execute("INSERT INTO a VALUES ('no JSON')")
        connection.execute("ALTER TABLE a ADD COLUMN c TEXT AS (json(b))")
        connection.execute("CREATE TABLE z(b)")
        connection.execute("PRAGMA writable_schema = ON")
        connection.execute(
            "UPDATE sqlite_schema SET sql = 'CREATE TABLE z(b, c TEXT AS (gone(b)))' "
            "WHERE name = 'z'"
        )
    segment_files.check(engine, path, False)
    damage(path, first=5, last=9)
    with pytest.raises(errors.CorruptSegment, match=r"s\.sqlite is damaged"):
        segment_files.check(engine, path, False)

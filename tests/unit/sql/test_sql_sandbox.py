"""What SQL may not do, tried; and what it may."""

import sqlite3

import pytest
from segments_on_disk import content, make_segment

from trough import errors
from trough.executors.pool.jobs import Target
from trough.sql import sandbox, segment_files, sqlite
from trough.sql.handles import Handles
from trough.sql.queries import Framing, QueryPlan
from trough.sql.reading import Reader
from trough.sql.sandbox import Action, Mode, Sandbox


class Query:
    """One for a reader."""

    framing = Framing.LINES
    tag = "t"

    def __init__(self, text, parameters=None, limit=0):
        self.plan = QueryPlan(text)
        self.parameters = parameters
        self.limit = limit


def rest(answer):
    """The further pieces of an answer."""
    while not answer.over:
        yield answer.go_on()


@pytest.fixture
def segment(tmp_path):
    """A segment that nobody writes."""
    return Target("s", make_segment(tmp_path / "s.sqlite"), 1, False)


def read(target, text, parameters=None):
    """The answer's lines, as a reader gives them."""
    engine = sqlite.Engine()
    handles = Handles(engine.open_reader, 4)
    query = Query(text, parameters)
    answer = Reader(engine, handles).begin(
        query, target.segment, target.path, target.generation, target.writable
    )
    pieces = [answer.first, *rest(answer)]
    handles.clear()
    return b"".join(pieces).decode()


def write(path, text, parameters=None):
    """Run SQL as a write does, and commit it."""
    engine = sqlite.Engine()
    connection = engine.open_writer(path)
    engine.own(connection, "BEGIN")
    try:
        engine.write(connection, text, parameters)
        engine.own(connection, "COMMIT")
    except sqlite.Error as error:
        raise engine.error(error, path) from error
    finally:
        connection.close()


@pytest.mark.parametrize(
    "text",
    [
        "SELECT count(*) FROM crawled_url",
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 9) SELECT i FROM n",
        "VALUES (1), (2)",
        "EXPLAIN SELECT * FROM crawled_url",
        "EXPLAIN QUERY PLAN SELECT * FROM crawled_url",
        "PRAGMA table_info(crawled_url)",
        "PRAGMA TABLE_XINFO('crawled_url')",
        "PRAGMA index_list(crawled_url)",
        "PRAGMA index_info(by_status)",
        "PRAGMA foreign_key_list(crawled_url)",
        "PRAGMA table_list",
        "PRAGMA user_version",
        "PRAGMA page_count",
        "PRAGMA quick_check",
        "PRAGMA integrity_check(1)",
        "SELECT * FROM pragma_table_info('crawled_url')",
        "SELECT * FROM sqlite_schema",
        "SELECT * FROM found",
        "SELECT * FROM json_each('[1,2]')",
        "SELECT group_concat(url) FROM crawled_url",
        "SELECT row_number() OVER (ORDER BY id), url GLOB '*1', url LIKE '%1' FROM crawled_url",
        "SELECT 'a' REGEXP 'a', SEEDCRAWLEDSTATUS(200), BUILDREDIRECTARRAY('u', 200, 'R', '')",
        "SELECT 1 ;; -- done",
        "select strftime('%Y', 'now'), round(1.5), sin(1), unhex('00')",
    ],
)
def test_reading_is_allowed(segment, text):
    """SELECT in all its forms, EXPLAIN, and pragmas that only say something."""
    assert " DONE s " in read(segment, text)


@pytest.mark.parametrize(
    ("text", "action"),
    [
        ("INSERT INTO crawled_url(id) VALUES(-1)", "INSERT"),
        ("WITH x AS (SELECT 1) INSERT INTO crawled_url(id) SELECT -1 FROM x", "INSERT into"),
        ("WITH x AS (SELECT 1) DELETE FROM crawled_url", "DELETE from crawled_url"),
        ("WITH x AS (SELECT 1) UPDATE crawled_url SET id = 1 RETURNING *", "UPDATE of"),
        ("EXPLAIN INSERT INTO crawled_url(id) VALUES(-1)", "INSERT into crawled_url"),
        ("REPLACE INTO crawled_url(id) VALUES(1)", "REPLACE"),
        ("DELETE FROM crawled_url", "DELETE"),
        ("CREATE TABLE x(a)", "CREATE"),
        ("CREATE TEMP TABLE x(a)", "CREATE"),
        ("DROP TABLE crawled_url", "DROP"),
        ("ALTER TABLE crawled_url RENAME TO x", "ALTER"),
        ("ATTACH '/tmp/other.sqlite' AS other", "ATTACH"),
        ("DETACH main", "DETACH"),
        ("VACUUM", "VACUUM"),
        ("VACUUM INTO '/tmp/other.sqlite'", "VACUUM"),
        ("BEGIN", "BEGIN"),
        ("EXPLAIN BEGIN", "BEGIN"),
        ("SAVEPOINT x", "SAVEPOINT"),
        ("ANALYZE", "ANALYZE"),
        ("REINDEX", "REINDEX"),
        ("PRAGMA writable_schema=1", "PRAGMA writable_schema=1"),
        ("PRAGMA main.writable_schema(on)", "PRAGMA writable_schema=on"),
        ("PRAGMA query_only=0", "PRAGMA query_only=0"),
        ("PRAGMA journal_mode=DELETE", "PRAGMA journal_mode=DELETE"),
        ("PRAGMA user_version=7", "PRAGMA user_version=7"),
        ("PRAGMA database_list", "PRAGMA database_list"),
        ("PRAGMA hard_heap_limit=0", "PRAGMA hard_heap_limit=0"),
        ("PRAGMA mmap_size=0", "PRAGMA mmap_size=0"),
        ("PRAGMA wal_checkpoint", "PRAGMA wal_checkpoint"),
        ("PRAGMA temp_store_directory='/tmp'", "PRAGMA temp_store_directory=/tmp"),
        ("SELECT * FROM pragma_database_list", "PRAGMA database_list"),
        ("SELECT load_extension('/tmp/x')", "the function load_extension"),
        ("SELECT LOAD_EXTENSION('/tmp/x', 'y')", "the function load_extension"),
        ("SELECT fts3_tokenizer('simple')", "the function fts3_tokenizer"),
        ("SELECT sqlite_log(1, 'x')", "the function sqlite_log"),
    ],
)
def test_reading_cannot_do_anything_else(segment, tmp_path, text, action):
    """The error names what was refused, and the file stays as it is."""
    before = (tmp_path / "s.sqlite").read_bytes()
    with pytest.raises(errors.ForbiddenSql, match=action.replace("(", r"\(")):
        read(segment, text)
    assert (tmp_path / "s.sqlite").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["s.sqlite"]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "no statement"),
        ("-- only a comment", "no statement"),
        ("SELECT 1; SELECT 2", "more than one"),
        ("SELECT 1; DROP TABLE crawled_url", "more than one"),
        ("SELEC 1", "syntax error"),
        ("SELECT * FROM nowhere", "no such table: nowhere"),
        ("SELECT nada FROM crawled_url", "no such column: nada"),
        ("SELECT ?", "[Bb]inding"),
        ("SELECT nofunction(1)", "no such function: nofunction"),
        ("SELECT 'a' REGEXP '('", r"not a regular expression: '\('"),
        ("SELECT BUILDREDIRECTARRAY('u', 1, '', '')", "hop path is empty"),
        ("SELECT 1" + " + 1" * 2000, "too large"),
        ("SELECT abs(-9223372036854775808)", "integer overflow"),
        ("SELECT '\ud800'", "surrogates"),
    ],
)
def test_mistakes_are_named(segment, text, reason):
    """As SQLite or the sandbox says it."""
    with pytest.raises(errors.BadSql, match=reason):
        read(segment, text)


@pytest.mark.parametrize("parameters", [(2**64,), (1, 2), ([],)])
def test_parameters_that_cannot_be_bound_are_refused(segment, parameters):
    """Too large, too many, or nothing that SQLite knows."""
    with pytest.raises(errors.BadSql):
        read(segment, "SELECT ?", parameters)


def test_a_view_has_no_more_rights_than_its_reader(tmp_path):
    """What a segment brings along is asked about as well."""
    path = make_segment(tmp_path / "s.sqlite")
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE VIEW evil AS SELECT load_extension('/tmp/x')")
    with pytest.raises(errors.BadSql, match="load_extension"):
        read(Target("s", path, 1, False), "SELECT * FROM evil")


def test_a_view_may_use_the_functions_of_trough(tmp_path):
    """They are given to a connection when a statement wants one."""
    path = make_segment(tmp_path / "s.sqlite")
    with sqlite3.connect(path) as connection:
        connection.create_function("SEEDCRAWLEDSTATUS", 1, lambda code: code)
        connection.execute("CREATE VIEW v AS SELECT SEEDCRAWLEDSTATUS(404) AS x")
    answer = read(Target("s", path, 1, False), "SELECT * FROM v")
    assert "Crawled (HTTP error 404)" in answer


def test_full_text_tables_that_a_segment_brings_can_be_read(tmp_path):
    """Their module asks for more than its tables, all of it harmless."""
    path = make_segment(tmp_path / "s.sqlite")
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE VIRTUAL TABLE words USING fts5(word)")
        connection.execute("INSERT INTO words VALUES('trough'), ('water')")
    answer = read(Target("s", path, 1, False), "SELECT * FROM words WHERE words MATCH 'water'")
    assert '[["water"]]' in answer


# -- writing --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "INSERT INTO crawled_url(id) VALUES(-1)",
        "INSERT INTO crawled_url(id) VALUES(-1);",
        "INSERT INTO crawled_url(id) VALUES(-1); DELETE FROM crawled_url WHERE id = 5 ; ",
        "CREATE TABLE x(a); INSERT INTO x VALUES('a;b'); CREATE INDEX y ON x(a)",
        "CREATE TRIGGER t AFTER INSERT ON crawled_url BEGIN DELETE FROM crawled_url "
        "WHERE id = 7; SELECT 1; END; INSERT INTO crawled_url(id) VALUES(-1);",
        "CREATE VIEW v AS SELECT 1; DROP VIEW v",
        "ALTER TABLE crawled_url RENAME TO captures",
        "ALTER TABLE crawled_url RENAME COLUMN url TO address",
        "ALTER TABLE crawled_url ADD COLUMN digest TEXT DEFAULT 'x'",
        "ALTER TABLE crawled_url DROP COLUMN size",
        "DROP INDEX by_status; DROP TABLE crawled_url",
        "REINDEX; ANALYZE",
        "PRAGMA user_version = 7",
        "PRAGMA application_id = 7",
        "PRAGMA table_info(crawled_url)",
        "SELECT 1",
        "UPDATE crawled_url SET size = 1 RETURNING id",
        "REPLACE INTO crawled_url(id, url) VALUES(1, 'u')",
        "WITH x(a) AS (VALUES(-5)) INSERT INTO crawled_url(id) SELECT a FROM x",
    ],
)
def test_writing_is_allowed(tmp_path, text):
    """Rows and schema of the segment, in any number of statements."""
    path = make_segment(tmp_path / "s.sqlite")
    write(path, text)
    assert content(path, "PRAGMA integrity_check") == [("ok",)]


@pytest.mark.parametrize(
    ("text", "action"),
    [
        ("BEGIN", "BEGIN"),
        ("INSERT INTO crawled_url(id) VALUES(-1); COMMIT", "COMMIT"),
        ("INSERT INTO crawled_url(id) VALUES(-1); END", "END"),
        ("INSERT INTO crawled_url(id) VALUES(-1); ROLLBACK", "ROLLBACK"),
        ("SAVEPOINT x", "SAVEPOINT"),
        ("RELEASE trough", "RELEASE"),
        ("EXPLAIN COMMIT", "COMMIT"),
        ("ATTACH '/tmp/other.sqlite' AS other", "ATTACH"),
        ("DETACH main", "DETACH"),
        ("VACUUM", "VACUUM"),
        ("VACUUM INTO '/tmp/other.sqlite'", "VACUUM"),
        ("PRAGMA writable_schema=1", "PRAGMA writable_schema"),
        ("PRAGMA journal_mode=OFF", "PRAGMA journal_mode=OFF"),
        ("PRAGMA synchronous=OFF", "PRAGMA synchronous=OFF"),
        ("PRAGMA foreign_keys=ON", "PRAGMA foreign_keys=ON"),
        ("CREATE TEMP TABLE x(a)", "temp|TEMP"),
        ("CREATE TEMP VIEW x AS SELECT 1", "temp|TEMP"),
        ("CREATE TEMP TRIGGER x AFTER INSERT ON crawled_url BEGIN SELECT 1; END", "temp|TEMP"),
        ("CREATE VIRTUAL TABLE x USING fts4(a)", "CREATE VIRTUAL TABLE x USING fts4"),
        ("CREATE VIRTUAL TABLE x USING fts5vocab(a, row)", "VIRTUAL TABLE x USING fts5vocab"),
        ("CREATE VIRTUAL TABLE x USING fts3tokenize(simple)", "TABLE x USING fts3tokenize"),
        ("CREATE VIRTUAL TABLE temp.x USING fts5(a)", "sqlite_master|temp"),
        ("SELECT fts5(NULL)", "the function fts5"),
        ("SELECT load_extension('x')", "load_extension"),
        ("INSERT INTO crawled_url(id, url) VALUES(-1, load_extension('x'))", "load_extension"),
    ],
)
def test_writing_cannot_do_anything_else(tmp_path, text, action):
    """Neither another file, nor a setting, nor the transaction; nothing is applied."""
    path = make_segment(tmp_path / "s.sqlite")
    before = content(path)
    with pytest.raises(errors.ForbiddenSql, match=action):
        write(path, text)
    assert content(path) == before


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "no statement"),
        ("UPDATE sqlite_schema SET sql = ''", "may not be modified"),
        ("INSERT INTO crawled_url(id) VALUES(-1); INSERT INTO nowhere VALUES(1)", "no such table"),
        ("INSERT INTO crawled_url(id) VALUES(1)", "UNIQUE"),
    ],
)
def test_mistakes_in_writes_are_named(tmp_path, text, reason):
    """As SQLite says it; nothing is applied."""
    path = make_segment(tmp_path / "s.sqlite")
    before = content(path)
    with pytest.raises(errors.BadSql, match=reason):
        write(path, text)
    assert content(path) == before


def test_parameters_are_for_one_statement(tmp_path):
    """Of several nobody knows which is meant."""
    path = make_segment(tmp_path / "s.sqlite")
    write(path, "INSERT INTO crawled_url(id, url) VALUES(?, ?);", (-1, "a;b"))
    write(path, "INSERT INTO crawled_url(id, url) VALUES(:id, :url)", {"id": -2, "url": "c"})
    assert content(path)[:2] == [(-2, "c", None, None), (-1, "a;b", None, None)]
    with pytest.raises(errors.BadSql, match="more than one statement"):
        write(path, "DELETE FROM crawled_url WHERE id = ?; DELETE FROM crawled_url", (1,))


# -- virtual tables -------------------------------------------------------------------


@pytest.fixture
def pages(tmp_path):
    """A segment with a full-text index and one of rectangles, made by writes."""
    path = str(tmp_path / "pages.sqlite")
    segment_files.create(
        sqlite.Engine(),
        path,
        "CREATE TABLE page(id INTEGER PRIMARY KEY, body TEXT);"
        "CREATE VIRTUAL TABLE text USING fts5(body, content='page', content_rowid='id');"
        "CREATE TRIGGER added AFTER INSERT ON page BEGIN "
        "INSERT INTO text(rowid, body) VALUES (new.id, new.body); END;"
        "CREATE VIRTUAL TABLE area USING rtree(id, low, high)",
    )
    write(path, "INSERT INTO page(body) VALUES ('hello old world'), ('hello new world')")
    write(path, "INSERT INTO area VALUES (1, 2, 3)")
    return path


@pytest.mark.parametrize("writable", [True, False])
@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("SELECT rowid FROM text WHERE text MATCH 'new AND world'", "[2]"),
        ("SELECT rowid FROM text('old') ORDER BY rank", "[1]"),
        ("SELECT highlight(text, 0, '<', '>') x FROM text('old')", "hello <old> world"),
        ("SELECT bm25(text) < 0 FROM text('old')", "[1]"),
        (
            "SELECT page.body FROM page JOIN text ON page.id = text.rowid AND text MATCH 'new'",
            "new",
        ),
        ("SELECT id FROM area WHERE low < 3 AND high > 1", "[1]"),
        ("SELECT rtreedepth(data) FROM area_node", "[0]"),
    ],
)
def test_virtual_tables_are_read(pages, writable, text, answer):
    """Though a module prepares, at its first use, the statements by which it would write."""
    if not writable:
        segment_files.retire(sqlite.Engine(), pages)
    assert answer in read(Target("pages", pages, 1, writable), text)


@pytest.mark.parametrize(
    "text",
    [
        "WITH x AS (SELECT 1) INSERT INTO text(text) VALUES ('rebuild')",
        "WITH x AS (SELECT 1) DELETE FROM area",
        "WITH x AS (SELECT 1) DELETE FROM area_node",
        "WITH x AS (SELECT 1) DELETE FROM text_data",
    ],
)
def test_readers_cannot_write_by_way_of_them(pages, text):
    """Neither to a virtual table, nor to those that it keeps its content in."""
    with pytest.raises(errors.ForbiddenSql, match=r"INSERT|DELETE"):
        read(Target("pages", pages, 1, True), text)
    assert content(pages, "SELECT count(*) FROM area_node") == [(1,)]


@pytest.mark.parametrize(
    "text",
    [
        "INSERT INTO text_data VALUES (1, x'00')",
        "UPDATE text_config SET v = 99",
        "DELETE FROM area_node",
        "DROP TABLE text_idx",
        "ALTER TABLE area_node RENAME TO x",
        "CREATE TRIGGER x AFTER INSERT ON area_node BEGIN SELECT 1; END",
        "CREATE TRIGGER x AFTER INSERT ON page BEGIN DELETE FROM area_node; END; "
        "INSERT INTO page(body) VALUES ('x')",
        "CREATE TABLE text_content(a)",
    ],
)
def test_what_a_virtual_table_keeps_is_its_own(pages, text):
    """Its C code trusts these tables: nobody else writes them."""
    with pytest.raises(errors.BadSql, match=r"may not (be|write)|reserved|cannot create trigger"):
        write(pages, text)
    assert content(pages, "SELECT count(*) FROM area_node") == [(1,)]


@pytest.mark.parametrize("command", ["'integrity-check'", "'delete-all'", "'secure-delete', 1"])
def test_commands_of_a_full_text_index_damage_no_file(pages, command):
    """One that does not fit its content says so as a mistake in SQL; the segment's file is
    not replaced for that."""
    write(pages, "DELETE FROM page WHERE id = 1")
    rank = ", rank" if "," in command else ""
    checking = ", rank) VALUES ('integrity-check', 1)"
    with pytest.raises(errors.BadSql, match="does not fit together"):
        write(pages, f"INSERT INTO text(text{checking}")
    with pytest.raises(errors.BadSql, match="does not fit together"):
        read(Target("pages", pages, 1, True), "SELECT * FROM text WHERE text MATCH 'old'")
    if command != "'integrity-check'":
        write(pages, f"INSERT INTO text(text{rank}) VALUES ({command})")
    write(pages, "INSERT INTO text(text) VALUES ('rebuild')")
    write(pages, f"INSERT INTO text(text{checking}")


def test_virtual_tables_can_be_dropped(pages):
    """With all that they keep."""
    write(pages, "DROP TABLE text; DROP TABLE area; DROP TRIGGER added")
    assert content(pages, "SELECT name FROM sqlite_schema") == [("page",)]


def test_without_the_library_none_can_be_made():
    """Nothing would keep SQL from what they trust."""
    rule = Sandbox(virtual_tables=False)
    rule.mode = Mode.WRITE
    answer = rule.authorize(Action.CREATE_VTABLE, "x", "fts5", "main", None)
    assert (answer, rule.refused) == (sandbox.DENIED, "CREATE VIRTUAL TABLE x USING fts5")


# -- files of a mount -----------------------------------------------------------------


def test_a_file_of_a_mount_is_looked_at_first(tmp_path):
    """Others put files there: a link that leads out is not followed, and a database with a log
    beside it lacks rows."""
    mount = tmp_path / "mount"
    mount.mkdir()
    engine = sqlite.Engine(mounts=(str(mount),))
    path = make_segment(mount / "s.sqlite")
    engine.open_reader(path, False).close()
    (mount / "out.sqlite").symlink_to(make_segment(tmp_path / "out.sqlite"))
    with pytest.raises(errors.UnusableFile, match="leads out of the storage"):
        engine.open_reader(str(mount / "out.sqlite"), False)
    (mount / "s.sqlite-wal").write_bytes(b"rows")
    with pytest.raises(errors.UnusableFile, match="lies beside it"):
        engine.open_reader(path, False)


# -- the rule itself ------------------------------------------------------------------


def test_the_numbers_are_those_of_sqlite():
    """The list of actions is written down here, for the rule needs no SQLite."""
    for action in Action:
        name = f"SQLITE_{action.name}"
        if hasattr(sqlite.sqlite3, name):
            assert getattr(sqlite.sqlite3, name) == action


@pytest.mark.parametrize("mode", [Mode.READ, Mode.WRITE])
@pytest.mark.parametrize("action", [0, 34, 99])
def test_what_is_not_known_is_refused(mode, action):
    """An action of a later SQLite, until somebody has looked at it."""
    rule = Sandbox()
    rule.mode = mode
    assert rule.authorize(action, None, None, None, None) == sandbox.DENIED
    assert str(action) in rule.refused


def test_every_function_of_this_sqlite_was_looked_at():
    """A function that is neither allowed nor refused on purpose is new, and to be judged."""
    refused = {"load_extension", "fts3_tokenizer", "optimize", "rtreecheck", "sqlite_log"}
    refused |= {"fts5", "fts5_get_locale", "fts5_insttoken", "fts5_locale", "fts5_source_id"}
    engine = sqlite.Engine()
    connection = engine.open_private()
    there = {name for (name, *_) in engine.own(connection, "PRAGMA function_list")}
    assert there - refused - sandbox.FUNCTIONS == set()
    assert not refused & sandbox.FUNCTIONS

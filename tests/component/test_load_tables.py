"""What trough-load does with tables and segments: checks, creates, alters, promotes, resumes."""

import json
from pathlib import Path

import pytest
import pytest_twisted
from load_runs import ELEVEN, publish, run
from twisted.internet import reactor
from web_servers import WebServer

from trough.load import main as load
from trough.metadata.sqlite.store import SqliteMetadata
from trough.model import Schema

__all__ = ["run"]

EXTRA = '{"url":"http://h.example/"}\n{"url":"http://h.example/a","note":"x","n":1.5}\n'
SCHEMA = "CREATE TABLE t (id INTEGER PRIMARY KEY, text TEXT NOT NULL);"


def provisioned(server):
    """How often a segment was asked for."""
    return sum(uri == "/provision" for _, uri, _ in server.requests)


class NewSegment:
    """A registry with one schema, and a server of a segment that does not exist yet."""

    def __init__(self, run) -> None:
        self._run = run

    async def __aenter__(self):
        run = self._run
        run._path = run._path / "new"
        run._path.mkdir()
        self._metadata = SqliteMetadata(run._path / "registry.db", reactor)
        run.segment.database.executescript(SCHEMA)
        self.server = WebServer(reactor, run.segment)
        await self.server.__aenter__()
        run.segment.url = self.server.url
        await publish(self._metadata, "other", self.server.url)
        await self._metadata.put_schema(Schema("crawl", SCHEMA))
        return self.server

    async def __aexit__(self, *exc_info):
        await self.server.__aexit__()
        await self._metadata.close()


# -- before anything is provisioned ------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--schema", "foo"], "there is no schema foo; known: crawl, default"),
        (["--schema", "default"], "the schema default makes no table, not t"),
        (["--table", "other"], "the schema crawl makes t, not other"),
        ([], "t has no column more"),
        (["--fields", "id,text,x"], "t has no column x"),
        (["--format", "warc"], "no WARC or ARC file"),
    ],
    ids=str,
)
@pytest_twisted.ensureDeferred
async def test_mistakes_provision_nothing(run, arguments, reason):
    """A wrong schema, table, column or format is reported, and leaves no segment."""
    async with NewSegment(run) as server:
        path = run.file("a.csv", "id,text,more\n1,a,b\n")
        assert await run("--table", "t", *arguments, path) == load.STOPPED
        assert reason in run.printed
        assert provisioned(server) == 0


@pytest_twisted.ensureDeferred
async def test_rows_that_can_never_be_stored_provision_nothing(run):
    """They are tried on the schema first; of those that follow a good one the worker decides."""
    async with NewSegment(run) as server:
        bad = run.file("a.csv", "id,text\n1,\nx,y\n")
        assert await run("--table", "t", bad) == load.SOME_SKIPPED
        assert f"{bad}:2: skipped: NOT NULL constraint failed: t.text" in run.printed
        assert f"{bad}:3: skipped: datatype mismatch" in run.printed
        assert provisioned(server) == 0
        good = run.file("b.csv", "id,text\n1,\n2,b\n2,c\n")
        assert await run("--table", "t", good) == load.SOME_SKIPPED
        assert provisioned(server) >= 1
        assert f"{good}:4: skipped: UNIQUE constraint failed: t.id" in run.printed
        assert run.segment.rows("SELECT * FROM t") == [(2, "b")]


@pytest_twisted.ensureDeferred
async def test_an_empty_file_provisions_nothing(run):
    """There is nothing to store, and nothing to promote."""
    async with NewSegment(run) as server:
        assert await run("--table", "t", run.file("a.csv", "id,text\n")) == load.ALL_LOADED
        assert provisioned(server) == 0 and run.segment.promoted == []


@pytest_twisted.ensureDeferred
async def test_a_segment_that_is_left_empty_is_named(run):
    """It was created for rows that the worker then had no room for."""
    async with NewSegment(run):
        run.segment.before_write = lambda: (503, b"disk full\n", ("x-trough-error", "disk-full"))
        assert await run("--table", "t", run.file("a.csv", "id,text\n1,a\n")) == load.STOPPED
        assert "segment s was created and is empty (in use)" in run.printed
        assert "disk full" in run.printed and "INSERT" not in run.printed


@pytest_twisted.ensureDeferred
async def test_a_provisioning_that_stored_nothing_is_undone(run):
    """By the very client that provisioned; the rows of a next file provision again."""
    async with NewSegment(run) as server:
        run.segment.undo = 204, b""
        run.segment.before_write = lambda: (400, b"no\n", ("x-trough-error", "bad-sql"))
        made = ["--table", "made", "--create"]
        assert await run(*made, run.file("a.csv", "id,text\n1,a\n")) == load.SOME_SKIPPED
        assert "nothing was stored, so segment s was removed again" in run.printed
        [undone] = [json.loads(body) for method, uri, body in server.requests if "undo" in uri]
        provisioners = [
            json.loads(body).get("provisioner")
            for method, uri, body in server.requests
            if uri == "/provision"
        ]
        assert undone["segment"] == "s" and set(provisioners) == {undone["provisioner"]} != {None}
        # The table and its first rows are one transaction.
        assert all("CREATE" in each and "INSERT" in each for each in run.segment.scripts)


# -- any table -----------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_create_makes_the_table(run):
    """Types are those of the values; what only looks like a number stays a text."""
    path = run.file("a.csv", "n,code,r,t,Empty\n1,007,1.5,a,\n-2,08,2,,\n")
    assert await run("--table", "made", "--create", path) == load.ALL_LOADED
    assert run.segment.rows("SELECT name, type FROM pragma_table_info('made')") == [
        ("n", "INTEGER"),
        ("code", "TEXT"),
        ("r", "REAL"),
        ("t", "TEXT"),
        ("Empty", "TEXT"),
    ]
    assert run.segment.rows("SELECT * FROM made") == [
        (1, "007", 1.5, "a", None),
        (-2, "08", 2.0, None, None),
    ]


@pytest.mark.parametrize(
    ("name", "text", "types", "rows"),
    [
        # As the shell writes values of all kinds; what had quotes is a text.
        (
            "a.csv",
            'v,t\r\n1,"1"\r\n"1","2"\r\nx\'00\',\r\n1e+16,""\r\n1e16,"x\'00\'"\r\n',
            ["", "TEXT"],
            [(1, "1"), ("1", "2"), (b"\x00", None), (1e16, ""), ("1e16", "x'00'")],
        ),
        ("a.tsv", 'v\n1\n"1"\n-0.0\n9e999\n', [""], [(1,), ("1",), (-0.0,), (float("inf"),)]),
        # Quotes round the names as well mean nothing.
        ("a.csv", '"n","t"\n"1","a"\n"2","2"\n', ["INTEGER", "TEXT"], [(1, "a"), (2, "2")]),
        ("a.jsonl", '{"n": 1}\n{"n": "1"}\n', [""], [(1,), ("1",)]),
        # REAL would make 9223372036854775808 of the first.
        ("a.jsonl", f'{{"n": {2**63 - 1}}}\n{{"n": 1.5}}\n', [""], [(2**63 - 1,), (1.5,)]),
        ("a.csv", f"n\n{2**63 - 1}\n1.5\n", [""], [(2**63 - 1,), (1.5,)]),
    ],
)
@pytest_twisted.ensureDeferred
async def test_create_keeps_values_as_they_are(run, name, text, types, rows):
    """Whatever types it finds, no value becomes another one."""
    assert await run("--table", "made", "--create", run.file(name, text)) == load.ALL_LOADED
    found = [row[0] for row in run.segment.rows("SELECT type FROM pragma_table_info('made')")]
    assert found == types
    stored = run.segment.rows("SELECT * FROM made")
    assert [list(map(repr, row)) for row in stored] == [list(map(repr, row)) for row in rows]


@pytest_twisted.ensureDeferred
async def test_create_makes_a_table_for_captures(run):
    """With the types that crawlers' tables have."""
    path = run.file("a.cdx", ELEVEN.format(1))
    assert await run("--table", "made", "--create", path) == load.ALL_LOADED
    types = dict(run.segment.rows("SELECT name, type FROM pragma_table_info('made')"))
    assert types["warc_offset"] == "VARCHAR(255)" and types["timestamp"] == "DATETIME"


@pytest.mark.parametrize(
    ("arguments", "rows", "status"),
    [
        ([], [("http://h.example/",)], load.SOME_SKIPPED),
        (["--ignore-extra"], [("http://h.example/",), ("http://h.example/a",)], load.ALL_LOADED),
        (
            ["--alter"],
            [("http://h.example/", None, None), ("http://h.example/a", "x", 1.5)],
            load.ALL_LOADED,
        ),
    ],
)
@pytest_twisted.ensureDeferred
async def test_columns_that_the_table_lacks(run, arguments, rows, status):
    """The row is skipped, or the column dropped, or added."""
    path = run.file("a.jsonl", EXTRA)
    assert await run("--table", "small", *arguments, path) == status
    columns = "url, note, n" if arguments == ["--alter"] else "url"
    assert run.segment.rows(f"SELECT {columns} FROM small") == rows


# -- promotion -----------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_promotion_at_the_end(run):
    """What was stored is promoted, unless that is not wanted, which is said."""
    path = run.file("a.cdx", ELEVEN.format(1))
    assert await run(path) == load.ALL_LOADED
    assert run.segment.promoted == ["s"]
    assert "segment s is promoted: /canonical/s.sqlite" in run.printed
    assert await run("--no-promote", path) == load.ALL_LOADED
    assert run.segment.promoted == ["s"]
    assert "on one disk only" in run.printed


# -- many files ------------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_many_files_into_many_segments_and_again(run):
    """Each file into the segment that its name says; what is stored is not stored again."""
    paths = [run.file(f"job-{number}.jsonl", f'{{"url": "u{number}"}}\n') for number in range(9)]
    paths.append(run.file("job-9.jsonl", '{"url": "u9"}\n{"host": "no url"}\n'))
    journal = run.file("journal", "")
    arguments = ["--table", "small", "--resume", journal, "--segment-from", "job-([0-9]+)"]
    assert await run(*arguments, *paths, segment=None) == load.SOME_SKIPPED
    assert sorted(run.segment.promoted) == [str(number) for number in range(10)]
    assert "10 rows loaded, 1 record skipped" in run.printed
    assert await run(*arguments, *paths, segment=None) == load.ALL_LOADED
    assert run.printed.count("loaded by an earlier run") == 10
    assert run.segment.rows("SELECT count(*) FROM small") == [(10,)]
    run.file("job-3.jsonl", '{"url": "changed"}\n')
    assert await run(*arguments, *paths, segment=None) == load.STOPPED
    assert "it has changed since" in run.printed


@pytest_twisted.ensureDeferred
async def test_resume_goes_on_behind_what_is_stored(run):
    """A worker that failed half-way, and a run that ended without knowing."""
    text = "".join(json.dumps({"url": f"u{number}"}) + "\n" for number in range(30))
    path, journal = run.file("a.jsonl", text), run.file("journal", "")
    full = (503, b"500 Server Error: disk full\n", ("x-trough-error", "disk-full"))
    run.segment.before_write = lambda: full if len(run.segment.scripts) == 3 else None
    arguments = ["--table", "small", "--batch", "10", "--resume", journal, path]
    assert await run(*arguments) == load.STOPPED
    assert await run(*arguments) == load.ALL_LOADED
    assert run.segment.rows("SELECT count(*), count(DISTINCT url) FROM small") == [(30, 30)]


@pytest.mark.parametrize("stored", [0, 10, 3])
@pytest_twisted.ensureDeferred
async def test_a_run_that_was_killed_while_rows_were_being_stored(run, stored):
    """The number of rows tells whether they are there; where it does not, a person is asked."""
    text = "".join(json.dumps({"url": f"u{number}"}) + "\n" for number in range(30))
    path, journal = run.file("a.jsonl", text), run.file("journal", "")
    arguments = ["--table", "small", "--batch", "10", "--resume", journal, path]
    assert await run(*arguments) == load.ALL_LOADED
    # As it was in the middle of the third batch.
    entries = Path(journal).read_text().splitlines(keepends=True)
    sent = [place for place, entry in enumerate(entries) if '"sent": [21, 30' in entry]
    Path(journal).write_text("".join(entries[: sent[0] + 1]))
    run.segment.database.execute("DELETE FROM small WHERE rowid > ?", (20 + stored,))
    status = await run(*arguments)
    if stored in (0, 10):
        assert status == load.ALL_LOADED
        assert run.segment.rows("SELECT count(*), count(DISTINCT url) FROM small") == [(30, 30)]
    else:
        assert status == load.STOPPED and "lines 21 to 30 were being stored" in run.printed


@pytest.mark.parametrize(
    ("rule", "reason"),
    [
        ("(", "neither `name` nor a regular expression"),
        ("nowhere", "is not found in"),
        ("x*", "finds nothing in"),
        ("^.*/a", "not a segment id"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_names_that_give_no_segment(run, rule, reason):
    """Nothing is loaded."""
    path = run.file("a.jsonl", '{"url": "u"}\n')
    assert await run("--table", "small", "--segment-from", rule, path, segment=None) == load.STOPPED
    assert reason in run.printed and run.segment.scripts == []


@pytest_twisted.ensureDeferred
async def test_a_damaged_end_and_what_comes_after_it(run):
    """All before it is stored, and the next run finds nothing more, and says that."""
    import gzip

    text = "".join(ELEVEN.format(number) for number in range(200))
    path = run.file("a.cdx.gz", gzip.compress(text.encode())[:-9])
    assert await run("--batch", "7", path) == load.STOPPED
    assert "the file ends early" in run.printed and "--from-line 201" in run.printed
    assert run.segment.rows("SELECT count(*) FROM crawled_url") == [(200,)]
    assert await run("--from-line", "201", path) == load.STOPPED
    assert "there is nothing to load from line 201 on: it ends with line 200" in run.printed
    assert run.segment.rows("SELECT count(*) FROM crawled_url") == [(200,)]
    whole = run.file("b.cdx", text)
    assert await run("--from-line", "201", whole) == load.ALL_LOADED
    assert "there is nothing to load from line 201 on" in run.printed

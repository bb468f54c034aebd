"""Every command, on a real registry and small real servers; with wrong arguments too."""

from __future__ import annotations

import json
import re

import pytest
import pytest_twisted
from line_servers import DIE, LineServer
from shell_desk import Desk, Screen
from towns import say_known
from twisted.internet import reactor

from trough import errors, model
from trough.shell.commands import all_commands
from trough.shell.confirmation import loss_of
from trough.shell.output.formats import Choice
from trough.shell.output.sinks import Output
from trough.shell.shell import Quit


@pytest.fixture
def desk_of(tmp_path, monkeypatch):
    """Makes a desk, and closes it in the end."""
    monkeypatch.setenv("TROUGH_SHELL_SETTINGS", str(tmp_path / "shell.yml"))
    desks = []

    async def make(**arguments):
        desk = Desk(tmp_path, **arguments)
        await desk.cluster.open()
        desks.append(desk)
        return desk

    yield make
    for desk in desks:
        pytest_twisted.blockon(pytest_twisted.defer.ensureDeferred(desk.cluster.close()))


def answering(rows):
    """An answer function: these rows, by segment."""
    return lambda asked: asked.answer(rows)


ROWS = {"a": [1, 2], "b": [3], "c": []}

# -- wrong arguments, everywhere ------------------------------------------------

WRONG = {
    "CONNECT": "something is missing",
    "CONNECT a/b": "not a segment id: 'a/b'",
    "CONNECT nowhere": "no worker serves nowhere",
    "CREATE SEGMENT": "something is missing",
    "CREATE SEGMENT a": "CREATE SEGMENT is refused in read-only mode",
    "SELECT 1": "SELECT was not run: the statement has no end",
    "CONNECT MATCHING": "the regular expression is missing",
    "CONNECT MATCHING [": "not a regular expression",
    "CONNECT MATCHING zzz": "no segment matches zzz",
    "DISCONNECT now": "does not take now",
    "SELECT 1;": "not connected to any segment",
    "VALUES (1);": "not connected to any segment",
    "WITH a AS (SELECT 1) SELECT * FROM a;": "not connected to any segment",
    "WITH a AS (SELECT 1) DELETE FROM b;": "WITH is refused in read-only mode",
    "INSERT INTO a VALUES (1);": "INSERT is refused in read-only mode",
    "DROP TABLE a;": "DROP is refused in read-only mode",
    "GATHER;": "the query is missing",
    "GATHER PARTIAL;": "the query is missing",
    "GATHER PARTIAL WITHIN SEGMENTS;": "the query is missing",
    "GATHER SELECT 1;": "not connected to any segment",
    "EXPLAIN GATHER;": "the query is missing",
    "\\watch": "there is no query to watch yet",
    "FORMAT XML": "no such format: XML",
    "FORMAT CSV TSV": "no such format: CSV TSV",
    "FORMAT CSV MERGED now": "does not take now",
    "PROMOTE": "PROMOTE is refused in read-only mode",
    "PROMOTE a": "does not take a",
    "REVERT": "REVERT is refused in read-only mode",
    "REVERT a b": "does not take",
    "REGISTER": "something is missing",
    "REGISTER SCHEMA name": "something is missing",
    "REGISTER SCHEMA name /nowhere/file": "/nowhere/file: No such file or directory",
    "REGISTER SCHEMA name file more": "does not take more",
    "SHOW": "something is missing",
    "SHOW NOTHING": "no such command: SHOW NOTHING",
    "SHOW TABLES now": "does not take now",
    "SHOW TABLES": "not connected to any segment",
    "SHOW CREATE TABLE": "something is missing",
    "SHOW CREATE TABLE a b": "does not take b",
    "SHOW CREATE TABLE a": "not connected to any segment",
    "SHOW CONNECTIONS": "not connected to any segment",
    "SHOW CONNECTIONS a": "does not take a",
    "SHOW SCHEMA": "something is missing",
    "SHOW SCHEMA nothing": "there is no schema 'nothing'",
    "SHOW SCHEMAS a": "does not take a",
    "SHOW SEGMENTS a": "does not take a",
    "SHOW SEGMENTS MATCHING": "the regular expression is missing",
    "SHOW SEGMENTS MATCHING (": "not a regular expression",
    "SHOW WORKERS a": "does not take a",
    "SHOW LOCKS a": "does not take a",
    "SHOW STATUS a": "does not take a",
    "SHOW FAILURES a": "does not take a",
    "INFILE": "something is missing",
    "INFILE /nowhere/file": "/nowhere/file: No such file or directory",
    "INFILE /": "/: Is a directory",
    "SOURCE a b": "does not take b",
    "SHRED": "say SHRED SEGMENT",
    "SHRED a": "say SHRED SEGMENT",
    "SHRED SEGMENT": "something is missing",
    "SHRED SEGMENT a": "SHRED is refused in read-only mode",
    "EXPORT": "something is missing",
    "EXPORT file.csv": "there is no query to export yet",
    "\\timing maybe": "on or off, and not maybe",
    "\\x maybe": "on or off, and not maybe",
    "\\x on off": "does not take off",
    "\\f nothing": "no query is named nothing",
    "\\fs": "the name is missing",
    "\\fs name": "there is no query to keep yet",
    "\\fs na/me SELECT 1": "not a name for a query: na/me",
    "\\fd": "something is missing",
    "\\fd nothing": "no query is named nothing",
    "!": "the command is missing",
    "! exit 3": "the command ended with status 3",
    "HELP nothing": "no help on nothing",
    "QUIT now": "does not take now",
    "conect a": "did you mean CONNECT?",
    "SELCT 1;": "did you mean SELECT?",
    "\\dt+": "did you mean \\dt?",
    "DESCRIBE": "something is missing",
    "\x1b[2J;": "neither a command nor SQL: \\x1b[2J",
    "'": "neither a command nor SQL: '",
    "\\G": "there is no statement before \\G",
}


@pytest_twisted.ensureDeferred
async def test_wrong_arguments_are_told_and_change_nothing(desk_of):
    """Each command says what is wrong with its arguments, in words, and the shell goes on."""
    desk = await desk_of()
    await say_known(desk.metadata)
    for text, expected in WRONG.items():
        told = await desk.told(text)
        assert expected in told, text
        assert "Traceback" not in told and "\x1b" not in told, text
    assert desk.shell.session.segments == ()
    assert desk.shell.session.choice == Choice("TSV")


def test_every_command_has_a_wrong_use():
    """The list of wrong uses is complete, but for commands that take anything."""
    registry = all_commands()
    tried = {registry.find(text)[0].name for text in WRONG if registry.find(text)}
    assert {entry.name for entry in registry} == tried


# -- segments -------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_connecting(desk_of):
    """Found segments are connected, in their order and once; what is nowhere is named."""
    desk = await desk_of(person="")
    await desk.worker("w1", "127.0.0.1:1", "a", "A", "b.c")
    assert await desk.typed("connect A a A;") == "connected to 2 segments\n"
    assert desk.shell.session.segments == ("A", "a")
    assert desk.shell.session.prompt == "trough:[2 segments](ro)> "
    assert "no worker serves 1 segment: x" in await desk.told("CONNECT a x")
    assert desk.shell.session.prompt == "trough:a(ro)> "
    await desk.told("CONNECT x y")
    assert desk.shell.session.segments == ("a",)
    assert await desk.typed("CONNECT MATCHING ^[aA]$;") == "connected to 2 segments\n"
    assert await desk.typed("USE MATCHING 'b.c'") == "connected to 1 segment\n"
    await desk.typed("DISCONNECT")
    assert desk.shell.session.prompt == "trough> "


@pytest_twisted.ensureDeferred
async def test_a_script_that_connects_to_what_is_missing_ends(desk_of):
    """Going on with fewer segments than asked for would be a wrong answer."""
    desk = await desk_of()
    await desk.worker("w1", "127.0.0.1:1", "a")
    with pytest.raises(errors.NoSuchSegment, match="no worker serves x"):
        await desk.script("CONNECT a x")


@pytest_twisted.ensureDeferred
async def test_a_new_segment_can_be_connected_for_writing(desk_of):
    """With -w and -s a segment that is nowhere is reported, and connected."""
    desk = await desk_of(person="", writable=True, schema="crawl")
    said = await desk.typed("CONNECT new")
    assert said == "new: not there yet; the first write creates it from the schema crawl\n"
    assert desk.shell.session.prompt == "trough:new(rw)> "


@pytest_twisted.ensureDeferred
async def test_a_mistyped_name_creates_no_segment(desk_of):
    """Without -s, CONNECT refuses what does not exist, and names the command that creates it."""
    desk = await desk_of(person="", writable=True)
    complaint = await desk.told("CONNECT tpyo")
    assert complaint == "no worker serves tpyo\n  CREATE SEGMENT tpyo creates it\n"
    assert desk.shell.session.segments == ()


@pytest_twisted.ensureDeferred
async def test_a_mistyped_schema_is_answered_with_those_there_are(desk_of):
    """CREATE SEGMENT names what it could have been created from."""

    def answer(asked):
        asked.say("ERR no-schema there is no schema 'craw'")

    desk = await desk_of(person="", writable=True)
    await desk.metadata.put_schema(model.Schema("crawl", "CREATE TABLE t (a);"))
    async with LineServer(reactor, answer) as server:
        await desk.lead(server)
        complaint = await desk.told("CREATE SEGMENT new SCHEMA craw")
    assert complaint == "there is no schema craw; known: crawl, default\n"


@pytest_twisted.ensureDeferred
async def test_a_typing_error_is_never_taken_for_what_destroys(desk_of):
    """A suggestion is typed without a second look, so it must do no harm."""
    desk = await desk_of(person="", writable=True)
    for word, name in (
        ("DELET", "DELETE"),
        ("UPDAT", "UPDATE"),
        ("SHRE", "SHRED"),
        ("DRPO", "DROP"),
    ):
        assert name not in await desk.told(f"{word} a")
    assert "did you mean SELECT?" in await desk.told("SELCT 1")


@pytest.mark.parametrize(
    ("sql", "question"),
    [
        ("DELETE FROM t;", "This deletes every row of t (2 rows) in a. Go on? [y/N] "),
        ('delete from main."t";', 'This deletes every row of main."t" (2 rows) in a.'),
        ("UPDATE OR IGNORE t SET a = (SELECT 1 WHERE 1);", "This changes every row of t (2 rows)"),
        ("WITH w AS (SELECT 1 WHERE 1) DELETE FROM t;", "This deletes every row of t (2 rows)"),
        ("DROP TABLE IF EXISTS t;", "This drops the table t (2 rows) in a."),
        ("DROP VIEW v;", "This drops the view v in a."),
        ("ALTER TABLE t DROP COLUMN b;", "This drops a column of t in a."),
        ("-- tidy up\nDELETE FROM t -- WHERE a = 1\n;", "This deletes every row of t (2 rows)"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_a_person_is_asked_before_something_is_lost(desk_of, sql, question):
    """The question names what is lost, and any answer but yes changes nothing."""
    desk = await desk_of(person="", writable=True)
    async with LineServer(reactor, answering({"a": [2]})) as server:
        await desk.worker("w1", server, "a")
        await desk.typed("CONNECT a")
        assert await desk.told(sql) == "nothing was changed\n"
        assert {each.verb for each in server.asked} <= {"QUERY"}
    assert len(desk.questions) == 1
    assert desk.questions[0].startswith(question)


@pytest.mark.parametrize(
    "sql",
    [
        "DELETE FROM t WHERE a = 1",
        "UPDATE t SET a = 1 WHERE b",
        "INSERT INTO t SELECT 'DELETE FROM t'",
        "CREATE TRIGGER x AFTER INSERT ON t BEGIN DELETE FROM t; END",
        "INSERT INTO t VALUES (1) ON CONFLICT DO UPDATE SET a = 2",
        "REPLACE INTO t VALUES (1)",
    ],
)
def test_a_statement_that_names_its_rows_is_no_loss(sql):
    """Only what empties or drops something leads to a question."""
    assert loss_of(sql) is None


@pytest_twisted.ensureDeferred
async def test_a_change_that_a_file_cuts_off_is_not_run(desk_of, tmp_path):
    """A DELETE whose WHERE was lost must not empty a table."""
    desk = await desk_of(writable=True)
    (tmp_path / "cut.sql").write_text("CONNECT a\nDELETE FROM t\n\nWHERE")
    await desk.worker("w1", "127.0.0.1:1", "a")
    with pytest.raises(errors.BadRequest, match=r"cut.sql:2: DELETE was not run"):
        await desk.script(f"SOURCE {tmp_path}/cut.sql")


# -- queries --------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_a_query_goes_to_every_connected_segment(desk_of):
    """Rows come with the segment's name; people are told how many from where."""
    desk = await desk_of(person="", format="TABLE")
    async with LineServer(reactor, answering(ROWS)) as server:
        await desk.worker("w1", server, *ROWS)
        await desk.typed("CONNECT a b c")
        shown = await desk.typed("SELECT\n a FROM t;")
        assert server.asked[0].sql == "SELECT\n a FROM t"
        assert sorted(shown.split("\n\n")) == sorted(
            [
                "a:\n a\n---\n 1\n 2\n(2 rows)",
                "b:\n a\n---\n 3\n(1 row)",
                "3 rows from 3 segments, 1 of them without a row\n",
            ]
        )
        desk.shell.session.connect(["b"])
        assert await desk.typed("SELECT a\\G") == f"-[ row 1 ]{'-' * 20}\na | 3\n1 row from b\n"


@pytest_twisted.ensureDeferred
async def test_a_script_gets_rows_and_nothing_else(desk_of):
    """Nothing but the rows is written for a program."""
    desk = await desk_of()
    async with LineServer(reactor, answering(ROWS)) as server:
        await desk.worker("w1", server, *ROWS)
        text = await desk.script("CONNECT a b c\nSELECT a FROM t")
    head, *rows = text.splitlines()
    assert (head, sorted(rows)) == ("_segment\ta", ["a\t1", "a\t2", "b\t3"])
    assert desk.messages.getvalue() == ""


@pytest_twisted.ensureDeferred
async def test_a_script_is_not_told_what_to_type_next(desk_of):
    """It has ended with the failure."""
    desk = await desk_of()

    def answer(asked):
        for segment in asked.segments:
            asked.say(f"FAIL {segment} bad-sql no such table: t")
        asked.end()

    async with LineServer(reactor, answer) as server:
        await desk.worker("w1", server, "a", "b")
        with pytest.raises(errors.TroughError):
            await desk.script("CONNECT a b\nSELECT a FROM t")
    told = desk.messages.getvalue()
    assert "2 of 2 segments failed" in told and "SHOW FAILURES" not in told


@pytest_twisted.ensureDeferred
async def test_failures_are_summed_up_by_reason(desk_of):
    """Segments that fail for one reason are told together; SHOW FAILURES names each."""
    desk = await desk_of(person="")

    def answer(asked):
        for segment in asked.segments:
            reason = "bad-sql no such table: t" if segment > "s2" else f"limit {segment} is big"
            asked.say(f"FAIL {segment} {reason}")
        asked.end()

    async with LineServer(reactor, answer) as server:
        segments = [f"s{number}" for number in range(9)]
        await desk.worker("w1", server, *segments)
        await desk.typed(f"CONNECT {' '.join(segments)}")
        told = await desk.told("SELECT a FROM t;")
        assert told.splitlines() == [
            "9 of 9 segments failed:",
            "  6 x bad-sql: no such table: t",
            "      s3, s4, s5 and 3 more",
            "  3 x limit: <segment> is big",
            "      s0, s1, s2",
            "SHOW FAILURES lists them all",
        ]
        listed = await desk.typed("FORMAT TSV; SHOW FAILURES")
        assert "s8\tbad-sql\tno such table: t\n" in listed
        with pytest.raises(errors.TroughError):
            await desk.script("SELECT a FROM t; SHOW WORKERS")
        assert "w1" not in desk.screen.getvalue()


@pytest_twisted.ensureDeferred
async def test_a_worker_that_dies_leaves_no_duplicate(desk_of):
    """Rows of a lost worker are forgotten, in their number too, and the segment is asked of
    another."""
    desk = await desk_of(person="")

    def dying(asked):
        for segment in asked.segments:
            asked.say(f'COLS {segment} ["a"]', f"ROWS {segment} [[1],[2]]", f"ROWS {segment} [[3]]")
        asked.say(DIE)

    async with LineServer(reactor, dying) as one, LineServer(reactor, answering(ROWS)) as two:
        await desk.worker("w1", one, "a")
        await desk.worker("w2", two, "a")
        for _ in range(2):  # whichever of the two is asked first
            desk.shell.session.connect(["a"])
            assert await desk.typed("SELECT a FROM t;") == "a\n1\n2\n2 rows from a\n"
        assert one.asked


@pytest_twisted.ensureDeferred
async def test_tables_are_counted_once_and_of_whole_answers(desk_of):
    """What a segment said before it failed, or was lost and asked elsewhere, does not count."""
    desk = await desk_of()

    def tell(asked, segment):
        asked.say(f'COLS {segment} ["name","type"]', f'ROWS {segment} [["t","table"]]')
        asked.say(f'ROWS {segment} [["u","table"]]')

    def dying(asked):
        for segment in asked.segments:
            tell(asked, segment)
        asked.say(DIE)

    def answer(asked):
        for segment in asked.segments:
            tell(asked, segment)
            asked.say(f"FAIL {segment} timeout late" if segment == "b" else f"DONE {segment} 2")
        asked.end()

    async with LineServer(reactor, dying) as one, LineServer(reactor, answer) as two:
        await desk.worker("w1", one, "a")
        await desk.worker("w2", two, "a", "b")
        for _ in range(2):  # whichever of the two is asked first for a
            desk.shell.session.connect(["a", "b"])
            shown = await desk.typed("SHOW TABLES")
            assert shown == "table\ttype\tsegments\nt\ttable\t1\nu\ttable\t1\n"
        assert one.asked


@pytest_twisted.ensureDeferred
async def test_writing(desk_of):
    """A write goes to the one connected segment, and says how many rows it changed."""
    desk = await desk_of(person="", writable=True)

    def answer(asked):
        if asked.verb == "PROVISION":
            reactor.callLater(0, provisioned, asked)
        else:
            asked.say("OK changes=3 ms=1")

    def provisioned(asked):
        done = pytest_twisted.defer.ensureDeferred(desk.metadata.take_lock("a", "w1"))
        done.addCallback(lambda _: asked.say('OK {"write_url": "http://x/"}'))

    async with LineServer(reactor, answer) as server:
        await desk.worker("w1", server, "a", "b")
        await desk.lead(server)
        await desk.typed("CONNECT a")
        assert await desk.typed("DELETE FROM t WHERE a;") == "3 rows changed in a\n"
        sql = "WITH x AS (SELECT 1) DELETE FROM t WHERE a;"
        assert await desk.typed(sql) == "3 rows changed in a\n"
        assert desk.messages.getvalue() == ""
        sql = "DELETE FROM t WHERE a RETURNING a;"
        assert "rows of RETURNING are not shown" in await desk.told(sql)
        assert await desk.told("DELETE FROM t WHERE a = 'RETURNING';") == ""
        await desk.typed("CONNECT a b")
        assert "needs one connected segment, and 2 are" in await desk.told("DELETE FROM t;")
    assert [asked.verb for asked in server.asked] == ["PROVISION", *["WRITE"] * 4]


# -- whole segments -------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_promoting_shows_how_far_it_is(desk_of, monkeypatch):
    """The bytes of a single segment, and about how long the rest takes, as its worker says."""
    monkeypatch.setattr("trough.cli.progress.QUIET_SECONDS", 0.0)
    monkeypatch.setattr("trough.cli.progress.REDRAW_SECONDS", 0.0)
    monkeypatch.setattr("trough.shell.cluster.remote.WATCHED_EVERY", 0.01)
    desk = await desk_of(person="", writable=True)
    promoting, done = [], iter([0, 250, 500, 750])

    def answer(asked):
        if asked.verb == "PROMOTE":
            promoting.append(asked)
            return
        bytes_done = next(done)
        asked.say(f'OK {{"transfers": {{"a": {{"bytes": {bytes_done}, "of": 1000}}}}}}')
        if bytes_done == 750:
            promoting[0].say('OK {"remote_path": "x"}')

    async with LineServer(reactor, answer) as server:
        await desk.worker("w1", server, "a")
        await desk.lead(server)
        await desk.metadata.take_lock("a", "w1")
        desk.shell.session.connect(["a"])
        desk.shell.messages = Screen()
        assert "1 of 1 segment promoted\n" in await desk.typed("PROMOTE")
    told = desk.shell.messages.getvalue()
    assert "25% of 1,000 bytes" in told
    assert "50% of 1,000 bytes, about " in told and " left" in told


@pytest_twisted.ensureDeferred
async def test_promoting_tells_partial_failure(desk_of):
    """Every connected segment is promoted; which failed, and why, is told."""
    desk = await desk_of(person="", writable=True)

    def answer(asked):
        (segment,) = asked.words
        asked.say("ERR no-lock nobody writes it" if segment == "b" else 'OK {"remote_path": "x"}')

    async with LineServer(reactor, answer) as server:
        await desk.worker("w1", server, "a", "b", "c")
        await desk.lead(server)
        desk.shell.session.connect(["a", "b", "c"])
        await desk.typed("PROMOTE")
        assert sorted(asked.words[0] for asked in server.asked) == ["a", "b", "c"]
        assert "2 of 3 segments promoted\n" in await desk.typed("PROMOTE")
        told = await desk.told("PROMOTE")
        assert "1 x no-lock: nobody writes it\n      b\n" in told


def reverted(asked):
    """A sync server's answer: ``a`` has unpromoted writes, ``b`` has none."""
    told = {"node": "w1", "promoted_at": 1.0, "size": 4096, "writable": True}
    told["unpromoted"] = asked.words[0] == "a"
    told["aside"] = None if "preview=yes" in asked.words else "a.1.2.sqlite"
    asked.say(f"OK {json.dumps(told)}")


@pytest_twisted.ensureDeferred
async def test_reverting_says_what_is_given_up_and_asks(desk_of):
    """Only yes reverts, and only what has unpromoted writes."""
    desk = await desk_of(person=["no", "y"], writable=True)
    async with LineServer(reactor, reverted) as server:
        await desk.lead(server)
        desk.shell.session.connect(["a", "b"])
        assert "nothing was changed" in await desk.told("REVERT")
        assert all("preview=yes" in asked.words for asked in server.asked)
        [question] = desk.questions
        assert "a: since 1970-01-01 00:00:01 UTC; the copy has 4,096 bytes" in question
        assert "b:" not in question
        shown = await desk.typed("REVERT")
        assert "kept in a.1.2.sqlite on w1" in shown
        changing = [asked.words[0] for asked in server.asked if "preview=no" in asked.words]
        assert changing == ["a"]


@pytest_twisted.ensureDeferred
async def test_a_script_that_reverts_has_to_say_yes(desk_of):
    """Where nobody can be asked, nothing is reverted without --yes."""
    desk = await desk_of(writable=True)
    async with LineServer(reactor, reverted) as server:
        await desk.lead(server)
        desk.shell.session.connect(["a"])
        with pytest.raises(errors.BadRequest, match="add --yes"):
            await desk.script("REVERT")
        assert server.asked == []
        await desk.script("REVERT --yes")
        assert [asked.words[1] for asked in server.asked] == ["preview=yes", "preview=no"]


@pytest_twisted.ensureDeferred
async def test_shredding_asks_for_the_count(desk_of):
    """A wrong answer deletes nothing; the count, or --yes, deletes; what is left is told."""
    desk = await desk_of(person=["yes", "2"], writable=True)

    def answer(asked):
        asked.say("ERR locked it has a write lock" if asked.words[0] == "b" else "OK {}")

    async with LineServer(reactor, answer) as server:
        await desk.lead(server)
        assert "nothing was deleted" in await desk.told("SHRED SEGMENT a b a")
        assert server.asked == []
        told = await desk.told("SHRED SEGMENT a b a")
        assert desk.questions[0].endswith("for good: a, b\nType 2 to go on: ")
        assert "locked: it has a write lock\n      b" in told
        assert await desk.typed("SHRED SEGMENT --yes x y z") == "3 of 3 segments deleted\n"
        assert len(server.asked) == 5
        assert "not a segment id" in await desk.told("SHRED SEGMENT a ../b")
        assert len(server.asked) == 5


@pytest_twisted.ensureDeferred
async def test_a_script_has_to_say_yes(desk_of):
    """Where nobody can be asked, deleting needs --yes."""
    desk = await desk_of(writable=True)
    with pytest.raises(errors.BadRequest, match="add --yes"):
        await desk.script("SHRED SEGMENT a")


# -- SHOW -----------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_showing_what_there_is(desk_of):
    """Segments, schemas, workers, locks and connections, from the registry."""
    desk = await desk_of()
    await desk.worker("w1", "127.0.0.1:1", "a", "b")
    await desk.metadata.put_schema(model.Schema("crawl", "CREATE TABLE t(a);\n"))
    await desk.metadata.take_lock("a", "w1")
    assert await desk.typed("SHOW SEGMENTS") == "segment\na\nb\n"
    assert await desk.typed("SHOW SEGMENTS MATCHING ^b") == "segment\nb\n"
    assert await desk.typed("SHOW SCHEMAS") == "schema\ncrawl\ndefault\n"
    assert await desk.typed("SHOW SCHEMA crawl") == "CREATE TABLE t(a);\n"
    assert await desk.typed("SHOW SCHEMA default") == "-- this schema is empty\n"
    told = await desk.typed("SHOW WORKERS")
    assert "w1\tok\t" in told and "\t127.0.0.1:1\thttp://x/\t" in told
    assert (await desk.typed("SHOW LOCKS")).startswith("segment\tworker\tepoch\tsince\na\tw1\t1\t")
    await desk.typed("CONNECT a b")
    assert await desk.typed("SHOW CONNECTIONS") == (
        "segment\tworker\trole\turl\n"
        "a\tw1\ttrough-read\thttp://x/?segment=a\n"
        "b\tw1\ttrough-read\thttp://x/?segment=b\n"
    )
    assert await desk.typed("SHOW FAILURES") == "segment\tcode\treason\n"


@pytest_twisted.ensureDeferred
async def test_tables_of_many_segments_are_counted(desk_of):
    """Each table once, with the number of segments that have it; likewise each definition."""
    desk = await desk_of()

    def answer(asked):
        creating = asked.sql.startswith("SELECT sql")
        for segment in asked.segments:
            asked.say(f'COLS {segment} ["x","y"]')
            if creating:
                column = "b" if segment == "c" else "a"
                asked.say(f'ROWS {segment} [["CREATE TABLE t({column})"]]', f"DONE {segment} 1")
            else:
                asked.say(f'ROWS {segment} [["t","table"]]', f"DONE {segment} 1")
        asked.end()

    async with LineServer(reactor, answer) as server:
        await desk.worker("w1", server, "a", "b", "c")
        await desk.typed("CONNECT a b c")
        assert await desk.typed("SHOW TABLES") == "table\ttype\tsegments\nt\ttable\t3\n"
        assert await desk.typed('SHOW CREATE TABLE "t\'"') == (
            "-- in 2 of 3 segments, as in a\nCREATE TABLE t(a);\n"
            "-- in 1 of 3 segments, as in c\nCREATE TABLE t(b);\n"
        )
        assert server.asked[-1].query.parameters == ["t'"]
        await desk.typed("CONNECT a")
        assert await desk.typed("\\dt") == "table\ttype\nt\ttable\n"


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize(
    ("text", "last"),
    [
        ("CONNECT MATCHING .", "3 segments found, "),
        ("SHOW TABLES", "3 of 3 segments answered, "),
        ("SHOW CREATE TABLE t", "3 of 3 segments answered, "),
    ],
)
async def test_nobody_waits_without_a_word(desk_of, monkeypatch, text, last):
    """Whatever looks at many segments shows how far it is, and takes that away again."""
    monkeypatch.setattr("trough.cli.progress.QUIET_SECONDS", 0.0)
    monkeypatch.setattr("trough.cli.progress.REDRAW_SECONDS", 0.0)
    desk = await desk_of(person="")

    def answer(asked):
        for segment in asked.segments:
            asked.say(f'COLS {segment} ["a","b"]', f'ROWS {segment} [["t","table"]]')
            asked.say(f"DONE {segment} 1")
        asked.end()

    async with LineServer(reactor, answer) as server:
        await desk.worker("w1", server, *ROWS)
        await desk.typed("CONNECT a b c")
        desk.shell.messages = Screen()
        await desk.typed(text)
    *drawn, end = desk.shell.messages.getvalue().split("\r\x1b[K")
    assert drawn[-1].startswith(last) and end == ""


@pytest_twisted.ensureDeferred
async def test_no_tables_are_shown_of_segments_that_all_failed(desk_of):
    """An empty list would say that there are none."""
    desk = await desk_of(person="", writable=True, schema="default")
    await desk.typed("CONNECT new")
    assert await desk.typed("SHOW TABLES") == ""
    assert desk.messages.getvalue() == "new: no worker serves segment new\n"


@pytest_twisted.ensureDeferred
async def test_status_names_every_server(desk_of):
    """What answers is shown as keys and values, what does not, with the reason."""
    desk = await desk_of()
    told = '{"a": {"b": [1, 2]}, "c": true}'

    async with (
        LineServer(reactor, lambda asked: asked.say(f"OK {told}")) as worker,
        LineServer(reactor, lambda asked: asked.say("ERR internal it is broken")) as sync,
    ):
        await desk.worker("w1", worker)
        await desk.lead(sync)
        text = await desk.typed("SHOW STATUS")
    assert "w1\ta.b\t1, 2\nw1\tc\ttrue\n" in text
    assert "sync\terror\tit is broken\n" in text


# -- files ----------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_a_file_is_run_up_to_its_first_error(desk_of):
    """SQL and commands of a file run in order; an error names file and line."""
    desk = await desk_of()
    path = desk.path / "a file.sql"
    path.write_text("-- a file\nSHOW SCHEMAS\n\nINSERT INTO t\n VALUES (1);\nSHOW WORKERS;\n")
    told = await desk.told(f'INFILE "{path}"')
    assert told == (
        f"{path}:4: INSERT is refused in read-only mode\n  start trough-shell with -w to write\n"
    )
    path.write_text(f'SOURCE "{path}"')
    assert "files read each other" in await desk.told(f'SOURCE "{path}"')
    path.write_bytes(b"\xef\xbb\xbfSHOW NOTHING;\n")
    assert "no such command: SHOW NOTHING\n" in await desk.told(f'SOURCE "{path}"')
    path.write_bytes(b"SHOW SCHEMAS;\nSELECT '\xff';\n")
    assert "default" in await desk.typed(f'SOURCE "{path}"')
    assert f"{path}:2: not UTF-8: byte 9" in await desk.told(f'SOURCE "{path}"')


@pytest_twisted.ensureDeferred
async def test_registering_a_schema(desk_of):
    """SCHEMA may be left out; whether it is new is told."""
    desk = await desk_of(person="")
    path = desk.path / "schema.sql"
    path.write_text("CREATE TABLE t(a);")
    async with LineServer(reactor, lambda asked: asked.say("OK {}")) as server:
        await desk.lead(server)
        assert await desk.typed(f"REGISTER SCHEMA crawl {path}") == "schema crawl registered\n"
        assert await desk.typed(f"register default {path}") == "schema default replaced\n"
    assert [asked.verb for asked in server.asked] == ["PUT-SCHEMA", "PUT-SCHEMA"]


@pytest_twisted.ensureDeferred
async def test_exporting_the_last_query(desk_of):
    """The file has every row in its name's format; a failing query leaves nothing."""
    desk = await desk_of(person="")
    rows = dict(ROWS)
    async with LineServer(reactor, answering(rows)) as server:
        await desk.worker("w1", server, *ROWS)
        await desk.typed("CONNECT a; SELECT a FROM t;")
        path = desk.path / "out.csv"
        assert await desk.typed(f"EXPORT {path}") == f"2 rows written to {path} as CSV\n"
        assert path.read_bytes() == b"a\r\n1\r\n2\r\n"
        await desk.typed(f"EXPORT {path} jsonl")
        assert path.read_text() == '{"a": 1}\n{"a": 2}\n'
        assert "no format goes with the name out.x" in await desk.told(
            f"EXPORT {path}.x".replace(".csv", "")
        )
        assert "No such file" in await desk.told("EXPORT /nowhere/out.csv")
        rows.clear()
        await desk.told(f"EXPORT {path} csv")
    assert path.read_text() == '{"a": 1}\n{"a": 2}\n'
    assert [p.name for p in desk.path.glob("*out*")] + [
        p.name for p in desk.path.glob(".*.unfinished")
    ] == ["out.csv"]


@pytest_twisted.ensureDeferred
async def test_exporting_shows_how_far_it_is(desk_of, monkeypatch):
    """What goes into the file does not take the progress off the screen."""
    monkeypatch.setattr("trough.cli.progress.QUIET_SECONDS", 0.0)
    monkeypatch.setattr("trough.cli.progress.REDRAW_SECONDS", 0.0)
    desk = await desk_of(person="")
    async with LineServer(reactor, answering(ROWS)) as server:
        await desk.worker("w1", server, *ROWS)
        await desk.typed("CONNECT a b; SELECT a FROM t;")
        desk.shell.messages = Screen()
        await desk.typed(f"EXPORT {desk.path / 'out.csv'}")
    told = desk.shell.messages.getvalue()
    drawn = told.count("Ctrl-C cancels")
    assert drawn > 1 and told.count("\r\x1b[K") == drawn + 1


@pytest_twisted.ensureDeferred
async def test_exporting_one_segment_shows_how_long_the_rest_takes(desk_of, monkeypatch):
    """A query that runs for a while is counted beside; a count that fails changes nothing."""
    monkeypatch.setattr("trough.cli.progress.QUIET_SECONDS", 0.0)
    monkeypatch.setattr("trough.cli.progress.REDRAW_SECONDS", 0.0)
    monkeypatch.setattr("trough.shell.row_count.COUNT_AFTER", 0.0)
    monkeypatch.setenv("COLUMNS", "200")
    desk = await desk_of(person="")
    screen, exports, counted, sent = Screen(), [], [], []

    def go_on():
        asked = exports[-1]
        sent.append(len(sent))
        asked.say(f"ROWS a [[{sent[-1]}]]")
        if len(counted) == 1 and " of 1,000,000 rows" not in screen.getvalue():
            reactor.callLater(0.01, go_on)
        else:
            asked.say(f"DONE a {len(sent)}")
            asked.end()

    def answer(asked):
        if not asked.sql.startswith("SELECT count(*)"):
            exports.append(asked)
            if len(exports) == 1:
                asked.answer({"a": [1]})
            else:
                asked.say('COLS a ["a"]')
            return
        counted.append(asked.sql)
        if len(counted) == 1:
            asked.answer({"a": [1000000]})
        else:
            asked.say("ERR bad-sql no")
        go_on()

    async with LineServer(reactor, answer) as server:
        await desk.worker("w1", server, *ROWS)
        await desk.typed("CONNECT a; SELECT a FROM t -- all;\n;")
        desk.shell.messages = screen
        path = desk.path / "out.csv"
        assert " written to " in await desk.typed(f"EXPORT {path}")
        assert path.read_text().split() == ["a", *map(str, sent)]
        sent.clear()
        assert "1 row written" in await desk.typed(f"EXPORT {path}")
    assert counted == ["SELECT count(*) FROM (SELECT a FROM t -- all;\n)"] * 2


@pytest_twisted.ensureDeferred
async def test_a_file_shows_how_far_it_is(desk_of, monkeypatch):
    """At a terminal, by its bytes; the line is taken away before anything else is written."""
    monkeypatch.setattr("trough.cli.progress.QUIET_SECONDS", 0.0)
    monkeypatch.setattr("trough.cli.progress.REDRAW_SECONDS", 0.0)
    desk = await desk_of(person="")
    path = desk.path / "a.sql"
    path.write_text("SELECT a FROM t;\n" * 3)
    async with LineServer(reactor, answering(ROWS)) as server:
        await desk.worker("w1", server, *ROWS)
        await desk.typed("CONNECT a")
        desk.shell.messages = desk.screen
        shown = await desk.typed(f"INFILE {path}")
    assert re.findall("([0-9]+)% of a.sql, ([0-9])", shown) == [
        ("33", "0"),
        ("67", "1"),
        ("100", "2"),
    ]
    for drawn in shown.split("% of a.sql")[1:]:
        assert drawn.index("Ctrl-C stops\r\x1b[K") < drawn.index("rows from a")
    assert shown.count("rows from a") == 3


@pytest_twisted.ensureDeferred
async def test_a_json_file_of_many_segments_is_json(desk_of):
    """One array, whose objects name their segment; titles between are for a screen."""
    desk = await desk_of(person="")
    async with LineServer(reactor, answering(ROWS)) as server:
        await desk.worker("w1", server, *ROWS)
        await desk.typed("CONNECT a b; SELECT a FROM t;")
        path = desk.path / "out.json"
        await desk.typed(f"EXPORT {path}")
        told = sorted((row["_segment"], row["a"]) for row in json.loads(path.read_text()))
        assert told == [("a", 1), ("a", 2), ("b", 3)]


@pytest_twisted.ensureDeferred
async def test_named_queries(desk_of):
    """A query is kept, listed, run with bound values, and forgotten."""
    desk = await desk_of(person="")
    async with LineServer(reactor, answering(ROWS)) as server:
        await desk.worker("w1", server, *ROWS)
        await desk.typed("CONNECT a")
        assert await desk.typed("\\fs one SELECT a FROM t WHERE b = ?1 AND c = ?2;") == (
            "kept as one; \\f one runs it\n"
        )
        assert "SELECT a FROM t WHERE" in await desk.typed("\\f")
        await desk.typed("\\f one 5 'it is'")
        assert server.asked[-1].query.parameters == [5, "it is"]
        await desk.typed("\\f one 9223372036854775807 -9223372036854775808")
        assert server.asked[-1].query.parameters == [2**63 - 1, -(2**63)]
        await desk.typed("\\f one 9223372036854775808 -1.5e3")
        assert [type(value) for value in server.asked[-1].query.parameters] == [float, float]
        answers = iter(["7", "x", "y"])
        desk.shell.confirm = lambda question: next(answers)
        await desk.typed("\\f one")  # asks for what is missing
        assert server.asked[-1].query.parameters == [7, "x"]
        await desk.typed("\\f one 8")
        assert server.asked[-1].query.parameters == [8, "y"]
        await desk.typed("SELECT a FROM u; \\fs two")
        assert await desk.typed("\\f two") == "a\n1\n2\n2 rows from a\n"
        assert server.asked[-1].sql == "SELECT a FROM u"
        assert await desk.typed("\\fd one") == "one is forgotten\n"
        assert "one" not in await desk.typed("\\f")


@pytest_twisted.ensureDeferred
async def test_a_result_goes_to_a_command(desk_of, tmp_path):
    """What follows | after the semicolon reads the rows, in the current format."""
    desk = await desk_of(person="", format="CSV")
    async with LineServer(reactor, answering(ROWS)) as server:
        await desk.worker("w1", server, *ROWS)
        await desk.typed("CONNECT a")
        await desk.typed(f"SELECT a FROM t; | sort -r > {tmp_path}/sorted")
        assert (tmp_path / "sorted").read_bytes() == b"a\r\n2\r\n1\r\n"
        told = await desk.told("SELECT a FROM t; | exit 3")
        assert "exit 3: the command ended with status 3" in told
        assert await desk.typed("SELECT a FROM t;") == "a\r\n1\r\n2\r\n2 rows from a\n"


# -- the rest -------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_switches(desk_of):
    """Format, expanded display and timing, with and without a word."""
    desk = await desk_of(person="")
    assert "the format is TSV" in await desk.typed("FORMAT")
    assert "the format is CSV MERGED" in await desk.typed("format csv merged")
    assert await desk.typed("\\x") == "expanded display is on\n"
    assert "-[ row 1 ]" in await desk.typed("SHOW SCHEMAS")
    assert await desk.typed("\\x off; \\timing on") == "expanded display is off\ntiming is on\n"


@pytest_twisted.ensureDeferred
async def test_every_command_has_help(desk_of):
    """HELP lists each command, and tells of each how it is used."""
    desk = await desk_of()
    overview = await desk.typed("HELP")
    for entry in all_commands():
        if entry.name not in ("SHOW", "SHRED"):
            assert f"  {entry.name} " in overview
            told = await desk.typed(f"HELP {entry.name}")
            assert all(line in told for line in entry.usage)
            assert " ".join(entry.description.split()) in " ".join(told.split())
    assert await desk.typed("? show") == await desk.typed("HELP SHOW")
    assert "SHOW LOCKS" in await desk.typed("?show")


@pytest_twisted.ensureDeferred
async def test_help_breaks_its_lines_between_words(desk_of, monkeypatch):
    """On a narrow terminal no word is torn, and a summary stays beside its command."""
    monkeypatch.setenv("COLUMNS", "40")
    desk = await desk_of(person="")
    desk.shell.output = Output(desk.screen)
    told = await desk.typed("HELP CONNECT")
    assert "Segments connected before are left.\n" in told
    shown = (told + await desk.typed("HELP")).splitlines()
    assert max(map(len, shown)) <= 40
    assert "  DISCONNECT         Leave all segments" in shown
    at = shown.index("  SHOW LOCKS         Who may write which")
    assert shown[at + 1] == "                     segment"


@pytest_twisted.ensureDeferred
async def test_quitting(desk_of):
    """QUIT, EXIT and BYE leave, with and without a semicolon."""
    desk = await desk_of()
    for text in ("QUIT", "exit;", "Bye", "\\q"):
        with pytest.raises(Quit):
            await desk.typed(text)


@pytest_twisted.ensureDeferred
async def test_the_systems_shell(desk_of):
    """A command of the system's shell runs, semicolons and all."""
    desk = await desk_of()
    path = desk.path / "made"
    await desk.typed(f"! echo a; echo b > {path}")
    assert path.read_text() == "b\n"


@pytest_twisted.ensureDeferred
async def test_segments_that_cannot_be_read_are_shown_and_named(desk_of):
    """They exist; and where there may be others, a script does not go on."""
    desk = await desk_of(person="")
    await desk.worker("w1", "127.0.0.1:1", "a", "b")
    await desk.metadata.take_lock("lost", "w9")
    assert await desk.typed("SHOW SEGMENTS MATCHING 'a|l'") == "segment\na\nlost\n2 segments\n"
    assert "1 segment cannot be read now: lost" in await desk.told("SHOW SEGMENTS")
    assert await desk.typed("CONNECT MATCHING 'a|l'") == "connected to 2 segments\n"
    await say_known(desk.metadata, False)
    assert "which segments there are is not known" in await desk.told("CONNECT MATCHING b")
    assert desk.shell.session.segments == ("a", "lost")
    assert "a\nb\nlost\n" in await desk.typed("SHOW SEGMENTS")
    with pytest.raises(errors.Unavailable, match="which segments there are is not known"):
        await desk.script("SHOW SEGMENTS")


@pytest_twisted.ensureDeferred
async def test_a_stale_answer_is_warned_of(desk_of):
    """A plain query shows the rows, and says which segments need not be up to date."""

    def answer(asked):
        for segment in asked.segments:
            if segment == "b":
                asked.say("STATE b last-promoted")
            asked.say(f'COLS {segment} ["n"]', f"ROWS {segment} [[1]]", f"DONE {segment} 1")
        asked.end()

    desk = await desk_of()
    async with LineServer(reactor, answer) as server:
        await desk.worker("w1", server, "a", "b")
        await desk.told("CONNECT a b")
        told = await desk.told("SELECT n FROM t;")
        assert "stale: 1 segment answered the last promoted state" in told and ": b\n" in told
        await desk.told("CONNECT a")
        assert "stale" not in await desk.told("SELECT n FROM t;")

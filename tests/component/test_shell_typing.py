"""The line editor: what is whole, what is offered, what is coloured, and the keys."""

from __future__ import annotations

import io

import pytest
import pytest_twisted
from prompt_toolkit.completion import CompleteEvent
from prompt_toolkit.document import Document
from prompt_toolkit.history import InMemoryHistory
from prompt_toolkit.input import create_pipe_input
from prompt_toolkit.output import DummyOutput
from shell_desk import EXPECTED_WITHIN, Desk
from twisted.internet import reactor
from twisted.internet.threads import deferToThread

from trough import model
from trough.shell.commands import all_commands
from trough.shell.input.completer import ShellCompleter
from trough.shell.input.editor import Editor, ask, is_whole, open_history
from trough.shell.input.highlighting import ShellLexer
from trough.shell.input.known_names import KnownNames
from trough.shell.session import Session
from trough.shell.settings import ShellSettings, history_path

REGISTRY = all_commands()


@pytest.mark.parametrize(
    ("text", "whole"),
    [
        ("", True),
        ("SELECT 1", False),
        ("SELECT 1;", True),
        ("SELECT 1\\G", True),
        ("SELECT 1\n", False),
        ("DELETE FROM c\n\n", False),
        ("SELECT ';", False),
        ("SELECT '\n", False),
        ("SELECT 1 -- ;", False),
        ("SELECT 1 /*;", False),
        ("SELECT 1; SELECT 2", False),
        ("CONNECT a", True),
        ("connect a; SELECT 1", False),
        ("conect a", True),
        ("help can't", True),
        ("GATHER SELECT 1", False),
        ("EXPLAIN GATHER SELECT 1", False),
        ("! ls '", True),
        ("CREATE TRIGGER a AFTER INSERT ON b BEGIN SELECT 1;", False),
        ("CREATE TRIGGER a AFTER INSERT ON b BEGIN SELECT 1; END;", True),
    ],
)
def test_enter_runs_what_is_whole(text, whole):
    """SQL goes on over lines up to its semicolon, past empty lines; commands do not."""
    assert is_whole(text, REGISTRY) == whole


# -- completion -----------------------------------------------------------------


@pytest.fixture
def offered_of(tmp_path, monkeypatch):
    """Makes a function that gives what is offered at the end of a text, with tables known."""
    monkeypatch.setenv("TROUGH_SHELL_SETTINGS", str(tmp_path / "shell.yml"))

    def knowing(tables):
        names = KnownNames(None)  # has its tables, and asks no cluster for them
        names.tables = tables
        completer = ShellCompleter(REGISTRY, Session(), names)

        def complete(text, requested=False, after=""):
            event = CompleteEvent(completion_requested=requested)
            found = completer.get_completions(Document(text + after, len(text)), event)
            return [text[: len(text) + c.start_position] + c.text for c in found]

        return complete

    return knowing


@pytest.fixture
def offered(offered_of):
    """What is offered, with two tables known."""
    return offered_of({"crawled_url": ["id", "host", "size"], "seeds": ["id", "seed\x1b"]})


def test_commands_are_offered_by_their_beginning(offered):
    """Names of several words too, whatever the case."""
    assert "SHOW CREATE TABLE" in offered("SHOW C")
    assert "CONNECT" in offered("CON")
    assert offered("zzz") == []
    assert set(offered("SELECT 1; FOR")) == {"SELECT 1; FORMAT"}


def test_arguments_are_offered_by_their_kind(offered, tmp_path):
    """Tables, formats, topics, files and words, each where it belongs."""
    assert offered("SHOW CREATE TABLE cr") == ["SHOW CREATE TABLE crawled_url"]
    assert {"FORMAT JSON", "FORMAT JSONL"} <= set(offered("FORMAT JS"))
    assert "FORMAT CSV MERGED" in offered("FORMAT CSV M")
    assert "HELP SHOW LOCKS" in offered("HELP SHOW L")
    assert offered("\\x of") == ["\\x off"]
    (tmp_path / "some file.sql").touch()
    (tmp_path / ".hidden").touch()
    assert f"INFILE {tmp_path}/some file.sql" in offered(f"INFILE {tmp_path}/so")
    assert not any("hidden" in text for text in offered(f"INFILE {tmp_path}/"))
    assert offered("INFILE /nowhere/") == []


def test_tables_and_columns_are_offered_where_they_make_sense(offered):
    """Tables after FROM, columns elsewhere, an alias's columns after its dot."""
    assert offered("SELECT * FROM cr") == ["SELECT * FROM crawled_url"]
    assert offered("SELECT * FROM seeds, cr") == ["SELECT * FROM seeds, crawled_url"]
    assert "SELECT host" in offered("SELECT ho")
    assert offered("SELECT c.") == []
    text = "SELECT * FROM crawled_url AS c JOIN seeds s WHERE "
    assert offered(text + "c.h") == [text + "c.host"]
    assert offered(text + "s.i") == [text + "s.id"]
    assert offered(text + "crawled_url.s") == [text + "crawled_url.size"]
    assert "GATHER SELECT host" in offered("GATHER SELECT ho")
    assert "SELECT COUNT" in offered("SELECT COU")
    assert "SELECT 1 LIMIT" in offered("SELECT 1 LIM")


def test_names_that_need_quotes_come_in_quotes(offered_of):
    """What is taken is SQL that works, also where the quote was typed already."""
    offered = offered_of({"order": ["group", "a b", 'say "so"', "plain"]})
    assert offered("SELECT * FROM or") == ['SELECT * FROM "order"']
    assert 'SELECT "a b"' in offered("SELECT a")
    assert 'SELECT "a b"' in offered('SELECT "a')
    assert "SELECT `a b`" in offered("SELECT `a")
    assert "SELECT [a b]" in offered("SELECT [a")
    assert 'SELECT "say ""so"""' in offered("SELECT say")
    assert "SELECT plain" in offered("SELECT pla")


def test_small_letters_are_answered_with_small_letters(offered):
    """Words that mean the same in any case come as the typing began; names as they are."""
    assert "show create table" in offered("show c")
    assert "select count" in offered("select cou")
    assert "select 1 limit" in offered("select 1 lim")
    assert "format jsonl" in offered("format js")
    assert "format csv merged" in offered("format csv m")
    assert "help show locks" in offered("help show l")
    assert "SELECT host" in offered("SELECT Ho")


def test_what_stands_behind_the_cursor_counts(offered):
    """Columns are those of the tables that the statement names, wherever it does."""
    after = " FROM seeds AS s; SELECT * FROM crawled_url"
    assert "SELECT id" in offered("SELECT ", requested=True, after=after)
    assert "SELECT host" not in offered("SELECT ", requested=True, after=after)
    assert offered("SELECT s.i", after=after) == ["SELECT s.id"]


def test_gather_begins_with_words_of_its_own(offered):
    """And its tables have the column that names the segment."""
    assert offered("GATHER ") == [
        f"GATHER {word}" for word in ("PARTIAL", "WITHIN SEGMENTS", "SELECT", "WITH")
    ]
    assert offered("gather partial wi") == [
        "gather partial within segments",
        "gather partial with",
    ]
    assert "GATHER PARTIAL PARTIAL" not in offered("GATHER PARTIAL ")
    assert offered("GATHER WITHIN ") == ["GATHER WITHIN SEGMENTS"]
    assert "EXPLAIN GATHER WITHIN SEGMENTS" in offered("EXPLAIN GATHER W")
    assert "GATHER SELECT _segment" in offered("GATHER SELECT _s")
    assert "SELECT _segment" not in offered("SELECT _s")


def test_everything_is_offered_only_when_it_is_asked_for(offered):
    """Tab lists what could come; typing a blank does not cover the screen with it."""
    assert offered("SELECT ") == []
    assert "SELECT host" in offered("SELECT ", requested=True)
    assert offered("SELECT * FROM ") == ["SELECT * FROM crawled_url", "SELECT * FROM seeds"]


def test_nothing_is_offered_inside_strings_and_comments(offered):
    """Nor are names that would do something to the terminal."""
    assert offered("SELECT 'ho") == []
    assert offered("SELECT 1 -- ho") == []
    assert offered('SELECT "ho') == ['SELECT "host"']  # a name, which may be in quotes
    assert not any("\x1b" in text for text in offered("SELECT see"))


@pytest_twisted.ensureDeferred
async def test_segments_and_schemas_are_found_out(tmp_path, monkeypatch):
    """Segments by their beginning, schemas, from the registry; a failure offers nothing."""
    monkeypatch.setattr("trough.shell.input.known_names.PATIENCE", EXPECTED_WITHIN)
    desk = Desk(tmp_path)
    await desk.cluster.open()
    await desk.worker("w1", "127.0.0.1:1", *(str(300000 + n) for n in range(300)), "x.y", "xzy")
    await desk.metadata.put_schema(model.Schema("crawl", ""))
    names = KnownNames(desk.remote)

    def look():
        assert len(names.segments("3")) == 200
        assert names.segments("30029") == [str(300290 + n) for n in range(10)]
        assert names.segments("x.") == ["x.y"]
        assert names.segments("x.y") == ["x.y"]
        assert names.schemas() == ["crawl", "default"]

    await deferToThread(look).addTimeout(EXPECTED_WITHIN, reactor)
    await desk.cluster.close()
    assert await deferToThread(names.segments, "new") == []


@pytest_twisted.ensureDeferred
async def test_a_slow_store_holds_up_no_typing(tmp_path, monkeypatch):
    """What is not known soon is not offered now, but when it is known."""
    monkeypatch.setattr("trough.shell.input.known_names.PATIENCE", 0.001)
    desk = Desk(tmp_path)
    await desk.cluster.open()
    await desk.worker("w1", "127.0.0.1:1", "a1", "a2")
    names = KnownNames(desk.remote)
    # The reactor, without which nothing can answer, stands still in here.
    assert names.segments("a") == []
    assert names.schemas() == []
    monkeypatch.setattr("trough.shell.input.known_names.PATIENCE", EXPECTED_WITHIN)
    assert await deferToThread(names.segments, "a1") == ["a1"]
    await desk.cluster.close()


# -- colours --------------------------------------------------------------------


def coloured(text):
    lexer = ShellLexer(REGISTRY)
    document = Document(text)
    lines = [lexer.lex_document(document)(n) for n in range(document.line_count)]
    assert ["".join(piece[1] for piece in line) for line in lines] == text.split("\n")
    return [
        (style.removeprefix("class:"), piece) for line in lines for style, piece in line if style
    ]


def test_colours():
    """Commands, keywords, functions, strings, numbers and comments are told apart."""
    assert coloured("show tables\nSELECT count(x), 'a', 1, ?1 -- b\n\\G GATHER SELECT") == [
        ("command", "show tables"),
        ("keyword", "SELECT"),
        ("function", "count"),
        ("string", "'a'"),
        ("number", "1"),
        ("parameter", "?1"),
        ("comment", "-- b"),
        ("command", "\\G"),
        ("command", "GATHER"),
        ("keyword", "SELECT"),
    ]


@pytest.mark.parametrize(
    "text",
    [
        "connect a\nselect 'a\nb' from c\n",
        "\n\n  show tables\n\n",
        "select 1;;; connect x",
        "gather select 1\n;\nhelp",
        "",
        "   ",
        "!",
        "'",
    ],
)
def test_colouring_changes_no_text(text):
    """Whatever is typed is what is shown."""
    coloured(text)


# -- keys -----------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_keys(tmp_path):
    """Lines are read as typed; Ctrl-C and Ctrl-D do what they do; F4 changes the keys."""
    desk = Desk(tmp_path)
    history = InMemoryHistory()

    def type_in():
        with create_pipe_input() as keys:
            editor = Editor(
                desk.shell, KnownNames(desk.remote), history, input=keys, output=DummyOutput()
            )

            def typed(text):
                keys.send_text(text)
                return editor.read()

            assert typed("SELECT\r1;\r") == "SELECT\n1;"
            assert typed("SELECT 2\r\r;\r") == "SELECT 2\n\n;"  # an empty line runs nothing
            assert typed("help\r") == "help"
            assert typed("\x10\r") == "help"  # Ctrl-P: from the history
            pasted = "\n".join(f"INSERT INTO t VALUES ({n});" for n in range(1000))
            assert typed(f"\x1b[200~{pasted}\x1b[201~\r") == pasted
            with pytest.raises(KeyboardInterrupt):
                typed("SELECT 'abc\x03")
            with pytest.raises(EOFError):
                typed("\x04")
            assert typed("\x1bOSselec\x1b0it\x1b$r 3;\r").strip()  # F4, then vi's keys

    await deferToThread(type_in).addTimeout(EXPECTED_WITHIN, reactor)
    assert history.get_strings()[0] == "SELECT\n1;"


def test_the_end_of_the_input_answers_no_question(monkeypatch, capsys):
    """It leaves the cursor on a line of its own."""
    monkeypatch.setattr("sys.stdin", io.StringIO())
    assert ask("Type 1 to go on: ") == ""
    assert capsys.readouterr().out == "Type 1 to go on: \n"


def test_history_is_kept_for_its_owner_alone(tmp_path):
    """The file is made, readable by nobody else; where it cannot be, memory serves."""
    path = tmp_path / "state" / "history"
    open_history(path).append_string("SELECT 1")
    assert path.stat().st_mode & 0o077 == 0
    assert list(open_history(path).load_history_strings()) == ["SELECT 1"]
    assert isinstance(open_history(tmp_path / "state" / "history" / "x"), InMemoryHistory)
    assert history_path(ShellSettings(history="off"), {}) is None
    state = history_path(ShellSettings(), {"XDG_STATE_HOME": "/s"})
    assert str(state) == "/s/trough_shell_history"

"""Text cut into tokens and statements."""

from __future__ import annotations

import sqlite3

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trough.shell.input.statements import ParseMode, Splitter, Statement, lines_of, split
from trough.sql.kind import reads, writes
from trough.sql.tokens import TokenKind, scan, significant

COMMANDS = {
    "connect": ParseMode.WORDS,
    "infile": ParseMode.WORDS,
    "show": ParseMode.WORDS,
    "help": ParseMode.WORDS,
    "!": ParseMode.LINE,
}


def rest_of(line: str, position: int) -> ParseMode:
    """A registry of five commands."""
    return COMMANDS.get(line[position:].lower().split(maxsplit=1)[0].strip(";"), ParseMode.SQL)


def texts(text: str) -> list[str]:
    return [statement.text for statement in split(text, rest_of)]


# Pieces in which everything that a scanner can trip over meets everything else.
awkward = st.lists(
    st.sampled_from(
        ["'", '"', "`", "[", "]", "--", "/*", "*/", ";", "\n", " ", "a", "x'", "1.5e3", "''", "\\g",
         "\\G", "é", "\\", "?1", ":name", "END", "CREATE TRIGGER", "BEGIN", "0x1F", "show", "! "]
    ),
    max_size=25,
).map("".join)  # fmt: skip


def test_a_pipe_after_the_end_belongs_to_the_statement():
    """The rest of the line is a command of the system's shell; || in SQL is none."""
    first, second = split("SELECT 'a' || 'b'; | sort | head\nSHOW TABLES; |cat\n", rest_of)
    assert (first.text, first.pipe) == ("SELECT 'a' || 'b'", "sort | head")
    assert (second.text, second.pipe) == ("SHOW TABLES", "cat")
    assert [s.pipe for s in split("SELECT 1; SELECT 2\n| 3;", rest_of)] == ["", ""]


@given(awkward)
def test_tokens_are_the_text(text):
    """All tokens together are the text, and each begins where it says."""
    tokens = list(scan(text))
    assert "".join(token.text for token in tokens) == text
    assert all(text.startswith(token.text, token.start) for token in tokens)


@given(awkward)
def test_scanning_line_by_line_closes_what_scanning_at_once_closes(text):
    """What is open at the end does not depend on how the text was cut into lines."""
    closer = ""
    for line in lines_of(text):
        for token in scan(line, closer):
            closer = token.closer
    tokens = list(scan(text))
    assert closer == (tokens[-1].closer if tokens else "")


def test_kinds_of_tokens():
    """Each kind is told from the others."""
    tokens = significant("SELECT x'00', \"a\"\"b\", [c d], `e`, 'it''s', 1.5e-3, ?2, :n -- no\n;")
    kinds = [(token.kind, token.text) for token in tokens if token.text != ","]
    assert kinds == [
        (TokenKind.WORD, "SELECT"),
        (TokenKind.STRING, "x'00'"),
        (TokenKind.QUOTED, '"a""b"'),
        (TokenKind.QUOTED, "[c d]"),
        (TokenKind.QUOTED, "`e`"),
        (TokenKind.STRING, "'it''s'"),
        (TokenKind.NUMBER, "1.5e-3"),
        (TokenKind.PARAMETER, "?2"),
        (TokenKind.PARAMETER, ":n"),
        (TokenKind.SEMICOLON, ";"),
    ]


def test_semicolons_that_end_nothing():
    """A semicolon in a string, a name or a comment ends no statement."""
    text = "SELECT ';', \";\", [;], `;` -- ;\n, 1 /* ; \n ; */;SELECT 2;"
    assert texts(text) == [text[: text.rindex(";SELECT")], "SELECT 2"]


def test_a_trigger_is_one_statement():
    """Statements inside a trigger belong to it; CASE ... END does not end it."""
    trigger = (
        "CREATE TEMP TRIGGER t AFTER INSERT ON a BEGIN\n"
        "  UPDATE a SET b = CASE WHEN 1 THEN 2 END;\n"
        "  DELETE FROM c;\n"
        "END"
    )
    assert texts(f"{trigger};\nSELECT 1;") == [trigger, "SELECT 1"]
    assert texts("CREATE TABLE trigger_log(a); SELECT 1") == [
        "CREATE TABLE trigger_log(a)",
        "SELECT 1",
    ]


@given(awkward.filter(lambda text: "\\" not in text and "!" not in text and "show" not in text))
def test_sql_ends_where_sqlite_says_so(text):
    """For a text of SQL alone, whole statements are what sqlite3_complete() calls whole."""
    if "'" in text or '"' in text or "`" in text or "[" in text or "*" in text:
        text = text.replace("x'", "'")
    whole = sqlite3.complete_statement(text)
    splitter = Splitter(lambda line, position: ParseMode.SQL)
    for line in lines_of(text):
        list(splitter.feed(line))
    if whole:
        assert not splitter.pending


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("CONNECT a b\nSELECT 1;", ["CONNECT a b", "SELECT 1"]),
        ("connect a;SELECT 1", ["connect a", "SELECT 1"]),
        ("infile 'a;b.sql'; select 1", ["infile 'a;b.sql'", "select 1"]),
        ("connect a--b --yes; SELECT 1", ["connect a--b --yes", "SELECT 1"]),
        ("connect a /* b; SELECT 1", ["connect a /* b", "SELECT 1"]),
        ("help can't;\nSELECT 1;", ["help can't", "SELECT 1"]),
        ("! ls; echo 'x'\nshow tables", ["! ls; echo 'x'", "show tables"]),
        ("-- nothing\n;;\n /* more\n */ ; SELECT 1", ["SELECT 1"]),
        ("/* a\n b */ connect x\nSELECT\n1\n;", ["connect x", "SELECT\n1"]),
        ("SELECT 1", ["SELECT 1"]),
        ("SELECT 1\r\n;\r\nconnect a\r\n", ["SELECT 1", "connect a"]),
        ("", []),
        ("-- only a comment", []),
    ],
)
def test_commands_and_sql_side_by_side(text, expected):
    """A command ends with its line or its semicolon, SQL with its semicolon."""
    assert texts(text) == expected


def test_where_and_how_a_statement_ended():
    """Each statement knows its line and what ended it."""
    text = "SELECT 1\\G\n\n  SELECT\n2\\g show x\\G\nSELECT ';"
    assert split(text, rest_of) == [
        Statement("SELECT 1", 1, "\\G"),
        Statement("SELECT\n2", 3, "\\g"),
        Statement("show x", 4, "\\G"),
        Statement("SELECT ';", 5, ""),
    ]
    assert split(text, rest_of)[0].vertical


def test_what_is_open_is_told():
    """While a string is open the splitter says what would close it."""
    splitter = Splitter(rest_of)
    assert list(splitter.feed("SELECT 'a\n")) == []
    assert (splitter.pending, splitter.open_token) == (True, "'")
    assert [s.text for s in splitter.feed("b';\n")] == ["SELECT 'a\nb'"]
    assert (splitter.pending, splitter.open_token) == (False, "")


def test_many_statements_on_one_line_are_read_once():
    """A hundred thousand statements on one line are split without looking twice."""
    count = 100_000
    assert len(split("SELECT 1;" * count, lambda line, position: ParseMode.SQL)) == count


def test_a_command_with_many_words_is_read_once():
    """A hundred thousand segments in one CONNECT are no trouble."""
    text = "connect " + " ".join(map(str, range(100_000)))
    assert texts(f"{text};\n") == [text]


@pytest.mark.parametrize(
    ("sql", "reads_only"),
    [
        ("SELECT 1", True),
        ("-- a\n/* b */ select 1", True),
        ("VALUES (1)", True),
        ("EXPLAIN DELETE FROM a", True),
        ("WITH a AS (SELECT 1) SELECT * FROM a", True),
        ("WITH a(b) AS (DELETE FROM c), d AS MATERIALIZED (SELECT 1) SELECT 1", True),
        ("WITH a AS (SELECT 1) INSERT INTO b SELECT * FROM a", False),
        ("with recursive a as (values (1)) delete from b", False),
        ("PRAGMA table_info(a)", True),
        ("PRAGMA user_version = 5", False),
        ("REPLACE INTO a VALUES (1)", False),
        ("", False),
    ],
)
def test_reads_and_writes(sql, reads_only):
    """The shell knows which of the two to ask a worker for."""
    assert reads(sql) == reads_only
    assert writes(sql) == (not reads_only and bool(sql))

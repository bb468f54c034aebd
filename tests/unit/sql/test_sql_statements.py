"""Where statements begin and end, in any text and in linear time."""

import sqlite3

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from trough import errors
from trough.sql import statements

TRIGGER = (
    "CREATE TRIGGER t AFTER INSERT ON a BEGIN "
    "SELECT CASE WHEN 1 THEN 2 END; INSERT INTO b VALUES('END;'); END"
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        ("-- nothing", []),
        ("/* nothing; */ ; ;", []),
        ("select 1", ["select 1"]),
        ("select 1;", ["select 1"]),
        ("select ';';select 2;", ["select ';'", "select 2"]),
        ('select ";", [;], `;`; x', ['select ";", [;], `;`', " x"]),
        ("select 'it''s;'; x", ["select 'it''s;'", " x"]),
        ("select 1 -- a; b\n; x", ["select 1 -- a; b\n", " x"]),
        ("select /* ; */ 1; x", ["select /* ; */ 1", " x"]),
        ("select 1-1; select 2/2", ["select 1-1", " select 2/2"]),
        ("select 'never closed; x", ["select 'never closed; x"]),
        ("select 1 /* never closed; x", ["select 1 /* never closed; x"]),
        (f"{TRIGGER}; x", [TRIGGER, " x"]),
        (f"  {TRIGGER.lower()} ;", [f"  {TRIGGER.lower()} "]),
        (f"explain query plan {TRIGGER}; x", [f"explain query plan {TRIGGER}", " x"]),
        (
            "create /* a */ temp -- b\n trigger x begin select 1; end; y",
            ["create /* a */ temp -- b\n trigger x begin select 1; end", " y"],
        ),
        ("create table trigger_x(a); y", ["create table trigger_x(a)", " y"]),
        ("create trigger x begin select 1;", ["create trigger x begin select 1;"]),
    ],
)
def test_statements_are_split_where_sqlite_would_split_them(text, expected):
    """Semicolons in strings, names, comments and triggers end no statement."""
    assert list(statements.split(text)) == expected


PIECES = st.sampled_from(
    [
        *("'", '"', "`", "[", "]", ";", "--", "\n", "/*", "*/", "-", "/", " ", "a", "1"),
        *("create ", "temp ", "trigger ", "begin ", "end", "select ", "explain ", "case "),
    ]
)


@given(st.lists(PIECES, max_size=30).map("".join))
@example("create trigger a begin select 1;end")
def test_splitting_loses_nothing_and_agrees_with_sqlite(text):
    """What is split off is a whole statement in SQLite's own view, but for the last."""
    found = list(statements.split(text))
    left = text
    for statement in found:
        assert statement in left
        left = left[left.index(statement) + len(statement) :]
    for statement in found[:-1]:
        assert sqlite3.complete_statement(statement + ";")


@pytest.mark.parametrize(
    "text",
    [
        "insert into t values('a''b;');" * 40_000,
        "'" * 1_000_000,
        "/*" * 500_000,
        "create trigger a begin " + "select 1;" * 100_000,
        "create /* " * 100_000,
        "create trigger t begin ; end " * 40_000,
        ";" * 300_000,
        "--\n" * 300_000,
        "[" * 1_000_000,
    ],
    ids=range(9),
)
def test_a_megabyte_of_anything_is_split(text):
    """No text makes splitting slower than its length: this test would not end."""
    assert sum(map(len, statements.split(text))) <= len(text)


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("select 1", "SELECT"),
        ("  -- x\n/* y */ ;; WITH a as (select 1) select * from a", "WITH"),
        ("\ufeffvalues(1)", "VALUES"),
        ("(select 1)", ""),
        ("1", ""),
    ],
)
def test_the_first_word_is_found_behind_comments(text, word):
    """Blanks, comments, a byte order mark and empty statements come before the word."""
    assert statements.first_word(text) == word


@pytest.mark.parametrize("text", ["", "  ", ";", "-- x", "/* x", "/* x */ ; -- y\n"])
def test_a_text_without_a_statement_is_refused_in_so_many_words(text):
    """Nothing, blanks and comments alone are no statement."""
    with pytest.raises(errors.BadSql, match="no statement"):
        statements.first_word(text)
    with pytest.raises(errors.BadSql, match="no statement"):
        statements.only_statement(text)


def test_the_only_statement_comes_without_its_semicolon():
    """What follows it may be blank."""
    assert statements.only_statement("select 1 ; ; -- end") == "select 1 "
    with pytest.raises(errors.BadSql, match="more than one"):
        statements.only_statement("select 1; select 2")


def test_text_that_is_not_utf8_or_holds_a_nul_is_refused():
    """The error says where."""
    assert statements.as_text("ü".encode()) == "ü"
    with pytest.raises(errors.BadSql, match="0xff at position 7"):
        statements.as_text(b"select \xff")
    with pytest.raises(errors.BadSql, match="NUL, at position 3"):
        statements.as_text("sel\0ect")


@given(st.text(alphabet=st.characters(exclude_characters="\0", exclude_categories=["Cs"])))
def test_a_quoted_text_is_that_text(text):
    """Quoting is undone by SQLite."""
    with sqlite3.connect(":memory:") as connection:
        assert connection.execute(f"SELECT {statements.quoted(text)}").fetchone() == (text,)


@pytest.mark.parametrize(
    ("sql", "kept"),
    [
        ("CREATE TABLE a (b)", "CREATE TABLE a (b)"),
        ("begin; create table x(a); commit;", " create table x(a)"),
        ("BEGIN IMMEDIATE TRANSACTION; SELECT 1; END TRANSACTION", " SELECT 1"),
        ("PRAGMA foreign_keys=OFF;\nBEGIN TRANSACTION;SELECT 1;COMMIT;\n", "SELECT 1"),
        ("pragma journal_mode=wal; create table x(a);", " create table x(a)"),
        ("pragma main.page_size(8192); pragma user_version=7", " pragma user_version=7"),
        ("-- one\nBEGIN; SELECT 1; END; BEGIN; SELECT 2; COMMIT", " SELECT 1;\n SELECT 2"),
    ],
)
def test_what_surrounds_a_schema_in_a_dump_is_left_out(sql, kept):
    """Transactions that are complete, and pragmas that tune a connection."""
    assert statements.schema_text(sql) == kept


@pytest.mark.parametrize(
    "sql",
    [
        "BEGIN; SELECT 1",
        "SELECT 1; COMMIT",
        "SELECT 1; ROLLBACK",
        "SAVEPOINT s; RELEASE s",
        "PRAGMA writable_schema=1",
        "PRAGMA temp_store_directory='/'",
        "PRAGMA other.page_size=1",
        "SELECT 'BEGIN; COMMIT'",
        "CREATE TRIGGER t AFTER INSERT ON a BEGIN SELECT 1; END",
    ],
)
def test_whatever_else_a_schema_has_stays(sql):
    """For SQLite, or the sandbox, to refuse."""
    assert statements.schema_text(sql) == sql

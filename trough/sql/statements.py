"""SQL text, as far as Trough parses it before SQLite does.

This module finds the first word of a statement, and where statements end. The time grows with
the length of the text alone, for any content: megabytes of literals, triggers with bodies of
their own, comments, text that is no SQL at all. It does not check whether the SQL is correct;
SQLite does that.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from trough import errors

# What SQLite skips between tokens. Not \s: a no-break space is part of a name to SQLite.
# All groups are possessive, so that nothing is ever matched a second time.
_SPACE = r"(?:[ \t\n\f\r\ufeff]++|--[^\n]*+|/\*(?:[^*]++|\*(?!/))*+(?:\*/|\Z))*+"

_LEADING = re.compile(rf"(?:{_SPACE};)*+{_SPACE}")
_WORD = re.compile(r"[A-Za-z_]++")
_BLANK = re.compile(_SPACE)

# Everything up to the next semicolon that is not inside a string, a quoted name or a
# comment. A quote that is never closed takes in the rest, and SQLite reports it.
_BODY = re.compile(
    r"""(?:[^;'"`\[/-]++"""
    r"""|'[^']*+(?:'|\Z)|"[^"]*+(?:"|\Z)|`[^`]*+(?:`|\Z)|\[[^\]]*+(?:\]|\Z)"""
    r"""|--[^\n]*+|/\*(?:[^*]++|\*(?!/))*+(?:\*/|\Z)|[/-])*+"""
)

_TRIGGER = re.compile(
    rf"{_SPACE}(?:EXPLAIN\b{_SPACE}(?:QUERY\b{_SPACE}PLAN\b{_SPACE})?)?"
    rf"CREATE\b{_SPACE}(?:TEMP(?:ORARY)?\b{_SPACE})?TRIGGER\b",
    re.IGNORECASE,
)

# A trigger is over at an END that follows a semicolon; the END of a CASE never does.
_END_OF_TRIGGER = re.compile(rf"{_SPACE}END\b{_SPACE}(?=;|\Z)", re.IGNORECASE)


def as_text(sql: str | bytes) -> str:
    """SQL text as `str`.

    :raises trough.errors.BadSql: it is not UTF-8, or holds a NUL
    """
    if isinstance(sql, bytes):
        try:
            sql = sql.decode()
        except UnicodeDecodeError as error:
            raise errors.BadSql(
                f"the SQL text is not UTF-8: byte 0x{error.object[error.start]:02x} "
                f"at position {error.start}"
            ) from error
    if "\0" in sql:
        raise errors.BadSql(f"the SQL text holds a NUL, at position {sql.index(chr(0))}")
    return sql


def first_word(sql: str) -> str:
    """The word that the first statement begins with, in upper case.

    :return: an empty text where the statement begins with anything else than a word
    :raises trough.errors.BadSql: there is no statement: nothing, or comments alone
    """
    start = _LEADING.match(sql).end()  # type: ignore[union-attr]  # matches anything
    if start == len(sql):
        raise errors.BadSql("there is no statement in the SQL text")
    word = _WORD.match(sql, start)
    return word[0].upper() if word else ""


def split(sql: str) -> Iterator[str]:
    """The statements of `sql` in order, without their semicolons.

    What is blank but for comments is left out.
    """
    position, length = 0, len(sql)
    while position < length:
        end = _end_of_statement(sql, position)
        if _BLANK.match(sql, position, end).end() < end:  # type: ignore[union-attr]
            yield sql[position:end]
        position = end + 1


#: Pragmas that tune a connection, or a file that Trough makes in its own way. In a schema they
#: have no effect: the meaning of a segment does not depend on them.
IDLE_PRAGMAS = frozenset(
    re.findall(
        r"\w+",
        """
        auto_vacuum automatic_index busy_timeout cache_size cache_spill checkpoint_fullfsync
        default_cache_size defer_foreign_keys encoding foreign_keys fullfsync journal_mode
        journal_size_limit legacy_alter_table legacy_file_format locking_mode mmap_size
        page_size read_uncommitted secure_delete synchronous temp_store threads
        wal_autocheckpoint wal_checkpoint
        """,
    )
)

_BEGIN = re.compile(
    rf"{_SPACE}BEGIN\b{_SPACE}(?:(?:DEFERRED|IMMEDIATE|EXCLUSIVE)\b{_SPACE})?"
    rf"(?:TRANSACTION\b{_SPACE})?\Z",
    re.IGNORECASE,
)
_COMMIT = re.compile(
    rf"{_SPACE}(?:COMMIT|END)\b{_SPACE}(?:TRANSACTION\b{_SPACE})?\Z", re.IGNORECASE
)
_PRAGMA = re.compile(rf"{_SPACE}PRAGMA\b{_SPACE}(?:main{_SPACE}\.{_SPACE})?(\w+)", re.IGNORECASE)


def schema_text(sql: str) -> str:
    """A schema's SQL without what surrounds its statements in a dump.

    ``sqlite3 .dump`` and schemas of the original have ``BEGIN`` and ``COMMIT``, and pragmas
    that tune a connection. A schema runs in one transaction anyway. Incomplete SQL stays:
    it is refused when it runs.
    """
    found = list(split(sql))
    kept: list[str] = []
    begun: list[int] = []
    for statement in found:
        pragma = _PRAGMA.match(statement)
        if pragma and pragma[1].lower() in IDLE_PRAGMAS:
            continue
        if _COMMIT.match(statement) and begun:
            del kept[begun.pop()]
            continue
        if _BEGIN.match(statement) and not begun:
            begun.append(len(kept))
        kept.append(statement)
    return sql if len(kept) == len(found) else ";\n".join(kept)


def only_statement(sql: str) -> str:
    """The one statement of `sql`, without its semicolon.

    :raises trough.errors.BadSql: there is none, or a second one
    """
    found = split(sql)
    statement = next(found, None)
    if statement is None:
        raise errors.BadSql("there is no statement in the SQL text")
    if next(found, None) is not None:
        raise more_than_one()
    return statement


def more_than_one() -> errors.BadSql:
    """The refusal of a second statement where one is taken."""
    return errors.BadSql(
        "there is more than one statement in the SQL text", "send one statement a request"
    )


def quoted(text: str) -> str:
    """`text` as a literal in SQL."""
    return "'" + text.replace("'", "''") + "'"


def _end_of_statement(sql: str, start: int) -> int:
    end = _body_end(sql, start)
    if not _TRIGGER.match(sql, start, end):
        return end
    while end < len(sql):
        last = _END_OF_TRIGGER.match(sql, end + 1)
        if last:
            return last.end()
        end = _body_end(sql, end + 1)
    return end


def _body_end(sql: str, start: int) -> int:
    return _BODY.match(sql, start).end()  # type: ignore[union-attr]  # matches anything

"""Splits typed, piped or file text into statements.

SQL continues over lines up to a semicolon (or ``\\g``, ``\\G``). A command ends with its line or
its semicolon. The splitter takes whole lines, and returns every statement as soon as it is
complete, with the line where it began. It scans each character once. It does not depend on which
commands there are: the caller provides how the text after a first word is read.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from trough.sql.tokens import Token, TokenKind, scan, significant


class ParseMode(enum.Enum):
    """How the text after a command's name is read."""

    WORDS = "words"  # up to a semicolon outside quotes, or the end of the line
    LINE = "line"  # up to the end of the line, with all that is in it
    SQL = "sql"  # as SQL: over lines, up to a semicolon


#: Returns how to read the text that begins in this line at this position.
RestOf = Callable[[str, int], ParseMode]


@dataclass(frozen=True, slots=True)
class Statement:
    """One statement or command, without its end mark.

    :ivar line: number of the line on which it begins, from 1
    :ivar ended: by ``;``, ``\\g``, ``\\G``, ``"\\n"`` or, where the text ended first, ``""``
    :ivar pipe: the command of the system's shell that reads the result, from ``| command``
        on the last line; mostly ``""``
    """

    text: str
    line: int = 1
    ended: str = ";"
    pipe: str = ""

    @property
    def vertical(self) -> bool:
        """Whether ``\\G`` asked for one line a column."""
        return self.ended == "\\G"


_PIPE = re.compile(r"[ \t]*\|[ \t]*(\S.*?)\s*$")


class Splitter:
    """Lines in, statements out."""

    def __init__(self, rest_of: RestOf) -> None:
        self._rest_of = rest_of
        self._parts: list[str] = []  # of the statement that has begun
        self._rest = ParseMode.SQL
        self._closer = ""
        self._trigger = _TriggerWatch()
        self._line = 0
        self._begun_on = 0

    @property
    def pending(self) -> bool:
        """Whether a statement has begun and not ended."""
        return bool(self._parts)

    @property
    def open_token(self) -> str:
        """The text that closes the open string, name or comment; mostly ``""``."""
        return self._closer

    def feed(self, line: str) -> Iterator[Statement]:
        """The statements that end on `line`.

        :param line: one whole line, its newline included; ``""`` is none
        """
        self._line += bool(line)
        position = 0
        while position < len(line):
            if not self._parts:
                position = self._begin(line, position)
            if position < len(line):
                position, ended = self._go_on(line, position)
                if ended:
                    pipe = _PIPE.match(line, position) if ended != "\n" else None
                    position = len(line) if pipe else position
                    yield self._take(ended, pipe[1] if pipe else "")

    def finish(self) -> Statement | None:
        """The statement that the end of the text cut off, if there is one."""
        if not self._parts:
            return None
        statement = self._take("")
        return statement if significant(statement.text) else None

    def _begin(self, line: str, position: int) -> int:
        """Skip to the beginning of a statement, and determine how to read it."""
        for token in scan(line, self._closer, position):
            if token.kind in (TokenKind.BLANK, TokenKind.COMMENT, TokenKind.SEMICOLON):
                self._closer = token.closer
                continue
            self._begun_on = self._line
            self._rest = self._rest_of(line, token.start)
            self._trigger = _TriggerWatch()
            return token.start
        return len(line)

    def _go_on(self, line: str, position: int) -> tuple[int, str]:
        """Continue the statement. Return where it or the line ends, and what ended it."""
        if self._rest is ParseMode.LINE:
            self._parts.append(line[position:])
            return len(line), "\n"
        if self._rest is ParseMode.WORDS:
            length, ended = _end_of_words(line[position:])
            end = position + length
        else:
            end, ended = self._end_of_sql(line, position)
        self._parts.append(line[position:end])
        return end + len(ended), ended

    def _end_of_sql(self, line: str, position: int) -> tuple[int, str]:
        for token in scan(line, self._closer, position):
            self._closer = token.closer
            if token.kind is TokenKind.GO or self._trigger.ends_statement(token):
                return token.start, token.text
        return len(line), ""

    def _take(self, ended: str, pipe: str = "") -> Statement:
        text = "".join(self._parts).strip()
        self._parts.clear()
        self._closer = ""
        return Statement(text, self._begun_on, ended, pipe)


def _end_of_words(text: str) -> tuple[int, str]:
    """The end of a command that owns all of `text`, and what ends it."""
    bare = text.rstrip()
    for ending in (";", "\\G", "\\g"):
        if bare.endswith(ending):
            bare = bare[: -len(ending)]
            break
    else:
        ending = "\n"
    position = 0
    while position < len(bare):
        token = next(scan(bare, "", position))
        if token.kind is TokenKind.SEMICOLON:
            return position, ";"
        # Text that is no comment to a command ("--yes", "a--b") may hold a semicolon, and so may
        # the text after an apostrophe.
        comment = token.kind is TokenKind.COMMENT
        position += 2 if comment else 1 if token.closer else len(token.text)
    return (len(text), ending) if ending == "\n" else (len(bare), ending)


class _TriggerWatch:
    """Prevents that ``;`` ends a statement between a trigger's BEGIN and its END."""

    _HEAD = ("CREATE", "TRIGGER")
    _BETWEEN = frozenset({"TEMP", "TEMPORARY", "EXPLAIN", "QUERY", "PLAN"})

    def __init__(self) -> None:
        self._seen = 0  # how many words of the head; -1: this is no trigger
        self._last = ""  # what came last: ";", "END" right after one, or anything else

    def ends_statement(self, token: Token) -> bool:
        """Take the next token. Return whether it is the end of the statement."""
        if token.kind in (TokenKind.BLANK, TokenKind.COMMENT):
            return False
        if token.kind is TokenKind.SEMICOLON:
            ends = self._seen != len(self._HEAD) or self._last == "END"
            self._last = ";"
            return ends
        word = token.text.upper() if token.kind is TokenKind.WORD else ""
        if self._seen == len(self._HEAD):
            self._last = "END" if word == "END" and self._last == ";" else ""
        elif self._seen >= 0 and word == self._HEAD[self._seen]:
            self._seen += 1
        elif word not in self._BETWEEN:
            self._seen = -1
        return False


def lines_of(text: str) -> list[str]:
    """`text`, split after each newline, and nowhere else."""
    return re.findall(r"[^\n]*\n|[^\n]+", text)


def split(text: str, rest_of: RestOf) -> list[Statement]:
    """All statements of `text`, including the unfinished one at its end."""
    splitter = Splitter(rest_of)
    statements = [s for line in lines_of(text) for s in splitter.feed(line)]
    last = splitter.finish()
    return statements if last is None else [*statements, last]

"""SQLite's SQL as tokens, well enough to split, to colour and to complete.

A scanner of what a person is typing. It never fails. The last token says what is still open
at the end of the text: a string, a quoted name, or a comment. So a long text can be scanned
line by line. It knows no grammar. Servers split with
:mod:`trough.sql.statements`, which makes no object for each token; sqlglot, which plans GATHERs,
takes no unfinished text.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Iterator
from typing import NamedTuple


class TokenKind(enum.Enum):
    """What a token is."""

    BLANK = "blank"
    COMMENT = "comment"
    STRING = "string"  # 'text' or x'blob'
    QUOTED = "quoted"  # "name", `name` or [name]
    NUMBER = "number"
    PARAMETER = "parameter"
    WORD = "word"
    SEMICOLON = "semicolon"
    GO = "go"  # \g and \G, which end a statement as a semicolon does
    OTHER = "other"


class Token(NamedTuple):
    """A piece of the text; all pieces together are the text.

    :ivar closer: what would have ended the token, where the text ended first
    """

    kind: TokenKind
    text: str
    start: int
    closer: str = ""

    @property
    def end(self) -> int:
        """Where the next token begins."""
        return self.start + len(self.text)


# Alternatives differ in their first character or two, so that nothing is tried twice.
_TOKEN = re.compile(
    r"""
      (?P<BLANK>\s+)
    | (?P<COMMENT>--[^\n]*|/\*)
    | (?P<STRING>[xX]?')
    | (?P<QUOTED>["`\[])
    | (?P<NUMBER>0[xX][0-9a-fA-F]+|(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?)
    | (?P<PARAMETER>\?[0-9]*|[:@$]\w+)
    | (?P<WORD>[^\W\d][\w$]*)
    | (?P<SEMICOLON>;)
    | (?P<GO>\\[gG](?![\w]))
    | (?P<OTHER>.)
    """,
    re.VERBOSE | re.DOTALL,
)
_CLOSERS = {"/*": "*/", "'": "'", "x'": "'", "X'": "'", '"': '"', "`": "`", "[": "]"}
_KIND_OF_CLOSER = {
    "*/": TokenKind.COMMENT,
    "'": TokenKind.STRING,
    '"': TokenKind.QUOTED,
    "`": TokenKind.QUOTED,
    "]": TokenKind.QUOTED,
}
_KINDS = {kind.name: kind for kind in TokenKind}


def scan(text: str, closer: str = "", position: int = 0) -> Iterator[Token]:
    """The tokens of `text`, first to last.

    :param closer: of the token that the text before left open, or ``""``
    :param position: where to begin
    """
    if closer:
        begun = position
        position, open_closer = _end_of(text, position, closer)
        yield Token(_KIND_OF_CLOSER[closer], text[begun:position], begun, open_closer)
    length = len(text)
    while position < length:
        match = _TOKEN.match(text, position)
        assert match is not None and match.lastgroup is not None  # OTHER takes anything
        closer = _CLOSERS.get(match[0], "")
        end, open_closer = _end_of(text, match.end(), closer) if closer else (match.end(), "")
        yield Token(_KINDS[match.lastgroup], text[position:end], position, open_closer)
        position = end


def _end_of(text: str, position: int, closer: str) -> tuple[int, str]:
    """Where a token ends that is open at `position`, and the closer if it stays open."""
    while True:
        found = text.find(closer, position)
        if found < 0:
            return len(text), closer
        end = found + len(closer)
        # Two quotes in a row are one quote inside, in everything but [names] and comments.
        if len(closer) == 1 and closer != "]" and text.startswith(closer, end):
            position = end + 1
            continue
        return end, ""


def significant(text: str) -> list[Token]:
    """The tokens of `text` without blanks and comments."""
    return [token for token in scan(text) if token.kind not in (TokenKind.BLANK, TokenKind.COMMENT)]

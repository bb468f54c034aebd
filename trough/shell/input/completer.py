"""Completion: what could follow at the cursor.

Commands, and the kind of each argument, come from the registry. Tables, columns and segments come
from the known names of the connected segments. Completion runs in the background of the line
editor. It does not depend on how names are found.
"""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

from prompt_toolkit.completion import CompleteEvent, Completer, Completion
from prompt_toolkit.document import Document

from trough.shell.command_registry import ArgumentKind, Command, Registry, last_word, quoted_word
from trough.shell.input.known_names import KnownNames
from trough.shell.input.statements import ParseMode
from trough.shell.input.vocabulary import BEFORE_TABLE, FUNCTIONS, KEYWORDS
from trough.shell.named_queries import NamedQueries
from trough.shell.output.formats import FORMATS
from trough.shell.output.sections import SEGMENT_COLUMN
from trough.shell.session import Session
from trough.shell.settings import queries_path
from trough.sql.kind import READS
from trough.sql.tokens import Token, TokenKind, scan
from trough.util.safe_text import safe

Candidates = Iterable[tuple[str, str]]  # each with what it is


class ShellCompleter(Completer):
    """Completion for the line editor."""

    def __init__(self, registry: Registry, session: Session, names: KnownNames) -> None:
        self._registry = registry
        self._session = session
        self._names = names
        self._candidates: dict[ArgumentKind, Callable[[str], Candidates]] = {
            ArgumentKind.SEGMENT: lambda word: _all(
                self._names.segments(_beginning(word)), "segment"
            ),
            ArgumentKind.TABLE: lambda word: _all(self._names.tables, "table"),
            ArgumentKind.SCHEMA: lambda word: _all(self._names.schemas(), "schema"),
            ArgumentKind.FILE: _files,
            ArgumentKind.FORMAT: lambda word: _all(FORMATS, "format"),
            ArgumentKind.TOPIC: lambda word: _all([c.name for c in self._registry], "command"),
            ArgumentKind.QUERY: lambda word: _all(_queries(), "named query"),
        }

    def get_completions(
        self, document: Document, complete_event: CompleteEvent
    ) -> Iterator[Completion]:
        text = _statement_before(document.text_before_cursor)
        after = _statement_after(document.text_after_cursor)
        if text or complete_event.completion_requested:
            yield from self._names_of_commands(text)
        found = self._registry.find(text)
        if found is None:
            return
        command, end = found
        if command.rest is ParseMode.SQL:
            word, candidates = self._first_words(command, text[end:])
            if not candidates:
                word, candidates = self._in_sql(text, after, "GATHER" in command.name)
            # An unrequested list of everything would only hide the typed text.
            if word or complete_event.completion_requested or _is_narrow(candidates):
                yield from _matching(word, candidates)
        elif end < len(text):
            yield from self._arguments(command, text[end:])

    def _names_of_commands(self, text: str) -> Iterator[Completion]:
        typed = " ".join(text.upper().split()) + (" " if text[-1:].isspace() and text else "")
        for entry in self._registry:
            for name in (entry.name, *entry.aliases):
                if name.upper().startswith(typed) and name.upper() != typed:
                    yield Completion(
                        _in_case_of(text, name), -len(text), display_meta=entry.summary
                    )

    def _arguments(self, command: Command, text: str) -> Iterator[Completion]:
        words, word = last_word(text)
        takes = command.completes
        if not takes:
            return
        kind = takes[min(len(words), len(takes) - 1)]
        if kind is ArgumentKind.SQL:
            yield from _matching(*self._in_sql(text))
            return
        if kind is ArgumentKind.TOPIC:  # may be several words
            word, words = text.lstrip(), []
        if words and words[0].upper() == "MATCHING":
            return
        candidates = self._candidates[kind](word) if isinstance(kind, ArgumentKind) else []
        for literal in takes:
            if isinstance(literal, str) and literal.upper() not in map(str.upper, words):
                candidates = [*candidates, (literal, "")]
        yield from _matching(word, candidates)

    # -- SQL -------------------------------------------------------------------

    def _first_words(self, command: Command, text: str) -> tuple[str, Candidates]:
        """The word at the cursor, and which of the command's own words may stand there.
        Nothing after something else has begun."""
        own = [each for each in command.completes if isinstance(each, str)]
        words = text.upper().split()
        word = "" if text[-1:].isspace() or not words else text.split()[-1]
        before = words[:-1] if word else words
        options = [each for each in own if not set(each.split()) & set(before)]
        for first, *others in map(str.split, own):
            if before[-1:] == [first] and others:
                options = others
        known = {each for phrase in own if phrase not in READS for each in phrase.split()}
        return word, _all(options, "") if text and known.issuperset(before) else ()

    def _in_sql(self, text: str, after: str = "", gathers: bool = False) -> tuple[str, Candidates]:
        """The word at the cursor, and what could stand there.

        :param after: the rest of the statement, after the cursor
        :param gathers: whether tables have a column that names the segment
        """
        tokens = [t for t in scan(text) if t.kind is not TokenKind.BLANK]
        last = tokens[-1] if tokens else None
        quoted = last is not None and last.kind is TokenKind.QUOTED and bool(last.closer)
        if last and not quoted and (last.closer or last.kind in _NO_NAMES):
            return "", ()
        named = (
            last is not None and (quoted or last.kind is TokenKind.WORD) and last.end == len(text)
        )
        word = last.text if last and named else ""
        if word:
            tokens.pop()
        before = tokens[-1].text.upper() if tokens else ""
        tables = self._names.tables
        all_tokens = [*tokens, *(t for t in scan(after) if t.kind is not TokenKind.BLANK)]
        if before == ".":
            owner = _unquoted(tokens[-2].text) if len(tokens) > 1 else ""
            return word, _all(self._columns_of(owner, all_tokens), "column")
        if before in BEFORE_TABLE or (before == "," and _in_from(tokens)):
            return word, _all(tables, "table")
        if quoted:
            return word, [*_all(tables, "table"), *_all(_columns(tables), "column")]
        mentioned = [t for t in tables if _mentions(all_tokens, t)]
        columns = dict.fromkeys(c for t in (mentioned or tables) for c in tables[t])
        if gathers:
            columns.setdefault(SEGMENT_COLUMN)
        return word, [
            *_all(columns, "column"),
            *_all(tables, "table"),
            *_all(sorted(FUNCTIONS), "function"),
            *_all(sorted(KEYWORDS), ""),
        ]

    def _columns_of(self, name: str, tokens: list[Token]) -> list[str]:
        """Columns of the table with this name, or with this alias in `tokens`."""
        by_name = {table.lower(): columns for table, columns in self._names.tables.items()}
        if name.lower() in by_name:
            return by_name[name.lower()]
        for table, alias in itertools.pairwise(tokens):
            if alias.text.lower() == name.lower():
                found = by_name.get(_unquoted(table.text).lower())
                if found:
                    return found
        for table, as_, alias in zip(tokens, tokens[1:], tokens[2:], strict=False):
            if as_.text.upper() == "AS" and alias.text.lower() == name.lower():
                return by_name.get(_unquoted(table.text).lower(), [])
        return []


#: Kinds of tokens that hold no name.
_NO_NAMES = (TokenKind.COMMENT, TokenKind.STRING, TokenKind.NUMBER)


def _columns(tables: Mapping[str, list[str]]) -> Iterable[str]:
    return dict.fromkeys(column for columns in tables.values() for column in columns)


def _is_narrow(candidates: Candidates) -> bool:
    return {kind for _, kind in candidates} in ({"table"}, {"column"}, {""})


def _statement_before(text: str) -> str:
    """The statement that the end of `text` is in."""
    start = 0
    for token in scan(text):
        if token.kind in (TokenKind.SEMICOLON, TokenKind.GO):
            start = token.end
    return text[start:].lstrip()


def _statement_after(text: str) -> str:
    """The rest of the statement that the beginning of `text` is in."""
    for token in scan(text):
        if token.kind in (TokenKind.SEMICOLON, TokenKind.GO):
            return text[: token.start]
    return text


def _in_from(tokens: list[Token]) -> bool:
    """Whether the last clause that began is FROM."""
    for token in reversed(tokens):
        word = token.text.upper()
        if word in BEFORE_TABLE:
            return True
        if word in ("SELECT", "WHERE", "BY", "HAVING", "SET", "VALUES", "ON", "LIMIT"):
            return False
    return False


def _mentions(tokens: list[Token], table: str) -> bool:
    return any(_unquoted(token.text).lower() == table.lower() for token in tokens)


def _unquoted(text: str) -> str:
    return text.strip('"`[]')


def _all(names: Iterable[str], kind: str) -> Candidates:
    return [(name, kind) for name in names]


def _matching(word: str, candidates: Candidates) -> Iterator[Completion]:
    opening = word[:1] if word[:1] in {*_QUOTES, "'"} else ""
    lower = word[len(opening) :].lower()
    for name, kind in candidates:
        if kind in _CASELESS:
            name = _in_case_of(word, name)
        # Names that are unsafe to show are not offered.
        if not name.lower().startswith(lower) or safe(name) != name:
            continue
        if kind == "segment":
            text = quoted_word(name, opening)
        else:
            text = quoted_name(name, opening) if kind in _QUOTABLE else name
        if text != word:
            yield Completion(text, -len(word), display=name, display_meta=kind)


def _beginning(word: str) -> str:
    """A word that is being typed, without the open quote before it."""
    quote = word[:1]
    return word[1:].replace(quote * 2, quote) if quote in ("'", '"') else word


#: The characters that open a quoted name, with those that close it.
_QUOTES = {'"': '"', "`": "`", "[": "]"}

#: Kinds of names that occur in SQL.
_QUOTABLE = frozenset({"table", "column"})

_PLAIN_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def quoted_name(name: str, opening: str = "") -> str:
    """A name as SQL writes it: in quotes if it needs them, or if it has them.

    :param opening: the quote that was typed already, or ``""``
    """
    if not opening:
        if _PLAIN_NAME.fullmatch(name) and name.upper() not in KEYWORDS:
            return name
        opening = '"'
    closing = _QUOTES[opening]
    if closing == "]":  # cannot be written inside
        return f"[{name}]" if "]" not in name else quoted_name(name, '"')
    return f"{opening}{name.replace(closing, closing * 2)}{closing}"


#: Kinds of words that mean the same in any case.
_CASELESS = frozenset({"", "function", "format", "command"})


def _in_case_of(typed: str, word: str) -> str:
    """`word` in small letters if its typed part is in small letters."""
    return word.lower() if typed.islower() else word


def _files(word: str) -> Candidates:
    directory, _, _ = word.rpartition("/")
    base = f"{directory}/" if "/" in word else ""
    try:
        entries = sorted(Path(base or ".").expanduser().iterdir())
    except OSError:
        return []
    hidden = word.rpartition("/")[2].startswith(".")
    return [
        (f"{base}{entry.name}{'/' if entry.is_dir() else ''}", "file")
        for entry in entries
        if hidden or not entry.name.startswith(".")
    ]


def _queries() -> list[str]:
    return list(NamedQueries(queries_path(os.environ)).all())

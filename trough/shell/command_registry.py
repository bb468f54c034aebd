"""The one registry of what can be typed: dispatch, help and completion read the same entries.

An entry has a name of one or more words. It states how the text after the name is read, how the
command is used, and what its arguments are. Its help is the handler's docstring. Text that begins
with no known name is a mistake, and gets a suggestion. The registry does not depend on what
handlers do.
"""

from __future__ import annotations

import difflib
import enum
import inspect
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from trough import errors
from trough.shell.input.statements import ParseMode, Statement
from trough.sql.kind import DESTROYING
from trough.util.safe_text import safe


class ArgumentKind(enum.Enum):
    """What an argument is, for completion."""

    SEGMENT = "segment"
    TABLE = "table"
    SCHEMA = "schema"
    FILE = "file"
    FORMAT = "format"
    TOPIC = "topic"
    QUERY = "named query"
    SQL = "sql"


class Group(enum.Enum):
    """The heading under which HELP lists a command."""

    SQL = "Ask and change"
    SEGMENTS = "Segments"
    SHOW = "See what there is"
    OUTPUT = "Output"
    FILES = "Files and named queries"
    SHELL = "The shell"


class UsageError(errors.BadRequest):
    """A command was given words that it does not accept."""


@dataclass(frozen=True, slots=True)
class Arguments:
    """The text after a command's name.

    :ivar text: as it was typed
    :ivar words: the same text as words; quoted ones may hold blanks
    :ivar name: the command's name, as it was typed
    """

    text: str
    words: tuple[str, ...]
    name: str
    statement: Statement


#: Takes the shell, whose type this module does not import, and what was typed.
Handler = Callable[[Any, Arguments], None]


@dataclass(frozen=True, slots=True)
class Command:
    """One entry of the registry.

    :ivar usage: every way to write it, one a line
    :ivar completes: what the first, second ... argument is; words stand for themselves, and
        the last entry applies to all further arguments
    :ivar destroys: whether it destroys something; a typing error is then never taken for it
    :ivar least: number of words that are needed
    :ivar most: number of words that are allowed; None: any
    """

    name: str
    handler: Handler
    usage: tuple[str, ...]
    group: Group
    rest: ParseMode = ParseMode.WORDS
    completes: tuple[ArgumentKind | str, ...] = ()
    aliases: tuple[str, ...] = ()
    destroys: bool = False
    least: int = 0
    most: int | None = None

    @property
    def summary(self) -> str:
        """The first sentence of its help."""
        return self.description.split("\n\n")[0].replace("\n", " ").rstrip(".")

    @property
    def description(self) -> str:
        """Its help."""
        return inspect.cleandoc(self.handler.__doc__ or "")

    def check(self, arguments: Arguments) -> None:
        """Refuse too few or too many words.

        :raises UsageError: saying which
        """
        given = len(arguments.words)
        if given < self.least:
            raise UsageError(f"{self.name}: something is missing", self.how())
        if self.most is not None and given > self.most:
            extra = safe(" ".join(arguments.words[self.most :]))
            raise UsageError(f"{self.name}: does not take {extra}", self.how())

    def how(self) -> str:
        """How to use it, as a hint."""
        return f"usage: {' | '.join(self.usage)}"


def command(
    name: str, *usage: str, group: Group, **details: object
) -> Callable[[Handler], Command]:
    """Turn a handler into a command; `details` are the fields of :class:`Command`."""

    def decorate(handler: Handler) -> Command:
        return Command(name, handler, usage or (name,), group, **details)  # type: ignore[arg-type]

    return decorate


# Names that are not words need no blank after them: "!ls", "?show".
_WORD = re.compile(r"\s*([!?]|[^\s;!?][^\s;]*)")
_QUOTED = re.compile(r'"((?:[^"]|"")*)"(?=\s|$)|\'((?:[^\']|\'\')*)\'(?=\s|$)|(\S+)')
_PLAIN = re.compile(r"[^\s;!?'\"][^\s;'\"]*")


def words_of(text: str) -> tuple[str, ...]:
    """The words of `text`. A word in single or double quotes may hold blanks. Two of its quotes in
    a row stand for one quote inside."""
    return tuple(
        (m[1] or "").replace('""', '"') or (m[2] or "").replace("''", "'") or m[3] or ""
        for m in _QUOTED.finditer(text)
    )


def quoted_word(word: str, opening: str = "") -> str:
    """A word as it is typed, so that :func:`words_of` returns it unchanged.

    :param opening: the quote that was typed already, or ``""``
    """
    if not opening and _PLAIN.fullmatch(word):
        return word
    quote = opening or '"'
    return f"{quote}{word.replace(quote, quote * 2)}{quote}"


def last_word(text: str) -> tuple[list[str], str]:
    """The whole words of a text that is being typed, and the part of the last word so far, with
    the open quote before it; ``""`` where a new word begins."""
    end = 0
    for match in _QUOTED.finditer(text):
        if match[0][0] in "\"'" and match[3] is not None:  # its quote is not closed yet
            return list(words_of(text[:end])), text[match.start() :]
        end = match.end()
    words = list(words_of(text))
    if not words or text[-1:].isspace() or text[-1:] in "\"'":
        return words, ""
    return words[:-1], words[-1]


class Registry:
    """All commands, found by the beginning of a text."""

    def __init__(self, commands: Iterable[Command]) -> None:
        self.commands = tuple(commands)
        self._by_words: dict[tuple[str, ...], Command] = {}
        for entry in self.commands:
            for name in (entry.name, *entry.aliases):
                words = tuple(name.upper().split())
                if words in self._by_words:
                    raise ValueError(f"two commands are named {name}")
                self._by_words[words] = entry
        self._longest = max(map(len, self._by_words), default=0)

    def __iter__(self) -> Iterator[Command]:
        return iter(self.commands)

    def find(self, text: str, position: int = 0) -> tuple[Command, int] | None:
        """The command that begins at `position`, and the end of its name.

        The longest name wins. Case does not matter.
        """
        words: list[str] = []
        ends: list[int] = []
        end = position
        while len(words) < self._longest and (match := _WORD.match(text, end)):
            words.append(match[1].upper())
            end = match.end()
            ends.append(end)
        while words:
            entry = self._by_words.get(tuple(words))
            if entry is not None:
                return entry, ends[len(words) - 1]
            words.pop()
        return None

    def rest_of(self, text: str, position: int) -> ParseMode:
        """How the text that begins at `position` is read."""
        found = self.find(text, position)
        # A mistyped word is reported at once, and takes no further lines with it.
        return found[0].rest if found else ParseMode.WORDS

    def parse(self, statement: Statement) -> tuple[Command, Arguments]:
        """The command of a statement, and its arguments.

        :raises UsageError: it is no command, or has too few or too many arguments
        """
        if not statement.text:  # only the end of a statement
            raise UsageError(
                f"there is no statement before {statement.ended}",
                f"for example: SELECT 1{statement.ended}",
            )
        found = self.find(statement.text)
        if found is None:
            raise UsageError(*self._unknown(statement.text))
        entry, end = found
        text = statement.text[end:].strip()
        words = words_of(text) if entry.rest is not ParseMode.LINE else ()
        arguments = Arguments(text, words, statement.text[:end], statement)
        if entry.rest is ParseMode.WORDS:
            entry.check(arguments)
        return entry, arguments

    def named(self, topic: str) -> list[Command]:
        """The commands of this name; if there are none, those whose name begins with it."""
        words = tuple(topic.upper().split())
        exact = self._by_words.get(words)
        if exact is not None and exact.name.upper() != "SHOW":
            return [exact]
        return [
            c
            for c in self.commands
            if c is not exact and tuple(c.name.upper().split()[: len(words)]) == words
        ]

    def names(self) -> dict[str, str]:
        """Every name and alias as it is written, keyed by its text in capitals."""
        return {name.upper(): name for entry in self for name in (entry.name, *entry.aliases)}

    def _destroys(self, name: str) -> bool:
        return self._by_words[tuple(name.split())].destroys or name in DESTROYING

    def _unknown(self, text: str) -> tuple[str, str]:
        word = text.split(maxsplit=1)[0]
        names = {key: name for key, name in self.names().items() if not self._destroys(key)}
        close = difflib.get_close_matches(word.upper(), sorted(names), 1, 0.6)
        suggestion = f"did you mean {names[close[0]]}?" if close else "HELP lists what there is"
        return f"neither a command nor SQL: {safe(word[:60])}", suggestion

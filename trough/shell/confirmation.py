"""Questions before a person at the keyboard destroys rows, tables or segments.

The statement's tokens show what it would destroy. A statement that is not recognised runs without
a question: the question is a convenience, not a protection.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from trough import errors
from trough.errors import TroughError
from trough.shell.session import MoreRows
from trough.sql.tokens import Token, TokenKind, significant
from trough.util.wording import counted

if TYPE_CHECKING:
    from trough.shell.shell import Shell

_NAMES = (TokenKind.WORD, TokenKind.QUOTED, TokenKind.STRING)

#: Seconds that counting the rows may take; after that the question omits the number.
_COUNT_SECONDS = 2.0
_TICK = 0.1


@dataclass(frozen=True, slots=True)
class Loss:
    """What a statement destroys.

    :ivar what: the act, in words: ``deletes every row of crawled_url``
    :ivar table: whose rows are lost, as the statement writes it; ``""``: no table to count
    """

    what: str
    table: str = ""


def loss_of(sql: str) -> Loss | None:
    """The loss by `sql`, one statement: rows of a whole table, or something by DROP."""
    if not {"DELETE", "UPDATE", "DROP"} & set(sql.upper().split()):
        return None  # most statements; some are megabytes
    tokens = _outside_parentheses(significant(sql))
    words = [token.text.upper() if token.kind is TokenKind.WORD else "" for token in tokens]
    if words[:1] == ["DROP"]:
        name = _name_after(tokens, words, ("DROP", "TABLE", "VIEW", "INDEX", "TRIGGER"))
        kind = words[1].lower() if len(words) > 1 else ""
        return Loss(f"drops the {kind} {name}", name if kind == "table" else "")
    if words[:2] == ["ALTER", "TABLE"] and "DROP" in words:
        return Loss(f"drops a column of {_name_after(tokens, words, ('ALTER', 'TABLE'))}")
    verb = next((word for word in words if word in ("DELETE", "UPDATE", "INSERT")), "")
    if words[:1] not in (["WITH"], [verb]) or verb not in ("DELETE", "UPDATE"):
        return None
    start = words.index(verb)
    if "WHERE" in words[start:]:
        return None
    table = _name_after(tokens[start:], words[start:], ("DELETE", "FROM", "UPDATE", "OR"))
    act = "deletes every row of" if verb == "DELETE" else "changes every row of"
    return Loss(f"{act} {table}", table)


def _outside_parentheses(tokens: Sequence[Token]) -> list[Token]:
    depth = 0
    found = []
    for token in tokens:
        depth -= token.text == ")"
        if depth == 0 and token.text not in "()":
            found.append(token)
        depth += token.text == "("
    return found


_CONFLICTS = frozenset({"ROLLBACK", "ABORT", "REPLACE", "FAIL", "IGNORE", "IF", "EXISTS"})


def _name_after(tokens: Sequence[Token], words: Sequence[str], before: Sequence[str]) -> str:
    """The name after the words `before`, with its schema; ``it`` if there is none."""
    position = 0
    while position < len(tokens) and words[position] in {*before, *_CONFLICTS}:
        position += 1
    end = position
    while end < len(tokens) and (
        tokens[end].text == "." if (end - position) % 2 else tokens[end].kind in _NAMES
    ):
        end += 1
    return "".join(token.text for token in tokens[position:end]) or "it"


def confirm_loss(shell: Shell, segment: str, sql: str) -> None:
    """Ask before `sql` destroys something, if a person can answer.

    :raises trough.errors.Cancelled: the answer was not yes; nothing was changed
    """
    if shell.confirm is None or not shell.settings.confirm or shell.in_file:
        return
    loss = loss_of(sql)
    if loss is None:
        return
    count = _count(shell, segment, loss.table) if loss.table else None
    rows = f" ({counted(count, 'row')})" if count is not None else ""
    answer = shell.confirm(f"This {loss.what}{rows} in {segment}. Go on? [y/N] ")
    if answer.strip().lower() not in ("y", "yes"):
        raise errors.Cancelled("nothing was changed")


def _count(shell: Shell, segment: str, table: str) -> int | None:
    """The number of rows of a table; None if it cannot be determined."""
    deadline = time.monotonic() + _COUNT_SECONDS
    try:
        with shell.remote.query([segment], f"SELECT count(*) FROM {table}") as query:
            for event in query.events(_TICK):
                if isinstance(event, MoreRows):
                    return int(event.rows[0][0])
                if time.monotonic() > deadline:
                    return None
    except TroughError:
        pass  # the statement itself will report what is wrong
    return None

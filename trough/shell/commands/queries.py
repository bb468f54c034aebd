"""Asking and changing: SQL, and GATHER."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from trough import errors
from trough.cli.progress import duration
from trough.shell.command_registry import ArgumentKind, Arguments, Group, UsageError, command
from trough.shell.confirmation import confirm_loss
from trough.shell.input.statements import ParseMode, Statement
from trough.shell.row_count import counting
from trough.shell.runner import TICK
from trough.shell.session import RunningQuery
from trough.shell.shell import AlreadyReported, Shell
from trough.sql.kind import WRITES, reads, returns
from trough.util.wording import counted

if TYPE_CHECKING:
    from trough.shell.cluster.gather_query import GatherQuery


@command(
    "SELECT",
    "SELECT ... ;",
    "WITH ... SELECT ... ;",
    "VALUES ... ;",
    "EXPLAIN ... ;",
    "PRAGMA name ;",
    group=Group.SQL,
    rest=ParseMode.SQL,
    completes=(ArgumentKind.SQL,),
    aliases=("WITH", "VALUES", "EXPLAIN", "PRAGMA"),
)
def select(shell: Shell, arguments: Arguments) -> None:
    """Ask every connected segment.

    The query goes to all connected segments at once. Each segment's rows are shown under
    its name, or with a column _segment (FORMAT ... MERGED, and CSV, TSV, JSONL). What
    fails is summed up by reason at the end; SHOW FAILURES lists it. Ctrl-C cancels the
    query on the workers. For one answer over all segments there is GATHER.

    SQL may run over lines; a semicolon ends it. Ending it with \\G shows one line a
    column.
    """
    sql = arguments.statement.text
    if not reads(sql):
        write(shell, arguments)
    else:
        ask(shell, sql, arguments)


def ask_kept(shell: Shell, sql: str, arguments: Arguments, values: Sequence[Any]) -> None:
    """Ask a kept query, of one answer or many, with values for its parameters.

    :raises trough.errors.BadRequest: it is no query
    """
    entry, parsed = shell.registry.parse(Statement(sql))
    if entry is gather:
        _gather(shell, parsed.text, arguments, values)
    elif reads(sql):
        ask(shell, sql, arguments, values)
    else:
        raise errors.BadRequest(f"{parsed.name.strip()} is no query, and only queries take values")


def ask(shell: Shell, sql: str, arguments: Arguments, values: Sequence[Any] | None = None) -> None:
    """Ask every connected segment `sql`."""
    segments = shell.session.connected()
    shell.session.last_query = arguments.statement.text
    query = shell.remote.query(segments, sql, values)
    shell.show(query, len(segments), name=segments[0], count=_count(shell, segments, sql, values))


def _count(
    shell: Shell, segments: Sequence[str], sql: str, values: Sequence[Any] | None
) -> Callable[[], RunningQuery] | None:
    """What counts the rows of a query of one segment; of several, the segments are counted."""
    if len(segments) > 1 or (count := counting(sql)) is None:
        return None
    return lambda: shell.remote.query(segments, count, values)


def write(shell: Shell, arguments: Arguments) -> None:
    """Change the one connected segment."""
    session = shell.session
    sql = arguments.statement.text
    verb = sql.split(maxsplit=1)[0].upper()
    segment = session.connected_for_writing(verb)
    confirm_loss(shell, segment, sql)
    begun = time.monotonic()
    written = shell.write(segment, sql, verb)
    took = f" ({duration(time.monotonic() - begun)})" if session.timing else ""
    rows = counted(written.changes, "row")
    what = f"{rows} changed in" if verb in _CHANGES_ROWS else f"{verb} done in"
    shell.say(f"{what} {segment}{took}")
    if returns(sql):
        shell.complain("rows of RETURNING are not shown: a write tells how many rows it changed")


_CHANGES_ROWS = frozenset({"INSERT", "UPDATE", "DELETE", "REPLACE", "WITH"})


@command(
    "INSERT",
    "INSERT | UPDATE | DELETE | REPLACE ... ;",
    "CREATE | ALTER | DROP ... ;",
    group=Group.SQL,
    rest=ParseMode.SQL,
    completes=(ArgumentKind.SQL,),
    aliases=tuple(verb for verb in WRITES if verb != "INSERT"),
)
def change(shell: Shell, arguments: Arguments) -> None:
    """Change the connected segment; read-write mode (-w) only.

    Exactly one segment has to be connected. The statement is one transaction; when the
    number of changed rows is shown, it is on the worker's disk; rows of RETURNING are not
    shown. A segment that does not exist yet is created by the first write, from the schema
    of -s.

    Typed at a terminal, DELETE and UPDATE without WHERE, and DROP, ask first and name what
    they affect; the setting confirm turns that off. PROMOTE publishes what was written for
    good.
    """
    write(shell, arguments)


@command(
    "GATHER",
    "GATHER [PARTIAL] [WITHIN SEGMENTS] SELECT ... ;",
    group=Group.SQL,
    rest=ParseMode.SQL,
    completes=("PARTIAL", "WITHIN SEGMENTS", "SELECT", "WITH", ArgumentKind.SQL),
)
def gather(shell: Shell, arguments: Arguments) -> None:
    """One answer over all connected segments, as if they were one database.

    Each table is the union of the segments' tables of that name; _segment names the
    segment of a row. The answer is exactly what SQLite would say of that union; what
    cannot be answered exactly is refused with the reason.

    PARTIAL answers from the rest if segments fail, and says which are missing. WITHIN
    SEGMENTS promises that joins stay inside a segment, which makes them quick.
    EXPLAIN GATHER shows what goes to the workers, EXPLAIN ANALYZE GATHER what it took.
    """
    _gather(shell, arguments.text, arguments)


def _gather(
    shell: Shell, text: str, arguments: Arguments, values: Sequence[Any] | None = None
) -> None:
    partial, within, sql = _gather_options(text)
    segments = shell.session.connected()
    shell.session.last_query = arguments.statement.text
    query = _gathering(shell, sql, partial, within, values)
    count = len(segments)
    try:
        shell.show(query, count, name=segments[0], titled=False, partial=partial)
    except AlreadyReported:
        if not partial and 0 < len(shell.session.failures) < count:
            shell.complain("GATHER PARTIAL answers from the rest")
        raise


@command(
    "EXPLAIN GATHER",
    "EXPLAIN [ANALYZE] GATHER [WITHIN SEGMENTS] SELECT ... ;",
    group=Group.SQL,
    rest=ParseMode.SQL,
    completes=("WITHIN SEGMENTS", "SELECT", "WITH", ArgumentKind.SQL),
    aliases=("EXPLAIN ANALYZE GATHER",),
)
def explain_gather(shell: Shell, arguments: Arguments) -> None:
    """Show what of a GATHER goes to the workers, what is done with it, and what is kept.

    EXPLAIN ANALYZE GATHER answers the query, drops its rows, and shows counts and times.
    """
    partial, within, sql = _gather_options(arguments.text)
    analyze = "ANALYZE" in arguments.name.upper()
    with _gathering(shell, sql, partial, within) as query:
        shell.show_text(query.explanation(TICK, analyze))


def _gathering(
    shell: Shell, sql: str, partial: bool, within: bool, values: Sequence[Any] | None = None
) -> GatherQuery:
    # Its parser of SQL takes long to import, and most sessions gather nothing.
    from trough.shell.cluster.gather_query import GatherQuery

    segments = shell.session.connected()
    return GatherQuery(shell.remote, segments, sql, values, partial=partial, within=within)


def _gather_options(text: str) -> tuple[bool, bool, str]:
    """PARTIAL, WITHIN SEGMENTS, and the query."""
    partial = within = False
    while True:
        words = text.split(maxsplit=2)
        head = [word.upper() for word in words]
        if head[:1] == ["PARTIAL"]:
            partial, text = True, text.split(maxsplit=1)[1] if len(words) > 1 else ""
        elif head[:2] == ["WITHIN", "SEGMENTS"]:
            within, text = True, words[2] if len(words) > 2 else ""
        else:
            break
    if not text:
        raise UsageError("GATHER: the query is missing", "usage: GATHER SELECT ...")
    return partial, within, text


COMMANDS = (select, change, gather, explain_gather)

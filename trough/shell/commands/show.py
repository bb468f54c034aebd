"""SHOW: what there is."""

from __future__ import annotations

import contextlib
import itertools
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

from trough import errors
from trough.cli.progress import Progress
from trough.cluster_client.existing import SetUnknown
from trough.shell.command_registry import ArgumentKind, Arguments, Group, UsageError, command
from trough.shell.commands.segments import listed, pattern_of
from trough.shell.runner import TICK
from trough.shell.session import Done, Failed, MoreRows, Parameters, Restarted
from trough.shell.shell import Shell
from trough.util.safe_text import safe
from trough.util.wording import counted

_TABLES = (
    "SELECT name, type FROM sqlite_master WHERE type IN ('table', 'view')"
    " AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' ORDER BY name"
)
# The table first, then what belongs to it.
_DEFINITIONS = (
    "SELECT sql FROM sqlite_master WHERE tbl_name = ? COLLATE NOCASE AND sql IS NOT NULL"
    " ORDER BY type NOT IN ('table', 'view'), type, name"
)

#: Segments looked up at a time.
_PAGE = 1000


@command("SHOW TABLES", group=Group.SHOW, most=0, aliases=("\\dt", ".tables"))
def tables(shell: Shell, arguments: Arguments) -> None:
    """Tables and views of the connected segments, and how many segments have them."""
    found: Counter[tuple[Any, ...]] = Counter()
    failures: list[Failed] = []
    for _, rows in _asked(shell, _TABLES, failures):
        found.update(map(tuple, rows))
    rows = [(name, kind, count) for (name, kind), count in sorted(found.items())]
    asked = len(shell.session.segments)
    if len(failures) < asked:
        columns = ["table", "type", "segments"]
        width = 3 if asked > 1 else 2
        shell.show_table(columns[:width], [row[:width] for row in rows])
    shell.report(failures, asked)


@command(
    "SHOW CREATE TABLE",
    "SHOW CREATE TABLE table",
    group=Group.SHOW,
    completes=(ArgumentKind.TABLE,),
    aliases=("DESCRIBE", "DESC", "\\d", ".schema"),
    least=1,
    most=1,
)
def create_table(shell: Shell, arguments: Arguments) -> None:
    """The SQL that made a table, with its indexes and triggers.

    Where connected segments have it in different forms, each form is shown, with the
    number of segments that have it.
    """
    table = arguments.words[0].strip('"`[]')
    forms: dict[str, list[str]] = {}
    failures: list[Failed] = []
    for segment, rows in _asked(shell, _DEFINITIONS, failures, [table]):
        forms.setdefault("\n".join(f"{row[0]};" for row in rows), []).append(segment)
    asked = len(shell.session.segments)
    if not forms and not failures:
        raise errors.NotFound(f"no such table: {table}", "SHOW TABLES lists them")
    for sql, having in sorted(forms.items(), key=lambda form: -len(form[1])):
        if asked > 1:
            sql = f"-- in {len(having):,} of {counted(asked, 'segment')}, as in {having[0]}\n{sql}"
        shell.show_text(sql)
    shell.report(failures, asked)


def _asked(
    shell: Shell, sql: str, failures: list[Failed], parameters: Parameters = None
) -> Iterator[tuple[str, Sequence[Sequence[Any]]]]:
    """Each connected segment that answers whole, and its rows, if there are any; what fails is
    appended to `failures`."""
    segments = shell.session.connected()
    unfinished: dict[str, list[Sequence[Any]]] = {}
    progress = Progress(shell.terminal, len(segments))
    with contextlib.ExitStack() as stack:
        stack.callback(progress.clear)
        query = stack.enter_context(shell.remote.query(segments, sql, parameters))
        for event in query.events(TICK):
            match event:
                case MoreRows(segment, rows):
                    unfinished.setdefault(segment, []).extend(rows)
                case Restarted(segment):
                    unfinished.pop(segment, None)
                case Done(segment):
                    progress.done += 1
                    if segment in unfinished:
                        yield segment, unfinished.pop(segment)
                case Failed(segment):
                    progress.done, progress.failed = progress.done + 1, progress.failed + 1
                    unfinished.pop(segment, None)
                    failures.append(event)
            progress.draw()
    shell.session.failures = failures


@command("SHOW CONNECTIONS", group=Group.SHOW, most=0)
def connections(shell: Shell, arguments: Arguments) -> None:
    """The connected segments, and which workers serve them."""

    def rows() -> Iterator[Sequence[Any]]:
        segments = iter(shell.session.connected())
        while page := list(itertools.islice(segments, _PAGE)):
            copies = shell.remote.copies(page)
            for segment in page:
                for copy in copies.get(segment, ()):
                    yield segment, copy.node, copy.role, copy.url
                if segment not in copies:
                    yield segment, None, None, None

    shell.session.connected()
    shell.show_table(("segment", "worker", "role", "url"), rows())


@command(
    "SHOW SEGMENTS",
    "SHOW SEGMENTS",
    "SHOW SEGMENTS MATCHING regex",
    group=Group.SHOW,
    completes=("MATCHING", ArgumentKind.SEGMENT),
    aliases=("\\l",),
)
def segments(shell: Shell, arguments: Arguments) -> None:
    """All segments that exist, or those in whose id a regular expression is found."""
    pattern = None
    if arguments.words:
        if arguments.words[0].upper() != "MATCHING":
            raise UsageError(f"SHOW SEGMENTS: does not take {safe(arguments.text)}", segments.how())
        pattern = pattern_of(arguments)
    count = 0
    unread: list[str] = []
    unknown: SetUnknown | None = None

    def rows() -> Iterator[Sequence[Any]]:
        nonlocal count, unknown
        try:
            for page in shell.remote.matching(pattern):
                count += len(page)
                for segment in sorted(page):
                    yield (segment,)
                copies = shell.remote.copies(page)
                unread.extend(segment for segment in page if not copies.get(segment))
        except SetUnknown as error:
            # Those that are known are shown all the same.
            unknown = error

    shell.show_table(("segment",), rows())
    shell.say(counted(count, "segment"))
    if unknown is not None:
        raise unknown
    if unread:
        shell.complain(f"{counted(len(unread), 'segment')} cannot be read now: {listed(unread)}")


@command("SHOW SCHEMAS", group=Group.SHOW, most=0)
def schemas(shell: Shell, arguments: Arguments) -> None:
    """Names of the schemas that new segments can be made from."""
    shell.show_table(("schema",), [(name,) for name in shell.remote.schemas()])


@command(
    "SHOW SCHEMA",
    "SHOW SCHEMA name",
    group=Group.SHOW,
    completes=(ArgumentKind.SCHEMA,),
    least=1,
    most=1,
)
def schema(shell: Shell, arguments: Arguments) -> None:
    """The SQL of a schema."""
    sql = shell.remote.schema(arguments.words[0])
    shell.show_text(sql.rstrip("\n") or "-- this schema is empty")


@command("SHOW WORKERS", group=Group.SHOW, most=0)
def workers(shell: Shell, arguments: Arguments) -> None:
    """The workers that are alive."""
    columns = ("worker", "state", "load", "capacity", "available", "line", "read_url", "seen")
    shell.show_table(
        columns,
        [
            (
                worker.node,
                "draining" if worker.draining else "cold" if worker.cold_storage else "ok",
                worker.load,
                worker.capacity,
                worker.available_bytes,
                worker.line or None,
                worker.read_url or None,
                moment(worker.last_heartbeat),
            )
            for worker in shell.remote.workers()
        ],
    )


@command("SHOW LOCKS", group=Group.SHOW, most=0)
def locks(shell: Shell, arguments: Arguments) -> None:
    """Who may write which segment."""
    rows = [(k.segment, k.node, k.epoch, moment(k.acquired_on)) for k in shell.remote.locks()]
    shell.show_table(("segment", "worker", "epoch", "since"), rows)


@command("SHOW STATUS", group=Group.SHOW, most=0)
def status(shell: Shell, arguments: Arguments) -> None:
    """What sync server and workers say of themselves."""
    rows = [
        (server, key, value)
        for server, told in shell.remote.status().items()
        for key, value in flattened(told)
    ]
    shell.show_table(("server", "key", "value"), rows)


@command("SHOW FAILURES", group=Group.SHOW, most=0)
def failures(shell: Shell, arguments: Arguments) -> None:
    """Every segment that failed in the last statement, with the reason."""
    rows = [(f.segment, f.error.code, str(f.error)) for f in shell.session.failures]
    shell.show_table(("segment", "code", "reason"), rows)


@command("SHOW", "SHOW what", group=Group.SHOW, completes=())
def show(shell: Shell, arguments: Arguments) -> None:
    """The word after SHOW says what."""
    there_are = ", ".join(
        entry.name.removeprefix("SHOW ") for entry in shell.registry.named("SHOW")
    )
    given = f"SHOW {safe(arguments.text)}" if arguments.text else "SHOW: something is missing"
    raise UsageError(given if not arguments.text else f"no such command: {given}", there_are)


def moment(seconds: float) -> str | None:
    """A time for a person, in UTC."""
    if not seconds:
        return None
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S")


def flattened(value: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Nested values as dotted keys."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from flattened(inner, f"{prefix}.{key}" if prefix else str(key))
    elif isinstance(value, list) and any(isinstance(inner, dict | list) for inner in value):
        for index, inner in enumerate(value):
            yield from flattened(inner, f"{prefix}[{index}]")
    elif isinstance(value, list):
        yield prefix, ", ".join(map(str, value))
    elif isinstance(value, bool):
        yield prefix, "true" if value else "false"  # SQLite's values are none
    else:
        yield prefix, value


COMMANDS = (
    tables,
    create_table,
    connections,
    segments,
    schemas,
    schema,
    workers,
    locks,
    status,
    failures,
    show,
)

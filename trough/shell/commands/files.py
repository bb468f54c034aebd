"""Files, named queries, and the system's shell."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

from trough import errors
from trough.shell.command_registry import ArgumentKind, Arguments, Group, UsageError, command
from trough.shell.commands import queries
from trough.shell.input.batches import decoded
from trough.shell.input.script_progress import ScriptProgress, size_of
from trough.shell.input.statements import ParseMode, Statement
from trough.shell.named_queries import NamedQueries, parameter, parameters
from trough.shell.output.formats import BY_SUFFIX, Choice, parse_choice
from trough.shell.output.result_file import result_file
from trough.shell.output.sinks import Output
from trough.shell.settings import queries_path
from trough.shell.shell import Shell
from trough.util.wording import counted


@command(
    "INFILE",
    "INFILE file",
    group=Group.FILES,
    completes=(ArgumentKind.FILE,),
    aliases=("SOURCE",),
    least=1,
    most=1,
)
def infile(shell: Shell, arguments: Arguments) -> None:
    """Read a file and run the SQL and the commands in it.

    It stops at the first error and says file and line. A terminal shows how far it is. In
    read-only mode what would write is refused like anywhere else.
    """
    path = shell.path(arguments.words[0])
    with _reading(path) as file:
        progress = ScriptProgress(shell.terminal, path.name, size_of(file.fileno()), file.tell)
        with shell.showing(progress):
            shell.run_lines(decoded(file, str(path)), str(path))


@command(
    "REGISTER SCHEMA",
    "REGISTER [SCHEMA] name file",
    group=Group.FILES,
    completes=(ArgumentKind.SCHEMA, ArgumentKind.FILE),
    aliases=("REGISTER",),
    least=2,
    most=2,
)
def register(shell: Shell, arguments: Arguments) -> None:
    """Register the SQL in a file as a schema; one of this name is replaced.

    New segments are made from schemas. Segments that exist stay as they are.
    """
    name, file = arguments.words
    with _reading(shell.path(file)) as source:
        new = shell.remote.put_schema(name, "".join(decoded(source, str(shell.path(file)))))
    shell.say(f"schema {name} {'registered' if new else 'replaced'}")


@command(
    "EXPORT",
    "EXPORT file [format]",
    group=Group.FILES,
    completes=(ArgumentKind.FILE, ArgumentKind.FORMAT, "MERGED"),
    least=1,
    most=3,
)
def export(shell: Shell, arguments: Arguments) -> None:
    """Run the last query again and write all of its rows into a file.

    Without a format the end of the file's name says it: .csv .tsv .jsonl .json .md .txt.
    The file appears when it is complete, and replaces one of that name; if the query
    fails or is cancelled, nothing is left.
    """
    session = shell.session
    if not session.last_query:
        raise errors.BadRequest("there is no query to export yet", "run one, then EXPORT it")
    path = shell.path(arguments.words[0])
    choice = _export_choice(path, " ".join(arguments.words[1:]))
    with result_file(path, choice.binary) as file:
        output = Output(file, binary=choice.binary)
        with shell.redirected(output, choice):
            shell.execute(Statement(session.last_query))
    outcome = shell.last_outcome
    rows = counted(outcome.rows, "row") if outcome else "nothing"
    shell.say(f"{rows} written to {path} as {choice}")


def _export_choice(path: Path, given: str) -> Choice:
    if given:
        return parse_choice(given)
    name = BY_SUFFIX.get(path.suffix.lower())
    if name is None:
        raise UsageError(
            f"EXPORT: no format goes with the name {path.name}",
            f"end it with one of {' '.join(BY_SUFFIX)}, or name a format",
        )
    return Choice(name)


@contextlib.contextmanager
def _reading(path: Path) -> Iterator[BinaryIO]:
    """An open file; errors of reading it name it."""
    try:
        with path.open("rb") as file:
            yield file
    except OSError as error:
        raise errors.NotFound(f"{path}: {error.strerror or error}") from error


# -- named queries --------------------------------------------------------------


def _named() -> NamedQueries:
    return NamedQueries(queries_path(os.environ))


@command("\\f", "\\f", "\\f name [value ...]", group=Group.FILES, completes=(ArgumentKind.QUERY,))
def named(shell: Shell, arguments: Arguments) -> None:
    """Run a query that was kept under a name; without a name, list them.

    Values are bound to ?1, ?2 ... in the query. One that looks like a number is a number.
    At a terminal the values that are not given are asked for.
    """
    if not arguments.words:
        shell.show_table(("name", "query"), list(_named().all().items()))
        return
    name, *values = arguments.words
    sql = _named().get(name)
    if shell.confirm is not None:
        values += [shell.confirm(f"{each} = ") for each in parameters(sql)[len(values) :]]
    if values:
        queries.ask_kept(shell, sql, arguments, [parameter(value) for value in values])
    else:
        shell.execute(replace(arguments.statement, text=sql))


@command(
    "\\fs",
    "\\fs name",
    "\\fs name SELECT ...",
    group=Group.FILES,
    rest=ParseMode.LINE,
    completes=(ArgumentKind.QUERY, ArgumentKind.SQL),
)
def save(shell: Shell, arguments: Arguments) -> None:
    """Keep a query under a name: the one that follows on the line, else the last one."""
    name, _, sql = arguments.text.partition(" ")
    sql = sql.strip().rstrip(";") or shell.session.last_query
    if not name:
        raise UsageError("\\fs: the name is missing", save.how())
    if not sql:
        raise errors.BadRequest("there is no query to keep yet", save.how())
    _named().save(name.rstrip(";"), sql)
    shell.say(f"kept as {name}; \\f {name} runs it")


@command("\\fd", "\\fd name", group=Group.FILES, completes=(ArgumentKind.QUERY,), least=1, most=1)
def forget(shell: Shell, arguments: Arguments) -> None:
    """Forget a query that was kept."""
    _named().delete(arguments.words[0])
    shell.say(f"{arguments.words[0]} is forgotten")


# -- the system -----------------------------------------------------------------


@command("!", "! command", group=Group.FILES, rest=ParseMode.LINE)
def system(shell: Shell, arguments: Arguments) -> None:
    """Run a command of the system's shell."""
    if not arguments.text:
        raise UsageError("!: the command is missing", "for example: ! ls")
    shell.output.stream.flush()
    try:
        status = subprocess.run(arguments.text, shell=True).returncode
    except KeyboardInterrupt:  # it got the interrupt as well
        return
    if status:
        raise errors.BadRequest(f"the command ended with status {status}")


COMMANDS = (infile, register, export, named, save, forget, system)

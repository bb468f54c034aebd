"""The shell itself: runs statements from any source.

A statement may be typed, piped, read from a file or given on the command line. In each case the
registry finds its handler. Handlers find everything here that they may use. The module does not
depend on any command, or on how text is typed (`input/editor.py`).
"""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TextIO, cast

from trough import errors
from trough.cli.progress import Progress
from trough.cli.transfer_text import TransferText
from trough.errors import TroughError
from trough.formats import columnar
from trough.formats.text import RenderOptions
from trough.model import DEFAULT_SCHEMA
from trough.shell.command_registry import Registry
from trough.shell.input.batches import Batch, joined
from trough.shell.input.script_progress import ScriptProgress, no_progress
from trough.shell.input.statements import Splitter, Statement
from trough.shell.output.formats import Choice
from trough.shell.output.results import Results
from trough.shell.output.sections import layout_for
from trough.shell.output.sinks import Output
from trough.shell.output.tables import show_rows
from trough.shell.row_count import RowCount
from trough.shell.runner import QueryOutcome, Runner, failure_lines, mark_lines, summary
from trough.shell.session import (
    Failed,
    ProgressEvent,
    Published,
    Remote,
    RunningQuery,
    SegmentResult,
    Session,
    Started,
    Written,
)
from trough.shell.settings import ShellSettings
from trough.sql.kind import writes
from trough.util.safe_text import safe_lines
from trough.util.wording import counted

#: Files that read files that read files: a deeper nesting counts as a circle.
MAX_DEPTH = 10


class Quit(Exception):  # not an error
    """The user leaves the shell."""


class AlreadyReported(TroughError):
    """Something failed, and was already reported."""


class Shell:
    """The state and functions that the statements of one session share.

    :param messages: where errors are written for people; a terminal also gets progress
    :param confirm: asks a person a question and returns the answer; None if there is no person
    :ivar interactive: whether statements are typed, so that an error does not end the shell
    """

    def __init__(
        self,
        session: Session,
        remote: Remote,
        output: Output,
        registry: Registry,
        settings: ShellSettings,
        *,
        messages: TextIO,
        confirm: Callable[[str], str] | None = None,
    ) -> None:
        self.session = session
        self.remote = remote
        self.output = output
        self.registry = registry
        self.settings = settings
        self.messages = messages
        self.confirm = confirm
        self.last_outcome: QueryOutcome | None = None
        self._depth = 0
        self._script = no_progress()
        self._vertical = False  # asked for by the statement that runs

    # -- statements ------------------------------------------------------------

    def execute(self, statement: Statement) -> None:
        """Run one statement.

        :raises trough.errors.TroughError: it failed
        :raises Quit: it was QUIT
        """
        command, arguments = self.registry.parse(statement)
        before, self._vertical = self._vertical, statement.vertical
        try:
            with self._piped(statement.pipe):
                command.handler(self, arguments)
        finally:
            self._vertical = before

    @contextlib.contextmanager
    def _piped(self, command: str) -> Iterator[None]:
        """Meanwhile send results to `command` of the system's shell, if there is one."""
        if not command:
            yield
            return
        self.output.stream.flush()
        # The command reads text that is neither cut nor escaped for a terminal.
        process = subprocess.Popen(command, shell=True, stdin=subprocess.PIPE, text=True)
        assert process.stdin is not None
        try:
            stream = cast(TextIO, process.stdin)
            with self.redirected(Output(stream), self._choice()):
                yield
        finally:
            with contextlib.suppress(BrokenPipeError):
                process.stdin.close()
            status = process.wait()
        if status:
            raise errors.BadRequest(f"{command}: the command ended with status {status}")

    def run_lines(self, lines: Iterable[str], name: str = "") -> None:
        """Run statements line by line, up to the first that fails.

        A file or a pipe may have been cut off. So a change at its end without a semicolon does
        not run. The text of an option (no `name`) is complete.

        :param lines: ``""`` among them means that the next line is not there yet
        :param name: of the file, put before errors with the line; or ``""``
        :raises trough.errors.TroughError: the first failure
        """
        if self._depth >= MAX_DEPTH:
            raise errors.BadRequest(f"{name}: files read each other, {MAX_DEPTH} deep")
        self._depth += 1
        splitter = Splitter(self.registry.rest_of)
        batch = Batch(
            lambda statements: self._write_together(statements, name),
            lambda statement: self._execute_at(statement, name),
        )
        try:
            for line in lines:
                self._script.draw()
                if not line:
                    batch.flush()
                for statement in splitter.feed(line):
                    batch.add(statement)
            last = splitter.finish()
            cut_off = last is not None and name and writes(last.text)
            if last is not None and not cut_off:
                batch.add(last)
            batch.flush()
            if last is not None and cut_off:
                raise _at(unfinished(last), name, last.line)
        finally:
            self._depth -= 1

    def _write_together(self, statements: list[Statement], name: str) -> None:
        segment = self.session.connected_for_writing("INFILE")
        try:
            number = counted(len(statements), "statement")
            what = f"{number} from {name or 'line'}:{statements[0].line} on"
            written = self.write(segment, joined(statements), what)
        except errors.BadRequest:
            raise
        except TroughError as error:
            raise _at(error, name or "line", statements[0].line) from error
        self._script.done += len(statements)
        changed = counted(written.changes, "row")
        self.say(f"{changed} changed in {segment} by {counted(len(statements), 'statement')}")

    def write(self, segment: str, sql: str, what: str) -> Written:
        """Change a segment.

        :param what: the name of the change in the message that its result is unknown
        """
        try:
            return self.remote.write(segment, sql, self.session.schema or DEFAULT_SCHEMA.id)
        except KeyboardInterrupt:
            self.complain(f"{what} may have been carried out all the same: look")
            raise

    @contextlib.contextmanager
    def showing(self, progress: ScriptProgress) -> Iterator[None]:
        """Meanwhile draw the progress of the file whose statements run."""
        before, self._script = self._script, progress
        try:
            yield
        finally:
            progress.clear()
            self._script = before

    def _execute_at(self, statement: Statement, name: str) -> None:
        if not writes(statement.text):
            self._script.clear()
        self._script.done += 1
        try:
            self.execute(statement)
        except AlreadyReported:
            if name:
                self.complain(f"{name}:{statement.line}: stopped here")
            raise
        except TroughError as error:
            if not name:
                raise
            raise _at(error, name, statement.line) from error

    # -- queries ---------------------------------------------------------------

    def show(
        self,
        query: RunningQuery,
        asked: int,
        *,
        name: str = "",
        titled: bool = True,
        partial: bool = False,
        count: Callable[[], RunningQuery] | None = None,
    ) -> QueryOutcome:
        """Run a query, show its result, and report the outcome.

        :param asked: number of segments
        :param name: of the only segment, for the summary
        :param titled: whether each segment's rows are a separate result
        :param partial: whether failed segments are only reported, and do not fail the query
        :param count: begins a query that counts the rows, for the remaining time
        :raises AlreadyReported: segments failed, or it was cancelled at a terminal
        :raises KeyboardInterrupt: it was cancelled elsewhere
        """
        session = self.session
        choice = self._choice()
        self._check_binary(choice)
        if not titled:  # a single answer has no segments to name
            choice = replace(choice, merged=False)
        layout = layout_for(choice, self.options(self.output), titled and asked > 1)
        beside = None
        if count is not None and self.terminal is not None and not self.output.terminal:
            beside = RowCount(count)
        runner = Runner(Results(layout), self.output.open(), self.terminal, asked, beside)
        outcome = runner.run(query)
        session.failures = outcome.failures
        self.last_outcome = outcome
        if outcome.rows or not outcome.failures:
            self.say(summary(outcome, name, session.timing))
        for line in mark_lines(outcome.marks):
            self.complain(line)
        if outcome.interrupted and not self.output.terminal:
            raise KeyboardInterrupt
        try:
            self.report(outcome.failures, asked)
        except AlreadyReported:
            if not partial:
                raise
        if outcome.interrupted:
            raise AlreadyReported("cancelled")  # and the rest of a file or a line does not run
        return outcome

    def _check_binary(self, choice: Choice) -> None:
        if not choice.binary:
            return
        if not self.output.binary:
            name = choice.name
            raise errors.BadRequest(
                f"{name} goes to a file only",
                f"EXPORT result.{name.lower()}, or -o on the command line",
            )
        columnar.check_installed(choice.name)

    def _choice(self) -> Choice:
        """The format, or one line a column if that was chosen."""
        vertical = self.session.expanded or self._vertical
        return replace(self.session.choice, name="VERTICAL") if vertical else self.session.choice

    @contextlib.contextmanager
    def redirected(self, output: Output, choice: Choice) -> Iterator[None]:
        """Meanwhile show everything in `output`, in the format `choice`."""
        session = self.session
        before = self.output, session.choice, session.expanded
        self.output, session.choice, session.expanded = output, choice, False
        try:
            yield
        finally:
            self.output, session.choice, session.expanded = before

    def report(self, failures: Sequence[Failed], asked: int) -> None:
        """Report failures.

        :raises AlreadyReported: there are some
        """
        for line in failure_lines(failures, asked):
            self.complain(line)
        if len(failures) > 1 and self.confirm is not None:  # a script has no next statement
            self.complain("SHOW FAILURES lists them all")
        if failures:
            raise AlreadyReported(f"{len(failures):,} of {counted(asked, 'segment')} failed")

    def show_table(self, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
        """Show the shell's own rows, in the current format. There may be many."""
        choice = replace(self._choice(), merged=False)
        layout = layout_for(choice, self.options(self.output), False)
        show_rows(columns, rows, layout, self.output.open())

    def show_text(self, text: str) -> None:
        """Show lines of text, through the pager if they are many."""
        sink = self.output.open(wraps=True)
        try:
            sink.write(f"{safe_lines(text)}\n" if self.output.terminal else f"{text}\n")
        except BrokenPipeError:
            pass
        finally:
            sink.close()

    def each(
        self, events: Iterable[ProgressEvent | None], segments: Sequence[str], verb: str
    ) -> None:
        """Wait for an action on many segments, with progress.

        :param verb: the action in the past tense, for the progress and the end
        :raises AlreadyReported: some segments failed
        :raises KeyboardInterrupt: it was cancelled; the state of each segment is reported
        """
        progress, transfer = Progress(self.terminal, len(segments), verb), TransferText()
        # The error of each segment if no more events come.
        left: dict[str, TroughError] = dict.fromkeys(segments, errors.Cancelled("not begun"))
        under_way = errors.OutcomeUnknown(f"it was under way, and may have been {verb}")
        failures: list[Failed] = []
        try:
            for event in events:
                match event:
                    case Started(segment):
                        left[segment] = under_way
                    case SegmentResult(segment, error):
                        del left[segment]
                        progress.done += 1
                        if error is not None:
                            progress.failed += 1
                            failures.append(Failed(segment, error))
                    case Published(_, done, total):
                        told = (transfer.share(done, total), transfer.left(done, total))
                        progress.step = ", ".join(filter(None, told))
                progress.draw()
        except KeyboardInterrupt:
            failures += [Failed(segment, error) for segment, error in left.items()]
            with contextlib.suppress(AlreadyReported):
                self._conclude(progress, failures, len(segments), verb)
            raise
        finally:
            progress.clear()
        self._conclude(progress, failures, len(segments), verb)

    def _conclude(self, progress: Progress, failures: list[Failed], asked: int, verb: str) -> None:
        progress.clear()
        self.session.failures = failures
        succeeded = progress.done - progress.failed
        self.say(f"{succeeded:,} of {counted(asked, 'segment')} {verb}")
        self.report(failures, asked)

    @property
    def in_file(self) -> bool:
        """Whether the statement that runs came from a file, and not from the keyboard."""
        return self._depth > 0

    # -- words to people -------------------------------------------------------

    @property
    def terminal(self) -> TextIO | None:
        """The stream for progress, if there is one."""
        return self.messages if self.messages.isatty() else None

    def options(self, output: Output) -> RenderOptions:
        """The options for showing values in `output`."""
        settings = self.settings
        columns = settings.max_column_width if output.terminal else 0
        return RenderOptions(output.terminal, settings.null_as, columns)

    def say(self, text: str) -> None:
        """Write a line for a person. A script's output stays plain."""
        if self.confirm is not None:
            self._script.clear()
            self.output.say(safe_lines(text))

    def complain(self, text: str) -> None:
        """Write a line about an error."""
        self._script.clear()
        self.messages.write(f"{safe_lines(text)}\n")
        self.messages.flush()

    def complain_of(self, error: TroughError) -> None:
        """Write an error, and on the next line what to do about it."""
        self.complain(error.message)
        if error.hint:
            self.complain(f"  {error.hint}")

    def path(self, text: str) -> Path:
        """The path for a file name that a person typed."""
        return Path(text).expanduser()


def unfinished(statement: Statement) -> TroughError:
    """The error for a statement that the end of its text cut off."""
    verb = safe_lines(statement.text.split(maxsplit=1)[0])
    return errors.BadRequest(f"{verb} was not run: the statement has no end", "end it with ;")


def _at(error: TroughError, name: str, line: int) -> TroughError:
    """`error` with its place added; its kind stays the same."""
    placed = errors.from_code(error.code, f"{name}:{line}: {error.message}")
    placed.hint = error.hint
    return placed

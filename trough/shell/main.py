"""The entry point: reads the command line, puts the shell together, and sets the exit status.

==  =====================================================================
0   everything ran
1   a statement failed, or a segment did
2   the command line, or a settings file, is wrong
3   the metadata store cannot be reached
130 Ctrl-C; 141 the reader of the output is gone
==  =====================================================================

Slow imports happen when they are needed: a script must not wait for the line editor.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import os
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from trough import __version__, errors
from trough.cli import metadata_url
from trough.cli.completion import add_completion
from trough.errors import BadSettings, TroughError
from trough.shell.commands import all_commands
from trough.shell.commands.segments import connect_matching, connect_named
from trough.shell.input.batches import decoded, lines_as_they_come
from trough.shell.input.script_progress import ScriptProgress, size_of
from trough.shell.input.statements import lines_of
from trough.shell.output.formats import BY_SUFFIX, FORMATS, Choice, parse_choice
from trough.shell.output.result_file import result_file
from trough.shell.output.sinks import Output, find_pager
from trough.shell.session import Remote, Session
from trough.shell.settings import (
    ShellSettings,
    default_path,
    history_path,
    read_settings,
    workers_path,
    write_default,
)
from trough.shell.shell import AlreadyReported, Quit, Shell
from trough.tls import TlsFiles

OK, FAILED, MISUSED, UNREACHABLE, INTERRUPTED, NO_READER = 0, 1, 2, 3, 130, 141


class _Unreachable(Exception):
    """No server of the metadata store answers at the start."""


def parser() -> argparse.ArgumentParser:
    """The command line."""
    result = argparse.ArgumentParser(
        prog="trough-shell",
        description="Ask the segments of a Trough, and change them.",
        epilog="Without -e, and with a terminal, it is interactive; HELP tells more there. Exit "
        "status: 0 everything ran, 1 a statement or a segment failed, 2 the command line or a "
        "settings file cannot be meant, 3 the metadata store cannot be reached, 130 Ctrl-C, "
        "141 the reader of the output has gone.",
    )
    add = result.add_argument
    add("segments", nargs="*", metavar="segment", help="segments to connect to")
    add("-m", "--matching", metavar="REGEX", help="connect to all segments that match")
    add("-u", "--url", metavar="URL", help=metadata_url.HELP)
    add("-w", "--writable", action="store_true", help="read-write mode")
    add("-s", "--schema", help="with -w: the first write to a segment creates it from this schema")
    add("-e", "--execute", action="append", metavar="SQL", help="run this and end; may be repeated")
    add("-f", "--format", metavar="FORMAT", help=f"{', '.join(FORMATS)}; and MERGED after it")
    add("-o", "--output", metavar="FILE", help="where results go; replaced if nothing fails")
    add("-v", "--verbose", action="store_true", help="log to stderr, and show tracebacks")
    add("--version", action="version", version=f"trough-shell {__version__}")
    add_completion(result)
    return result


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the shell, and return its exit status."""
    commands = parser()
    options = commands.parse_intermixed_args(arguments)
    if options.matching is not None and options.segments:
        commands.error("--matching and names of segments: give one of them")
    try:
        with contextlib.ExitStack() as stack:
            return run(options, stack)
    except AlreadyReported:
        return FAILED
    except BadSettings as error:
        return _fail(error, MISUSED)
    except _Unreachable as error:
        return _fail(error, UNREACHABLE)
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # Otherwise the interpreter would try to flush it once more.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return NO_READER
    except TroughError as error:
        return _fail(error, FAILED)
    except Exception as error:
        if options.verbose:
            traceback.print_exc()
        return _fail(error, FAILED)


def run(options: argparse.Namespace, stack: contextlib.ExitStack) -> int:
    """Put the shell together and run it.

    :param stack: closes what was opened
    """
    settings = read_settings(default_path(os.environ))
    interactive = not options.execute and sys.stdin is not None and sys.stdin.isatty()
    binary = _choice(options, settings, False).binary  # refuses, before a file is opened
    output = stack.enter_context(_output(options.output, settings, interactive, binary))
    choice = _choice(options, settings, output.terminal)
    url = metadata_url.registry_url(options.url, os.environ)
    token = metadata_url.access_token(os.environ)
    tls = metadata_url.tls_files(os.environ)
    try:
        whole = functools.partial(
            _whole, url, token, tls, workers_path(settings, os.environ), options.verbose
        )
        direct = not (interactive or options.verbose)
        remote = stack.enter_context(_connected(url, token, tls, whole, direct))
    except errors.Unavailable as error:
        raise _Unreachable(str(error)) from error
    session = Session(options.writable, options.schema, choice, timing=settings.timing)
    shell = Shell(session, remote, output, all_commands(), settings, messages=sys.stderr)
    if interactive:
        return _interactive(shell, options, url)
    if options.matching is not None:
        connect_matching(shell, options.matching)
    elif options.segments:
        connect_named(shell, options.segments)
    with contextlib.suppress(Quit):
        _script(shell, options.execute)
    return NO_READER if shell.last_outcome and shell.last_outcome.left else OK


def _script(shell: Shell, texts: Sequence[str] | None) -> None:
    if texts:
        for text in texts:
            shell.run_lines(lines_of(text))
    elif sys.stdin is not None:
        file = sys.stdin.fileno()
        position = functools.partial(os.lseek, file, 0, os.SEEK_CUR)
        with shell.showing(ScriptProgress(shell.terminal, "stdin", size_of(file), position)):
            shell.run_lines(decoded(lines_as_they_come(file), "stdin"), "stdin")


def _interactive(shell: Shell, options: argparse.Namespace, url: str) -> int:
    from trough.metadata.url import parse
    from trough.shell.input import editor as interactive
    from trough.shell.input.known_names import KnownNames

    write_default(default_path(os.environ))
    shell.confirm = interactive.ask
    names = KnownNames(shell.remote)
    history = interactive.open_history(history_path(shell.settings, os.environ))
    # Parsed, because a parsed address does not repeat a password.
    shell.say(f"trough-shell {__version__}, {parse(url)}\n{interactive.WELCOME}")
    if options.matching is not None:
        interactive.run_typed(shell, f"CONNECT MATCHING {options.matching}", options.verbose)
    elif options.segments:
        interactive.run_typed(shell, f"CONNECT {' '.join(options.segments)}", options.verbose)
    editor = interactive.Editor(shell, names, history)
    interactive.converse(shell, editor.read, names, options.verbose)
    return OK


def _choice(options: argparse.Namespace, settings: ShellSettings, terminal: bool) -> Choice:
    if options.format:
        try:
            return parse_choice(options.format)
        except TroughError as error:
            raise BadSettings(error.message, error.hint) from error
    if terminal:
        return parse_choice(settings.format)
    if options.output is None:
        return Choice("TSV")
    name = BY_SUFFIX.get(Path(options.output).suffix.lower())
    if name is None:
        raise BadSettings(
            f"--output {options.output}: no format goes with this name",
            f"end it with one of {' '.join(BY_SUFFIX)}, or add --format",
        )
    return Choice(name)


@contextlib.contextmanager
def _output(
    name: str | None, settings: ShellSettings, interactive: bool, binary: bool
) -> Iterator[Output]:
    if name is None:
        if hasattr(sys.stdout, "reconfigure"):
            sys.stdout.reconfigure(errors="backslashreplace")
        # A person would have to leave a pager before a script continued.
        yield Output(sys.stdout, find_pager(settings.pager, os.environ) if interactive else "")
        return
    with contextlib.ExitStack() as stack:
        try:
            file = stack.enter_context(result_file(Path(name), binary))
        except errors.BadRequest as error:
            raise BadSettings(f"--output {error.message}") from error
        yield Output(file, binary=binary)


@contextlib.contextmanager
def _connected(
    url: str, token: str | None, tls: TlsFiles, whole: Callable[[], Remote], direct: bool
) -> Iterator[Remote]:
    remote: Remote
    if not direct:
        remote = whole()
    else:
        from trough.shell.cluster.direct import connect

        remote = connect(url, token, tls, whole)
    try:
        yield remote
    finally:
        remote.close()


def _whole(
    url: str, token: str | None, tls: TlsFiles, workers: Path | None, verbose: bool
) -> Remote:
    from trough.shell.cluster.remote import connect

    return connect(url, token, tls, workers, verbose)


def _fail(error: Exception, status: int) -> int:
    sys.stderr.write(f"trough-shell: {error}\n")
    return status


if __name__ == "__main__":
    sys.exit(main())

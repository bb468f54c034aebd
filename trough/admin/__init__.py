"""``trough-admin``: the operator's tool, which works directly on the metadata store.

It works without a running sync server, because then operators need it most. Commands that look
change nothing. A command that changes something prints what it does. A command that can lose data
prints first what could be lost, and asks. Each error is one line. This package does not depend on
how workers and sync servers carry out a decision: they watch the store themselves.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from twisted.internet import task
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from trough import __version__, errors
from trough.admin.aside import add_aside_actions, aside
from trough.admin.certificates import add_certificate_commands
from trough.admin.checking import check_original
from trough.admin.console import DONE, FAILED, INTERRUPTED, Console
from trough.admin.deciding import drain, forget, free_lock, free_locks, pause, resume, undrain
from trough.admin.looking import locks, status, workers
from trough.admin.tokens import add_token_commands
from trough.admin.users import CLIENTS, SERVERS, rethinkdb_users
from trough.cli import metadata_url
from trough.cli.completion import add_completion
from trough.metadata import Metadata, UserRefused
from trough.metadata.open import open_metadata
from trough.metadata.url import parse
from trough.util.trouble_log import Section

__all__ = ["DONE", "FAILED", "INTERRUPTED", "Console", "command_line", "main"]
__all__ += ["aside", "check_original", "drain", "forget", "free_lock", "free_locks", "locks"]
__all__ += ["pause", "resume", "status", "undrain", "workers"]

#: Seconds for which each call waits for the metadata store: RethinkDB's failover from a
#: server that hangs took 18.5.
PATIENCE = 30.0

#: Seconds for which the store may be silent without a notice, and seconds between two looks.
SILENCE = 1.0
LOOK = 0.5

DESCRIPTION = """\
Look at a Trough, and decide what an operator has to: through its metadata store, whether
or not a sync server is there.
"""

EPILOG = """\
`trough-admin COMMAND --help` tells more of one. Exit status: 0 done, 1 it was refused or
failed (see status), 2 the command line cannot be meant, 130 Ctrl-C.
"""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run ``trough-admin``; it ends with :class:`SystemExit`, as the reactor does."""
    options = command_line().parse_args(arguments)
    # Ctrl-C stops the reactor; then the command has not succeeded.
    outcome = [INTERRUPTED]
    if "local" in options:
        raise SystemExit(_run_local(options))
    try:
        task.react(lambda reactor: Deferred.fromCoroutine(_run(reactor, options, outcome)))
    except SystemExit as end:
        raise SystemExit(end.code or outcome[0]) from None


def _run_local(options: argparse.Namespace) -> int:
    """Run a command that needs no store; return its exit status."""
    try:
        status: int = options.local(sys.stdout, options)
    except errors.TroughError as error:
        print(f"trough-admin: {' '.join(str(error).split())}", file=sys.stderr)
        return FAILED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    return status


async def _run(reactor: Any, options: argparse.Namespace, outcome: list[int]) -> None:
    url = ""
    try:
        url = metadata_url.registry_url(options.url, os.environ)
        metadata_url.check_file(parse(url))
        metadata = open_metadata(url, reactor, patience=PATIENCE)
        looking = task.LoopingCall(_Waiting(metadata, reactor).look)
        looking.start(LOOK, now=False)
        try:
            await metadata.open()
            tls = metadata_url.tls_files(os.environ)
            console = Console(metadata, sys.stdin, sys.stdout, reactor, tls)
            status = await options.command(console, options)
            sys.stdout.flush()
        finally:
            looking.stop()
            await metadata.close()
    except errors.TroughError as error:
        reason = _reason_of(error, options, url)
        if getattr(options, "json", False):
            # A program that reads JSON reads nothing else.
            print(json.dumps({"healthy": False, "error": reason}))
        print(f"trough-admin: {reason}", file=sys.stderr)
        status = FAILED
    except KeyboardInterrupt:
        print("\ntrough-admin: nothing was changed", file=sys.stderr)
        status = FAILED
    except BrokenPipeError:
        # `trough-admin locks | head` reads no more; the exit must flush nothing.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = FAILED
    outcome[0] = status


def _reason_of(error: errors.TroughError, options: argparse.Namespace, url: str) -> str:
    """An error in one line; that of a status names the section of the guide."""
    reason = " ".join(str(error).split())
    # A status asks the metadata store and nobody else.
    if options.command is not status or not url.startswith("rethinkdb:"):
        return reason
    if isinstance(error, errors.Unavailable):
        return Section.RETHINKDB.add_to(reason)
    return Section.REFUSED_USER.add_to(reason) if isinstance(error, UserRefused) else reason


class _Waiting:
    """Prints once that the command waits for the metadata store."""

    def __init__(self, metadata: Metadata, clock: IReactorTime) -> None:
        self._metadata = metadata
        self._clock = clock
        self._told = False

    def look(self) -> None:
        absence = self._metadata.absence
        if absence and not self._told and self._clock.seconds() - absence.since >= SILENCE:
            self._told = True
            print(
                f"trough-admin: waiting for the metadata store: {absence.reason}; Ctrl-C ends that",
                file=sys.stderr,
            )


Command = Callable[[Console, argparse.Namespace], Awaitable[int]]


def command_line() -> argparse.ArgumentParser:
    """All commands and their options."""
    parser = argparse.ArgumentParser("trough-admin", description=DESCRIPTION, epilog=EPILOG)
    parser.add_argument("-u", "--url", help=metadata_url.HELP)
    parser.add_argument("--version", action="version", version=f"trough-admin {__version__}")
    add_completion(parser)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, function: Command, help_text: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=help_text, description=help_text.capitalize() + ".")
        sub.set_defaults(command=function)
        return sub

    _add_looking(command)
    _add_deciding(command)
    _add_users(command)
    for add in (add_token_commands, add_certificate_commands):
        add(lambda name, text: commands.add_parser(name, help=text, description=f"{text}."))
    return parser


def _add_users(command: Callable[[str, Command, str], argparse.ArgumentParser]) -> None:
    users = command(
        "rethinkdb-users",
        rethinkdb_users,
        "make a user of RethinkDB for Trough and one for clients, which reads alone; -u names "
        "RethinkDB's user admin, which nobody else needs then",
    )
    users.add_argument("--servers", default=SERVERS, metavar="NAME", help="(%(default)s)")
    users.add_argument("--clients", default=CLIENTS, metavar="NAME", help="(%(default)s)")
    users.add_argument(
        "--new-passwords", action="store_true", help="replace those of users that are there"
    )


def _add_looking(command: Callable[[str, Command, str], argparse.ArgumentParser]) -> None:
    command(
        "status",
        status,
        "who leads, how many workers live, what is amiss; the exit status is 1 where nobody "
        "leads, no worker lives, a lock's holder does not, or a server reports a trouble",
    ).add_argument("--json", action="store_true", help="as one JSON object, for programs")
    command("workers", workers, "all workers, with state, hash ring, load and space")
    command(
        "check-original",
        check_original,
        "list what an upgrade from the original Trough refuses: segment ids, schemas, rows; the "
        "exit status is 1 where there is any, or a write lock",
    )
    listing = command("locks", locks, "all write locks, and whether their holders live")
    listing.add_argument("--worker", metavar="NODE", help="only those of this worker")
    listing.add_argument(
        "--without-follower",
        action="store_true",
        help="only those that are replicated, and have no living follower",
    )


def _add_deciding(command: Callable[[str, Command, str], argparse.ArgumentParser]) -> None:
    keeping = command(
        "aside",
        aside,
        "list the files of unpromoted writes that workers keep aside; or compare one with the "
        "canonical copy, put it back, or delete it",
    )
    add_aside_actions(keeping)

    def on_worker(name: str, function: Command, help_text: str) -> argparse.ArgumentParser:
        sub = command(name, function, help_text)
        sub.add_argument("node", metavar="NODE")
        return sub

    def asking(sub: argparse.ArgumentParser) -> None:
        sub.add_argument("--yes", action="store_true", help="do not ask")

    emptying = on_worker(
        "drain", drain, "have a worker emptied, without a moment of too few copies"
    )
    emptying.add_argument(
        "--promote", action="store_true", help="have it promote all that it writes, at once"
    )
    emptying.add_argument("--wait", action="store_true", help="return once it is empty")
    on_worker("undrain", undrain, "let a drained worker have copies again")
    on_worker(
        "pause", pause, "have a worker's copies not moved for a time, also while it is away"
    ).add_argument("duration", metavar="DURATION", help="as 90s, 30m, 2h or 1d")
    on_worker("resume", resume, "end a worker's pause before its time")
    free = command(
        "free-lock", free_lock, "take the write lock away from a lost worker; can lose data"
    )
    free.add_argument("segment", metavar="SEGMENT")
    asking(free)
    asking(
        on_worker(
            "free-locks",
            free_locks,
            "take all write locks away from a worker that never returns; can lose data",
        )
    )
    asking(
        on_worker(
            "forget",
            forget,
            "remove all that is known of a worker that never returns, its write locks included; "
            "can lose data",
        )
    )

"""``trough-admin``: what an operator looks at and decides, straight in the metadata store.

It works while no sync server does, which is when it is needed most. Looking changes
nothing; a change says what it does, and the one that can lose data says what could be lost
and asks first. Errors are one line each. It refuses to know how workers and sync servers
carry out what was decided: they watch the store themselves.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TextIO

from twisted.internet import task
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from trough import errors, model, registry_url
from trough.metadata import Metadata
from trough.metadata.open import open_metadata

DONE, FAILED, INTERRUPTED = 0, 1, 130

#: Seconds between two looks at a worker that is being drained.
LOOK = 1.0

#: Seconds of waiting for the metadata store without a word.
SILENCE = 2.0

DESCRIPTION = """\
Look at a Trough, and decide what an operator has to: through its metadata store, whether
or not a sync server is there.
"""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run ``trough-admin``; ends with :class:`SystemExit`, as the reactor does."""
    options = _parser().parse_args(arguments)
    # Ctrl-C stops the reactor, which is no success of what was asked.
    outcome = [INTERRUPTED]
    try:
        task.react(lambda reactor: Deferred.fromCoroutine(_run(reactor, options, outcome)))
    except SystemExit as end:
        raise SystemExit(end.code or outcome[0]) from None


async def _run(reactor: Any, options: argparse.Namespace, outcome: list[int]) -> None:
    try:
        url = registry_url.registry_url(options.url, os.environ)
        metadata = open_metadata(url, reactor)
        waiting = reactor.callLater(SILENCE, _say_what_is_waited_for)
        try:
            await metadata.open()
        finally:
            if waiting.active():
                waiting.cancel()
        try:
            console = Console(metadata, sys.stdin, sys.stdout, reactor)
            status = await options.command(console, options)
            sys.stdout.flush()
        finally:
            await metadata.close()
    except errors.TroughError as error:
        print(f"trough-admin: {' '.join(str(error).split())}", file=sys.stderr)
        status = FAILED
    except KeyboardInterrupt:
        print("\ntrough-admin: nothing was changed", file=sys.stderr)
        status = FAILED
    except BrokenPipeError:
        # `trough-admin locks | head` has seen enough; nothing may be flushed at the end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = FAILED
    outcome[0] = status


def _say_what_is_waited_for() -> None:
    print("trough-admin: waiting for the metadata store; Ctrl-C ends that", file=sys.stderr)


@dataclass(frozen=True, slots=True)
class Console:
    """What a command works with: the store, the person, and the time."""

    metadata: Metadata
    input: TextIO
    output: TextIO
    clock: IReactorTime

    def say(self, text: str) -> None:
        """Print a line."""
        print(text, file=self.output, flush=True)

    def table(self, *rows: Iterable[object]) -> None:
        """Print rows in columns, the first row being the heading."""
        texts = [[str(cell) for cell in row] for row in rows]
        widths = [max(map(len, column)) for column in zip(*texts, strict=True)]
        for row in texts:
            cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
            self.say("  ".join(cells).rstrip())

    def ask(self, question: str) -> str:
        """What the person answers."""
        # The reactor's handler would only note Ctrl-C down, and reading would go on; so
        # another one is there before anybody can have read the question.
        former = signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            print(question, end=" ", file=self.output, flush=True)
            return self.input.readline().strip()
        finally:
            signal.signal(signal.SIGINT, former)


# -- looking -------------------------------------------------------------------


async def status(console: Console, options: argparse.Namespace) -> int:
    """Who leads, how many workers live, and what is amiss."""
    metadata = console.metadata
    leader = await metadata.leader()
    workers = await metadata.workers()
    alive = {worker.node for worker in workers}
    draining = await metadata.draining()
    # One that was drained and stopped is gone because somebody wanted that.
    lost = sorted(set(await metadata.rings()) - alive - draining)
    locks = await metadata.locks()
    orphaned = [lock.segment for lock in locks if lock.node not in alive]
    drained = [node if node in alive else f"{node} (not alive)" for node in sorted(draining)]
    led_by = (
        f"{leader.node} at {leader.url}, generation {leader.generation}" if leader else "nobody"
    )
    console.say(f"leader    {led_by}")
    console.say(f"workers   {len(workers)} alive{_listed(lost, 'not alive')}")
    console.say(f"draining  {', '.join(drained) or 'none'}")
    console.say(f"locks     {len(locks)}{_listed(orphaned, 'held by workers not alive')}")
    console.say(f"schemas   {len(await metadata.schemas())}")
    return DONE if leader and workers and not orphaned else FAILED


def _listed(names: Sequence[str], what: str, most: int = 10) -> str:
    if not names:
        return ""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return f"; {what}: {', '.join(names[:most])}{more}"


async def workers(console: Console, options: argparse.Namespace) -> int:
    """Every worker that lives, or has a place on a hash ring."""
    alive = {worker.node: worker for worker in await console.metadata.workers()}
    rings = await console.metadata.rings()
    draining = await console.metadata.draining()
    rows = []
    for node in sorted({*alive, *rings, *draining}):
        worker = alive.get(node)
        state = [
            "alive" if worker else "not alive",
            *(["draining"] if node in draining else []),
            *(["cold"] if worker and worker.cold_storage else []),
        ]
        told = (
            (f"{worker.load:g}", _size(worker.available_bytes), _size(worker.capacity), worker.line)
            if worker
            else ("-",) * 4
        )
        rows.append((node, ", ".join(state), rings.get(node, "-"), *told))
    console.table(("WORKER", "STATE", "RING", "LOAD", "AVAILABLE", "CAPACITY", "ADDRESS"), *rows)
    return DONE


async def locks(console: Console, options: argparse.Namespace) -> int:
    """Every write lock, and whether its holder lives."""
    alive = {worker.node for worker in await console.metadata.workers()}
    rows = [
        (
            lock.segment,
            lock.node,
            "alive" if lock.node in alive else "not alive",
            lock.epoch,
            _moment(lock.acquired_on),
        )
        for lock in await console.metadata.locks(options.worker)
    ]
    console.table(("SEGMENT", "WORKER", "STATE", "EPOCH", "SINCE"), *rows)
    return DONE


def _size(number: int) -> str:
    size = float(number)
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.3g} TB"


def _moment(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S} UTC"


# -- deciding ------------------------------------------------------------------


async def drain(console: Console, options: argparse.Namespace) -> int:
    """Have a worker emptied."""
    await _known(console.metadata, options.node)
    await console.metadata.set_draining(options.node, True)
    console.say(
        f"{options.node} is being drained: the leader moves its copies to other workers, and "
        "it gets no new ones. `trough-admin undrain` takes that back."
    )
    if options.wait:
        await _until_empty(console, options.node)
    return DONE


async def _until_empty(console: Console, node: str) -> None:
    told = ""
    while missing := await _what_it_has(console.metadata, node):
        if missing != told:
            console.say(f"{node} still has {missing}")
            told = missing
        await task.deferLater(console.clock, LOOK)
    console.say(f"{node} is empty, and can be stopped.")


async def _what_it_has(metadata: Metadata, node: str) -> str:
    """Locks first: as long as there is one, its segment stays as well."""
    locks = [lock.segment for lock in await metadata.locks(node)]
    if locks:
        return f"write locks ({len(locks)}){_listed(locks, 'promote')}"
    async for page in metadata.assignments(node):
        if page:
            return "copies of segments"
    return ""


async def undrain(console: Console, options: argparse.Namespace) -> int:
    """Let a worker have copies again."""
    if model.check_node_name(options.node) not in await console.metadata.draining():
        raise errors.NotFound(f"{options.node} is not being drained")
    await console.metadata.set_draining(options.node, False)
    console.say(f"{options.node} gets copies again.")
    return DONE


async def _known(metadata: Metadata, node: str) -> None:
    model.check_node_name(node)
    known = {worker.node for worker in await metadata.workers()} | set(await metadata.rings())
    if node not in known:
        raise errors.NotFound(f"no worker {node}{_listed(sorted(known), 'there are')}")


async def free_lock(console: Console, options: argparse.Namespace) -> int:
    """Take the write lock away from its holder."""
    metadata = console.metadata
    segment = model.check_segment_id(options.segment)
    lock = await metadata.lock_of(segment)
    if lock is None:
        raise errors.NotFound(f"nobody holds a write lock of segment {segment}")
    alive = any(worker.node == lock.node for worker in await metadata.workers())
    console.say(_what_could_be_lost(lock, alive, await _last_promotion(metadata, segment)))
    if not options.yes:
        _insist(console, "To free the lock, type the segment's id", segment)
    await metadata.release_lock(lock)
    console.say(f"The write lock of segment {segment} is free.")
    return DONE


async def free_locks(console: Console, options: argparse.Namespace) -> int:
    """Take all write locks away from a worker that is lost for good."""
    metadata, node = console.metadata, model.check_node_name(options.node)
    locks = await metadata.locks(node)
    if not locks:
        raise errors.NotFound(f"{node} holds no write lock")
    if any(worker.node == node for worker in await metadata.workers()):
        raise errors.Conflict(
            f"{node} is alive", f"drain it, which loses nothing: trough-admin drain {node}"
        )
    console.say(
        f"{node} is not alive and holds {len(locks)} write locks. If it, or its disk, can be "
        "brought back,\ndo that instead. What was written to these segments since their last "
        f"promotions is on\nthe disk of {node} and nowhere else, and the next writers go on "
        "without it:"
    )
    for lock in locks:
        promoted = await _last_promotion(metadata, lock.segment)
        console.say(f"  {lock.segment}  {promoted or 'never promoted, as far as is known'}")
    if not options.yes:
        _insist(console, "To free them all, type the worker's name", node)
    for lock in locks:
        await metadata.release_lock(lock)
    console.say(f"{len(locks)} write locks of {node} are free.")
    return DONE


async def _last_promotion(metadata: Metadata, segment: str) -> str:
    """When the canonical copy was published, as far as the store knows; empty: never."""
    assignments = await metadata.assignments_of_segment(segment)
    promoted = max((assignment.modified for assignment in assignments), default=0)
    return _moment(promoted / 1000) if promoted else ""


def _insist(console: Console, question: str, answer: str) -> None:
    """Have the person type `answer`.

    :raises trough.errors.Cancelled: something else was typed
    :raises trough.errors.BadRequest: nobody is there to type
    """
    if not console.input.isatty():
        raise errors.BadRequest("nobody is there to be asked", "say --yes")
    if console.ask(f"{question} ({answer}):") != answer:
        raise errors.Cancelled("that is something else: no lock was freed")


def _what_could_be_lost(lock: model.Lock, alive: bool, promoted: str) -> str:
    """The warning before a lock is freed.

    :param promoted: when the canonical copy was published; empty: there is none
    """
    advice = (
        f"{lock.node} is alive: promoting the segment, instead of this, loses nothing."
        if alive
        else f"{lock.node} is not alive: if it can be brought back, do that instead."
    )
    loss = (
        f"Everything written since the last promotion ({promoted})"
        if promoted
        else "The segment was never promoted, as far as is known: everything in it"
    )
    return (
        f"{lock.node} holds the write lock of segment {lock.segment} since "
        f"{_moment(lock.acquired_on)}, epoch {lock.epoch}.\n{advice}\n"
        f"{loss} is on the disk of {lock.node} and nowhere else.\n"
        "Once the lock is free, the next writer goes on without it, and what "
        f"{lock.node} has\nis never merged: it keeps its file aside, for you to look at."
    )


# -- the command line ----------------------------------------------------------

Command = Callable[[Console, argparse.Namespace], Awaitable[int]]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("trough-admin", description=DESCRIPTION)
    parser.add_argument("-u", "--url", help=registry_url.HELP)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, function: Command, help_text: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=help_text, description=help_text.capitalize() + ".")
        sub.set_defaults(command=function)
        return sub

    command(
        "status",
        status,
        "who leads, how many workers live, what is amiss; the exit status is 1 where nobody "
        "leads, no worker lives, or a lock's holder does not",
    )
    command("workers", workers, "all workers, with state, hash ring, load and space")
    listing = command("locks", locks, "all write locks, and whether their holders live")
    listing.add_argument("--worker", metavar="NODE", help="only those of this worker")
    emptying = command("drain", drain, "have a worker emptied, without a moment of too few copies")
    emptying.add_argument("node", metavar="NODE")
    emptying.add_argument("--wait", action="store_true", help="return once it is empty")
    command("undrain", undrain, "let a drained worker have copies again").add_argument(
        "node", metavar="NODE"
    )
    free = command(
        "free-lock", free_lock, "take the write lock away from a lost worker; can lose data"
    )
    free.add_argument("segment", metavar="SEGMENT")
    free.add_argument("--yes", action="store_true", help="do not ask")
    free_all = command(
        "free-locks", free_locks, "take all write locks away from a worker that never returns"
    )
    free_all.add_argument("node", metavar="NODE")
    free_all.add_argument("--yes", action="store_true", help="do not ask")
    return parser

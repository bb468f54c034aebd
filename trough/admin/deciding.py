"""The commands with which an operator decides.

A command that changes something prints what it does. One that can lose data prints first what could
be lost, and asks.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from twisted.internet import task

from trough import errors, model
from trough.admin.console import DONE, FAILED, Console, insist, listed, moment
from trough.admin.promoting import living_worker, promote_all
from trough.leader import worker_probe
from trough.metadata import Metadata
from trough.util.wording import counted

#: Seconds between two looks at a worker that is being drained, at least. The second number is how
#: many times longer than a look the pause after it is.
LOOK = 1.0
_REST = 5.0

#: Seconds between two lines about a drain if the output is no terminal.
REPORT = 60.0

_INTERRUPT = "Ctrl-C stops waiting"

#: Seconds for which a worker may be paused: a forgotten pause must end.
_LONGEST_PAUSE = 7 * 86400


async def drain(console: Console, options: argparse.Namespace) -> int:
    """Empty a worker."""
    await _known(console.metadata, options.node)
    promoting = await living_worker(console.metadata, options.node) if options.promote else None
    await console.metadata.set_draining(options.node, True)
    console.say(
        f"{options.node} is being drained: the leader moves its copies to other workers, and "
        "it gets no new ones. `trough-admin undrain` takes that back."
    )
    # From here on the worker gets no new segments, so the number that it writes is bounded.
    if promoting is not None and not await promote_all(console, promoting):
        return FAILED
    if options.wait:
        await _until_empty(console, options.node)
    return DONE


async def _until_empty(console: Console, node: str) -> None:
    report = _DrainReport(console, node)
    try:
        while True:
            begun = console.clock.seconds()
            locks = [lock.segment for lock in await console.metadata.locks(node)]
            copies = 0
            async for page in console.metadata.assignments(node):
                copies += len(page)
            if not locks and not copies:
                break
            report.has(locks, copies)
            # Counting a million copies takes long, and must not load the store too much.
            spent = console.clock.seconds() - begun
            await task.deferLater(console.clock, max(LOOK, _REST * spent))
    finally:
        report.progress.clear()
    console.say(f"{node} is empty, and can be stopped.")


class _DrainReport:
    """Prints what a worker still has: on a terminal a progress line, elsewhere one line a
    minute."""

    def __init__(self, console: Console, node: str) -> None:
        self._console = console
        self._node = node
        self._locks: list[str] = []
        self._most = 0
        self._said = -REPORT
        self.progress = console.progress(None, "moved", _INTERRUPT)

    def has(self, locks: list[str], copies: int) -> None:
        """Note that the worker has write locks of these segments, and so many copies."""
        now = self._console.clock.seconds()
        if copies and not self._console.output.isatty() and now - self._said >= REPORT:
            self._said = now
            self._console.say(f"{self._node} still has copies of {counted(copies, 'segment')}")
        if locks and locks != self._locks:
            # A segment stays on the worker as long as its write lock does.
            self.progress.clear()
            named = f"write locks ({len(locks)}){listed(locks, 'promote')}"
            self._console.say(f"{self._node} still has {named}")
        self._locks = locks
        self._most = self.progress.total = max(copies, self._most)
        self.progress.done = self._most - copies
        self.progress.draw()


async def undrain(console: Console, options: argparse.Namespace) -> int:
    """Allow a worker to get copies again."""
    if model.check_node_name(options.node) not in await console.metadata.draining():
        raise errors.NotFound(f"{options.node} is not being drained")
    await console.metadata.set_draining(options.node, False)
    console.say(f"{options.node} gets copies again.")
    return DONE


async def pause(console: Console, options: argparse.Namespace) -> int:
    """Keep a worker's copies in place while it is under maintenance."""
    seconds = _duration(options.duration)
    await _known(console.metadata, options.node)
    await console.metadata.pause(options.node, seconds)
    until = (await console.metadata.paused())[options.node]
    console.say(
        f"The copies of {options.node} are not moved until {moment(until)}, also while it is "
        "away. `trough-admin resume` ends that."
    )
    return DONE


async def resume(console: Console, options: argparse.Namespace) -> int:
    """End a worker's maintenance."""
    if model.check_node_name(options.node) not in await console.metadata.paused():
        raise errors.NotFound(f"{options.node} is not paused")
    await console.metadata.pause(options.node, 0)
    console.say(f"The copies of {options.node} are moved again MOVE_GRACE after it is missed.")
    return DONE


def _duration(text: str) -> float:
    """A duration in seconds.

    :param text: a number with a unit, for example ``90s``, ``30m``, ``2h`` or ``1d``
    """
    units = {"s": 1, "m": 60, "h": 3600, "d": 86400}
    number, unit = text[:-1], text[-1:]
    seconds = int(number) * units[unit] if unit in units and number.isdecimal() else 0
    if not 0 < seconds <= _LONGEST_PAUSE:
        raise errors.BadRequest(f"{text!a} is no time up to 7 days", "say 90s, 30m, 2h or 1d")
    return float(seconds)


async def _known(metadata: Metadata, node: str) -> None:
    model.check_node_name(node)
    known = {worker.node for worker in await metadata.workers()} | set(await metadata.rings())
    if node not in known:
        raise errors.NotFound(f"no worker {node}{listed(sorted(known), 'there are')}")


async def free_lock(console: Console, options: argparse.Namespace) -> int:
    """Take the write lock away from its holder."""
    metadata = console.metadata
    segment = model.check_segment_id(options.segment)
    lock = await metadata.lock_of(segment)
    if lock is None:
        raise errors.NotFound(f"nobody holds a write lock of segment {segment}")
    alive = any(worker.node == lock.node for worker in await metadata.workers())
    if not alive:
        alive = await _answers_itself(console, lock.node)
    console.say(_what_could_be_lost(lock, alive, await _last_promotion(metadata, segment)))
    if not options.yes:
        insist(console, "To free the lock, type the segment's id", segment)
    await metadata.release_lock(lock)
    console.say(f"The write lock of segment {segment} is free.")
    return DONE


async def free_locks(console: Console, options: argparse.Namespace) -> int:
    """Take all write locks away from a worker that is lost for good."""
    metadata, node = console.metadata, model.check_node_name(options.node)
    locks = await metadata.locks(node)
    if not locks:
        raise errors.NotFound(f"{node} holds no write lock")
    hint = f"drain it, which loses nothing: trough-admin drain {node}"
    await _refuse_alive(console, node, hint)
    dirty = [lock for lock in locks if not lock.is_clean]
    clean = len(locks) - len(dirty)
    released = f", {clean} of them clean: the leader releases those by itself" if clean else ""
    console.say(f"{node} is not alive and holds {counted(len(locks), 'write lock')}{released}.")
    if dirty:
        console.say(_INSTEAD)
        await _warn_of_locks(console, node, dirty)
        if not options.yes:
            insist(console, "To free them all, type the worker's name", node)
    await _free(console, node, locks)
    return DONE


async def forget(console: Console, options: argparse.Namespace) -> int:
    """Remove all rows of a worker that is lost for good."""
    metadata, node = console.metadata, model.check_node_name(options.node)
    await _refuse_alive(console, node, "it can be forgotten WORKER_TTL after it was stopped")
    locks = await metadata.locks(node)
    ring = (await metadata.rings()).get(node)
    draining = node in await metadata.draining()
    copies = await _count_assignments(metadata, node)
    removed = {
        f"its place on hash ring {ring}": ring is not None,
        "that it is being drained": draining,
        f"its assignments ({copies}), whose copies the leader has made elsewhere": copies,
        f"its write locks ({len(locks)})": locks,
    }
    if not any(removed.values()):
        raise errors.NotFound(f"nothing is known of a worker {node}")
    console.say(f"{node} is not alive. {_INSTEAD} Forgetting it removes:")
    for what, is_there in removed.items():
        if is_there:
            console.say(f"  {what}")
    dirty = [lock for lock in locks if not lock.is_clean]
    if dirty:
        await _warn_of_locks(console, node, dirty)
    if not options.yes:
        insist(console, "To forget it, type the worker's name", node)
    # This call refuses if the worker came back meanwhile; its locks are still untouched then.
    await metadata.forget_worker(node)
    if locks:
        await _free(console, node, locks)
    console.say(f"{node} is forgotten.")
    return DONE


_INSTEAD = "If it, or its disk, can be brought back,\ndo that instead."


async def _answers_itself(console: Console, node: str) -> bool:
    """Whether a worker that is dead for the metadata store answers; if so, print that."""
    line = await worker_probe.answers(console.metadata, node, console.clock, console.tls)
    if line:
        console.say(
            f"{node} answers at {line}, although the metadata store takes it for dead: are the "
            "clocks of the\nRethinkDB servers right, and does it reach them?"
        )
    return bool(line)


async def _refuse_alive(console: Console, node: str, hint: str) -> None:
    alive = any(worker.node == node for worker in await console.metadata.workers())
    if alive or await _answers_itself(console, node):
        raise errors.Conflict(f"{node} is alive", hint)


async def _count_assignments(metadata: Metadata, node: str) -> int:
    count = 0
    async for page in metadata.assignments(node):
        count += len(page)
    return count


async def _warn_of_locks(console: Console, node: str, locks: Sequence[model.Lock]) -> None:
    console.say(
        "What was written to these segments since their last promotions is on the disk of "
        f"{node}\nand nowhere else, and the next writers go on without it:"
    )
    for lock in locks:
        promoted = await _last_promotion(console.metadata, lock.segment)
        since = _dirty_since(lock)
        console.say(
            f"  {lock.segment}  {promoted or 'no promotion is known'}, written since {since}"
        )


def _dirty_since(lock: model.Lock) -> str:
    """The time since which there may be unpromoted writes, as text."""
    return moment(lock.dirty_since) if lock.dirty_since else "an unknown time"


async def _free(console: Console, node: str, locks: Sequence[model.Lock]) -> None:
    progress = console.progress(len(locks), "freed", "Ctrl-C stops")
    try:
        for lock in locks:
            await console.metadata.release_lock(lock)
            progress.done += 1
            progress.draw()
    finally:
        progress.clear()
    console.say(f"Write locks of {node} that are free now: {len(locks)}.")


async def _last_promotion(metadata: Metadata, segment: str) -> str:
    """When the canonical copy was published, according to the store; empty: no copy is known."""
    assignments = await metadata.assignments_of_segment(segment)
    promoted = max((assignment.modified for assignment in assignments), default=0)
    if promoted:
        return moment(promoted / 1000)
    # The rows of the original Trough have the copy's size and no time.
    known = any(assignment.size for assignment in assignments)
    return "promoted, the time is not known" if known else ""


def _what_could_be_lost(lock: model.Lock, alive: bool, promoted: str) -> str:
    """The warning before a lock is freed.

    :param promoted: when the canonical copy was published; empty: no copy is known
    """
    advice = (
        f"{lock.node} is alive: promoting the segment, instead of this, loses nothing."
        if alive
        else f"{lock.node} is not alive: if it can be brought back, do that instead."
    )
    loss = (
        f"Everything written since the last promotion ({promoted})"
        if promoted
        else "No promotion of the segment is known: everything in it"
    )
    if lock.is_clean:
        return (
            f"{lock.node} holds the write lock of segment {lock.segment} since "
            f"{moment(lock.acquired_on)}, epoch {lock.epoch}.\n{advice}\n"
            f"All that was written is promoted ({promoted or 'the time is not known'}): "
            "nothing is lost."
        )
    return (
        f"{lock.node} holds the write lock of segment {lock.segment} since "
        f"{moment(lock.acquired_on)}, epoch {lock.epoch}.\n{advice}\n"
        f"{loss} is on the disk of {lock.node} and nowhere else.\n"
        "Once the lock is free, the next writer goes on without it, and what "
        f"{lock.node} has\nis never merged: it keeps its file aside, for you to look at."
    )

"""Conditions that every store enforces, as functions of values.

A backend reads what is in force, atomically with the change that depends on it, and asks
here. So all stores refuse the same things with the same words.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from trough import errors
from trough.model import DEFAULT_SCHEMA, Leader, Lock, Schema, Worker
from trough.util.quoting import quoted

Matches = Callable[[str], object]

#: Characters that a pattern may have.
MAX_PATTERN = 1000

#: Deletions of segments that a store remembers, at least.
DELETIONS = 100_000


def refuse_other_leader(present: Leader | None, leader: Leader) -> None:
    """Make sure that `leader` leads.

    :param present: the present leader
    :raises trough.errors.NotLeader: there is none, or it is another one
    """
    if present is None:
        raise errors.NotLeader(f"{leader.node} leads no more: generation {leader.generation} ended")
    if (present.identity, present.generation) != (leader.identity, leader.generation):
        raise errors.NotLeader(
            f"{leader.node} (generation {leader.generation}) leads no more: "
            f"{present.node} does (generation {present.generation})"
        )


def refuse_forgotten_deletions(last: int, seen: int) -> None:
    """Make sure that a store remembers each deletion that a plan does not know of.

    :param last: number of the last deletion
    :param seen: that of the last one that the plan knows of
    :raises trough.errors.Conflict: it does not
    """
    if last - seen > DELETIONS:
        raise errors.Conflict(
            f"more than {DELETIONS} segments were deleted since the leader last looked at "
            "canonical storage",
            "it looks again",
        )


def refuse_other_rings(present: Mapping[str, int], *known: Mapping[str, int]) -> None:
    """Make sure that the rings are as the caller knows them.

    :param present: which worker is on which ring now
    :raises trough.errors.Conflict: somebody else changed that
    """
    if present not in known:
        raise errors.Conflict(
            "the hash rings were changed meanwhile", "look at them again: a worker was forgotten"
        )


def refuse_other_lock(held: Lock | None, lock: Lock) -> None:
    """Make sure that the caller's lock is the one in force.

    :param held: the segment's lock now
    :raises trough.errors.Fenced: there is none, or another one
    """
    if held is None:
        raise errors.Fenced(f"the write lock of {lock.segment} (epoch {lock.epoch}) was released")
    if (held.node, held.epoch) != (lock.node, lock.epoch):
        raise errors.Fenced(
            f"the write lock of {lock.segment} is no longer {lock.node}'s of epoch {lock.epoch}: "
            f"{held.node} has it (epoch {held.epoch})"
        )


def is_same_lock(held: Lock, expected: Lock) -> bool:
    """Whether a lock is the one that a change expects, in all that a change may change."""
    return (held.holder, held.epoch, held.revision, held.followers) == (
        expected.holder,
        expected.epoch,
        expected.revision,
        expected.followers,
    )


def refuse_written(segment: str, holder: str | None) -> None:
    """Make sure that a segment that is to be removed has no writer.

    :param holder: the worker that has its write lock
    :raises trough.errors.LockHeld: there is one
    """
    if holder is not None:
        raise errors.LockHeld(
            f"segment {segment} is locked for writing by {holder}",
            "it was provisioned while it was deleted: promote it, or delete it later",
        )


def refuse_other_worker(present: Worker | None, worker: Worker) -> None:
    """Make sure that no other live worker has the name.

    :param present: the live row of this name
    :raises trough.errors.NameTaken: it is another worker's
    """
    if present is not None and present.identity != worker.identity:
        raise errors.NameTaken(
            f"another worker named {worker.node} is alive at {present.line or present.read_url}",
            "give this one another name (HOSTNAME)",
        )


def refuse_live_worker(node: str, alive: bool) -> None:
    """Make sure that a worker may be forgotten.

    :raises trough.errors.Conflict: it is alive
    """
    if alive:
        raise errors.Conflict(
            f"{node} is alive", "drain it and stop it, if it is not to be used any more"
        )


def refuse_other_default(schema: Schema) -> None:
    """Make sure that the default schema stays empty.

    :raises trough.errors.BadSchema: it would not
    """
    if schema.id == DEFAULT_SCHEMA.id and schema.sql.strip():
        raise errors.BadSchema(
            f"the schema {quoted(schema.id)} is always empty",
            "register this one under another name",
        )


def matcher(pattern: str | None) -> Matches:
    """A function that returns whether a segment id matches.

    :raises trough.errors.BadRequest: the pattern is no regular expression, or too long
    """
    if pattern is None:
        return lambda segment: True
    refuse_long_pattern(pattern)
    try:
        return re.compile(pattern).search
    except (re.error, RecursionError, OverflowError) as error:
        raise bad_pattern(pattern, str(error)) from error


def refuse_long_pattern(pattern: str) -> None:
    """Make sure that a pattern is not too long.

    :raises trough.errors.BadRequest: it is
    """
    if len(pattern) > MAX_PATTERN:
        raise errors.BadRequest(
            f"a pattern of {len(pattern)} characters: {quoted(pattern, 40)}",
            f"a pattern has at most {MAX_PATTERN}; ask with several, or name the segments",
        )


# A character that stands for itself outside of classes, in Python's syntax and in RE2's.
_SPECIAL = frozenset(".^$*+?{}[]()|\\")


def literal_prefix(pattern: str | None) -> str:
    """What every id begins with that `pattern` is found in, as far as that is plain to see.

    So a store need look only at that range of its index. Empty where nothing is known.
    """
    if pattern is None or not pattern.startswith("^") or _has_alternatives(pattern):
        return ""
    found: list[str] = []
    place = 1
    while place < len(pattern):
        character = pattern[place]
        if character == "\\":
            escaped = pattern[place + 1 : place + 2]
            # Behind a backslash, letters and digits mean something else.
            if not escaped.isascii() or escaped.isalnum() or not escaped.strip():
                break
            found.append(escaped)
            place += 2
        elif character in _SPECIAL or not character.isprintable():
            break
        else:
            found.append(character)
            place += 1
    if pattern[place : place + 1] in ("*", "?", "{"):
        # The last one may be there any number of times, or never.
        del found[-1:]
    return "".join(found)


def _has_alternatives(pattern: str) -> bool:
    """Whether there may be a ``|`` outside of all groups; True where that is not plain."""
    depth, place = 0, 0
    while place < len(pattern):
        character = pattern[place]
        if character == "[":
            # In a class most characters mean themselves: too much to go into here.
            return "|" in pattern
        depth += (character == "(") - (character == ")")
        if character == "|" and depth < 1:
            return True
        place += 2 if character == "\\" else 1
    return False


def id_range(pattern: str | None) -> tuple[str, str | None]:
    """The first id that `pattern` may be found in, and the first behind all those; None:
    there is no such end."""
    prefix = literal_prefix(pattern)
    # What is printable is never the last of all characters, nor next to half a surrogate pair.
    return prefix, f"{prefix[:-1]}{chr(ord(prefix[-1]) + 1)}" if prefix else None


def bad_pattern(pattern: str, reason: str) -> errors.BadRequest:
    """The error for what is no regular expression."""
    return errors.BadRequest(f"not a regular expression: {quoted(pattern, 200)}: {reason}")

"""Being connected to segments, and what is done to whole segments."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from trough import errors
from trough.cli.progress import Progress
from trough.model import DEFAULT_SCHEMA, check_segment_id
from trough.shell.command_registry import (
    ArgumentKind,
    Arguments,
    Group,
    UsageError,
    command,
    words_of,
)
from trough.shell.shell import Shell
from trough.util.wording import counted

#: Segments that are named in a message; there may be many thousands.
NAMED = 5


@command(
    "CONNECT",
    "CONNECT segment ...",
    "CONNECT MATCHING regex",
    group=Group.SEGMENTS,
    completes=(ArgumentKind.SEGMENT,),
    aliases=("USE",),
    least=1,
)
def connect(shell: Shell, arguments: Arguments) -> None:
    """Connect to segments; what is asked then goes to all of them.

    Segments connected before are left. MATCHING connects all segments in whose id the
    regular expression is found; ^ and $ anchor it. The case of ids matters.

    Where trough-shell was started with -w and -s, a segment that does not exist yet can
    be connected too: the first write creates it from that schema. Otherwise CREATE SEGMENT
    creates one.
    """
    if arguments.words[0].upper() == "MATCHING":
        connect_matching(shell, pattern_of(arguments))
    else:
        connect_named(shell, arguments.words)


def connect_named(shell: Shell, words: Iterable[str]) -> None:
    """Connect to segments by their ids."""
    session = shell.session
    wanted = tuple(dict.fromkeys(map(check_segment_id, words)))
    copies = shell.remote.copies(wanted)
    missing = [segment for segment in wanted if segment not in copies]
    if missing and session.writable and session.schema is not None:
        session.connect(wanted)
        shell.say(
            f"{listed(missing)}: not there yet; the first write creates it from the"
            f" schema {session.schema}"
        )
        return
    if len(missing) == len(wanted):
        raise errors.NoSuchSegment(
            f"no worker serves {listed(missing)}",
            f"CREATE SEGMENT {missing[0]} creates it"
            if session.writable
            else "SHOW SEGMENTS lists what can be read",
        )
    session.connect(segment for segment in wanted if segment in copies)
    shell.say(f"connected to {counted(len(session.segments), 'segment')}")
    if missing:
        shell.complain(f"no worker serves {counted(len(missing), 'segment')}: {listed(missing)}")
        if shell.confirm is None:
            raise errors.NoSuchSegment(f"no worker serves {listed(missing)}")


def connect_matching(shell: Shell, pattern: str) -> None:
    """Connect to all segments that match."""
    found: list[str] = []
    progress = Progress(shell.terminal, None, "found")
    try:
        for page in shell.remote.matching(pattern):
            found += page
            progress.done = len(found)
            progress.draw()
    finally:
        progress.clear()
    if not found:
        raise errors.NoSuchSegment(
            f"no segment matches {pattern}", "SHOW SEGMENTS lists what can be read"
        )
    shell.session.connect(sorted(found))
    shell.say(f"connected to {counted(len(found), 'segment')}")


def pattern_of(arguments: Arguments) -> str:
    """The regular expression after MATCHING, which may be in quotes."""
    text = arguments.text.split(maxsplit=1)[1:]
    if not text:
        raise UsageError("MATCHING: the regular expression is missing", "for example: ^3000")
    words = words_of(text[0])
    return words[0] if len(words) == 1 else text[0]


@command(
    "CREATE SEGMENT",
    "CREATE SEGMENT segment [SCHEMA schema]",
    group=Group.SEGMENTS,
    completes=("", "SCHEMA", ArgumentKind.SCHEMA),
    least=1,
    most=3,
)
def create_segment(shell: Shell, arguments: Arguments) -> None:
    """Create a segment from a schema and connect to it; read-write mode (-w) only.

    The schema is the one named here, else that of -s, else the empty schema default.
    """
    shell.session.check_writable("CREATE SEGMENT")
    segment, *rest = arguments.words
    if rest and (rest[0].upper() != "SCHEMA" or len(rest) != 2):
        raise UsageError("CREATE SEGMENT takes one segment", create_segment.how())
    check_segment_id(segment)
    if shell.remote.copies([segment]):
        raise errors.BadRequest(f"{segment} exists already", f"CONNECT {segment} connects to it")
    schema = rest[1] if rest else shell.session.schema or DEFAULT_SCHEMA.id
    try:
        shell.remote.create(segment, schema)
    except errors.NoSuchSchema as error:
        known = ", ".join(shell.remote.schemas())
        raise errors.NoSuchSchema(f"there is no schema {schema}; known: {known}") from error
    shell.session.connect([segment])
    shell.say(f"{segment} created from the schema {schema}")


@command("DISCONNECT", group=Group.SEGMENTS, most=0)
def disconnect(shell: Shell, arguments: Arguments) -> None:
    """Leave all segments."""
    shell.session.connect(())


@command("PROMOTE", group=Group.SEGMENTS, most=0)
def promote(shell: Shell, arguments: Arguments) -> None:
    """Publish the connected segments for good; read-write mode (-w) only.

    A consistent snapshot of each connected segment becomes its new canonical copy, several
    segments at a time. Writes go on meanwhile. After Ctrl-C, SHOW FAILURES lists those that
    were not begun, and those that were under way and may have been promoted.
    """
    shell.session.check_writable("PROMOTE")
    segments = shell.session.connected()
    shell.each(shell.remote.promote(segments), segments, "promoted")


@command("REVERT", "REVERT [--yes]", group=Group.SEGMENTS, destroys=True, most=1)
def revert(shell: Shell, arguments: Arguments) -> None:
    """Return the connected segments to their last promoted state; read-write mode (-w) only.

    Everything written since is given up. The worker deletes nothing: it moves its copy with
    these writes into aside/ in its data directory, and the shell names the file. A person is
    asked first, unless the setting confirm is off; a script has to give --yes. A segment that
    was never promoted is refused.
    """
    shell.session.check_writable("REVERT")
    if [*arguments.words] not in ([], ["--yes"]):
        raise UsageError(f"REVERT does not take {arguments.words[0]}", revert.how())
    segments = shell.session.connected()
    if not arguments.words and shell.confirm is None:
        raise errors.BadRequest(
            "REVERT asks before it gives up writes, and nobody is there", "add --yes"
        )
    found = {segment: shell.remote.revert(segment, True) for segment in segments}
    for segment, seen in found.items():
        if not seen["unpromoted"]:
            shell.say(f"{segment}: nothing was written since it was promoted")
    losing = {segment: seen for segment, seen in found.items() if seen["unpromoted"]}
    if losing and not arguments.words and shell.settings.confirm:
        _confirm_revert(shell, losing)
    for segment in losing:
        told = shell.remote.revert(segment, False)
        kept = (
            f"; the writes are kept in {told['aside']} on {told['node']}" if told["aside"] else ""
        )
        later = "" if told["writable"] else "; it is not writable yet: the next write tries again"
        shell.say(f"{segment} is as it was promoted at {_moment(told)}{kept}{later}")


def _confirm_revert(shell: Shell, losing: Mapping[str, dict[str, Any]]) -> None:
    assert shell.confirm is not None
    lines = [
        f"  {segment}: since {_moment(seen)}; the copy has {seen['size']:,} bytes now"
        for segment, seen in list(losing.items())[:NAMED]
    ]
    if len(losing) > NAMED:
        lines.append(f"  and {len(losing) - NAMED:,} more")
    what = "\n".join(lines)
    answer = shell.confirm(
        f"This gives up all that was written and not promoted:\n{what}\nGo on? [y/N] "
    )
    if answer.strip().lower() not in ("y", "yes"):
        raise errors.Cancelled("nothing was changed")


def _moment(told: Mapping[str, Any]) -> str:
    moment = datetime.fromtimestamp(told["promoted_at"], UTC)
    return f"{moment:%Y-%m-%d %H:%M:%S} UTC"


@command(
    "SHRED SEGMENT",
    "SHRED SEGMENT segment ... [--yes]",
    group=Group.SEGMENTS,
    completes=(ArgumentKind.SEGMENT,),
    destroys=True,
    least=1,
)
def shred(shell: Shell, arguments: Arguments) -> None:
    """Delete segments everywhere, without a way back; read-write mode (-w) only.

    All copies on workers and the canonical copy are deleted. A person has to type how
    many segments it is, unless the setting confirm is off; a script has to give --yes.
    Segments under a write lock are refused; the lock is given up an hour after the last
    write (WRITE_LOCK_IDLE) if that was promoted.
    """
    shell.session.check_writable("SHRED")
    words = [word for word in arguments.words if word != "--yes"]
    segments = tuple(dict.fromkeys(map(check_segment_id, words)))
    if not segments:
        raise UsageError("SHRED SEGMENT: the segments are missing", shred.how())
    if "--yes" not in arguments.words and (shell.settings.confirm or shell.confirm is None):
        _confirm(shell, segments)
    try:
        shell.each(shell.remote.delete(segments), segments, "deleted")
    finally:
        gone = set(segments) - {failed.segment for failed in shell.session.failures}
        shell.session.connect(each for each in shell.session.segments if each not in gone)


def _confirm(shell: Shell, segments: tuple[str, ...]) -> None:
    if shell.confirm is None:
        raise errors.BadRequest("SHRED asks before it deletes, and nobody is there", "add --yes")
    count = len(segments)
    answer = shell.confirm(
        f"This deletes {counted(count, 'segment')} everywhere, for good: {listed(segments)}\n"
        f"Type {count} to go on: "
    )
    if answer.strip() != str(count):
        raise errors.Cancelled("nothing was deleted")


@command("SHRED", "SHRED SEGMENT segment ... [--yes]", group=Group.SEGMENTS, destroys=True)
def shred_what(shell: Shell, arguments: Arguments) -> None:
    """The word SEGMENT belongs to SHRED SEGMENT."""
    raise UsageError("SHRED: say SHRED SEGMENT", shred.how())


def listed(segments: Iterable[str]) -> str:
    """Some names, and how many more."""
    names = list(segments)
    more = f" and {len(names) - NAMED:,} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more


COMMANDS = (connect, create_segment, disconnect, promote, revert, shred, shred_what)

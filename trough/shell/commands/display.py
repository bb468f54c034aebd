"""How things look, help, and the way out."""

from __future__ import annotations

import textwrap
import time

from trough import errors
from trough.shell.command_registry import (
    ArgumentKind,
    Arguments,
    Command,
    Group,
    Registry,
    UsageError,
    command,
)
from trough.shell.input.statements import Statement
from trough.shell.output.formats import SUMMARIES, parse_choice
from trough.shell.shell import Quit, Shell

#: Seconds between two runs of a watched query, and the most that may be asked for.
WATCH_SECONDS = 2.0
MOST_WATCH_SECONDS = 86400.0


@command(
    "FORMAT",
    "FORMAT",
    "FORMAT name [MERGED]",
    group=Group.OUTPUT,
    completes=(ArgumentKind.FORMAT, "MERGED"),
    most=2,
)
def format_(shell: Shell, arguments: Arguments) -> None:
    """How results look; without a name, which format it is now.

    TABLE, VERTICAL, MARKDOWN, PRETTY and JSON are for people and show values safely; CSV, TSV
    and JSONL are for programs and have every value exactly. MERGED makes all segments
    one result with a column _segment; CSV, TSV and JSONL always do that for several
    segments, and PRETTY and JSON in a file.
    """
    session = shell.session
    if arguments.words:
        session.choice = parse_choice(arguments.text, session.choice)
    shell.say(f"the format is {session.choice}: {SUMMARIES[session.choice.name]}")


@command(
    "\\timing",
    "\\timing [on | off]",
    group=Group.OUTPUT,
    completes=("on", "off"),
    most=1,
)
def timing(shell: Shell, arguments: Arguments) -> None:
    """Whether to say how long a statement took."""
    shell.session.timing = _switched(shell.session.timing, arguments)
    shell.say(f"timing is {'on' if shell.session.timing else 'off'}")


@command("\\x", "\\x [on | off]", group=Group.OUTPUT, completes=("on", "off"), most=1)
def expanded(shell: Shell, arguments: Arguments) -> None:
    """Show one line a column, whatever the format; \\G does it for one statement."""
    shell.session.expanded = _switched(shell.session.expanded, arguments)
    shell.say(f"expanded display is {'on' if shell.session.expanded else 'off'}")


@command("\\watch", "\\watch [seconds]", group=Group.OUTPUT, most=1)
def watch(shell: Shell, arguments: Arguments) -> None:
    """Run the last query again every two seconds, or as often as is said; Ctrl-C ends it."""
    query = shell.session.last_query
    if not query:
        raise errors.BadRequest("there is no query to watch yet", "run one, then \\watch it")
    try:
        seconds = float(arguments.words[0]) if arguments.words else WATCH_SECONDS
    except ValueError:
        seconds = 0.0
    if not 0 < seconds <= MOST_WATCH_SECONDS:
        raise UsageError(f"\\watch: a number of seconds, and not {arguments.text}", watch.how())
    while True:
        shell.say(time.strftime("%Y-%m-%d %H:%M:%S"))
        shell.execute(Statement(query))
        time.sleep(seconds)


def _switched(now: bool, arguments: Arguments) -> bool:
    if not arguments.words:
        return not now
    word = arguments.words[0].lower()
    if word not in ("on", "off"):
        raise UsageError(f"{arguments.name.strip()}: on or off, and not {word}")
    return word == "on"


@command(
    "HELP",
    "HELP",
    "HELP command",
    group=Group.SHELL,
    completes=(ArgumentKind.TOPIC,),
    aliases=("?", "\\?", ".help"),
)
def help_(shell: Shell, arguments: Arguments) -> None:
    """What there is, or how one command is used."""
    topic = " ".join(arguments.words)
    if not topic:
        shell.show_text(overview(shell.registry, shell.output.columns))
        return
    entries = shell.registry.named(topic)
    if not entries:
        raise errors.NotFound(f"no help on {topic}", "HELP lists what there is")
    columns = shell.output.columns
    shell.show_text("\n\n".join(help_on(entry, columns) for entry in entries))


@command(
    "QUIT",
    group=Group.SHELL,
    most=0,
    aliases=("EXIT", "BYE", "\\q", ".quit", ".exit"),
)
def quit_(shell: Shell, arguments: Arguments) -> None:
    """Leave the shell; Ctrl-D does it too."""
    raise Quit


def overview(registry: Registry, columns: int) -> str:
    """All commands under their headings, a line each if `columns` are enough for it."""
    listed = [entry for entry in registry if entry.name not in ("SHOW", "SHRED")]
    widest = max(len(entry.name) for entry in listed)
    lines = []
    for group in Group:
        lines += ["", f"{group.value}:"]
        for entry in listed:
            if entry.group is group:
                line = f"  {entry.name:{widest}}  {entry.summary}"
                lines.append(_filled(line, columns, widest + 4))
    last = "HELP command tells more. SQL ends with a semicolon; commands need none."
    lines += ["", _filled(last, columns)]
    return "\n".join(lines[1:])


def help_on(entry: Command, columns: int) -> str:
    """Usage, description and other names of one command, in lines of `columns` at most."""
    usage = "\n".join(f"  {line}" for line in entry.usage)
    paragraphs = entry.description.split("\n\n")
    if entry.aliases:
        paragraphs.append(f"Also: {', '.join(entry.aliases)}")
    return "\n\n".join([usage, *(_filled(each, columns) for each in paragraphs)])


def _filled(text: str, columns: int, indent: int = 0) -> str:
    """`text` in lines of `columns` at most, `indent` before all but the first."""
    return textwrap.fill(text, columns, subsequent_indent=" " * indent, break_on_hyphens=False)


COMMANDS = (format_, expanded, timing, watch, help_, quit_)

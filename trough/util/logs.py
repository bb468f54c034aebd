"""The log of a Trough process: one line an event, from a level upwards.

Events are structured (a format and fields, :mod:`twisted.logger`). They are written as text, or as
JSON for programs (:mod:`trough.util.log_json`): to standard output in the foreground, and to a file
otherwise, as twistd does it. Twisted's own events below a warning (ports and factories that start
and stop) are left out.
"""

from __future__ import annotations

import sys
import time
from typing import Any

from constantly import NamedConstant
from twisted.logger import (
    FileLogObserver,
    FilteringLogObserver,
    ILogFilterPredicate,
    ILogObserver,
    LogEvent,
    LogLevel,
    LogLevelFilterPredicate,
    PredicateResult,
    textFileLogObserver,
)
from twisted.python.logfile import LogFile
from zope.interface import implementer

from trough.util.log_json import json_line, said

#: Bytes after which a log file is put away under a number.
ROTATE_AT = 100 * 1024 * 1024


# twistd wants the name of a function without arguments for its ``--logger``, so that what
# the settings say has to wait here until that is called.
_chosen: tuple[str, str | None, str] = ("info", None, "text")


def choose(level: str, path: str | None, form: str = "text") -> str:
    """Decide about the log of this process; returns what twistd wants for ``--logger``.

    :param level: ``debug``, ``info``, ``warn``, ``error`` or ``critical``
    :param path: of the log file; None or ``-`` for standard output
    :param form: ``text`` or ``json``
    """
    global _chosen
    _chosen = (level, path, form)
    return f"{__name__}.{observer.__name__}"


def observer() -> ILogObserver:
    """The observer that was decided about."""
    level, path, form = _chosen
    if path is None or path == "-":
        # Not captured: twistd puts itself between print() and the terminal.
        file: Any = sys.__stdout__ or sys.stdout
    else:
        file = LogFile.fromFullPath(path, rotateLength=ROTATE_AT)
    writing = FileLogObserver(file, json_line) if form == "json" else textFileLogObserver(file)
    levels = LogLevelFilterPredicate(LogLevel.lookupByName(level))
    return FilteringLogObserver(writing, [levels, _NoChatter()])


def say(text: str, system: str, level: str = "info") -> None:
    """Print a line whatever the log's level is: plain text for a person on a terminal, and
    for a program a line like those of the log.

    :param level: errors go to standard error
    """
    # Past twistd, which would make log entries of it.
    file = sys.__stdout__ if level == "info" else sys.__stderr__
    if _chosen[2] == "json":
        text = said(time.time(), level, system, text.strip()).rstrip()
    print(text, file=file, flush=True)


@implementer(ILogFilterPredicate)
class _NoChatter:
    """Leaves out Twisted's events below a warning."""

    def __call__(self, event: LogEvent) -> NamedConstant:
        namespace = str(event.get("log_namespace", ""))
        of_twisted = namespace in ("-", "log_legacy") or namespace.startswith("twisted.")
        if of_twisted and event["log_level"] < LogLevel.warn:
            return PredicateResult.no
        return PredicateResult.maybe

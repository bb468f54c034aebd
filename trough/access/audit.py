"""The audit log: who changed what, one JSON object a line.

It costs a request next to nothing: an entry is one tuple in a list, and a thread writes what has
come every :data:`FLUSH_SECONDS`. So the entries of the last moment are lost when the process is
killed. The file is opened for appending at each of these times, so a log that was rotated away is
begun again, and several processes may write to one. It never contains a token, and SQL only if
that was asked for.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from twisted.application import service
from twisted.internet.defer import Deferred
from twisted.logger import Logger

from trough.util.waiting import ended

_log = Logger()

#: Seconds between an entry and its being in the file, at most, while the disk keeps up.
FLUSH_SECONDS = 0.2

#: Entries, and bytes of SQL, that wait for a disk that does not keep up; more are dropped, and
#: counted in the log.
MAX_ENTRIES = 50_000
MAX_WAITING = 16 << 20

#: Bytes of one SQL text that are kept.
MAX_SQL = 64 << 10

#: Time of day, act, outcome, token, peer, and what more there is to an entry.
_Entry = tuple[float, str, str, str, str, Mapping[str, Any]]


class AuditLog(service.Service):
    """Writes entries to a file.

    :param path: of the file; made with mode 0600
    :param node: name of this process's server, in each entry
    :param keeps_sql: whether entries have the SQL of writes and schemas
    :param run: calls a function on a thread of its own
    :param clock: the reactor
    """

    def __init__(
        self,
        path: Path,
        node: str,
        keeps_sql: bool,
        run: Callable[..., Deferred[None]],
        clock: Any,
        *,
        now: Callable[[], float] = time.time,
    ) -> None:
        self.keeps_sql = keeps_sql
        self._path = path
        self._node = node
        self._run = run
        self._clock = clock
        self._now = now
        self._entries: list[_Entry] = []
        self._waiting = 0
        self._dropped = 0
        self._later: Any = None
        self._writing: Deferred[None] | None = None
        self._fails = False

    def note(self, act: str, outcome: str, token: str, peer: str, **more: Any) -> None:
        """Note what was done, or refused.

        :param act: what it was, such as ``write``
        :param outcome: ``ok``, or the code of an error
        :param token: the name of the client's token; empty where none is wanted
        :param peer: the client's address
        :param more: further keys; ``sql`` is text or bytes, and is left out unless it is kept
        """
        sql = more.pop("sql", None)
        if sql is not None and self.keeps_sql:
            more["sql"] = sql[:MAX_SQL]
            self._waiting += len(more["sql"])
        if len(self._entries) >= MAX_ENTRIES or self._waiting > MAX_WAITING:
            self._dropped += 1
            return
        self._entries.append((self._now(), act, outcome, token, peer, more))
        if self._later is None and self._writing is None:
            self._later = self._clock.callLater(FLUSH_SECONDS, self._flush)

    def stopService(self) -> Deferred[None] | None:
        """Write what is left."""
        super().stopService()
        if self._later is not None:
            self._later.cancel()
        if self._writing is None and self._entries:
            self._flush()
        if self._writing is None:
            return None
        return ended(self._writing)

    def _flush(self) -> None:
        self._later = None
        entries, self._entries = self._entries, []
        dropped, self._dropped = self._dropped, 0
        self._waiting = 0
        if dropped:
            entries.append((self._now(), "dropped", "", "", "", {"entries": dropped}))
        self._writing = self._run(self._write, entries)
        self._writing.addCallbacks(self._written, self._failed, errbackArgs=(len(entries),))

    def _write(self, entries: Sequence[_Entry]) -> None:
        lines = "".join(_line(self._node, *entry) for entry in entries)
        append(self._path, lines)

    def _written(self, _: object) -> None:
        if self._fails:
            self._fails = False
            _log.info("{path}: the audit log is written again", path=self._path)
        self._go_on()

    def _failed(self, failure: Any, entries: int) -> None:
        self._dropped += entries
        if not self._fails:
            self._fails = True
            _log.error(
                "{path}: the audit log cannot be written, entries are lost: {reason}",
                path=self._path,
                reason=failure.value,
            )
        self._go_on()

    def _go_on(self) -> None:
        self._writing = None
        if self.running and (self._entries or self._dropped) and self._later is None:
            self._later = self._clock.callLater(FLUSH_SECONDS, self._flush)


def _line(
    node: str, when: float, act: str, outcome: str, token: str, peer: str, more: Mapping[str, Any]
) -> str:
    entry = {"time": _moment(when), "node": node, "act": act, "outcome": outcome}
    entry |= {"token": token, "peer": peer}
    for name, value in more.items():
        entry[name] = value.decode("utf-8", "replace") if isinstance(value, bytes) else value
    return json.dumps({name: value for name, value in entry.items() if value != ""}) + "\n"


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")


def append(path: Path, lines: str) -> None:
    """Append whole lines, by one call if the system takes them all.

    :raises OSError: they cannot be written
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        view = memoryview(lines.encode("utf-8", "replace"))
        while view:
            view = view[os.write(descriptor, view) :]
    finally:
        os.close(descriptor)


def local_entry(act: str, token: str) -> str:
    """The line of an entry that a tool makes about a token, naming the user who runs it."""
    user = f"user {os.getuid()}"
    return _line(os.uname().nodename, time.time(), act, "ok", token, user, {})

"""Notices when a process can serve: one line for a person, and a word for systemd."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Mapping
from typing import Protocol

from twisted.application import service
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from trough.util.logs import say
from trough.util.services import settle

_log = Logger()

#: Seconds between two looks. Readiness has several parts that do not know each other.
LOOK = 0.05


class StartupLine(Protocol):
    """Something to do once, when everything works for the first time."""

    async def run(self) -> str:
        """Do it; return a text for people."""


class ReadinessNotifier(service.Service):
    """Watches for readiness and reports it once.

    :param name: of what becomes ready
    :param addresses: by their names, for the report
    """

    def __init__(
        self,
        name: str,
        is_ready: Callable[[], bool],
        addresses: Mapping[str, str],
        clock: IReactorTime,
        welcome: StartupLine | None = None,
    ) -> None:
        self._name = name
        self._is_ready = is_ready
        self._addresses = addresses
        self._welcome = welcome
        self._loop = LoopingCall(self._look)
        self._loop.clock = clock
        self._welcoming: Deferred[None] | None = None

    def startService(self) -> None:
        super().startService()
        self._loop.start(LOOK)

    def stopService(self) -> None:
        super().stopService()
        if self._loop.running:
            self._loop.stop()
        if self._welcoming is not None:
            self._welcoming.cancel()

    def _look(self) -> None:
        if self._is_ready():
            self._loop.stop()
            settle()
            self._welcoming = Deferred.fromCoroutine(self._say())
            self._welcoming.addErrback(self._failed)

    async def _say(self) -> None:
        text = await self._welcome.run() if self._welcome is not None else ""
        told = ", ".join(f"{name} {address}" for name, address in self._addresses.items())
        say(f"{self._name} is ready: {told}\n{text}", __name__)
        _tell_systemd(os.environ.get("NOTIFY_SOCKET", ""))
        self._welcoming = None

    def _failed(self, failure: Failure) -> None:
        if self.running:
            _log.failure("{name}: the welcome failed", failure=failure, name=self._name)


def _tell_systemd(address: str) -> None:
    """What ``Type=notify`` waits for; see sd_notify(3)."""
    if not address:
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
        try:
            channel.connect(address)
            channel.sendall(b"READY=1")
        except OSError as failure:
            _log.warn("could not notify {address!r}: {failure}", address=address, failure=failure)

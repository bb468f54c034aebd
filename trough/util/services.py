"""Starting and stopping in order, and settling in between.

A MultiService stops all of its children at once. Here they stop one after the other, the
last one first. So a service stops before the services that it needs.
"""

from __future__ import annotations

import atexit
import errno
import gc
import os
from collections.abc import Awaitable, Callable
from typing import Any

from twisted.application import service
from twisted.internet.defer import maybeDeferred
from twisted.internet.error import CannotListenError
from twisted.logger import Logger

from trough.errors import TroughError
from trough.util.logs import say

_log = Logger()

#: Objects that may come and not go before the young ones among them are searched for
#: garbage: a thousand requests under way are more than Python's own 700. With some ten
#: thousand, what is in use would no longer fit into a processor's cache.
_YOUNG = 2_000


def settle() -> None:
    """Have the search for garbage leave alone what is there now; call it once all is loaded.

    The program and the copies that a worker loaded stay to the end. Without this they are
    looked at again and again, which is a fifth of what a pipelined read costs.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(_YOUNG, *gc.get_threshold()[1:])


class ServiceStack(service.MultiService):
    """Children that start in order, and stop in the opposite one, each waited for."""

    async def stopService(self) -> None:
        """Stop all; one that fails to is logged, and the others stop all the same."""
        service.Service.stopService(self)
        for child in reversed(list(self)):
            try:
                await maybeDeferred(child.stopService)
            except Exception:
                _log.failure("{child}: failed to stop", child=child)


class StartHook(service.Service):
    """Does something when it starts."""

    def __init__(self, start: Callable[[], object]) -> None:
        self._start = start

    def startService(self) -> None:
        """Do it."""
        super().startService()
        self._start()


class StopHook(service.Service):
    """Closes something when it stops."""

    def __init__(self, close: Callable[[], Awaitable[Any]]) -> None:
        self._close = close

    async def stopService(self) -> None:
        """Close it, and wait for that."""
        super().stopService()
        await self._close()


class Listener(service.MultiService):
    """Listens on a port. If it cannot, the process logs one line and ends.

    :param key: the setting that names the port
    """

    def __init__(self, listening: service.IService, address: str, key: str) -> None:
        super().__init__()
        self._address = address
        self._key = key
        listening.setServiceParent(self)

    def privilegedStartService(self) -> None:
        """Listen.

        :raises SystemExit: the port cannot be had
        """
        try:
            super().privilegedStartService()
        except CannotListenError as failure:
            reason = failure.socketError
            taken = getattr(reason, "errno", None) == errno.EADDRINUSE
            hint = "is another one running?" if taken else "see BIND_ADDRESS"
            raise SystemExit(
                f"trough: cannot listen on {self._address} ({self._key}): {reason}; {hint}"
            ) from failure


class FatalExit:
    """Ends the process, for a reason that a person has to see and a script to notice."""

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self._refused = False

    def __call__(self, reason: TroughError) -> None:
        """Log `reason` and stop with exit status 1."""
        if self._refused:
            return
        self._refused = True
        _log.critical("refusing to run: {reason}", reason=reason)
        say(f"trough: refusing to run: {reason}", __name__, "critical")
        # twistd ends with status 0 however its reactor came to stop; what is registered
        # last runs first, after twistd has tidied up.
        atexit.register(os._exit, 1)
        if self._reactor.running:
            self._reactor.stop()

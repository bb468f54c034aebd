"""Servers that are far away: how many round trips a program needs, counted and not timed.

Each connection of the program goes through a link, which delays what passes. The links keep a
logical clock of the program: what a server sends is one round trip later than what it answers, and
what the program sends next is as late as the latest that it has received. The delay only makes
sure that requests which do not wait for each other are sent before the first answer is here.

As a program, this runs a module of Python whose connections go through links::

    distance.py '{"28015": 31234}' trough.shell.main ARGUMENTS
"""

from __future__ import annotations

import asyncio
import json
import runpy
import socket
import sys
import threading
from collections.abc import Callable

#: Seconds that each direction takes.
DELAY = 0.1


class Distance:
    """Links to some ports of this machine, for one program at a time.

    :ivar round_trips: that the program has waited for
    :ivar events: what was sent and received, for people
    """

    def __init__(self, *ports: int) -> None:
        self.round_trips = 0
        self.events: list[str] = []
        self._links: dict[int, int] = {}
        self._loop = asyncio.new_event_loop()
        for port in ports:
            listener = socket.create_server(("127.0.0.1", 0))
            self._links[port] = listener.getsockname()[1]
            self._loop.create_task(self._serve(listener, port))
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    def command(self, module: str, *arguments: str) -> list[str]:
        """What runs a module of Python at this distance."""
        return [sys.executable, __file__, json.dumps(self._links), module, *arguments]

    def close(self) -> None:
        """End all links."""
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _end(self) -> None:
        links = asyncio.all_tasks() - {asyncio.current_task()}
        for link in links:
            link.cancel()
        await asyncio.gather(*links, return_exceptions=True)

    async def _serve(self, listener: socket.socket, port: int) -> None:
        await asyncio.start_server(lambda *near: self._link(port, *near), sock=listener)

    async def _link(
        self, port: int, near: asyncio.StreamReader, to_near: asyncio.StreamWriter
    ) -> None:
        # The program can send one round trip after it began to connect.
        sent = self.round_trips + 1
        self.events.append(f"{self.round_trips} connects to {port}")
        far, to_far = await asyncio.open_connection("127.0.0.1", port)

        def leaves(data: bytes) -> None:
            nonlocal sent
            sent = max(sent, self.round_trips)
            self.events.append(f"{sent} sends to {port}: {data[:70]!r}")

        def arrives(data: bytes) -> None:
            self.round_trips = max(self.round_trips, answered.pop(0) + 1)
            self.events.append(f"{self.round_trips} receives from {port}: {data[:70]!r}")

        answered: list[int] = []
        await asyncio.gather(
            _pass_on(near, to_far, 3 * DELAY, before=leaves),
            _pass_on(far, to_near, DELAY, before=lambda _: answered.append(sent), after=arrives),
        )


async def _pass_on(
    source: asyncio.StreamReader,
    target: asyncio.StreamWriter,
    delay: float,
    before: Callable[[bytes], None] = lambda _: None,
    after: Callable[[bytes], None] = lambda _: None,
) -> None:
    """Pass everything on, later, in its order."""
    loop = asyncio.get_running_loop()

    def deliver(data: bytes) -> None:
        if data:
            after(data)
            target.write(data)
        else:
            target.close()

    data = b"-"
    while data:
        try:
            data = await source.read(1 << 16)
        except OSError:
            data = b""
        if data:
            before(data)
        loop.call_later(delay, deliver, data)


def _redirected(links: dict[str, int]) -> None:
    """Have this process reach the servers on some ports through their links."""

    def through(connect: Callable[..., object]) -> Callable[..., object]:
        def redirected(self: socket.socket, address: object) -> object:
            if isinstance(address, tuple):
                address = (address[0], links.get(str(address[1]), address[1]), *address[2:])
            return connect(self, address)

        return redirected

    for name in ("connect", "connect_ex"):
        setattr(socket.socket, name, through(getattr(socket.socket, name)))


if __name__ == "__main__":
    _redirected(json.loads(sys.argv[1]))
    sys.argv = sys.argv[2:]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)

"""The way between the main thread, which waits, and the reactor's, which does not.

Twisted runs on a thread of its own; the shell is ordinary blocking code, which Ctrl-C
interrupts wherever it waits. An interrupted call is cancelled on the other side. What
streams is handed over through a queue with a bound: when it is full its source is paused,
so that a reader who does not read (a pager, a slow disk) slows the workers down and
fills no memory. It refuses to know what the calls are.
"""

from __future__ import annotations

import queue
import signal
import threading
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import Future, wait
from typing import Any, Generic, TypeVar

from twisted.internet import defer

from trough.cli.outage import TICK, Outage

T = TypeVar("T")

#: Characters of values, each item counting a little by itself, that wait in a stream
#: before its source is paused; it is resumed at half.
STREAM_SIZE = 2 << 20
_ITEM_SIZE = 256


class Bridge:
    """Calls from other threads to what lives on the reactor's.

    :param reactor: one that runs, or will
    :param outage: tells whoever waits why, if there is something to be told
    """

    def __init__(self, reactor: Any, outage: Outage | None = None) -> None:
        self.reactor = reactor
        self._outage = outage

    def call(self, function: Callable[..., Coroutine[Any, Any, T]], *args: Any) -> T:
        """Run a coroutine function on the reactor's thread, and wait for it.

        :raises KeyboardInterrupt: having cancelled the call
        """
        waiting: Future[T] = Future()
        running: list[defer.Deferred[Any]] = []

        def start() -> None:
            deferred = defer.Deferred.fromCoroutine(function(*args))
            running.append(deferred)
            deferred.addCallbacks(
                waiting.set_result, lambda failure: waiting.set_exception(failure.value)
            )

        look = self.watch()
        self.reactor.callFromThread(start)
        try:
            while not wait([waiting], TICK).done:
                look()
            return waiting.result()
        except KeyboardInterrupt:
            self.post(lambda: running[0].cancel())
            raise

    def watch(self) -> Callable[[], None]:
        """To be called now and then in one wait of the thread that calls this."""
        return self._outage.watch() if self._outage is not None else _nothing

    def post(self, function: Callable[..., Any], *args: Any) -> None:
        """Have the reactor's thread call `function`, without waiting for it."""
        self.reactor.callFromThread(function, *args)


def _nothing() -> None:
    """There is nothing to be told."""


def run_reactor() -> Callable[[], None]:
    """Start the reactor on a thread of its own.

    :return: stops it, and waits for its thread
    """
    from twisted.internet import reactor

    # Threads inherit the mask: so it is always the main thread that gets the signal, and
    # an interrupt ends its wait.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        thread = threading.Thread(
            target=reactor.run,  # type: ignore[attr-defined]
            kwargs={"installSignalHandlers": False},
            name="reactor",
            daemon=True,
        )
        thread.start()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def stop() -> None:
        reactor.callFromThread(reactor.stop)  # type: ignore[attr-defined]
        thread.join(5.0)

    return stop


class Stream(Generic[T]):
    """Items put on the reactor's thread and taken on another, in order.

    :param pause: called on the reactor's thread when enough waits
    :param resume: called there when there is room again
    """

    def __init__(
        self,
        bridge: Bridge,
        pause: Callable[[], None],
        resume: Callable[[], None],
        bound: int = STREAM_SIZE,
    ) -> None:
        self._bridge = bridge
        self._pause = pause
        self._resume = resume
        self._bound = bound
        self._queue: queue.SimpleQueue[tuple[T | None, int, BaseException | None]]
        self._queue = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._size = 0
        self._paused = False
        self._ended = False

    # -- on the reactor's thread ------------------------------------------------

    def put(self, item: T, size: int = 0) -> None:
        """Add an item of about `size` characters."""
        if self._ended:
            return
        size += _ITEM_SIZE
        self._queue.put((item, size, None))
        with self._lock:
            self._size += size
            pause = not self._paused and self._size > self._bound
            self._paused = self._paused or pause
        if pause:
            self._pause()

    def end(self, error: BaseException | None = None) -> None:
        """Nothing comes any more, but perhaps an error. Later calls have no effect."""
        if not self._ended:
            self._ended = True
            self._queue.put((None, 0, error))

    # -- on the other -----------------------------------------------------------

    def items(self, tick: float) -> Iterator[T | None]:
        """What was put, in order; None whenever nothing was for `tick` seconds.

        :raises BaseException: what :meth:`end` was given
        """
        look = self._bridge.watch()
        while True:
            try:
                item, size, error = self._queue.get(timeout=tick)
            except queue.Empty:
                look()
                yield None
                continue
            if error is not None:
                raise error
            if item is None:
                return
            self._took(size)
            yield item

    def _took(self, size: int) -> None:
        with self._lock:
            self._size -= size
            resume = self._paused and self._size <= self._bound // 2
            if resume:
                self._paused = False
        if resume:
            self._bridge.post(self._resume)

"""Connects the main thread, which blocks, with the reactor's thread, which does not.

Twisted runs on its own thread. The shell is ordinary blocking code, and Ctrl-C interrupts it at
any wait. An interrupted call is cancelled on the reactor's thread. Streams go through a bounded
queue. A full queue pauses its source. So a reader that stops reading (a pager, a slow disk)
slows the workers down, and memory stays bounded. The module does not depend on what the calls do.
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

#: Characters of values that wait in a stream before its source is paused. Each item also counts
#: a little by itself. The source is resumed at half.
STREAM_SIZE = 2 << 20
_ITEM_SIZE = 256


class Bridge:
    """Lets other threads call code on the reactor's thread.

    :param reactor: one that runs, or will run
    :param outage: reports to the waiting person why the call waits, if there is a reason
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
        """A function that the calling thread calls now and then during one wait."""
        return self._outage.watch() if self._outage is not None else _nothing

    def post(self, function: Callable[..., Any], *args: Any) -> None:
        """Have the reactor's thread call `function`, without waiting for it."""
        self.reactor.callFromThread(function, *args)


def _nothing() -> None:
    """There is nothing to report."""


def run_reactor() -> Callable[[], None]:
    """Start the reactor on its own thread.

    :return: a function that stops it, and waits for its thread
    """
    from twisted.internet import reactor

    # Threads inherit the mask. So the main thread always gets the signal, and an interrupt ends
    # its wait.
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


class ThreadStream(Generic[T]):
    """Items that the reactor's thread puts and another thread takes, in order.

    :param pause: called on the reactor's thread when the stream is full
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
        """No more items follow, except perhaps an error. Later calls have no effect."""
        if not self._ended:
            self._ended = True
            self._queue.put((None, 0, error))

    # -- on the other thread ----------------------------------------------------

    def items(self, tick: float) -> Iterator[T | None]:
        """The items, in order; None each time none came for `tick` seconds.

        :raises BaseException: the error that :meth:`end` was given
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

"""The parent's side of GATHER processes: :mod:`trough.gather.process`.

A process answers one GATHER after the other. Planning, merging and the final step run there, so
no text of a user runs in the reactor's process. :class:`GatherProcesses` has a fork server make the
processes. That takes some milliseconds, while starting Python and all modules takes half a second.
A process that is released in the middle of its work is killed, and never used again.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, fail

from trough import errors
from trough.executors import ipc
from trough.executors.pool.child_socket import ChildSocket
from trough.gather import messages
from trough.util import child_process

#: Bytes that SQLite may use in one process.
MEMORY = 256 << 20

#: Processes that are kept warm.
KEPT = 4

#: Bytes that one may have had at most, to be kept: it gives back little of its memory.
KEPT_SIZE = 128 << 20

#: Bytes of rows on their way to a process above which the workers are paused, and below which
#: they go on.
HIGH_WATER, LOW_WATER = 2 << 20, 1 << 20

#: Bytes after which events are sent without waiting for the end of the reactor's turn.
_FRAME = 1 << 17

#: Seconds that a process may take to close a session.
_CLOSE_SECONDS = 0.5

#: How much less processor time a process gets that needs much.
_NICE = 10

_TICKS = os.sysconf("SC_CLK_TCK")


class GatherProcess:
    """One process, and the session that it has.

    :ivar passed: called with rows of the answer that may be passed on before the end
    :ivar satisfied: called when queries under way are not needed any more
    :ivar flow: called with whether the workers should pause
    :ivar lost: called with an error when the process is gone in the midst of a session
    :param connection: to the process, which may still be about to be made
    :param ended: called when it is gone
    """

    def __init__(
        self,
        reactor: Any,
        connection: socket.socket,
        ended: Callable[[GatherProcess], None],
    ) -> None:
        self._reactor = reactor
        self._when_ended = ended
        self._parser = ipc.ChildFrameParser()
        self._outgoing: list[ipc.Message] = []
        self._size = self._on_the_way = 0
        self._paused = False
        self._question: Deferred[ipc.Message] | None = None
        self._used = False
        self._time_before = 0.0
        self.is_niced = False
        self.alive = True
        self.pid = 0
        # A handle that always means this process; its id may be reused.
        self._handle: int | None = None
        self._socket = ChildSocket(reactor, connection, self._received, self._lost)
        self._forget_listeners()

    def _forget_listeners(self) -> None:
        self.passed: Callable[[Sequence[Sequence[Any]]], None] = _nothing
        self.satisfied: Callable[[], None] = _nothing
        self.flow: Callable[[bool], None] = _nothing
        self.lost: Callable[[errors.TroughError], None] = _nothing

    # -- talking -------------------------------------------------------------------------

    def begin(self, *arguments: Any) -> None:
        """Begin a session; see :data:`trough.gather.messages.BEGIN`."""
        self._used = True
        self._time_before = self.processor_time()
        self.send((messages.BEGIN, *arguments))

    def send(self, message: ipc.Message, size: int = 64) -> None:
        """Report what happened.

        :param size: about how many bytes it has
        """
        if not self._outgoing:
            self._reactor.callLater(0, self._flush)
        self._outgoing.append(message)
        self._size += size
        if self._size > _FRAME:
            self._flush()

    def _flush(self) -> None:
        if not self._outgoing or not self.alive:
            return
        size, self._size = self._size, 0
        outgoing, self._outgoing = self._outgoing, []
        if size:
            outgoing.append((messages.MARK, size))
            self._on_the_way += size
            if self._on_the_way > HIGH_WATER and not self._paused:
                self._paused = True
                self.flow(True)
        self._socket.write(ipc.frame(outgoing))

    def ask(self, question: int) -> Deferred[ipc.Message]:
        """Ask something; one question at a time. Its answer's kind is not REFUSED.

        Cancelling leaves the process at its work: it has to be killed then.

        :raises trough.errors.TroughError: why there is no answer
        """
        assert self._question is None
        if not self.alive:
            return fail(_died())
        asked: Deferred[ipc.Message] = Deferred()
        self._question = asked
        self.send((question,), 0)
        self._flush()
        return asked

    def _received(self, data: bytes) -> None:
        for message in self._parser.receive_data(data):
            kind = message[0]
            if kind == messages.STARTED:
                self._started(message[1])
            elif kind == messages.TAKEN:
                self._taken(message[1])
            elif kind == messages.PASSED:
                self.passed(messages.passed_rows(*message[1:]))
            elif kind == messages.SATISFIED:
                self.satisfied()
            elif self._question is not None:
                question, self._question = self._question, None
                if not question.called:
                    question.callback(message)

    def _taken(self, size: int) -> None:
        self._on_the_way -= size
        if self._paused and self._on_the_way <= LOW_WATER:
            self._paused = False
            self.flow(False)

    # -- ends ----------------------------------------------------------------------------

    async def close(self) -> bool:
        """End the session; whether the process can have another one. It is killed else."""
        self._forget_listeners()
        if not self._used:
            return self.alive
        if not self.alive or self.is_niced or self._question is not None:
            self.kill()
            return False
        closed = self.ask(messages.CLOSE)
        closed.addTimeout(_CLOSE_SECONDS, self._reactor)
        try:
            await closed
        except Exception:  # late, cancelled, or dead: it is of no use in any case
            self.kill()
            return False
        self._used = self._paused = False
        self._on_the_way = 0
        if self.memory_peak() > KEPT_SIZE:
            self.kill()
        return self.alive

    def abandon(self) -> None:
        """Make sure that nothing goes on: a process that is at work is killed."""
        if self._question is not None or self._on_the_way:
            self.kill()

    def kill(self) -> None:
        """End the process at once. Idempotent."""
        if not self.alive:
            return
        self._end()
        # A process that is just being made is killed as soon as its id arrives.
        if self._handle is not None:
            self._kill_now()

    def _started(self, pid: int) -> None:
        self.pid = pid
        try:
            self._handle = os.pidfd_open(pid)
        except OSError:  # it has ended already; its socket shows that, too
            return
        if not self.alive:
            self._kill_now()

    def _kill_now(self) -> None:
        assert self._handle is not None
        with contextlib.suppress(OSError):
            signal.pidfd_send_signal(self._handle, signal.SIGKILL)
        self._let_go()

    def _let_go(self) -> None:
        self._socket.close()
        handle, self._handle = self._handle, None
        if handle is not None:
            os.close(handle)

    def _lost(self) -> None:
        """The process has ended."""
        self._let_go()
        self._end()

    def _end(self) -> None:
        if not self.alive:
            return
        self.alive = False
        self._outgoing.clear()
        self._when_ended(self)
        error = _died()
        self._fail(error)
        self.lost(error)

    def _fail(self, error: errors.TroughError) -> None:
        question, self._question = self._question, None
        if question is not None and not question.called:
            question.errback(error)

    # -- what it uses --------------------------------------------------------------------

    def processor_time(self) -> float:
        """Seconds that the process has had."""
        with contextlib.suppress(OSError, ValueError, IndexError):
            stat = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
            return (int(stat[11]) + int(stat[12])) / _TICKS
        return 0.0

    @property
    def session_time(self) -> float:
        """Seconds of processor time that the session has had."""
        return self.processor_time() - self._time_before

    def memory_peak(self) -> int:
        """Bytes that the process had at most."""
        with contextlib.suppress(OSError, ValueError, IndexError):
            for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
                if line.startswith("VmHWM"):
                    return int(line.split()[1]) << 10
        return 0

    def step_back(self) -> None:
        """Let others have the processors first, from now on."""
        if not self.is_niced and self.pid:
            self.is_niced = True
            with contextlib.suppress(OSError):
                os.setpriority(os.PRIO_PROCESS, self.pid, _NICE)


class GatherProcesses:
    """Processes for sessions, of which some stay warm.

    :param memory: bytes that SQLite may use in each
    """

    def __init__(self, reactor: Any, memory: int = MEMORY) -> None:
        self._reactor = reactor
        self._memory = memory
        self._server: tuple[subprocess.Popen[bytes], socket.socket] | None = None
        self._idle: list[GatherProcess] = []
        self._all: set[GatherProcess] = set()
        self._closed = False

    def take(self) -> GatherProcess:
        """A process for one session.

        :raises trough.errors.Unavailable: the system starts no process
        """
        while self._idle:
            process = self._idle.pop()
            if process.alive:
                return process
        process = GatherProcess(self._reactor, self._made(), self._ended)
        self._all.add(process)
        return process

    def _made(self) -> socket.socket:
        """A connection to a process that is being made."""
        ours, theirs = socket.socketpair()
        with theirs:
            try:
                self._ask_server(theirs)
            except BaseException:
                ours.close()
                raise
        return ours

    def _ask_server(self, connection: socket.socket) -> None:
        for attempt in (1, 2):
            if self._server is None:
                self._server = child_process.start_with_socket(
                    "trough.gather.fork_server", self._memory
                )
            try:
                socket.send_fds(self._server[1], [b"1"], [connection.fileno()])
                return
            except OSError as reason:  # it was killed from outside
                self._end_server()
                if attempt == 2:
                    raise errors.Unavailable(f"no process can be started: {reason}") from reason

    def _end_server(self) -> None:
        if self._server is not None:
            process, connection = self._server
            self._server = None
            connection.close()
            child_process.reaped(process)

    async def give_back(self, process: GatherProcess) -> None:
        """End a session, and keep its process if that is possible."""
        usable = await process.close()
        if usable and not self._closed and len(self._idle) < KEPT:
            self._idle.append(process)
        else:
            process.kill()
        self.warm()

    def warm(self) -> None:
        """Have a process ready for the next session."""
        if not self._idle and not self._closed:
            with contextlib.suppress(errors.Unavailable):
                self._idle.append(self.take())

    def close(self) -> None:
        """Kill all of them."""
        self._closed = True
        for process in list(self._all):
            process.kill()
        self._end_server()

    def _ended(self, process: GatherProcess) -> None:
        self._all.discard(process)
        if process in self._idle:
            self._idle.remove(process)


def _nothing(*_: Any) -> None:
    """Ignore the call."""


def _died() -> errors.Unavailable:
    return errors.Unavailable("the process that put a GATHER together died", "ask again")

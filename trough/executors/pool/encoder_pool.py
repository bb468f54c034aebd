"""Answers in the formats of HTTP, encoded in child processes.

Making CSV or Arrow of a million rows, or compressing them, takes seconds of processor time that
the reactor does not have. :class:`EncoderPool` keeps a few processes
(:mod:`trough.executors.child.encoder_main`). Each serves several answers in turn. The
number of bytes of an answer on the way is bounded if its source stops when
:attr:`Encoding.is_full`. The end of a process ends the answers that it had.
"""

from __future__ import annotations

import itertools
import subprocess
from collections.abc import Callable
from typing import Any, Protocol

from twisted.logger import Logger

from trough import errors
from trough.executors import ipc
from trough.executors.error_frames import error_of
from trough.executors.pool.child_socket import ChildSocket
from trough.util import child_process

_log = Logger()

#: Processes, and the bytes of memory that each may have; pyarrow takes 100 MB of them.
PROCESSES = 2
MEMORY = 1 << 30

#: Answers at once; each may hold a batch of a columnar format.
MOST_ANSWERS = 64

#: Bytes of an answer on the way to its process above which its source should pause, and below
#: which it may go on.
HIGH_WATER, LOW_WATER = 1 << 19, 1 << 18


class EncodingListener(Protocol):
    """Who takes the encoded bytes. Nothing is called before :meth:`EncoderPool.begin`
    returned, nor after ``finished`` or :meth:`Encoding.drop`."""

    def data(self, chunk: bytes) -> None:
        """Take some bytes, perhaps none; the source may have to go on now."""

    def finished(self, error: errors.TroughError | None) -> None:
        """Take note of the end, or of why there is none; called once."""


class Encoding:
    """One answer on its way through a process.

    :ivar is_full: the source should pause, until ``data`` was called with this being false
    """

    is_full = False
    _on_the_way = 0

    def __init__(self, process: _EncoderProcess, number: int, listener: EncodingListener) -> None:
        self._process = process
        self._number = number
        self.listener = listener

    def write(self, data: bytes) -> None:
        """Encode some bytes of the answer."""
        self._on_the_way += len(data)
        self.is_full = self._on_the_way > HIGH_WATER
        self._process.send((ipc.ENCODE_DATA, self._number, data))

    def end(self) -> None:
        """The answer is complete."""
        self._process.send((ipc.ENCODE_END, self._number))

    def drop(self) -> None:
        """Drop it: the answer is not wanted any more. Idempotent."""
        if self._process.encodings.pop(self._number, None) is not None:
            self._process.send((ipc.ENCODE_DROP, self._number))

    def taken(self, size: int) -> None:
        """Called when the process has taken so many bytes."""
        self._on_the_way -= size
        if self._on_the_way < LOW_WATER:
            self.is_full = False


class EncoderPool:
    """See the module.

    :param processes: at most
    """

    def __init__(self, reactor: Any, processes: int = PROCESSES) -> None:
        self._reactor = reactor
        self._most = processes
        self._processes: list[_EncoderProcess] = []
        self._numbers = itertools.count(1)
        self._closed = False

    def begin(self, name: str, compression: str, listener: EncodingListener) -> Encoding:
        """Encode one answer.

        :param name: of a format; see :data:`trough.formats.encoder.FORMATS`
        :raises trough.errors.Unavailable: too many are under way, or no process starts
        """
        if self._closed:
            raise errors.Cancelled("the server is shutting down")
        if self.answers >= MOST_ANSWERS:
            raise errors.Unavailable(
                f"{MOST_ANSWERS} answers in other formats than JSON are under way",
                "ask again later, or for uncompressed JSON",
            )
        process = self._least_busy()
        number = next(self._numbers)
        encoding = process.encodings[number] = Encoding(process, number, listener)
        process.send((ipc.ENCODE_BEGIN, number, name, compression))
        return encoding

    @property
    def answers(self) -> int:
        """How many are under way."""
        return sum(len(process.encodings) for process in self._processes)

    def _least_busy(self) -> _EncoderProcess:
        processes = self._processes
        idle = [process for process in processes if not process.encodings]
        if not idle and len(processes) < self._most:
            idle = [_EncoderProcess(self._reactor, processes.remove)]
            processes += idle
        return min(idle or processes, key=lambda process: len(process.encodings))

    async def close(self) -> None:
        """End all processes, and with them what they do. Idempotent."""
        self._closed = True
        for process in list(self._processes):
            process.end()


class _EncoderProcess:
    """One process.

    :param ended: called when it is gone
    :ivar encodings: what it does, by numbers
    :raises trough.errors.Unavailable: the system starts no process
    """

    def __init__(self, reactor: Any, ended: Callable[[_EncoderProcess], None]) -> None:
        self.encodings: dict[int, Encoding] = {}
        self._ended = ended
        self._parser = ipc.ChildFrameParser()
        self._process: subprocess.Popen[bytes]
        self._process, ours = child_process.start_with_socket(
            "trough.executors.child.encoder_main", MEMORY
        )
        self._socket = ChildSocket(reactor, ours, self._received, self.end)

    def send(self, message: ipc.Message) -> None:
        """Send one message now."""
        self._socket.write(ipc.frame([message]))

    def end(self) -> None:
        """End the process, or take note that it has ended."""
        self._socket.close()
        status = child_process.reaped(self._process)
        self._ended(self)
        encodings, self.encodings = self.encodings, {}
        for encoding in encodings.values():
            encoding.listener.finished(
                errors.Unavailable(f"the process that encoded this ended ({status})", "ask again")
            )

    def _received(self, data: bytes) -> None:
        for kind, number, *rest in self._parser.receive_data(data):
            encoding = self.encodings.get(number)
            if encoding is None:
                continue  # it was dropped meanwhile
            try:
                self._tell(encoding, kind, number, rest)
            except Exception:
                _log.failure("a listener failed to take an encoded answer")

    def _tell(self, encoding: Encoding, kind: int, number: int, rest: list[Any]) -> None:
        if kind == ipc.ENCODED:
            encoding.taken(rest[1])
            encoding.listener.data(rest[0])
            return
        del self.encodings[number]
        if kind == ipc.ENCODE_ENDED:
            encoding.listener.data(rest[0])
            encoding.listener.finished(None)
        else:
            encoding.listener.finished(error_of(*rest))

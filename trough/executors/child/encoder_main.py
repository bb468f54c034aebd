"""A process that writes answers in the formats of HTTP, several at a time.

Its parent (:mod:`trough.executors.pool.encoder_pool`) sends the bytes of answers in portions, as
executors made them. The process encodes each portion at once and sends it back, so answers take
turns. It runs no SQL. Its memory is bounded, and it ends when its parent does.
"""

from __future__ import annotations

import socket
import sys
import traceback
from collections.abc import Callable

from trough import errors
from trough.executors import ipc
from trough.executors.child.parent_socket import TupleSocket
from trough.executors.child.process_limits import (
    die_with_the_parent,
    ignore_signals,
    limit_data,
)
from trough.formats.encoder import Encoder


class EncoderLoop:
    """The answers that this process encodes, by their numbers."""

    def __init__(self, channel: TupleSocket) -> None:
        self._channel = channel
        self._encoders: dict[int, Encoder] = {}
        self._receivers: dict[int, Callable[..., None]] = {
            ipc.ENCODE_BEGIN: self._begin,
            ipc.ENCODE_DATA: self._data,
            ipc.ENCODE_END: self._end,
            ipc.ENCODE_DROP: self._drop,
        }

    def run(self) -> None:
        """Work until the parent is gone."""
        while True:
            for kind, number, *rest in self._channel.wait(None):
                try:
                    self._receivers[kind](number, *rest)
                except errors.TroughError as error:
                    self._fail(number, error)
                except MemoryError:
                    self._fail(number, errors.LimitExceeded("a row needs too much memory"))
                except Exception as error:  # ours; the caller must get an answer
                    traceback.print_exc()
                    self._fail(number, errors.TroughError(f"{type(error).__name__}: {error}"))
            self._channel.flush()

    def _begin(self, number: int, name: str, compression: str) -> None:
        self._encoders[number] = Encoder(name, compression)

    def _data(self, number: int, data: bytes) -> None:
        encoder = self._encoders.get(number)
        if encoder is not None:  # else it failed
            encoded = encoder.receive(data)
            self._channel.send((ipc.ENCODED, number, encoded, len(data)), len(encoded))

    def _end(self, number: int) -> None:
        encoder = self._encoders.get(number)
        if encoder is not None:
            self._channel.send((ipc.ENCODE_ENDED, number, encoder.end()))
            self._drop(number)

    def _drop(self, number: int) -> None:
        self._encoders.pop(number, None)

    def _fail(self, number: int, error: errors.TroughError) -> None:
        self._drop(number)
        self._channel.send((ipc.ENCODE_FAILED, number, error.code, error.message, error.hint))


def main(arguments: list[str]) -> None:
    """Serve one parent.

    :param arguments: descriptor of the socket, and bytes of memory that this process may have
    """
    descriptor, memory = map(int, arguments)
    ignore_signals()
    die_with_the_parent()
    limit_data(memory)
    EncoderLoop(TupleSocket(socket.socket(fileno=descriptor))).run()


if __name__ == "__main__":
    main(sys.argv[1:])

"""Memory that an executor writes and the front reads, even after the executor's death.

It shows what the executor runs. So the front knows without a message which query killed or
blocks the process. It also shows which writes the executor has begun. All others can go to
its replacement without the risk of applying them twice.
"""

from __future__ import annotations

import mmap
import os
import struct

from trough.metrics.executor_measures import NUMBERS

#: Writes that an executor may have without an answer.
MOST_WRITES = 65536

#: Part, place, and the number of turns so far.
_RUNNING = struct.Struct("<QQQ")
_HEAD = 64

#: Where the numbers of the executor's measures begin, and the bytes of all.
_NUMBERS_AT = _HEAD + MOST_WRITES
_SIZE = _NUMBERS_AT + 8 * NUMBERS


class SharedProgressTable:
    """One executor's table.

    :param descriptor: of the memory, from :func:`create_memory`
    :ivar numbers: of :class:`trough.metrics.executor_measures.ExecutorMeasures`
    """

    def __init__(self, descriptor: int) -> None:
        self._memory = mmap.mmap(descriptor, _SIZE)
        self._view = memoryview(self._memory)
        self._begun = self._view[_HEAD:_NUMBERS_AT]
        self.numbers = self._view[_NUMBERS_AT:].cast("d")
        self._turns = 0

    # -- the executor's side -----------------------------------------------------------

    def runs(self, part: int, place: int) -> None:
        """Record which part and place run from now on; 0 for none."""
        self._turns += 1
        _RUNNING.pack_into(self._memory, 0, part, place, self._turns)

    def begins(self, write: int) -> None:
        """Record that a write may be applied from now on."""
        self._begun[write] = 1

    # -- the front's side --------------------------------------------------------------

    def running(self) -> tuple[int, int, int]:
        """Part and place that run, 0 for none, and a number that changes with each turn."""
        part, place, turns = _RUNNING.unpack_from(self._memory, 0)
        return part, place, turns

    def hand_over(self, write: int) -> None:
        """Note that a write is handed over but not begun."""
        self._begun[write] = 0

    def has_begun(self, write: int) -> bool:
        """Whether a write that was handed over may have been applied."""
        return self._begun[write] != 0

    def close(self) -> None:
        """Release the memory."""
        self.numbers.release()
        self._begun.release()
        self._view.release()
        self._memory.close()


def create_memory() -> int:
    """A descriptor of memory for one table; the executor inherits it."""
    descriptor = os.memfd_create("trough-executor", os.MFD_CLOEXEC)
    os.ftruncate(descriptor, _SIZE)
    return descriptor

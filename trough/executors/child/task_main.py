"""A process that runs one function at a time on untrusted input: a schema, a pattern.

Its parent (:mod:`trough.executors.pool.task_pool`) names a function of this package and gives
its arguments; the process returns the result or the error. Each call has a budget of processor
time. When the budget is used up, the kernel kills this process. There is no other way to
interrupt the match of a regular expression or some of SQLite's functions. Memory is bounded as
well. So a function that runs here must be safe to kill and to run again.

The process imports no Twisted, so it starts in a tenth of a second. It ends when its parent does.
"""

from __future__ import annotations

import importlib
import resource
import signal
import socket
import sys
import traceback
from typing import Any

from trough.sql import library

# Before anything imports pysqlite3.
if __name__ == "__main__":
    library.configure_for_one_thread()

from trough import errors
from trough.executors import ipc
from trough.executors.child.parent_socket import TupleSocket
from trough.executors.child.process_limits import (
    die_with_the_parent,
    ignore_signals,
    limit_data,
)
from trough.sql import sqlite
from trough.util.confinement import Confinement, confine

#: Bytes of Python's own that the process may have beside SQLite's.
PYTHON_MEMORY = 96 << 20


def run(name: str, budget: float, arguments: tuple[Any, ...]) -> ipc.Message:
    """Call one function; the message that carries its result or its error.

    :param name: ``module:function``
    :param budget: seconds of processor time
    """
    module, _, function = name.partition(":")
    try:
        called = getattr(importlib.import_module(module), function)
        signal.setitimer(signal.ITIMER_PROF, budget)
        try:
            return ipc.TASK_RETURNED, called(*arguments)
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0.0)
    except errors.TroughError as error:
        return ipc.TASK_FAILED, error.code, error.message, error.hint
    except MemoryError:
        return ipc.TASK_FAILED, errors.LimitExceeded.code, "it needs more memory than it may", ""
    except Exception as error:  # ours; the caller must get an answer
        traceback.print_exc()
        return ipc.TASK_FAILED, errors.TroughError.code, f"{type(error).__name__}: {error}", ""


def main(arguments: list[str]) -> None:
    """Serve one parent.

    :param arguments: descriptor of the socket, bytes that SQLite may use, and the files that
        it may use
    """
    *numbers, files = arguments
    descriptor, memory = map(int, numbers)
    ignore_signals()
    die_with_the_parent()
    limit_data(memory + PYTHON_MEMORY)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    sqlite.limit_memory(memory)
    channel = TupleSocket(socket.socket(fileno=descriptor))
    confine(Confinement.of_argument(files))
    while True:
        for name, budget, task_arguments in channel.wait(None):
            channel.send(run(name, budget, task_arguments))
            channel.flush()


if __name__ == "__main__":
    main(sys.argv[1:])

"""Makes GATHER processes in milliseconds: one that has imported everything, and forks.

The parent sends a socket for each process that it wants. The new process sends its id as its first
message, and serves that socket (:mod:`trough.gather.process`). All of them end when this process
ends, and this process ends with its parent. No statement runs in this process. The processes that
it makes are confined (:mod:`trough.util.confinement`) to the directory for temporary files.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import tempfile

from trough.executors.child.parent_socket import TupleSocket
from trough.executors.child.process_limits import die_with_the_parent, ignore_signals
from trough.gather import messages, process
from trough.util.confinement import Confinement, confine


def main(arguments: list[str]) -> None:
    """Serve one parent.

    :param arguments: descriptor of the socket, and bytes that SQLite may use in each process
    """
    descriptor, memory = map(int, arguments)
    ignore_signals()
    die_with_the_parent()
    # The kernel collects the processes that have ended.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    process.prepare(memory)
    # Where SQLite sorts; it would take another directory, which it may not use later.
    os.environ["SQLITE_TMPDIR"] = tempfile.gettempdir()
    control = socket.socket(fileno=descriptor)
    here = os.getpid()
    while True:
        wanted, descriptors, _, _ = socket.recv_fds(control, 1, 1)
        if not wanted:
            return
        if os.fork():
            os.close(descriptors[0])
            continue
        control.close()
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        die_with_the_parent()
        if os.getppid() != here:
            os._exit(0)
        channel = TupleSocket(socket.socket(fileno=descriptors[0]))
        channel.send((messages.STARTED, os.getpid()))
        channel.flush()
        confine(Confinement(write=(tempfile.gettempdir(),), files=True))
        process.ProcessSession(channel).run()


if __name__ == "__main__":
    main(sys.argv[1:])

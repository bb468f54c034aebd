"""Several attacks at once, while another client's point reads are answered."""

from __future__ import annotations

import json
import re
import resource
import signal
import socket
import sys
from contextlib import ExitStack
from pathlib import Path

from processes import QUICK, TroughProcess, ports_of_all, read
from waiting import GIVE_UP

#: Bytes that the process of the reactor may have had at its peak.
MOST_MEMORY = 300 << 20
ENDLESS = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n"


def peak(pid: int) -> int:
    """Bytes of memory that a process had at most."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) * 1024


def test_many_attacks_at_once_stop_nobody(tmp_path):
    """Endless reads, answers that nobody reads, large rows, alone and in a GATHER, and idle
    connections on each port."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    ports = ports_of_all()
    settings = {**QUICK, **ports, "MINIMUM_ASSIGNMENTS": "1", "EXECUTORS": "2"}
    # So few that the connections below are too many for the server, which raises a soft limit.
    twistd = ("prlimit", "--nofile=600:600", str(Path(sys.executable).with_name("twistd")))
    arguments = ("--home", str(tmp_path), "--example")
    trough = TroughProcess("trough", settings, arguments, twistd)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(4096, hard), hard))
    with ExitStack() as stack:
        stack.callback(trough.wait)
        stack.callback(trough.signal, signal.SIGKILL)
        stack.callback(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        trough.wait_ready()
        trough.wait_for("example-1', 'SELECT url")

        def connect(key: str) -> socket.socket:
            address = ("127.0.0.1", int(ports[key]))
            return stack.enter_context(socket.create_connection(address, GIVE_UP))

        for number in range(12):
            text = f"1 QUERY example-1 {ENDLESS} -- {number}\n"
            connect("LINE_PORT").sendall(text.encode())
        unread = "".join(
            f"{n} QUERY example-1 SELECT printf('%.*c', 60000, 'y')\n" for n in range(5000)
        )
        connect("LINE_PORT").sendall(unread.encode())
        large = b"SELECT printf('%.*c', 50000000, 'y') x"
        for _ in range(8):
            head = b"POST /?segment=example-1 HTTP/1.1\r\nHost: localhost\r\nContent-Length: "
            connect("READ_PORT").sendall(b"%b%d\r\n\r\n%b" % (head, len(large), large))
        for size in (90_000_000, 4_000_000):
            gather = f"SELECT url, printf('%.*c', {size}, 'y') AS x FROM crawled_url WHERE id = 1"
            body = json.dumps({"segments": ["example-1"], "sql": gather}).encode()
            for _ in range(24):
                head = b"POST /gather HTTP/1.1\r\nHost: localhost\r\nContent-Length: "
                connect("SYNC_SERVER_PORT").sendall(b"%b%d\r\n\r\n%b" % (head, len(body), body))
                connect("SYNC_LINE_PORT").sendall(f"1 GATHER example-1 {gather}\n".encode())
        for key in ("READ_PORT", "WRITE_PORT", "SYNC_SERVER_PORT", "SYNC_LOCAL_PORT"):
            for _ in range(200):
                connect(key)
            for _ in range(10):
                url = f"http://127.0.0.1:{ports['READ_PORT']}/?segment=example-1"
                assert read(url, "SELECT 1 AS one") == [{"one": 1}]
        assert peak(trough.pid) < MOST_MEMORY

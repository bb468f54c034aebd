"""Clients that cost as little as can be, so that what is measured is the server.

Plain sockets, one process; nothing of Trough is imported. Each function returns the
seconds that the work took.
"""

from __future__ import annotations

import select
import socket
import ssl
import time
from collections.abc import Iterator

#: Of one read. Reserving room for much more costs as much as all else that a client does.
CHUNK = 1 << 16


_tls: ssl.SSLContext | None = None


def use_tls(ca: str) -> None:
    """Speak TLS from now on, with servers whose certificates this CA has signed."""
    global _tls
    _tls = ssl.create_default_context(cafile=ca)


def _connect(port: int) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", port))
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if _tls is None:
        return connection
    return _tls.wrap_socket(connection, server_hostname="127.0.0.1")


def _received(connection: socket.socket) -> bytes:
    """What is there; of what TLS has decrypted no poll tells."""
    data = connection.recv(CHUNK)
    while isinstance(connection, ssl.SSLSocket) and connection.pending():
        data += connection.recv(CHUNK)
    return data


# -- HTTP -------------------------------------------------------------------------


def http_request(segment: str, sql: bytes) -> bytes:
    """A keep-alive POST."""
    return (
        b"POST /?segment=%b HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n"
        % (segment.encode(), len(sql))
    ) + sql


def http(port: int, requests: list[bytes], connections: int) -> float:
    """Send all requests over that many connections, each waiting for its answer."""
    waiting = iter(requests)
    poll = select.epoll()
    sockets: dict[int, socket.socket] = {}
    for _ in range(connections):
        connection = _connect(port)
        sockets[connection.fileno()] = connection
        poll.register(connection.fileno(), select.EPOLLIN)
    buffers = dict.fromkeys(sockets, b"")
    began = time.perf_counter()
    under_way = sum(_send_next(each, waiting) for each in sockets.values())
    while under_way:
        for number, _ in poll.poll():
            buffers[number] += _received(sockets[number])
            if _is_whole(buffers[number]):
                buffers[number] = b""
                under_way += _send_next(sockets[number], waiting) - 1
    seconds = time.perf_counter() - began
    for each in sockets.values():
        each.close()
    return seconds


def _send_next(connection: socket.socket, waiting: Iterator[bytes]) -> int:
    request = next(waiting, None)
    if request is None:
        return 0
    connection.sendall(request)
    return 1


def _is_whole(data: bytes) -> bool:
    head, _, body = data.partition(b"\r\n\r\n")
    if not head.startswith(b"HTTP/1.1 200"):
        if b"\r\n" in head:
            raise RuntimeError(data[:500].decode("utf-8", "replace"))
        return False
    lower = head.lower()
    if b"content-length: " in lower:
        return len(body) >= int(lower.partition(b"content-length: ")[2].partition(b"\r\n")[0])
    return body.endswith(b"0\r\n\r\n")


def http_download(port: int, request: bytes) -> tuple[float, int]:
    """One large answer, dropped as it comes: seconds and bytes."""
    connection = _connect(port)
    began = time.perf_counter()
    connection.sendall(request)
    size, tail = 0, b""
    while not tail.endswith(b"0\r\n\r\n"):
        data = connection.recv(CHUNK)
        if not data:
            raise RuntimeError("the answer was cut off")
        size += len(data)
        tail = (tail + data)[-16:]
    seconds = time.perf_counter() - began
    connection.close()
    return seconds, size


# -- the line protocol ---------------------------------------------------------------


def line_pipelined(port: int, requests: list[bytes], end: bytes, most: int) -> float:
    """Send requests with at most that many unanswered ones; `end` marks an answer's end."""
    connection = _connect(port)
    connection.recv(CHUNK)  # the greeting
    began = time.perf_counter()
    sent = answered = 0
    tail = b""
    step = max(1, most // 2)
    while answered < len(requests):
        if sent < len(requests) and sent - answered <= most - step:
            connection.sendall(b"".join(requests[sent : sent + step]))
            sent = min(sent + step, len(requests))
            continue
        data = tail + connection.recv(CHUNK)
        whole, newline, tail = data.rpartition(b"\n")
        answered += (whole + newline).count(end)
        if b" ERR " in whole or b" FAIL " in whole:
            raise RuntimeError(whole[:500].decode("utf-8", "replace"))
    seconds = time.perf_counter() - began
    connection.close()
    return seconds


def line_sequential(port: int, requests: list[bytes], end: bytes) -> float:
    """Each request after the answer to the one before."""
    return line_pipelined(port, requests, end, 1)

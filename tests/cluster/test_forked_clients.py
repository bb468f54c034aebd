"""The blocking client on both sides of a fork."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from waiting import EXPECTED_WITHIN

from trough.client.auto_promoter import AutoPromoter
from trough.client.http import Connections


def in_child(function: Callable[[], bool]) -> bool:
    """Whether `function` says so in a forked child."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            status = 0 if function() else 2
        finally:
            os._exit(status)
    return os.waitpid(child, 0)[1] == 0


class Named(BaseHTTPRequestHandler):
    """Answers with the port that the request came from, which tells the connection."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        said = str(self.client_address[1]).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(said)))
        self.end_headers()
        self.wfile.write(said)

    def log_message(self, *_: object) -> None:
        """Nobody reads it."""


@pytest.fixture
def url():
    """Of a server that keeps connections."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Named) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}/"
        server.shutdown()


def test_a_forked_child_has_connections_of_its_own(url):
    """Two processes on one connection would read each other's answers."""
    connections = Connections()

    def ask() -> bytes:
        return connections.request("GET", url, timeout=EXPECTED_WITHIN).body

    first = ask()
    assert in_child(lambda: ask() != first and ask() != first)
    assert ask() == first
    connections.close()


def test_a_lock_that_another_thread_held_at_the_fork_holds_up_nobody(url):
    """The child has none of the threads that would let go of it."""
    connections = Connections()
    with connections._lock:
        assert in_child(
            lambda: connections.request("GET", url, timeout=EXPECTED_WITHIN).status == 200
        )
    connections.close()


def test_a_forked_child_promotes_what_it_wrote():
    """Threads do not come along: what is noted in a child is promoted there, and what was
    noted before is the parent's to promote."""
    promoted: list[str] = []
    begun = threading.Event()

    def promote(segment: str) -> None:
        promoted.append(segment)
        begun.set()

    promoter = AutoPromoter(promote, 0.05, logging.getLogger("test"))

    def child() -> bool:
        promoted.clear()
        begun.clear()
        promoter.note("child")
        return begun.wait(EXPECTED_WITHIN) and promoted == ["child"]

    assert in_child(child)
    assert "child" not in promoted
    promoter.stop()

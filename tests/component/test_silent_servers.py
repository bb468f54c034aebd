"""Transfers over HTTP whose server takes connections and answers nothing, or late."""

from __future__ import annotations

import socket
import threading

import pytest
from waiting import GIVE_UP, until_blocking

from trough.storage.hdfs.abortable_http import AbortableSession
from trough.storage.hdfs.silence import SilenceWatch, Silent
from trough.util.threads import Cancellation

ANSWER = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok"


class Server:
    """Takes requests, and answers when it is told to.

    :ivar asked: methods of the requests that came
    """

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.answers = {"HEAD": threading.Event(), "GET": threading.Event()}
        self.on_request = lambda method: None
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                connection = self._listener.accept()[0]
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection:
            method = connection.recv(1 << 16).partition(b" ")[0].decode()
            self.asked.append(method)
            self.on_request(method)
            if self.answers[method].wait(GIVE_UP):
                connection.sendall(ANSWER if method == "GET" else ANSWER[:-2])

    def close(self) -> None:
        for answer in self.answers.values():
            answer.set()
        self._listener.close()


@pytest.fixture
def server():
    opened = Server()
    yield opened
    opened.close()


def transfer(watch: SilenceWatch, url: str) -> bytes:
    """The content of a file, by a session of its own."""
    session = AbortableSession()
    with Cancellation().interrupting(session.abort), watch.transfer(session):
        return session.get(url, timeout=GIVE_UP).content


def test_a_silent_server_is_asked_once(server):
    """A transfer ends, though its own limit is long. The next one sends nothing."""
    watch = SilenceWatch(AbortableSession, still=0.1, answer=0.2)
    for _ in range(2):
        with pytest.raises(Silent, match=r"127\.0\.0\.1:\d+ is silent"):
            transfer(watch, f"{server.url}/file")
    assert server.asked.count("GET") == 1


def test_a_server_that_answers_again(server):
    """It is asked until it does, and then takes transfers."""
    watch = SilenceWatch(AbortableSession, still=0.1, answer=0.2)
    with pytest.raises(Silent):
        transfer(watch, f"{server.url}/file")
    for answer in server.answers.values():
        answer.set()

    def content() -> bytes:
        try:
            return transfer(watch, f"{server.url}/file")
        except Silent:
            return b""

    assert until_blocking(content, "a transfer") == b"ok"


def test_a_slow_server_is_no_silent_one(server):
    """It answers the file only after it was asked for a sign of life, and gave that twice."""
    signs = iter(range(2))
    server.answers["HEAD"].set()

    def on_request(method: str) -> None:
        if method == "HEAD" and next(signs, None) is None:
            server.answers["GET"].set()

    server.on_request = on_request
    watch = SilenceWatch(AbortableSession, still=0.0, answer=GIVE_UP)
    assert transfer(watch, f"{server.url}/file") == b"ok"
    assert server.asked.count("HEAD") >= 3

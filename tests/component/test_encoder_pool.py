"""Answers are encoded in other processes, a bounded number of bytes at a time."""

import os
import signal

import pytest
from pytest_twisted import ensureDeferred
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from waiting import until

from trough import errors
from trough.executors.pool import encoder_pool
from trough.executors.pool.encoder_pool import HIGH_WATER, EncoderPool

ROWS = b'r COLS a ["n"]\n' + b"r ROWS a [[1],[2]]\n"


class Client:
    """Takes what comes."""

    def __init__(self):
        self.chunks = []
        self.ended = Deferred()

    @property
    def text(self):
        return b"".join(self.chunks)

    def data(self, chunk):
        self.chunks.append(chunk)

    def finished(self, error):
        self.ended.callback(error)


@pytest.fixture
def pool():
    made = EncoderPool(reactor)
    yield made
    Deferred.fromCoroutine(made.close())


@ensureDeferred
async def test_answers_do_not_mix(pool):
    """Several at once, in several processes."""
    clients = [Client() for _ in range(5)]
    encodings = [
        pool.begin("csv" if place % 2 else "jsonl", "", client)
        for place, client in enumerate(clients)
    ]
    for encoding in encodings:
        encoding.write(ROWS)
    for encoding in encodings:
        encoding.end()
    for place, client in enumerate(clients):
        assert await client.ended is None
        assert client.text == (b"n\r\n1\r\n2\r\n" if place % 2 else b'{"n": 1}\n{"n": 2}\n')
    assert pool.answers == 0


@ensureDeferred
async def test_a_source_is_asked_to_pause(pool):
    """As soon as more is on its way than the limit, until most of it was taken."""
    client = Client()
    encoding = pool.begin("json", "gzip", client)
    encoding.write(b"x" * HIGH_WATER)
    assert not encoding.is_full
    encoding.write(b"x")
    assert encoding.is_full
    await until(lambda: not encoding.is_full, "the process to take most of it")
    encoding.drop()
    encoding.drop()
    assert pool.answers == 0


@ensureDeferred
async def test_an_answer_that_cannot_be_encoded_fails_alone(pool):
    """The others of its process go on."""
    good, bad = Client(), Client()
    encodings = [pool.begin("arrow", "", client) for client in (good, bad, Client())]
    encodings[1].write(b'r COLS a ["n"]\nr ROWS a [[1],["x"]]\n')
    encodings[1].end()
    assert isinstance(await bad.ended, errors.BadRequest)
    encodings[0].write(ROWS)
    encodings[0].end()
    assert await good.ended is None
    assert good.text


@ensureDeferred
async def test_the_end_of_a_process_ends_its_answers(pool):
    """And the next answer gets another process."""
    client, next_client = Client(), Client()
    pool.begin("csv", "", client)
    (process,) = pool._processes
    os.kill(process._process.pid, signal.SIGKILL)
    assert isinstance(await client.ended, errors.Unavailable)
    encoding = pool.begin("csv", "", next_client)
    encoding.write(ROWS)
    encoding.end()
    assert await next_client.ended is None


@ensureDeferred
async def test_answers_at_once_are_limited(pool, monkeypatch):
    """One more is refused, until one is over; none begins after the end."""
    monkeypatch.setattr(encoder_pool, "MOST_ANSWERS", 2)
    encodings = [pool.begin("csv", "", Client()) for _ in range(2)]
    with pytest.raises(errors.Unavailable, match="2 answers"):
        pool.begin("csv", "", Client())
    encodings[0].drop()
    client = Client()
    pool.begin("csv", "", client)
    await pool.close()
    assert isinstance(await client.ended, errors.Unavailable)
    with pytest.raises(errors.Cancelled):
        pool.begin("csv", "", Client())

"""trough-load shows how far a promotion is, as the worker reports it."""

from __future__ import annotations

import io
import json
import threading

import pytest
import pytest_twisted
from load_runs import publish
from twisted.internet import reactor, threads
from waiting import EXPECTED_WITHIN
from web_servers import WebServer

from trough import model
from trough.cli.load_progress import LoadProgress
from trough.client import TroughClient
from trough.client.transfers import Unknown
from trough.load import promotion
from trough.metadata.sqlite.store import SqliteMetadata


class Terminal(io.StringIO):
    """A terminal on which a text is waited for."""

    def __init__(self, wanted: str) -> None:
        super().__init__()
        self._wanted = wanted
        self.seen = threading.Event()

    def isatty(self) -> bool:
        return True

    def write(self, text: str) -> int:
        if self._wanted in text:
            self.seen.set()
        return super().write(text)


class Worker:
    """A worker that is promoting ``s``."""

    def __init__(self) -> None:
        self.status = (
            200,
            json.dumps(
                {"transfers": {"s": {"direction": "publish", "bytes": 250, "of": 1000}}}
            ).encode(),
        )

    def __call__(self, method, uri, body):
        return self.status


@pytest_twisted.ensureDeferred
async def test_bytes_that_are_published(tmp_path, monkeypatch):
    """Asked of the worker that writes the segment; whatever it answers is no error."""
    monkeypatch.setattr(promotion, "ASKED_EVERY", 0.01)
    metadata, worker = SqliteMetadata(tmp_path / "registry.db", reactor), Worker()
    async with WebServer(reactor, worker) as server:
        await publish(metadata, "s", server.url)
        client = TroughClient(f"sqlite://{tmp_path}/registry.db")

        def on_thread(function, *arguments):
            done = threads.deferToThread(function, *arguments)
            return done.addTimeout(EXPECTED_WITHIN, reactor)

        with pytest.raises(Unknown):
            await on_thread(client.published, "s")
        await metadata.register_worker(
            model.Worker("w", "1", manager_url=server.url, read_url=server.url, ttl=3600.0)
        )
        await metadata.publish_copies([model.Copy("s", "w", model.WRITE, server.url)])
        assert await on_thread(client.published, "s") == (250, 1000)
        terminal = Terminal("segment s is being promoted, 25% of 1,000 bytes")

        def promoted(segment):
            assert terminal.seen.wait(EXPECTED_WITHIN)
            return {"remote_path": "/c"}

        monkeypatch.setattr(client, "promote", promoted)
        progress = LoadProgress(terminal, None)
        assert await on_thread(promotion.promote, client, "s", progress) == "/c"
        for status in ((403, b"no"), (200, b"[]"), (200, b'{"transfers": {"s": 3}}')):
            worker.status = status
            with pytest.raises(Unknown):
                await on_thread(client.published, "s")
        worker.status = 200, b'{"transfers": {}}'
        assert await on_thread(client.published, "s") == (0, 0)
        client.close()
    await metadata.close()

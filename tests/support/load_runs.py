"""Runs of trough-load on one segment, against a small server that stores in real SQLite."""

from __future__ import annotations

import json
import sqlite3

import pytest_twisted
from twisted.internet import reactor, threads
from waiting import EXPECTED_WITHIN
from web_servers import WebServer

from trough import model
from trough.load import main as load
from trough.metadata.sqlite.store import SqliteMetadata

CRAWLED_URL = """
CREATE TABLE crawled_url (
    id INTEGER PRIMARY KEY AUTOINCREMENT, timestamp DATETIME, status_code INTEGER, size BIGINT,
    payload_size BIGINT, url VARCHAR(4000), hop_path VARCHAR(255), is_seed_redirect INTEGER(1),
    via VARCHAR(255), mimetype VARCHAR(255), content_digest VARCHAR(255), seed VARCHAR(4000),
    is_duplicate INTEGER(1), warc_filename VARCHAR(255), warc_offset VARCHAR(255),
    warc_content_bytes BIGINT, host VARCHAR(255));
CREATE TABLE small (url TEXT NOT NULL UNIQUE, host TEXT);
"""
ELEVEN = (
    "com,example)/ 20140127171200 http://example.com/{} text/html 200 B2LT - - 1046 334 a.warc.gz\n"
)


class Segment:
    """One segment in memory, which provisions, reads and writes like a worker.

    :ivar scripts: the writes that were asked for
    :ivar before_write: called before each write; may answer in its place
    """

    def __init__(self) -> None:
        self.database = sqlite3.connect(":memory:", isolation_level=None)
        self.database.row_factory = sqlite3.Row
        self.database.executescript(CRAWLED_URL)
        self.scripts = []
        self.promoted = []
        self.before_write = lambda: None
        self.url = ""
        self.undo = (409, b"in use\n")

    def __call__(self, method, uri, body):
        if uri == "/provision":
            return 200, json.dumps({"write_url": f"{self.url}write"}).encode()
        if uri == "/provision/undo":
            return self.undo
        if uri == "/promote":
            self.promoted.append(json.loads(body)["segment"])
            return 200, json.dumps({"remote_path": "/canonical/s.sqlite"}).encode()
        try:
            if uri == "/write":
                return self._write(body.decode())

            found = self.database.execute(body.decode()).fetchall()
            return 200, json.dumps([dict(row) for row in found]).encode()
        except sqlite3.Error as error:
            return 400, f"500 Server Error: {error}\n".encode(), ("x-trough-error", "bad-sql")

    def _write(self, script):
        self.scripts.append(script)
        instead = self.before_write()
        if instead:
            return instead
        try:
            self.database.executescript(f"BEGIN;\n{script}\nCOMMIT;")
        except sqlite3.Error:
            self.database.execute("ROLLBACK")
            raise
        return 200, b"OK\n"

    def rows(self, sql):
        return [tuple(row) for row in self.database.execute(sql)]


class Run:
    """A registry and a worker for trough-load, and what a run of it printed."""

    def __init__(self, path, segment, capsys) -> None:
        self.segment = segment
        self._path = path
        self._capsys = capsys
        self.printed = ""

    def file(self, name, content):
        """A file to load."""
        path = self._path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return str(path)

    async def __call__(self, *arguments, segment="s"):
        """Run the tool; its exit status."""
        url = f"sqlite://{self._path}/registry.db"
        named = ["--segment", segment] if segment else []
        status = await threads.deferToThread(
            load.main, ["-u", url, *named, "--schema", "crawl", *arguments]
        ).addTimeout(EXPECTED_WITHIN, reactor)
        self.printed = self._capsys.readouterr().err
        return status


async def publish(metadata, segment, url):
    """Make `url` the leader's, the segment's, and that of segments 0 to 9."""
    await metadata.open()
    await metadata.campaign(model.Leader("sync", "1", url=url, ttl=3600.0))
    names = [segment, *map(str, range(10))]
    await metadata.publish_copies([model.Copy(n, "w", model.READ, f"{url}read") for n in names])


@pytest_twisted.async_yield_fixture
async def run(tmp_path, capsys):
    """Runs trough-load on a segment ``s``."""
    metadata = SqliteMetadata(tmp_path / "registry.db", reactor)
    segment = Segment()
    async with WebServer(reactor, segment) as server:
        segment.url = server.url
        await publish(metadata, "s", server.url)
        yield Run(tmp_path, segment, capsys)
    await metadata.close()

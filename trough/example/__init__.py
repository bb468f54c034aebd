"""A small example for an empty Trough: three crawl jobs, and how to ask them.

It goes the way of any client: schema, provisioning, writing, promotion.
"""

from __future__ import annotations

import random
import sys
from importlib import resources

from twisted.internet.defer import Deferred

from trough.executors.pool.pool import Outcome, ReadLimits
from trough.metadata.schemas import Schemas
from trough.settings import Settings
from trough.sync import MasterSyncController
from trough.worker.controller import LocalSyncController

SCHEMA = "crawled_url"
JOBS = ("example-1", "example-2", "example-3")
ROWS = 200

_HOSTS = ("example.com", "example.org", "news.example", "shop.example")
_STATUS = (200, 200, 200, 200, 301, 404, 500, -9998)
_KINDS = ("text/html", "text/html", "image/png", "text/css", "application/javascript")


class Example:
    """Makes the example, unless there are segments already."""

    def __init__(
        self,
        controller: MasterSyncController,
        schemas: Schemas,
        worker: LocalSyncController,
        settings: Settings,
    ) -> None:
        self._controller = controller
        self._schemas = schemas
        self._worker = worker
        self._settings = settings

    async def run(self) -> str:
        """Make it; return three commands to try."""
        if SCHEMA not in await self._schemas.names():
            sql = resources.files("trough.example").joinpath("example.sql").read_text()
            await self._schemas.put(SCHEMA, sql)
            for job in JOBS:
                await self._make(job)
        return self._commands()

    async def _make(self, job: str) -> None:
        await self._controller.provision(job, SCHEMA)
        written = _Written()
        self._worker.writer.write(job, _rows(job), None, ReadLimits(60.0), written)
        await written.done
        await self._controller.promote(job)

    def _commands(self) -> str:
        host, settings = self._settings.url_host, self._settings
        line = f"nc {host.strip('[]')} {settings.line_port}"
        curl = "curl"
        if settings.tls.serves:
            ca = settings.tls.known_ca
            curl += f" --cacert {ca}" if ca else ""
            line = f"openssl s_client -quiet -connect {host}:{settings.line_port}"
        return f"""
Three crawl jobs to play with: {", ".join(JOBS)}. Try, in another terminal:

  {curl} '{settings.url(settings.read_port)}?segment={JOBS[0]}' \\
      -d 'SELECT host, count(*) AS captures FROM crawled_url GROUP BY host'

  printf '1 QUERY {",".join(JOBS)} SELECT count(*) FROM crawled_url\\n2 QUIT\\n' \\
      | {line}

  {sys.executable} -c "from trough.client import TroughClient; \
client = TroughClient('{settings.metadata_url}'); \
print(client.read('{JOBS[0]}', 'SELECT url FROM crawled_url WHERE status_code = %s', (404,))[0])"
"""


class Welcome:
    """What a whole Trough says when it is ready.

    :param example: made first, or None
    """

    def __init__(self, settings: Settings, example: Example | None) -> None:
        self._settings = settings
        self._example = example

    async def run(self) -> str:
        """Make the example; return where the console is, and commands to try."""
        commands = await self._example.run() if self._example is not None else ""
        url = self._settings.url(self._settings.sync_server_port)
        return f"\nThe console, in a browser: {url}\n{commands}"


class _Written:
    """Waits for a write's outcome."""

    def __init__(self) -> None:
        self.done: Deferred[None] = Deferred()

    def data(self, chunk: bytes) -> None:
        """A write sends no rows."""

    def finished(self, outcome: Outcome) -> None:
        """The write is on disk, or is not."""
        if outcome.error is not None:
            self.done.errback(outcome.error)
        else:
            self.done.callback(None)


def _rows(job: str) -> str:
    """SQL that inserts a job's captures, the same ones every time."""
    dice = random.Random(job)
    values = []
    for number in range(ROWS):
        host = dice.choice(_HOSTS)
        status = dice.choice(_STATUS)
        size = dice.randrange(200, 60_000)
        values.append(
            f"('2026-01-{number // 24 + 1:02}T{number % 24:02}:00:00Z', {status}, {size}, {size},"
            f" 'http://{host}/page/{number}', 'L', '{dice.choice(_KINDS)}', 'http://{host}/',"
            f" '{host}', '{job}.warc.gz', '{number * 1000}')"
        )
    return (
        "INSERT INTO crawled_url (timestamp, status_code, size, payload_size, url, hop_path,"
        " mimetype, seed, host, warc_filename, warc_offset) VALUES " + ",\n".join(values)
    )

"""A whole shell for tests: on a real registry, run on a thread as a person's is."""

from __future__ import annotations

import io

from towns import say_known
from twisted.internet import reactor
from twisted.internet.threads import deferToThread
from waiting import EXPECTED_WITHIN

from trough import model
from trough.cluster_client.client import Cluster
from trough.metadata.sqlite.store import SqliteMetadata
from trough.shell.cluster.known_workers import KnownWorkers
from trough.shell.cluster.reactor_bridge import Bridge
from trough.shell.cluster.remote import ClusterRemote
from trough.shell.commands import all_commands
from trough.shell.input.editor import run_typed
from trough.shell.output.formats import Choice
from trough.shell.output.sinks import Output
from trough.shell.session import Session
from trough.shell.settings import ShellSettings
from trough.shell.shell import Shell


class Screen(io.StringIO):
    """A terminal as far as the shell asks."""

    def isatty(self) -> bool:
        return True


class Desk:
    """A shell, and the registry that it is connected to.

    :param person: whether somebody sits there, at a terminal, and what they answer
    """

    def __init__(self, path, person=None, format="TSV", **session) -> None:
        self.path = path
        self.metadata = SqliteMetadata(path / "registry.db", reactor)
        self.cluster = Cluster(self.metadata, reactor)
        self.remote = ClusterRemote(
            Bridge(reactor), self.cluster, KnownWorkers(None, ""), lambda: None
        )
        self.screen = io.StringIO() if person is None else Screen()
        self.messages = io.StringIO()
        self.questions: list[str] = []
        self.shell = Shell(
            Session(choice=Choice(format), timing=False, **session),
            self.remote,
            Output(self.screen),
            all_commands(),
            ShellSettings(),
            messages=self.messages,
            confirm=None if person is None else self._asking(person),
        )

    def _asking(self, answers):
        waiting = iter([answers] if isinstance(answers, str) else answers)

        def confirm(question):
            self.questions.append(question)
            return next(waiting, "")

        return confirm

    async def worker(self, node, server, *segments):
        """Register a worker, and the copies that it serves."""
        line = server if isinstance(server, str) else server.address
        await self.metadata.register_worker(
            model.Worker(node, f"id-{node}", line=line, read_url="http://x/", ttl=3600.0)
        )
        await self.metadata.publish_copies(
            [model.Copy(s, node, model.READ, f"http://x/?segment={s}") for s in segments]
        )
        await say_known(self.metadata)

    async def lead(self, server):
        """Make a server the sync server that leads."""
        await self.metadata.campaign(
            model.Leader("sync", "id-sync", url="http://x/", line=server.address, ttl=3600.0)
        )

    async def typed(self, text):
        """What is shown when this is typed."""
        await self._on_thread(run_typed, self.shell, text, True)
        return self._taken(self.screen)

    async def script(self, text):
        """What a script's text writes.

        :raises trough.errors.TroughError: what ends it
        """
        await self._on_thread(self.shell.run_lines, io.StringIO(text))
        return self._taken(self.screen)

    async def told(self, text):
        """What is said about something that goes wrong, when this is typed."""
        await self.typed(text)
        return self._taken(self.messages)

    def _on_thread(self, function, *arguments):
        return deferToThread(function, *arguments).addTimeout(EXPECTED_WITHIN, reactor)

    @staticmethod
    def _taken(stream):
        text = stream.getvalue()
        stream.seek(0)
        stream.truncate()
        return text

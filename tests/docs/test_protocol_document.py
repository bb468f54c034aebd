"""PROTOCOL.rst is true: its transcripts are run, its tables compared with the code."""

from __future__ import annotations

import itertools
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from line_role import SqlRole
from processes import Machine, http, write
from twisted.internet import defer
from twisted.internet import reactor as installed_reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure

import trough.protocols
from trough import errors
from trough.access.gate import Gate
from trough.protocols.line.common_verbs import common_verbs
from trough.protocols.line.framing import FINAL
from trough.protocols.line.messages import Greeting
from trough.protocols.line.server import LineServerFactory, ServerLimits
from trough.protocols.line.sync_verbs import SyncVerbs
from trough.protocols.line.worker_verbs import WorkerVerbs
from trough.settings import settings_from

reactor: Any = installed_reactor
DOCUMENT = Path(trough.protocols.__file__).with_name("PROTOCOL.rst").read_text()

#: Seconds after which a transcript has failed that stopped somewhere.
GIVE_UP = 30


def _blocks() -> list[list[str]]:
    """The literal blocks, without their indentation."""
    blocks = []
    for match in re.finditer(r"::\n\n((?:    .*\n|\n)+)", DOCUMENT):
        lines = [line[4:] for line in match[1].rstrip().split("\n")]
        blocks.append([line for line in lines if line])
    return blocks


TRANSCRIPTS = [block for block in _blocks() if block[0].startswith(("# ", "$ "))]


class _Talk(Protocol):
    """Collects what a server says."""

    def __init__(self) -> None:
        self._heard = b""
        self._waiting: Deferred[None] | None = None
        self._closed = False

    def dataReceived(self, data: bytes) -> None:
        self._heard += data
        self._tell()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._closed = True
        self._tell()

    def _tell(self) -> None:
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            waiting.callback(None)

    async def until(self, last: bytes) -> list[str]:
        """All lines up to the one that begins with `last`, and what came with that one."""
        while not re.search(rb"^%b.*\n\Z" % re.escape(last), self._heard, re.MULTILINE):
            assert not self._closed, self._heard
            self._waiting = Deferred()
            try:
                await self._waiting.addTimeout(GIVE_UP, reactor)
            except defer.TimeoutError:
                raise AssertionError(f"no {last!r}, but {self._heard!r}") from None
        heard, self._heard = self._heard.decode(), b""
        return heard.split("\n")[:-1]


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """A sync server and a worker with the segment that the document asks."""
    schema = "CREATE TABLE crawled_url (id INTEGER PRIMARY KEY, url TEXT, status_code INTEGER)"
    with Machine(tmp_path_factory.mktemp("machine"), MINIMUM_ASSIGNMENTS="1") as machine:
        machine.sync("s01").wait_ready()
        machine.worker("w01").wait_ready()
        url = machine.url("s01", "SYNC_SERVER_PORT")
        status, answer = http("PUT", f"{url}schema/crawled_url/sql", schema.encode())
        assert status == 201, answer
        write(
            machine.provision("s01", "example-1", "crawled_url")["write_url"],
            "INSERT INTO crawled_url VALUES (1, 'http://example.com/', 200),"
            " (2, 'http://example.com/a', 404), (3, 'http://example.com/b', 200)",
        )
        yield machine


@asynccontextmanager
async def _sites(machine: Machine) -> AsyncIterator[dict[str, int]]:
    """Ports of the servers that the transcripts are about."""
    role = SqlRole()
    role.add("example-1", "")
    factory = LineServerFactory("worker", "w01", role.verbs(), reactor, gate=Gate("secret"))
    port = reactor.listenTCP(0, factory, interface="127.0.0.1")
    try:
        yield {
            "worker": int(machine.processes["w01"].settings["LINE_PORT"]),
            "sync": int(machine.processes["s01"].settings["SYNC_LINE_PORT"]),
            "secured": port.getHost().port,
        }
    finally:
        await port.stopListening()
        await factory.drain(0)


@pytest.mark.parametrize("transcript", TRANSCRIPTS, ids=lambda block: block[1][:40])
@pytest_twisted.ensureDeferred
async def test_transcript(transcript: list[str], machine: Machine) -> None:
    """What the document says was asked is answered as the document says."""
    async with _sites(machine) as ports:
        if transcript[0].startswith("$ "):
            script = re.fullmatch(r"\$ printf '(.*)' \| nc 127\.0\.0\.1 6440", transcript[0])
            assert script
            asked = script[1].replace("\\n", "\n").split("\n")[:-1]
            port, greeting, answers = ports["worker"], transcript[1], transcript[2:]
            steps = [greeting, *(f"> {line}" for line in asked), *answers]
        else:
            port, steps = ports[transcript[0][2:]], transcript[1:]
        talk = await connectProtocol(TCP4ClientEndpoint(reactor, "127.0.0.1", port), _Talk())
        if not steps[0].startswith("< TROUGH"):
            steps.insert(0, "< TROUGH ...")
        for sending, group in itertools.groupby(steps, lambda step: step.startswith("> ")):
            lines = [re.sub("^[<>] ", "", step) for step in group]
            if sending:
                talk.transport.write("".join(f"{line}\n" for line in lines).encode())
                continue
            heard = await talk.until(_begin(lines[-1]))
            expected = _pattern(_ordered(lines))
            assert re.fullmatch(expected, _comparable(_ordered(heard))), heard
        talk.transport.loseConnection()


def _begin(line: str) -> bytes:
    """As much of `line` as tells that it is there."""
    return " ".join(line.removesuffix("...").split(" ")[:2]).encode()


def _ordered(lines: list[str]) -> list[str]:
    """The same lines, those of different segments in the order of the segments' ids."""
    told = ("COLS", "ROWS", "DONE", "FAIL")

    def key(numbered: tuple[int, str]) -> tuple[int, str]:
        number, line = numbered
        words = [*line.split(" ", 3), "", "", ""]
        if words[1] not in told:
            return (number, "")
        first = number
        while (
            first
            and lines[first - 1].split(" ")[:2][0] == words[0]
            and (lines[first - 1].split(" ")[1] in told)
        ):
            first -= 1
        return (first, words[2])

    return [line for _, line in sorted(enumerate(lines), key=key)]


def _comparable(lines: list[str]) -> str:
    text = "".join(f"{line}\n" for line in lines)
    # What a run decides: how long it took, and the ports.
    return re.sub(r"127\.0\.0\.1:\d+", "127.0.0.1:1", re.sub(r"\bms=\d+", "ms=0", text))


def _pattern(lines: list[str]) -> str:
    pattern = ""
    for line in _comparable(lines).split("\n")[:-1]:
        if line == "...":
            pattern += r"(?:.*\n)*"
        elif line.endswith("..."):
            pattern += re.escape(line[:-3]) + r".*\n"
        else:
            pattern += re.escape(line) + r"\n"
    return pattern


def test_there_are_transcripts() -> None:
    """The search for transcripts finds them, of every server."""
    assert len(TRANSCRIPTS) >= 9
    assert {block[0].split()[1] for block in TRANSCRIPTS} >= {"worker", "sync", "secured"}


def test_every_verb_is_described() -> None:
    """Each verb of each role has its entry, with its usage as HELP tells it."""
    nothing: Any = None
    tables = (
        common_verbs(),
        WorkerVerbs(nothing, nothing).table(),
        SyncVerbs(nothing, nothing, nothing).table(),
    )
    for verb in [verb for table in tables for verb in table.values()]:
        assert f"``{verb.name}" in DOCUMENT, verb.name
        for option in re.findall(r"\[(\w+)=", verb.usage):
            assert re.search(rf"``{verb.name} .*\[{option}=", DOCUMENT), (verb.name, option)


def test_every_code_is_described() -> None:
    """The table of codes has each code that can be told, and no other."""
    tables = DOCUMENT.partition("\nErrors\n======")[2].partition("\nLimits\n======")[0]
    described = re.findall(r"^([a-z\-]+)  +\S", tables, re.MULTILINE)
    assert sorted(described) == sorted([*errors.BY_CODE, "quit"])


def test_limits_are_those_of_the_code() -> None:
    """The greeting and the numbers in the text are the defaults."""
    greeting = Greeting("worker", "w01").line().decode().rstrip()
    assert f"    {greeting}\n" in DOCUMENT
    limits = ServerLimits()
    assert (limits.half_message, limits.idle) == (60, 3600)
    assert limits.strangers.max_line == limits.strangers.max_literal == 8192
    assert limits.requests == Greeting("", "").max_requests
    assert (limits.held, limits.connections) == (128 << 20, 10_000)
    with pytest.raises(errors.BadSettings, match="8192 or more"):
        settings_from({"MAX_LINE": 8191}, "w01")


def test_last_words() -> None:
    """The words that end a request are those that the document promises for ever."""
    assert {b"OK", b"END", b"ERR"} == FINAL

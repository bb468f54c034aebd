"""trough-shell as a process: its arguments, exit status, pipes, signals and terminal."""

from __future__ import annotations

import os
import re
import signal
import sys
from pathlib import Path

import pytest
import pytest_twisted
from line_servers import LineServer
from shell_desk import Desk
from test_shell_gather import Segments
from twisted.internet import defer, protocol, reactor
from waiting import EXPECTED_WITHIN

from trough import __version__
from trough.shell.settings import ShellSettings, explained, read_settings

PROGRAM = str(Path(sys.executable).with_name("trough-shell"))


class Process(protocol.ProcessProtocol):
    """One trough-shell.

    :param terminal: lines and columns of its terminal; None: pipes
    :ivar text: what it wrote to its output, or to its terminal
    :ivar ended: fires with its exit status, or the negative number of its signal
    """

    def __init__(self, desk, *arguments, text=None, terminal=None, **environment) -> None:
        self.text = ""
        self.errors = ""
        self.ended = defer.Deferred().addTimeout(EXPECTED_WITHIN, reactor)
        self._waiting = None
        self._seen = 0
        self._input = text
        home = str(desk.path)
        size = {"LINES": str(terminal[0]), "COLUMNS": str(terminal[1])} if terminal else {}
        keep = {key: os.environ[key] for key in ("PATH",) if key in os.environ}
        url = f"sqlite://{desk.path}/registry.db"
        self._transport = reactor.spawnProcess(
            self,
            PROGRAM,
            [PROGRAM, *arguments],
            {
                "HOME": home,
                "TERM": "xterm",
                "PROMPT_TOOLKIT_NO_CPR": "1",
                "TROUGH_URL": url,
                **keep,
                **size,
                **environment,
            },
            path=home,
            usePTY=terminal is not None,
        )

    def connectionMade(self):
        if self._input is not None:
            self.transport.write(self._input.encode())
            self.transport.closeStdin()

    def outReceived(self, data):
        self.text += data.decode()
        self._look()

    def errReceived(self, data):
        self.errors += data.decode()

    def processEnded(self, reason):
        status = reason.value
        self.ended.callback(status.exitCode if status.signal is None else -status.signal)
        self._look()

    def _look(self):
        if self._waiting is None:
            return
        wanted, deferred = self._waiting
        found = self.text.find(wanted, self._seen)
        if found >= 0:
            self._seen = found + len(wanted)
            self._waiting = None
            deferred.callback(None)

    async def reads(self, prompt):
        """Once it shows its next prompt, and takes every key as itself.

        A prompt is drawn once more when its line ends. What begins a new one is that paste is
        bracketed, which follows the terminal being made raw: a Ctrl-D before that is lost.
        """
        await self.says("\x1b[?2004h")
        await self.says(prompt)

    def says(self, wanted):
        """Fires once it has written this, after what was waited for last."""

        def in_vain(failure):
            failure.trap(defer.TimeoutError)
            raise AssertionError(f"{wanted!r} was not written; but: {self.text[-2000:]!r}")

        deferred = defer.Deferred().addTimeout(EXPECTED_WITHIN, reactor).addErrback(in_vain)
        self._waiting = wanted, deferred
        self._look()
        return deferred

    def types(self, text):
        """Press these keys."""
        self.transport.write(text.encode())

    def interrupt(self):
        """As Ctrl-C does to a program that does not read keys."""
        self.transport.signalProcess(signal.SIGINT)


@pytest_twisted.async_yield_fixture
async def desk(tmp_path):
    """A registry with three segments, on a worker that answers three rows for each."""
    desk = Desk(tmp_path)
    await desk.cluster.open()
    rows = {"a": [1, 2], "b": [3], "c": []}
    async with LineServer(reactor, lambda asked: asked.answer(rows)) as server:
        desk.server = server
        await desk.worker("w1", server, *rows)
        yield desk
    await desk.cluster.close()


async def ran(desk, *arguments, **options):
    """Exit status, output and errors of a run."""
    process = Process(desk, *arguments, **options)
    status = await process.ended
    return status, process.text, process.errors


# -- scripts --------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_a_query_on_the_command_line(desk):
    """Plain rows on the output, nothing on stderr, status 0."""
    assert await ran(desk, "-e", "SELECT a FROM t", "a") == (0, "a\n1\n2\n", "")
    assert await ran(desk, "a", "--format", "csv merged", "-e", "SELECT a FROM t") == (
        0,
        "_segment,a\r\na,1\r\na,2\r\n",
        "",
    )


@pytest_twisted.ensureDeferred
async def test_a_piped_script(desk):
    """Commands and SQL from stdin; an error says its line, and ends it."""
    text = "CONNECT a\nSELECT a FROM t;\n\nSHOW NOTHING\nSHOW SCHEMAS\n"
    status, output, told = await ran(desk, text=text)
    assert (status, output) == (1, "a\n1\n2\n")
    assert told.startswith("trough-shell: stdin:4: no such command: SHOW NOTHING (TABLES, ")
    assert await ran(desk, text="QUIT;\nSHOW NOTHING") == (0, "", "")
    assert await ran(desk, text="") == (0, "", "")


@pytest_twisted.ensureDeferred
async def test_output_goes_to_a_file(desk):
    """In the format of its name, unless another is asked for."""
    path = desk.path / "out.jsonl"
    assert await ran(desk, "-o", str(path), "a", "-e", "SELECT a FROM t") == (0, "", "")
    assert path.read_text() == '{"a": 1}\n{"a": 2}\n'


@pytest_twisted.ensureDeferred
async def test_an_output_file_is_replaced_when_the_query_has_succeeded(desk):
    """What fails keeps the results of before: a query, a segment, the metadata store."""
    path = desk.path / "out.csv"
    path.write_text("former\n")
    nowhere = "sqlite:///nowhere/registry.db"
    for arguments, expected in (
        (["a", "-e", "SELECT a FROM t; FORMAT nothing"], 1),
        (["a", "nothing", "-e", "SELECT a FROM t"], 1),
        (["-u", nowhere, "-e", "SELECT a FROM t"], 3),
        (["-f", "nothing", "a", "-e", "SELECT a FROM t"], 2),
    ):
        status, output, told = await ran(desk, "-o", str(path), *arguments)
        assert (status, output, path.read_text()) == (expected, "", "former\n"), told
    assert await ran(desk, "-o", str(path), "a", "-e", "SELECT a FROM t; QUIT") == (0, "", "")
    assert path.read_bytes() == b"a\r\n1\r\n2\r\n"
    assert not list(desk.path.glob(".*unfinished"))


@pytest_twisted.ensureDeferred
async def test_what_cannot_be_meant(desk):
    """Status 2, and one line that says what."""
    for arguments, expected in (
        (["--format", "xml"], "no such format: xml"),
        (["-o", "/nowhere/x.csv"], "--output /nowhere/x.csv: No such file or directory"),
        (["-u", "http://x/"], "no metadata store goes by 'http'"),
    ):
        status, output, told = await ran(desk, *arguments, "-e", "SELECT 1")
        assert (status, output) == (2, "")
        assert expected in told and told.count("\n") == 1
    assert (await ran(desk, "--nothing"))[0] == 2


@pytest_twisted.ensureDeferred
async def test_a_store_that_cannot_be_reached(desk):
    """Status 3, and one line that says which and why."""
    for url, expected in (
        ("sqlite:///nowhere/registry.db", "there is no registry /nowhere/registry.db"),
        (
            "rethinkdb://u:secret@127.0.0.1:1/x",
            "rethinkdb://127.0.0.1:1/x: no server answers: 127.0.0.1:1",
        ),
    ):
        status, output, told = await ran(desk, "-u", url, "-e", "SHOW SCHEMAS")
        assert (status, output) == (3, "")
        assert expected in told and told.count("\n") == 1 and "secret" not in told


@pytest_twisted.ensureDeferred
async def test_segments_that_fail_end_a_script(desk):
    """Status 1, the reason on stderr, the rows of the others on the output."""
    await desk.metadata.publish_copies([])
    await desk.worker("w2", "127.0.0.1:1", "d")
    status, output, told = await ran(desk, "a", "d", "-e", "SELECT a FROM t; SHOW SCHEMAS")
    assert (status, output) == (1, "_segment\ta\na\t1\na\t2\n")
    assert "1 of 2 segments failed:" in told and "refused" in told


@pytest_twisted.ensureDeferred
async def test_a_reader_that_leaves(desk):
    """When the reader of the output goes, the shell ends without a word."""
    many = [[f"ROWS a [{','.join(['[1]'] * 1000)}]"] for _ in range(2000)]

    def answer(asked):
        asked.say('COLS a ["x"]', *(line for lines in many for line in lines))
        asked.say("DONE a 2000000")
        asked.end()

    async with LineServer(reactor, answer) as server:
        await desk.worker("w2", server, "many")
        desk.server._answer = answer
        process = Process(desk, "a", "-e", "SELECT a FROM t")
        await process.says("1\n")
        process.transport.closeChildFD(1)
        assert await process.ended == 141
        assert process.errors == ""


@pytest_twisted.ensureDeferred
async def test_an_interrupt_ends_a_script(desk):
    """Ctrl-C in a script: the status is 130, what came is there, and nothing more runs."""

    def answer(asked):
        asked.say('COLS a ["x"]', "ROWS a [[1]]", "ROWS a [[2]]")

    desk.server._answer = answer
    process = Process(desk, "a", "-e", "SELECT a FROM t; SHOW SCHEMAS")
    await process.says("1\n")
    process.interrupt()
    assert await process.ended == 130
    assert (process.text[:4], process.errors) == ("x\n1\n", "")
    assert "default" not in process.text


@pytest_twisted.ensureDeferred
async def test_help_and_version(desk):
    """Both say something worth reading."""
    status, output, _ = await ran(desk, "--help")
    assert status == 0 and "--writable" in output and "sqlite:///" in output
    assert re.match(r"trough-shell \d", (await ran(desk, "--version"))[1])


# -- a person -------------------------------------------------------------------


def plain(text):
    """What is left of a terminal's text without its escape sequences."""
    return re.sub(r"\x1b(\[[0-9;?]*[a-zA-Z]|\][^\x07]*\x07|[=>78])", "", text)


@pytest_twisted.ensureDeferred
async def test_a_session(desk):
    """A person connects, asks, is told mistakes, cancels, and leaves."""
    process = Process(desk, terminal=(30, 100), PAGER="off")
    await process.reads("trough>")
    assert f"trough-shell {__version__}, sqlite://{desk.path}/registry.db\r\n" in process.text
    assert "SHOW SEGMENTS" in process.text
    process.types("connect a\r")
    await process.reads("trough:a(ro)>")
    process.types("SELECT a\rFROM t;\r")
    await process.says("2 rows from a")
    await process.reads("trough:a(ro)>")
    assert " a\r\n---\r\n 1\r\n 2\r\n" in plain(process.text)
    process.types("nonsense\r")
    await process.says("neither a command nor SQL: nonsense")
    await process.reads("trough:a(ro)>")
    process.types("SELECT 'half\x03")
    await process.reads("trough:a(ro)>")
    process.types("\x04")
    assert await process.ended == 0
    history = (desk.path / ".local" / "state" / "trough_shell_history").read_text()
    assert "+connect a\n" in history and "+FROM t;" in history
    assert (desk.path / ".config" / "trough" / "shell.yml").read_text() == explained()


@pytest_twisted.ensureDeferred
async def test_an_interrupt_keeps_the_shell(desk):
    """Ctrl-C while a query runs cancels it, and the next one is answered."""
    verbs = []
    answering = desk.server._answer

    def answer(asked):
        verbs.append(asked.verb)
        if asked.verb == "QUERY" and "forever" not in asked.sql:
            answering(asked)

    desk.server._answer = answer
    process = Process(desk, "a", terminal=(30, 100), PAGER="off")
    await process.reads("trough:a(ro)>")
    process.types("SELECT a FROM forever;\r")
    await process.says("Ctrl-C cancels")
    process.types("\x03")
    await process.says("cancelled, 0 rows")
    await process.reads("trough:a(ro)>")
    process.types("SELECT a FROM t;\r")
    await process.says("2 rows from a")
    await process.reads("trough:a(ro)>")
    process.types("quit\r")
    assert await process.ended == 0
    assert "CANCEL" in verbs


@pytest_twisted.ensureDeferred
async def test_an_interrupt_ends_the_last_step_of_a_gather(desk):
    """While the answer is made of what the segments sent it is told so, and cancelling that
    leaves no heading of an answer that never came."""
    desk.server._answer = Segments(a=[("x", 1)], b=[("y", 2)]).answer
    process = Process(desk, "a", "b", terminal=(30, 150), PAGER="off")
    await process.reads("trough:[2 segments](ro)>")
    endless = "WITH RECURSIVE r(i) AS (SELECT size FROM t UNION ALL SELECT i + 1 FROM r)"
    process.types(f"GATHER {endless} SELECT count(*) FROM r;\r")
    await process.says("2 of 2 segments answered, putting it together")
    process.types("\x03")
    await process.says("cancelled, 0 rows")
    await process.reads("trough:[2 segments](ro)>")
    assert "---" not in process.text
    process.types("GATHER SELECT sum(size) FROM t;\r")
    await process.says("1 row from 2 segments")
    await process.reads("trough:[2 segments](ro)>")
    process.types("quit\r")
    assert await process.ended == 0


@pytest_twisted.ensureDeferred
async def test_an_interrupt_ends_a_file_too(desk):
    """Nothing that comes after the cancelled statement is run, in a file or on a line."""
    asked_for = []

    def answer(asked):
        asked_for.append(asked.verb)
        if asked.verb == "QUERY" and "forever" not in asked.sql:
            asked.answer({"a": [1]})

    desk.server._answer = answer
    (desk.path / "file.sql").write_text("SELECT 1;\nSELECT a FROM forever;\nSHOW SCHEMAS;\n")
    process = Process(desk, "a", terminal=(30, 100), PAGER="off")
    await process.reads("trough:a(ro)>")
    process.types(f"INFILE {desk.path}/file.sql\r")
    await process.says("Ctrl-C cancels")
    process.types("\x03")
    await process.says("cancelled, 0 rows")
    await process.says("file.sql:2: stopped here")
    await process.reads("trough:a(ro)>")
    process.types("SELECT a FROM forever; SHOW SCHEMAS\r")
    await process.says("Ctrl-C cancels")
    process.types("\x03")
    await process.says("cancelled, 0 rows")
    await process.reads("trough:a(ro)>")
    process.types("\x04")
    assert await process.ended == 0
    assert "default" not in process.text


@pytest_twisted.ensureDeferred
async def test_an_interrupted_write_may_have_been_made(desk):
    """That it was cancelled is not all that a person has to know."""

    def answer(asked):
        if asked.verb == "PROVISION":
            asked.say('OK {"result":"success","write_url":""}')

    async with LineServer(reactor, answer) as sync:
        await desk.lead(sync)
        await desk.metadata.take_lock("a", "w1")
        written = defer.Deferred().addTimeout(EXPECTED_WITHIN, reactor)
        desk.server._answer = lambda asked: asked.verb == "WRITE" and written.callback(None)
        process = Process(desk, "-w", "a", terminal=(30, 100), PAGER="off")
        await process.reads("trough:a(rw)>")
        process.types("DELETE FROM t WHERE 1;\r")
        await written
        process.types("\x03")
        await process.says("DELETE may have been carried out all the same: look\r\ncancelled\r\n")
        await process.reads("trough:a(rw)>")
        process.types("\x04")
        assert await process.ended == 0


@pytest_twisted.ensureDeferred
async def test_an_interrupted_promotion_tells_what_it_came_to(desk):
    """Of each segment is told whether it is promoted, may be, or was not begun."""
    names = [f"p{number:02}" for number in range(20)]

    def answer(asked):
        if asked.words[0] == "p00":  # of those begun first; one more takes its place
            asked.say('OK {"remote_path":"x"}')

    async with LineServer(reactor, answer) as sync:
        await desk.lead(sync)
        await desk.worker("w1", desk.server, *names)
        process = Process(desk, "-w", *names, terminal=(40, 100), PAGER="off")
        await process.reads("trough:[20 segments](rw)>")
        process.types("PROMOTE\r")
        await process.says("1 of 20 segments promoted, ")
        process.types("\x03")
        await process.says("1 of 20 segments promoted\r\n19 of 20 segments failed:")
        await process.says("16 x outcome-unknown: it was under way, and may have been promoted")
        await process.says("p01, p02, p03 and 13 more")
        await process.says("3 x cancelled: not begun\r\n      p17, p18, p19\r\n")
        await process.says("cancelled\r\n")
        await process.reads("trough:[20 segments](rw)>")
        process.types("show failures\r")
        await process.says("p19     | cancelled       | not begun")
        await process.reads("trough:[20 segments](rw)>")
        process.types("\x04")
        assert await process.ended == 0


@pytest_twisted.ensureDeferred
async def test_interrupts_at_any_moment_keep_the_shell(desk):
    """Signals between statements, where the line editor is not there yet, are borne."""
    process = Process(desk, terminal=(30, 100), PAGER="off")
    await process.reads("trough>")
    for _ in range(30):
        process.types("show schemas\r")
        await process.says("default")
        process.interrupt()
        await process.reads("trough>")
    process.types("quit\r")
    assert await process.ended == 0


@pytest_twisted.ensureDeferred
async def test_a_pager_shows_rows_while_the_query_runs(desk):
    """What does not fit goes to the pager at once, and leaving it cancels the query."""
    cancelled = defer.Deferred().addTimeout(EXPECTED_WITHIN, reactor)

    def answer(asked):
        if asked.verb == "QUERY":
            rows = ",".join(f"[{n}]" for n in range(1000))
            asked.say('COLS a ["x"]', *[f"ROWS a [{rows}]"] * 100)
        if asked.verb == "CANCEL":
            cancelled.callback(None)

    desk.server._answer = answer
    process = Process(desk, "a", terminal=(30, 100), PAGER="head -n 5")
    await process.reads("trough:a(ro)>")
    process.types("SELECT a FROM t;\r")
    await process.says("stopped reading")
    await process.reads("trough:a(ro)>")
    await cancelled
    assert " 2\r\n" in plain(process.text) and " 7\r\n" not in plain(process.text)
    process.types("quit\r")
    assert await process.ended == 0


# -- settings -------------------------------------------------------------------


def test_the_settings_file_explains_every_key(tmp_path):
    """The file that is written has every key, and means the defaults, commented or not."""
    path = tmp_path / "shell.yml"
    path.write_text(explained())
    assert read_settings(path) == ShellSettings()
    path.write_text(re.sub(r"(?m)^#(\w+: )", r"\1", explained()))
    assert read_settings(path) == ShellSettings()
    assert path.read_text().count("\n\n") == len(ShellSettings.__slots__)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("colours: true", "unknown key 'colours'.*there are format, timing"),
        ("format: xml", "format: 'xml' given, one of TABLE"),
        ("timing: maybe", "timing: 'maybe' given, true or false expected"),
        ("max_column_width: -1", "max_column_width: -1 given, a whole number"),
        ("null_as: 5", "null_as: 5 given, a text expected"),
        ("key_bindings: nano", "emacs or vi expected"),
        ("[]", "not a list of keys and values"),
        ("a: b: c", "not YAML"),
    ],
)
def test_wrong_settings(tmp_path, text, expected):
    """File, key, what was given and what is allowed are named."""
    from trough.errors import BadSettings

    path = tmp_path / "shell.yml"
    path.write_text(text)
    with pytest.raises(BadSettings, match=expected) as caught:
        read_settings(path)
    assert str(path) in str(caught.value)

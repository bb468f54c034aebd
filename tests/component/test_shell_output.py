"""Where results go: pipes, terminals and pagers; progress; and the way between threads."""

from __future__ import annotations

import io
import threading

import pytest
import pytest_twisted
from shell_desk import Screen
from twisted.internet import reactor
from twisted.internet.threads import deferToThread
from waiting import EXPECTED_WITHIN

from trough import errors
from trough.cli.progress import Progress, duration
from trough.shell.cluster.reactor_bridge import Bridge, ThreadStream
from trough.shell.output.sinks import Output, find_pager
from trough.shell.runner import QueryOutcome, failure_lines, summary
from trough.shell.session import Failed


@pytest.fixture
def screen(monkeypatch):
    """A terminal of 10 lines and 40 columns."""
    monkeypatch.setenv("LINES", "10")
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.delenv("LESS", raising=False)
    return Screen()


def pager(tmp_path):
    """A pager that keeps what it was given, and the file where it keeps it."""
    path = tmp_path / "paged"
    return f"cat > '{path}'", path


def test_what_fits_is_written_at_once(screen, tmp_path):
    """A short result needs no pager."""
    command, path = pager(tmp_path)
    sink = Output(screen, command).open()
    sink.write("a\n" * 7)
    sink.close()
    assert screen.getvalue() == "a\n" * 7
    assert not path.exists()


@pytest.mark.parametrize("text", ["a\n" * 8, "x" * 41 + "\n", "日" * 21 + "\n"])
def test_what_does_not_fit_is_paged(screen, tmp_path, text):
    """Too many lines, too long a line, or too wide a one: all of it goes to the pager."""
    command, path = pager(tmp_path)
    sink = Output(screen, command).open()
    sink.write("first\n")
    sink.write(text)
    assert sink.owns_terminal
    sink.write("last\n")
    sink.close()
    assert path.read_text() == f"first\n{text}last\n"
    assert screen.getvalue() == ""


@pytest.mark.parametrize(("lines", "paged"), [(3, False), (4, True)])
def test_text_wraps_and_counts_as_so_many_lines(screen, tmp_path, lines, paged):
    """A line of a text that is too long is no reason for a pager, which would cut it."""
    path = tmp_path / "paged"
    sink = Output(screen, f"printenv LESS > '{path}'; cat >> '{path}'").open(wraps=True)
    text = ("x" * 41 + "\n") * lines
    sink.write(text)
    sink.close()
    assert (screen.getvalue() or path.read_text()) == (f"-RX\n{text}" if paged else text)


def test_who_waits_sees_what_there_is(screen, tmp_path):
    """Rows shown early are in the pager as well, once one is needed."""
    command, path = pager(tmp_path)
    sink = Output(screen, command).open()
    sink.write("early\n")
    sink.show()
    sink.show()
    assert screen.getvalue() == "early\n"
    sink.write("a\n" * 10)
    sink.close()
    assert path.read_text() == "early\n" + "a\n" * 10


def test_a_pager_that_is_left(screen):
    """Whoever writes on is told that nobody reads any more."""
    sink = Output(screen, "true").open()
    with pytest.raises(BrokenPipeError):
        while True:
            sink.write("a" * 65536 + "\n")
    sink.close()


def test_without_a_terminal_or_a_pager(screen):
    """Text goes straight through."""
    for stream, command in ((io.StringIO(), "false"), (screen, "")):
        sink = Output(stream, command).open()
        sink.write("a\n" * 1000)
        sink.close()
        assert stream.getvalue() == "a\n" * 1000
        assert not sink.owns_terminal


def test_which_pager():
    """The setting, then $PAGER, then less; none where it is off or not installed."""
    assert find_pager("cat -n", {"PAGER": "more"}) == "cat -n"
    assert find_pager("", {"PAGER": "sh -c 'cat'"}) == "sh -c 'cat'"
    for off in ("off", "cat", "no-such-program-anywhere", "less '"):
        assert find_pager(off, {}) == ""


# -- progress -------------------------------------------------------------------


class Watch:
    """A clock that is set by hand."""

    now = 0.0

    def __call__(self):
        return self.now


def test_progress_is_drawn_after_a_while_and_not_too_often(screen):
    """Nothing for quick queries; then numbers, on a narrow screen the most important ones,
    and they are taken away again."""
    clock = Watch()
    progress = Progress(screen, 1000, clock=clock)
    progress.draw()
    clock.now = 0.4
    progress.draw()
    progress.clear()
    assert screen.getvalue() == ""
    clock.now = 2.0
    progress.done, progress.failed, progress.rows = 500, 2, 12345
    progress.draw()
    clock.now = 2.05
    progress.draw()
    assert screen.getvalue() == "\r\x1b[K500/1,000, 2 failed, 2.0 s; Ctrl-C canc"
    assert progress.line() == (
        "500 of 1,000 segments answered, 12,345 rows, 2 failed, 2.0 s, about 2.0 s left;"
        " Ctrl-C cancels"
    )
    progress.clear()
    progress.clear()
    assert screen.getvalue().endswith("canc\r\x1b[K")


def test_the_time_that_is_left_is_not_guessed_from_the_first_segments():
    """The first of 100,000 took as long as a connection takes: no 100 hours are left."""
    clock = Watch()
    progress = Progress(None, 100_000, clock=clock)
    clock.now, progress.done = 4.0, 1
    assert progress.line() == "1 of 100,000 segments answered, 4.0 s; Ctrl-C cancels"
    progress.done = 1000
    assert progress.line() == (
        "1,000 of 100,000 segments answered, 4.0 s, about 6 min 36 s left; Ctrl-C cancels"
    )


def test_the_time_that_is_left_follows_from_counted_rows():
    """Of one segment the rows show how far it is, unless they are more than were counted."""
    clock = Watch()
    progress = Progress(None, 1, clock=clock)
    clock.now, progress.rows, progress.expected_rows = 2.0, 1000, 4000
    assert progress.line() == (
        "0 of 1 segment answered, 1,000 of 4,000 rows, 2.0 s, about 6.0 s left; Ctrl-C cancels"
    )
    assert progress._short_lines()[0] == "1,000/4,000 rows, 2.0 s, about 6.0 s left; Ctrl-C cancels"
    progress.rows = 4001
    assert progress.line() == "0 of 1 segment answered, 4,001 rows, 2.0 s; Ctrl-C cancels"


def test_progress_without_a_known_end(screen):
    """What is found by a search is counted, on a narrow screen too."""
    clock = Watch()
    progress = Progress(screen, None, "found", clock)
    clock.now, progress.done = 2.0, 41_000
    assert progress.line() == "41,000 segments found, 2.0 s; Ctrl-C cancels"
    progress.draw()
    assert screen.getvalue() == "\r\x1b[K41,000, 2.0 s; Ctrl-C cancels"


def test_what_comes_after_an_interrupt_begins_a_line(screen):
    """The terminal has shown ^C wherever the cursor was, unless the progress is there."""
    clock = Watch()
    progress = Progress(screen, 10, clock=clock)
    progress.break_off()
    assert screen.getvalue() == "\n"
    clock.now = 2.0
    progress.draw()
    progress.break_off()
    assert screen.getvalue().endswith("Ctrl-C cancels\r\x1b[K")
    Progress(None, 10).break_off()


def test_durations():
    """In the unit that says something."""
    assert [duration(s) for s in (0.0123, 1.26, 100, 6000)] == [
        "12 ms",
        "1.3 s",
        "1 min 40 s",
        "1 h 40 min",
    ]


def test_summaries():
    """What came, from how many, and what is missing from it."""
    assert summary(QueryOutcome(1, 1, rows=1, seconds=0.5), "a", True) == "1 row from a (500 ms)"
    whole = QueryOutcome(9, 9, 3, 1000)
    assert summary(whole, "a", False) == "1,000 rows from 9 segments, 3 of them without a row"
    assert summary(QueryOutcome(9, 1, interrupted=True), "a", False).startswith("cancelled, 0 rows")
    assert summary(QueryOutcome(1, left=True), "", False) == "stopped reading, 0 rows"


def test_a_failure_of_one_segment_is_one_line():
    """And nothing in a message acts on the terminal."""
    failed = Failed("a", errors.BadSql("no such \x1b[2Jtable"))
    assert failure_lines([failed], 1) == ["a: no such \\x1b[2Jtable"]
    assert failure_lines([], 5) == []


def test_a_sentence_with_its_segment_is_one_reason():
    """Only whole words are taken for the segment's name, and where it is alone it stays."""
    failures = [Failed(s, errors.Unavailable(f"a copy of {s} is bad")) for s in ("b", "c", "a")]
    told = failure_lines(failures, 3)
    assert told[1:3] == ["  2 x unavailable: a copy of <segment> is bad", "      b, c"]
    assert told[3:5] == ["  1 x unavailable: a copy of a is bad", "      a"]


# -- between threads ------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_calls_return_and_raise():
    """What the coroutine returns or raises is what the waiting thread gets."""
    bridge = Bridge(reactor)

    async def double(value):
        if value is None:
            raise errors.BadRequest("nothing to double")
        return value * 2

    assert await deferToThread(bridge.call, double, 4) == 8
    with pytest.raises(errors.BadRequest):
        await deferToThread(bridge.call, double, None)


class Source:
    """Puts numbers into a stream whenever it is not paused, and counts its pauses."""

    def __init__(self, bridge, count, bound) -> None:
        self.stream = ThreadStream(bridge, self.pause, self.resume, bound)
        self.left = count
        self.pauses = 0
        self.most = 0
        self.paused = False

    def pause(self):
        self.pauses += 1
        self.paused = True

    def resume(self):
        self.paused = False
        self.run()

    def run(self):
        while self.left and not self.paused:
            self.left -= 1
            self.stream.put(self.left, 100)
            self.most = max(self.most, self.stream._size)
        if not self.left:
            self.stream.end()


@pytest_twisted.ensureDeferred
async def test_a_slow_reader_pauses_the_source():
    """Everything arrives, in order, and never more than the bound waits."""
    source = Source(Bridge(reactor), 10_000, bound=20_000)
    reactor.callLater(0, source.run)
    items = await deferToThread(lambda: list(source.stream.items(EXPECTED_WITHIN)))
    assert items == list(range(9_999, -1, -1))
    assert source.pauses > 10
    assert source.most <= 20_000 + 100 + 256


@pytest_twisted.ensureDeferred
async def test_a_stream_ticks_while_nothing_comes():
    """Whoever waits can look at something else meanwhile; an error ends it."""
    stream = ThreadStream(Bridge(reactor), lambda: None, lambda: None)
    ticked = threading.Event()
    seen = []

    def read():
        for item in stream.items(0.01):
            seen.append(item)
            if item is None:
                ticked.set()

    reading = deferToThread(read)
    await deferToThread(ticked.wait, EXPECTED_WITHIN)
    stream.put("a")
    stream.end(errors.Cancelled("enough"))
    stream.end()
    stream.put("b")
    with pytest.raises(errors.Cancelled):
        await reading
    assert [item for item in seen if item is not None] == ["a"]

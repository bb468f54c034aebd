"""The executor process at its socket: frames in, frames out, and its end."""

import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from segments_on_disk import content, make_segment

from trough.executors import ipc
from trough.executors.messages import (
    COUNT_CORRUPT,
    COUNT_FAILED,
    CallProcedure,
    CallReturned,
    CancelWork,
    DropTargets,
    ExecutorFrameParser,
    GiveCredit,
    PartEnded,
    PartFailed,
    PartFinished,
    PartHandedBack,
    PartPieces,
    PartSome,
    ReadSegments,
    Target,
    WorkRefused,
    WriteSegment,
    WriteStored,
    frame,
    packed_parameters,
)
from trough.executors.shared_memory import MOST_WRITES, SharedProgressTable, create_memory
from trough.util.confinement import Confinement

ENDLESS = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n"
#: For a human's lifetime, and without SQLite calling anybody.
SLOW_C = "SELECT instr(printf('%.*c', 40000000, 'a'), printf('%.*c', 20000000, 'a') || 'b')"
SLOW_REGEXP = f"SELECT '{'a' * 40}b' REGEXP '(a*)*c'"
#: Seconds that a test waits at most for what should come at once.
LONG = 60.0


# -- frames and the shared table ------------------------------------------------------

MESSAGES = st.tuples(st.integers(1, 8), st.integers(0, 2**62), st.binary() | st.text() | st.none())


@given(st.lists(st.lists(MESSAGES, min_size=1, max_size=3), max_size=5), st.data())
def test_frames_are_whole_however_they_are_cut(bunches, data):
    """Byte by byte, all at once, or in any other way."""
    stream = b"".join(map(ipc.frame, bunches))
    parser, found = ipc.ParentFrameParser(), []
    while stream:
        size = data.draw(st.integers(1, len(stream)))
        found += parser.receive_data(stream[:size])
        stream = stream[size:]
    assert found == [message for flush_batch in bunches for message in flush_batch]


def test_a_large_frame_in_small_portions_is_put_together_once():
    """Else this would take minutes."""
    data = ipc.frame([(1, 2, b"x" * 50_000_000)])
    parser, found = ipc.ParentFrameParser(), []
    for start in range(0, len(data), 1000):
        found += parser.receive_data(data[start : start + 1000])
    assert found == [(1, 2, b"x" * 50_000_000)]


def test_the_shared_table_tells_what_runs_and_what_was_begun():
    """To the other side of the same memory."""
    memory = create_memory()
    executor, front = SharedProgressTable(memory), SharedProgressTable(memory)
    assert front.running() == (0, 0, 0)
    executor.runs(2**60, 7)
    assert front.running() == (2**60, 7, 1)
    front.hand_over(MOST_WRITES - 1)
    assert not front.has_begun(MOST_WRITES - 1)
    executor.begins(MOST_WRITES - 1)
    assert front.has_begun(MOST_WRITES - 1)
    assert not front.has_begun(0)
    front.hand_over(MOST_WRITES - 1)
    assert not front.has_begun(MOST_WRITES - 1)
    executor.close()
    front.close()
    os.close(memory)


# -- the process ----------------------------------------------------------------------


class Front:
    """A blocking front of one executor."""

    def __init__(self, memory=1 << 28, kept=10):
        self.socket, theirs = socket.socketpair()
        self.socket.settimeout(LONG)
        table = create_memory()
        self.table = SharedProgressTable(table)
        arguments = [str(theirs.fileno()), str(table), str(memory), str(kept), "0", "0"]
        arguments.append(Confinement().argument())
        self.process = subprocess.Popen(
            [sys.executable, "-m", "trough.executors.child.main", *arguments],
            pass_fds=(theirs.fileno(), table),
        )
        theirs.close()
        os.close(table)
        self.parser = ExecutorFrameParser()
        self.messages = []

    def send(self, *messages):
        self.socket.sendall(frame(list(messages)))

    def ask(
        self,
        number,
        text,
        *targets,
        limit=0,
        framing=0,
        seconds=LONG,
        window=1 << 20,
        client="client",
        stays=False,
    ):
        """Send a query."""
        deadline = time.monotonic() + seconds
        shape = (deadline, limit, framing, "t", window)
        text = text.encode() if isinstance(text, str) else text
        self.send(ReadSegments(number, text, b"", *shape, client, stays, False, "", list(targets)))

    def next(self):
        """The next message."""
        while not self.messages:
            data = self.socket.recv(1 << 16)
            assert data, "the executor is gone"
            self.messages += self.parser.receive_data(data)
        return self.messages.pop(0)

    def ends(self, number):
        """Whether the next message is the end of this part."""
        message = self.next()
        return type(message) is PartEnded and message.part == number

    def silent(self):
        """Whether nothing is to be read, once it has answered a call."""
        self.send(CallProcedure(999_999, "forget", ("nothing",)))
        return self.next() == CallReturned(999_999)

    def wait_until_it_runs(self, number):
        """Until the shared table says so."""
        end = time.monotonic() + LONG
        while self.table.running()[0] != number:
            assert time.monotonic() < end
            os.sched_yield()

    def close(self):
        self.socket.close()
        assert self.process.wait(LONG) == 0


@pytest.fixture
def front():
    """A running executor."""
    made = Front()
    yield made
    if made.process.poll() is None:
        made.close()


@pytest.fixture
def target(tmp_path):
    """A segment of 20,000 rows."""
    return Target("s", make_segment(tmp_path / "s.sqlite", 20_000), 1, False)


def renamed(target, segment):
    """The same file as another segment."""
    return Target(segment, target.path, target.generation, target.writable)


def test_it_brings_no_twisted():
    """Else it would not be there in milliseconds."""
    script = (
        "import sys, trough.executors.child.main;"
        "print(any(m.startswith('twisted') for m in sys.modules))"
    )
    assert subprocess.check_output([sys.executable, "-c", script]) == b"False\n"


def test_a_query_is_answered_in_one_message(front, target):
    """Where it is small."""
    front.ask(1, "SELECT 1 AS a", target)
    lines = b't COLS s ["a"]\nt ROWS s [[1]]\nt DONE s 1\n'
    assert front.next() == PartEnded(1, lines, 1)
    front.ask(2, b"SELECT 1 AS a", target, framing=1)
    assert front.next() == PartEnded(2, b'[{"a":1}]\n', 1)


def test_failures_are_told_as_lines_or_as_errors(front, target):
    """As the framing has it; what is wrong with the text itself once for all segments."""
    front.ask(1, "SELECT * FROM nowhere", target)
    line = b"t FAIL s bad-sql no such table: nowhere\n"
    assert front.next() == PartEnded(1, line, COUNT_FAILED)
    front.ask(2, "SELECT * FROM nowhere", target, framing=1)
    assert front.next() == PartFailed(2, "bad-sql", "no such table: nowhere", "")
    front.ask(3, b"\xff", target, target)
    failed = front.next()
    assert (type(failed), failed.part, failed.code) == (PartFailed, 3, "bad-sql")


def test_many_segments_are_told_in_pieces(front, target):
    """Each with its place, and the failures among them."""
    missing = Target("m", "/nowhere/m.sqlite", 1, False)
    front.ask(1, "SELECT count(*) FROM crawled_url", target, missing, renamed(target, "u"))
    places, counts, pieces = [], [], []
    while (message := front.next()) != PartFinished(1):  # where it is slow, several
        assert (type(message), message.part) == (PartPieces, 1)
        places += message.places
        counts += message.counts
        pieces += message.pieces
    assert (places, counts) == ([0, 1, 2], [1, COUNT_CORRUPT, 1])
    assert pieces[1].startswith(b"t FAIL m corrupt ")


def test_without_credit_a_query_rests_and_others_go_on(front, target):
    """It sends no more than its window and one piece; credit brings the rest."""
    window = 100_000
    front.ask(1, "SELECT * FROM crawled_url", target, window=window)
    told = b""
    while len(told) < window:
        told += front.next().data
    assert len(told) < window + 200_000
    assert front.silent()
    front.ask(2, "SELECT 1", target)
    assert front.ends(2)
    while True:
        front.send(GiveCredit(1, window))
        message = front.next()
        told += message.data
        if type(message) is PartEnded:
            break
    assert len([r for line in told.splitlines()[1:-1] for r in json.loads(line[9:])]) == 20_000


def test_a_query_without_credit_ends_at_its_deadline(front, target):
    """Though nobody takes its bytes."""
    assert front.silent()  # it has started, which takes none of those seconds
    front.ask(1, "SELECT * FROM crawled_url", target, window=1, seconds=3)
    assert type(front.next()) is PartSome
    last = front.next()
    assert (type(last), last.part) == (PartEnded, 1)
    assert last.data.startswith(b"t FAIL s timeout ")


def test_queries_and_segments_take_turns(front, target):
    """Two large queries, one of them of two segments, come by turns."""
    front.ask(1, "SELECT * FROM crawled_url", target, window=1 << 30)
    front.ask(2, "SELECT * FROM crawled_url", target, renamed(target, "u"), window=1 << 30)
    order, ends = [], 0
    while ends < 2:
        message = front.next()
        ends += type(message) in (PartEnded, PartFinished)
        if type(message) is PartPieces:
            order += [(2, place if place >= 0 else ~place) for place in message.places]
        else:
            order.append((message.part, 0))
    for each in {(1, 0), (2, 0), (2, 1)}:
        places = [n for n, what in enumerate(order) if what == each]
        others = set(order[places[0] : places[-1]])
        assert others == {(1, 0), (2, 0), (2, 1)}, "one was answered as a whole"


@pytest.mark.parametrize("text", [ENDLESS, SLOW_REGEXP])
def test_a_deadline_ends_what_runs(front, target, text):
    """Within SQLite, and within a regular expression."""
    front.ask(1, text, target, seconds=0.3)
    assert front.next().data.startswith(b"t FAIL s timeout ")
    front.ask(2, "SELECT 1", target)
    assert front.ends(2)


@pytest.mark.parametrize("text", [ENDLESS, SLOW_REGEXP])
def test_a_cancel_ends_what_runs_without_a_word_to_those_who_left(front, target, text):
    """What was ready before is sent although a long step has begun."""
    front.ask(1, "SELECT 1", target)
    front.ask(2, text, target)
    assert front.ends(1)
    front.wait_until_it_runs(2)
    front.send(CancelWork(2))
    while (message := front.next()).part != 2 and not front.silent():
        pass
    assert message.part == 2
    assert b"cancelled" in message.data


def test_what_is_cancelled_or_dropped_before_it_began_is_not_begun(front, target):
    """Of a part with several segments, those that were moved."""
    missing = [Target(f"m{n}", "/nowhere/m.sqlite", 1, False) for n in range(3)]
    deadline = time.monotonic() + LONG
    shape = (deadline, 0, 0, "t", 1 << 20)
    front.send(
        ReadSegments(1, b"SELECT 1", b"", *shape, "a", False, False, "", [target]),
        ReadSegments(2, b"SELECT 1", b"", *shape, "b", False, False, "", missing),
        CancelWork(1),
        DropTargets(2, frozenset({0, 2})),
    )
    pieces = front.next()
    assert (pieces.part, pieces.places, pieces.counts) == (2, [1], [COUNT_CORRUPT])
    assert front.next() == PartFinished(2)
    assert front.silent()


@pytest.mark.parametrize(
    "text",
    [
        "SELECT hex(randomblob(200000000))",
        "SELECT hex(zeroblob(2000000000))",
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 100000) "
        "SELECT group_concat(hex(randomblob(1000))) FROM n",
        "SELECT BUILDREDIRECTARRAY('u', 200, printf('%.*c', 900000000, 'R'), '')",
    ],
)
def test_memory_is_limited(target, text):
    """The query fails, and the process goes on."""
    front = Front(memory=64 << 20)
    front.ask(1, text, target)
    assert front.next().data.startswith(b"t FAIL s limit ")
    front.ask(2, "SELECT 1", target)
    assert front.ends(2)
    front.close()


def test_memory_of_functions_is_limited_too(target):
    """It is not SQLite's, and the query fails for the same reason."""
    front = Front(memory=256 << 20)
    text = "SELECT BUILDREDIRECTARRAY('u', 200, hex(zeroblob(70000000)), '')"
    front.ask(1, text, target)
    assert front.next().data.startswith(b"t FAIL s limit ")
    front.ask(2, "SELECT 1", target)
    assert front.ends(2)
    front.close()


def test_writes_are_told_when_they_are_on_disk(front, target):
    """Those that arrive together share a commit, and each has its own answer."""
    front.send(CallProcedure(1, "make_writable", ("s", target.path)))
    assert front.next() == CallReturned(1)
    deadline = time.monotonic() + LONG
    none, writable = packed_parameters(()), Target("s", target.path, 1, True)
    texts = [b"INSERT INTO crawled_url(id) VALUES(-1)", b"nonsense", b"DELETE FROM crawled_url"]
    front.send(
        *(
            WriteSegment(10 + n, n, text, none, deadline, 60.0, "a", writable)
            for n, text in enumerate(texts)
        )
    )
    assert front.next() == WriteStored(10, 1)
    refused = front.next()
    assert (type(refused), refused.number, refused.code) == (WorkRefused, 11, "bad-sql")
    assert front.next() == WriteStored(12, 20_001)
    assert content(target.path) == []
    assert [front.table.has_begun(n) for n in range(4)] == [True, True, True, False]


def test_forgetting_answers_when_nothing_is_open(front, target):
    """A query that rests keeps its connection until it is over."""
    front.ask(1, "SELECT * FROM crawled_url", target, window=1)
    assert type(front.next()) is PartSome
    front.send(CallProcedure(2, "forget", ("s",)))
    assert front.silent()
    assert any(target.path in each for each in open_files(front.process.pid))
    front.send(CancelWork(1))
    assert front.next() == CallReturned(2)
    assert not any(target.path in each for each in open_files(front.process.pid))


def open_files(pid):
    """Paths that a process has open."""
    return [str(link.readlink()) for link in Path(f"/proc/{pid}/fd").iterdir()]


@pytest.mark.parametrize("text", ["SELECT 1", ENDLESS, SLOW_REGEXP])
def test_it_ends_with_its_front(front, target, text):
    """At rest, and whatever it is doing."""
    front.ask(1, text, target)
    if text == "SELECT 1":
        front.next()
    else:
        front.wait_until_it_runs(1)
    front.close()


def test_it_ends_with_its_front_even_in_the_midst_of_c(target, tmp_path):
    """Where neither Python nor SQLite look at anything, the kernel does it."""
    script = f"""
import sys, time
sys.path[:0] = {sys.path!r}
from test_executor import Front, SLOW_C
from trough.executors.messages import Target
front = Front()
front.ask(1, SLOW_C, {target!r})
front.wait_until_it_runs(1)
print(front.process.pid, flush=True)
time.sleep(1000)
"""
    parent = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE)
    pid = int(parent.stdout.readline())
    watched = os.pidfd_open(pid)
    parent.kill()
    parent.wait(LONG)
    assert select.select([watched], [], [], LONG)[0], "the executor outlived its front"
    os.close(watched)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_what_is_meant_for_the_group_is_left_to_the_front(front, target, number):
    """Ctrl-C in a terminal, and `kill` of a process group; the front ends in order."""
    front.ask(1, "SELECT 1", target)
    front.next()
    os.kill(front.process.pid, number)
    front.ask(2, "SELECT 2", target)
    assert front.ends(2)


def test_ten_thousand_segments_fit_into_two_executors(tmp_path):
    """Each with its connection kept, and below half a gigabyte."""
    base = make_segment(tmp_path / "s.sqlite", 200)
    number = 5_000
    front = Front(kept=number + 10, memory=1 << 30)
    targets = []
    for n in range(number):
        path = f"{tmp_path}/{n}.sqlite"
        os.link(base, path)
        targets.append(Target(str(n), path, 1, False))
    text = "SELECT status_code, count(*) FROM crawled_url GROUP BY 1"
    for part in (1, 2):
        front.ask(part, text, *targets, window=1 << 30)
        while front.next() != PartFinished(part):
            pass
    assert len(open_files(front.process.pid)) > number
    with open(f"/proc/{front.process.pid}/status") as status:
        (anonymous,) = (line.split()[1] for line in status if line.startswith("RssAnon"))
    assert int(anonymous) < 300_000
    front.close()


@pytest.mark.parametrize("segments", [1, 3])
def test_a_long_read_is_handed_back_when_another_client_waits(front, target, segments):
    """Not for what the same client asks; and never one that is to stay."""
    front.ask(1, ENDLESS, *[target] * segments)
    front.ask(2, "SELECT 1", target)
    front.wait_until_it_runs(1)
    front.ask(3, "SELECT 1", target, client="another")
    assert front.next() == PartHandedBack(1)
    assert {front.next().part for _ in range(2)} == {2, 3}
    front.ask(4, ENDLESS, *[target] * segments, stays=True, seconds=1)
    front.wait_until_it_runs(4)
    front.ask(5, "SELECT 1", target, client="another")
    came = [front.next(), front.next()]
    assert {message.part for message in came} == {4, 5}
    assert not any(type(message) is PartHandedBack for message in came)

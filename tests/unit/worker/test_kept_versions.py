"""Answers of segments by version: what is found, what is not, and how much is kept."""

from hypothesis import given, settings
from hypothesis import strategies as st

from trough.executors.pool.pool import Target
from trough.worker.catalogue import Entry
from trough.worker.kept_query import KeptQuery, Remembered
from trough.worker.kept_results import ENTRY, LARGEST, KeptResults
from trough.worker.local_copies import LocalCopies, LocalCopy


def lines(tag, segment, content):
    """An answer as an executor gives it."""
    return f"{tag} COLS {segment} []\n{tag} ROWS {segment} [[{content}]]\n{tag} DONE 1\n".encode()


def copy_of(segment, number):
    """A copy of a segment that nobody writes."""
    return LocalCopy(Entry(segment, f"{segment}.sqlite"), Target(segment, "", number, False), 0.0)


def query(results, copies, text, tag="t", parameters=None, rows=0):
    """A question on its way."""
    return KeptQuery(results, copies.get, text, parameters, rows, tag=tag)


def one(number=1, segment="a"):
    """Copies of one segment."""
    copies = LocalCopies()
    copies.put(copy_of(segment, number))
    return copies


def kept(results, copies, text, content, segment="a", tag="t", **options):
    """Ask a segment, and have its answer kept."""
    asked = query(results, copies, text, tag, **options)
    target = copies.get(segment).target
    assert asked.find([target])[2] == [target]
    asked.keep(target, 1, lines(tag, segment, content))


def found(results, copies, text, segment="a", tag="t", **options):
    """What is found for a segment, without having it asked."""
    return query(results, copies, text, tag, **options).find([copies.get(segment).target])[0]


def test_an_answer_is_found_under_any_tag():
    """The tag is the request's."""
    results, copies = KeptResults(10_000), one()
    kept(results, copies, "SELECT 1", "1, null", tag="first")
    assert found(results, copies, "SELECT 1", tag="9") == lines("9", "a", "1, null")


def test_another_question_finds_nothing():
    """Text, parameters with their types, limit and segment are the question."""
    results, copies = KeptResults(10_000), one()
    kept(results, copies, "SELECT 1", "1", parameters=[1])
    assert found(results, copies, "SELECT 1", parameters=[1])
    for other in (
        {"parameters": [1.0]},
        {"parameters": [True]},
        {},
        {"parameters": [1], "rows": 5},
    ):
        assert found(results, copies, "SELECT 1", **other) == b""
    assert found(results, copies, "SELECT  1", parameters=[1]) == b""


def test_too_large_an_answer_is_not_kept():
    """Nor is anything where nothing may be."""
    results, copies = KeptResults(1 << 20), one()
    kept(results, copies, "SELECT 1", "1" * LARGEST)
    assert len(results) == 0
    results = KeptResults(0)
    kept(results, copies, "SELECT 1", "1")
    assert not results.is_on and results.bytes == 0


def test_a_large_scan_keeps_its_first_part():
    """One statement does not push out its own answers, but those of another one."""
    results = KeptResults(20 * (ENTRY + 60))
    copies = LocalCopies()
    for number in range(100):
        copies.put(copy_of(f"s{number:02}", number))
    kept(results, copies, "SELECT 1", "1", "s00")
    for number in range(100):
        kept(results, copies, "SELECT 2", "1", f"s{number:02}")
    assert found(results, copies, "SELECT 1", "s00") == b""
    present = [
        number for number in range(100) if found(results, copies, "SELECT 2", f"s{number:02}")
    ]
    assert present == list(range(len(present))) and len(present) > 10


def test_words_are_bounded():
    """The set that was not asked for longest is forgotten first; too large a set has no word."""
    remembered = Remembered(10)
    versions = [(copy_of("a", 1), (1, 0))]
    first, second = remembered.add(versions * 5), remembered.add(versions * 5)
    assert remembered.find(first) is not None
    third = remembered.add(versions * 5)
    assert remembered.find(second) is None and remembered.find(first) is not None
    assert remembered.find(third) == versions * 5
    assert remembered.add(versions * 11) == ""
    assert Remembered().find(third) is None


class Changes:
    """Segments change beside questions, whose readings take their time."""

    MOST = 1500

    def __init__(self):
        self.results = KeptResults(self.MOST)
        self.copies = LocalCopies()
        self.number = 0
        self.state = {}
        self.accepted = {}
        self.readings = []
        for segment in "ab":
            self.replace(segment)

    def step(self, which):
        """One of the steps below, as a number says."""
        segment, text = "ab"[which % 2], f"SELECT {which // 2 % 2}"
        steps = [self.begin_write, self.commit, self.end_write, self.ask, self.ask, self.answer]
        # Others happen more often than that a file is replaced.
        step = steps[which // 4 % 6] if which < 96 else self.replace
        if step == self.ask:
            self.ask(segment, text)
        else:
            step(segment)
        counted = sum(each.bytes for each in self.results._statements.values())
        assert self.results.bytes == counted <= self.MOST

    def replace(self, segment):
        """Another file: fetched, restored, reverted, created again."""
        self.number += 1
        self.copies.put(copy_of(segment, self.number))
        self.state[segment] = f'"file {self.number}"'
        self.accepted[segment] = []

    def begin_write(self, segment):
        """A write is accepted; it is not on disk yet."""
        self.copies.get(segment).writes.begun(0.0)
        self.number += 1
        self.accepted[segment].append(f'"write {self.number}"')

    def commit(self, segment):
        """A write comes to be on disk."""
        if self.accepted[segment]:
            self.state[segment] = self.accepted[segment].pop(0)

    def end_write(self, segment):
        """All writes under way are acknowledged: they are on disk."""
        writes = self.copies.get(segment).writes
        while not writes.idle:
            self.commit(segment)
            writes.ended()

    def ask(self, segment, text):
        """What is found is the present state; what is not is read, now."""
        target = self.copies.get(segment).target
        asked = query(self.results, self.copies, text)
        answer, _, rest = asked.find([target])
        if rest:
            self.readings.append((asked, target, lines("t", segment, self.state[segment])))
        else:
            assert answer == lines("t", segment, self.state[segment])

    def answer(self, segment):
        """A reading of a segment ends, after whatever has happened meanwhile."""
        for reading in self.readings:
            asked, target, answer = reading
            if target.segment == segment:
                self.readings.remove(reading)
                asked.keep(target, 1, answer)
                return


@settings(max_examples=100)
@given(st.lists(st.integers(0, 99), min_size=150, max_size=150))
def test_nothing_old_is_found_whatever_happens(steps):
    """Files are replaced, writes accepted, committed and acknowledged, beside readings that began
    before and end after: what is found is what the segment holds."""
    changes = Changes()
    for which in steps:
        changes.step(which)

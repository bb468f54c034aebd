"""What canonical storage promises, on each backend."""

import contextlib
import functools
import hashlib
import math
import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import pytest_twisted
from storages import HASTE, SETTLED, DirectoryHand, HdfsHand
from twisted.internet import defer, reactor
from waiting import until

from trough import errors
from trough.model import CanonicalCopy
from trough.storage.open import open_storage
from trough.util import atomic_files


@pytest.fixture(params=["directory", "hdfs"])
def hand(request, tmp_path):
    """Somebody who works on the storage's files without Trough."""
    if request.param == "directory":
        return DirectoryHand(tmp_path / "canonical")
    return HdfsHand(request.getfixturevalue("hdfs"), f"/{uuid.uuid4().hex}")


@pytest.fixture
def storage(hand):
    """An empty storage that is open."""
    opened = open_storage(hand.url, reactor, patience=HASTE)
    pytest_twisted.blockon(opened.open())
    yield opened
    pytest_twisted.blockon(opened.close())


@pytest.fixture
def source(tmp_path):
    """Makes local files with a given content."""

    def make(content):
        path = tmp_path / uuid.uuid4().hex
        path.write_bytes(content)
        return path

    return make


def checksum(content):
    return "sha256:" + hashlib.sha256(content).hexdigest()


def named(copies):
    """Path, size and id of each, sorted: what does not depend on when it was made."""
    return sorted((copy.path, copy.size, copy.segment) for copy in copies)


class Pause:
    """A progress callback that stops the transfer's thread at its first piece, until the
    reactor's thread has done something."""

    def __init__(self):
        self.reached = defer.Deferred()
        self.go_on = threading.Event()
        self._first = True

    def __call__(self, done):
        if self._first:
            self._first = False
            reactor.callFromThread(self.reached.callback, done)
            self.go_on.wait()


# -- one file ------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, 2 * atomic_files.CHUNK + 1])
@pytest_twisted.ensureDeferred
async def test_what_was_published_is_fetched(storage, hand, source, tmp_path, size):
    """A file goes up and comes down again, byte for byte, with its checksum."""
    content = bytes(range(256)) * (size // 256) + bytes(size % 256)
    published = await storage.publish(source(content), "300001")
    assert published.path == "300/300001.sqlite"
    assert (published.size, published.checksum) == (size, checksum(content))
    assert hand.names() == ["300/300001.sqlite"]
    assert hand.read("300/300001.sqlite") == content

    found = await storage.find("300001")
    assert found == CanonicalCopy("300001", published.path, size, published.modified)
    destination = tmp_path / "copy.sqlite"
    assert await storage.fetch(found, destination) == published
    assert destination.read_bytes() == content


@pytest_twisted.ensureDeferred
async def test_a_new_version_is_later_than_the_former(storage, hand, source):
    """Each publication replaces the file and moves its time on, even from a time that is
    still to come."""
    first = await storage.publish(source(b"one"), "300001")
    second = await storage.publish(source(b"two"), "300001")
    assert second.modified > first.modified
    hand.set_modified(second.path, 4_000_000_000)
    third = await storage.publish(source(b"three"), "300001")
    assert third.modified > 4_000_000_000_000
    assert hand.read(third.path) == b"three"
    assert await storage.find("300001") == CanonicalCopy("300001", third.path, 5, third.modified)


@pytest_twisted.ensureDeferred
async def test_short_ids_and_other_places(storage, hand, source, tmp_path):
    """An id of three characters lies at the root; a path, where one is given, counts."""
    short = await storage.publish(source(b"short"), "abc")
    assert short.path == "abc.sqlite"
    elsewhere = await storage.publish(source(b"else"), "300001", "old/place/300001.sqlite")
    assert elsewhere.path == "old/place/300001.sqlite"
    assert await storage.find("300001") is None
    assert (await storage.find("300001", elsewhere.path)).size == 4
    await storage.fetch(elsewhere, tmp_path / "x")
    assert (tmp_path / "x").read_bytes() == b"else"
    assert hand.names() == ["abc.sqlite", "old/place/300001.sqlite"]


@pytest_twisted.ensureDeferred
async def test_the_present_version_is_fetched(storage, source, tmp_path):
    """Who asks with an older version in mind gets the present one, and is told so."""
    old = await storage.publish(source(b"old"), "300001")
    new = await storage.publish(source(b"newer"), "300001")
    assert await storage.fetch(old, tmp_path / "x") == new
    assert (tmp_path / "x").read_bytes() == b"newer"


@pytest_twisted.ensureDeferred
async def test_fetching_what_is_not_there(storage, source, tmp_path):
    """A segment without a file is told as such, and the destination stays as it was."""
    copy = await storage.publish(source(b"x"), "300001")
    assert await storage.delete(copy) is True
    destination = tmp_path / "local" / "x.sqlite"
    destination.parent.mkdir()
    destination.write_bytes(b"before")
    with pytest.raises(errors.NoSuchSegment, match="300001"):
        await storage.fetch(copy, destination)
    assert destination.read_bytes() == b"before"
    assert list(destination.parent.iterdir()) == [destination]


@pytest_twisted.ensureDeferred
async def test_a_probe_reads_or_is_refused(storage, hand, source):
    """That a file is gone is an answer; that the whole root is gone is none."""
    copy = await storage.publish(source(b"content"), "300001")
    await storage.probe(copy)
    await storage.probe(CanonicalCopy("300002", "300/300002.sqlite", 1, 1))
    hand.remove("")
    with pytest.raises(errors.Unavailable):
        await storage.probe(copy)


@pytest_twisted.ensureDeferred
async def test_delete_tells_whether_there_was_a_file(storage, hand, source):
    """Deleting removes the file once; a second time there is none."""
    copy = await storage.publish(source(b"x"), "300001")
    assert await storage.delete(copy) is True
    assert await storage.delete(copy) is False
    assert await storage.find("300001") is None
    assert hand.names() == []


@pytest.mark.parametrize(
    "segment, path",
    [
        ("../300001", None),
        ("", None),
        ("a:b", None),
        ("300001", "../300001.sqlite"),
        ("300001", "/300001.sqlite"),
        ("300001", "300//300001.sqlite"),
        ("300001", ".hidden/300001.sqlite"),
        ("300001", "300/300002.sqlite"),
        ("300001", "300/300001"),
        ("300001", "a\nb/300001.sqlite"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_bad_ids_and_paths_are_refused(storage, hand, source, tmp_path, segment, path):
    """What leads out of the root, is hidden or belongs to another id changes nothing."""
    with pytest.raises(errors.BadRequest):
        await storage.publish(source(b"x"), segment, path)
    with pytest.raises(errors.BadRequest):
        await storage.find(segment, path)
    if path is not None:
        copy = CanonicalCopy(segment, path, 1, 1)
        with pytest.raises(errors.BadRequest):
            await storage.fetch(copy, tmp_path / "x")
        with pytest.raises(errors.BadRequest):
            await storage.delete(copy)
    assert hand.names() == []


@pytest_twisted.ensureDeferred
async def test_progress_is_told(storage, source, tmp_path):
    """Transfers tell growing numbers of bytes, the last one being all."""
    content = bytes(3 * atomic_files.CHUNK)
    up, down = [], []
    copy = await storage.publish(source(content), "300001", progress=up.append)
    await storage.fetch(copy, tmp_path / "x", down.append)
    for told in (up, down):
        assert told == sorted(told)
        assert told[-1] == len(content)


# -- publications that fail ----------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_a_guard_that_refuses(storage, hand, source):
    """The guard is asked when the upload is done; its refusal comes out, the former copy
    stays, and nothing is left beside it."""
    await storage.publish(source(b"former"), "300001")
    seen = []

    async def guard():
        seen.extend(hand.names())
        assert hand.read("300/300001.sqlite") == b"former"
        raise errors.Fenced("an older epoch")

    with pytest.raises(errors.Fenced):
        await storage.publish(source(b"new"), "300001", guard=guard)
    hidden = [name for name in seen if atomic_files.is_temporary(name.rpartition("/")[2])]
    assert len(hidden) == 1 and len(seen) == 2
    assert hand.names() == ["300/300001.sqlite"]
    assert hand.read("300/300001.sqlite") == b"former"


@pytest_twisted.ensureDeferred
async def test_a_guard_is_asked_again_when_its_answer_is_too_old(storage, hand, source):
    """The upload is kept for that; if each answer is too old, the former copy stays alone."""
    answers = [-1.0, -1.0, math.inf, -1.0, -1.0, -1.0]

    async def guard():
        return answers.pop(0)

    await storage.publish(source(b"former"), "300001", guard=guard)
    assert len(answers) == 3
    with pytest.raises(errors.Unavailable, match="not confirmed"):
        await storage.publish(source(b"new"), "300001", guard=guard)
    assert answers == []
    assert hand.names() == ["300/300001.sqlite"]
    assert hand.read("300/300001.sqlite") == b"former"


@pytest_twisted.ensureDeferred
async def test_cancelling_an_upload(storage, hand, source):
    """A publication cancelled in the middle leaves the former copy and nothing else."""
    await storage.publish(source(b"former"), "300001")
    pause = Pause()
    publishing = storage.publish(source(bytes(4 * atomic_files.CHUNK)), "300001", progress=pause)
    await pause.reached
    assert [each["what"] for each in storage.status()["transfers"]] == ["publish"]
    publishing.cancel()
    pause.go_on.set()
    with pytest.raises(defer.CancelledError):
        await publishing
    assert storage.status()["transfers"] == []
    await storage.close()  # waits for the thread
    assert hand.names() == ["300/300001.sqlite"]
    assert hand.read("300/300001.sqlite") == b"former"


@pytest_twisted.ensureDeferred
async def test_cancelling_while_the_guard_is_asked(storage, hand, source):
    """A publication cancelled at its guard cancels that, and removes the upload."""
    asked, answer = defer.Deferred(), defer.Deferred()

    def guard():
        reactor.callLater(0, asked.callback, None)  # not within the publication itself
        return answer

    publishing = storage.publish(source(b"new"), "300001", guard=guard)
    await asked
    publishing.cancel()
    with pytest.raises(defer.CancelledError):
        await publishing
    assert hand.names() == []


@pytest_twisted.ensureDeferred
async def test_cancelling_a_fetch(storage, source, tmp_path):
    """A fetch cancelled in the middle leaves the destination as it was, and nothing else."""
    copy = await storage.publish(source(bytes(8 * atomic_files.CHUNK)), "300001")
    destination = tmp_path / "local" / "x.sqlite"
    destination.parent.mkdir()
    destination.write_bytes(b"before")
    pause = Pause()
    fetching = storage.fetch(copy, destination, pause)
    await pause.reached
    fetching.cancel()
    pause.go_on.set()
    with pytest.raises(defer.CancelledError):
        await fetching
    await storage.close()
    assert destination.read_bytes() == b"before"
    assert list(destination.parent.iterdir()) == [destination]


@pytest_twisted.ensureDeferred
async def test_close_ends_what_is_under_way(storage, hand, source):
    """Closing cancels a publication and fires when nothing is left of it; what is asked
    afterwards is refused; an open storage works again."""
    pause = Pause()
    publishing = storage.publish(source(bytes(4 * atomic_files.CHUNK)), "300001", progress=pause)
    await pause.reached
    closed = storage.close()
    pause.go_on.set()
    await closed
    with pytest.raises(defer.CancelledError):
        await publishing
    assert hand.names() == []
    with pytest.raises(errors.Cancelled):
        await storage.find("300001")
    await storage.close()
    await storage.open()
    await storage.open()
    assert (await storage.publish(source(b"x"), "300001")).size == 1


@pytest_twisted.ensureDeferred
async def test_a_source_that_is_not_there(storage, hand, tmp_path):
    """A local file that is missing is the caller's own error, and changes nothing."""
    with pytest.raises(FileNotFoundError):
        await storage.publish(tmp_path / "missing", "300001")
    assert hand.names() == []


# -- readers meanwhile ---------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_a_reader_never_sees_a_missing_or_half_copy(storage, hand, source, tmp_path):
    """While a segment is published 100 times, whoever reads it in a loop, by Trough or by
    hand, gets one whole version each time. HDFS may break off reading a file that was just
    replaced, with an error that nobody takes for its end; it is read again."""

    def content(number):
        return f"{number:03d}".encode() * 100_000

    copy = await storage.publish(source(content(0)), "300001")
    done, seen = threading.Event(), []

    def read_in_a_loop():
        while not done.is_set():
            with contextlib.suppress(*hand.broken_off):
                seen.append(hand.read("300/300001.sqlite"))

    with ThreadPoolExecutor(1) as thread:
        reading = thread.submit(read_in_a_loop)
        try:
            for number in range(1, 101):
                publishing = storage.publish(source(content(number)), "300001")
                destination = tmp_path / "x"
                if number % 10 == 0:
                    await storage.fetch(copy, destination)
                    seen.append(destination.read_bytes())
                await publishing
        finally:
            done.set()
        reading.result()
    whole = {content(number): number for number in range(101)}
    assert [len(each) for each in seen if each not in whole] == []
    assert len(seen) > 10
    assert hand.names() == ["300/300001.sqlite"]


@pytest_twisted.ensureDeferred
async def test_two_publications_at_once(storage, hand, source):
    """Two publications of one segment both succeed; the later one by its time is there."""
    both = await defer.gatherResults(
        [storage.publish(source(content), "300001") for content in (b"one", b"three")]
    )
    assert both[0].modified != both[1].modified
    last = max(both, key=lambda copy: copy.version)
    assert (await storage.find("300001")).version == last.version
    assert checksum(hand.read("300/300001.sqlite")) == last.checksum
    assert hand.names() == ["300/300001.sqlite"]


# -- looking -------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_a_look_finds_every_file_at_any_depth(storage, hand):
    """The first look finds all segments wherever they lie, and nothing that is gone."""
    for path in ("abc.sqlite", "300/300001.sqlite", "a/b/c/d/deep.sqlite", "a/b/x.y.sqlite"):
        hand.put(path, path.encode())
    changes = await storage.changes(None)
    assert named(changes.present) == sorted(
        (path, len(path), path.rpartition("/")[2].removesuffix(".sqlite")) for path in hand.names()
    )
    assert len(changes.present) == 4
    assert changes.gone == ()
    assert changes.looked_into == 6
    for copy in changes.present:
        assert await storage.find(copy.segment, copy.path) == copy


@pytest_twisted.ensureDeferred
async def test_an_empty_storage(storage):
    """Where there is nothing, nothing is found."""
    changes = await storage.changes(None)
    assert (tuple(changes.present), changes.gone) == ((), ())
    assert changes.listing.skipped == {}


@pytest_twisted.ensureDeferred
async def test_only_what_changed_is_looked_into(storage, hand):
    """An unchanged storage costs no look; a change costs one into its directory, and
    tells just that change."""
    for number in range(300001, 300004):
        hand.put(f"300/{number}.sqlite", b"x")
    hand.put("a/b/deep.sqlite", b"x")
    hand.put("400/400001.sqlite", b"x")
    hand.settle()
    listing = (await storage.changes(None)).listing

    changes = await storage.changes(listing)
    assert (named(changes.present), changes.gone, changes.looked_into) == ([], (), 0)
    assert changes.listing == listing

    hand.put("a/b/new.sqlite", b"four")
    changes = await storage.changes(changes.listing)
    assert named(changes.present) == [("a/b/new.sqlite", 4, "new")]
    assert (changes.gone, changes.looked_into) == ((), 1)

    hand.remove("300/300002.sqlite")
    hand.settle(SETTLED + 1)
    hand.put("401/401001.sqlite", b"x")
    changes = await storage.changes(changes.listing)
    assert ("401/401001.sqlite", 1, "401001") in named(changes.present)
    assert changes.gone == ("300002",)


@pytest_twisted.ensureDeferred
async def test_a_published_version_is_seen(storage, hand, source):
    """A publication shows at the next look, as the very version that it returned."""
    first = await storage.publish(source(b"one"), "300001")
    changes = await storage.changes(None)
    assert [copy.version for copy in changes.present] == [first.version]
    hand.settle()
    changes = await storage.changes(changes.listing)
    hand.settle()
    second = await storage.publish(source(b"two"), "300001")
    changes = await storage.changes(changes.listing)
    assert [copy.version for copy in changes.present] == [second.version]
    await storage.delete(second)
    changes = await storage.changes(changes.listing)
    assert (tuple(changes.present), changes.gone) == ((), ("300001",))


@pytest_twisted.ensureDeferred
async def test_directories_that_go_and_move(storage, hand):
    """A directory that was removed takes its segments with it, at any depth; one that was
    renamed has them at their new paths, and none of them gone."""
    hand.put("a/b/one.sqlite", b"x")
    hand.put("c/d/two.sqlite", b"x")
    hand.settle()
    listing = (await storage.changes(None)).listing
    hand.remove("a")
    hand.rename("c", "e")
    changes = await storage.changes(listing)
    assert named(changes.present) == [("e/d/two.sqlite", 1, "two")]
    assert changes.gone == ("one",)


@pytest_twisted.ensureDeferred
async def test_a_fresh_directory_is_looked_into_again(storage, hand):
    """A directory that changed just before the look may change again within the same
    time: the next look goes into it once more."""
    hand.put("300/300001.sqlite", b"x")

    async def looked_right_after_a_change():
        hand.settle(changed := time.time())
        changes = await storage.changes(None)
        return changes if abs(time.time() - changed) < 1 else None

    changes = await until(looked_right_after_a_change, "a look that was quick enough")
    assert (await storage.changes(changes.listing)).looked_into >= 1
    hand.settle()
    changes = await storage.changes(changes.listing)
    assert (await storage.changes(changes.listing)).looked_into == 0


@pytest_twisted.ensureDeferred
async def test_a_full_look_finds_what_moved_no_time(storage, hand):
    """A file overwritten in place, at the same times, is found by a full look alone."""
    hand.put("300/300001.sqlite", b"x")
    hand.settle()
    listing = (await storage.changes(None)).listing
    hand.put("300/300001.sqlite", b"longer")
    hand.settle()
    changes = await storage.changes(listing)
    assert (named(changes.present), changes.looked_into) == ([], 0)
    changes = await storage.changes(listing, full=True)
    assert named(changes.present) == [("300/300001.sqlite", 6, "300001")]
    changes = await storage.changes(changes.listing, full=True)
    assert (named(changes.present), changes.looked_into) == ([], 2)


@pytest_twisted.ensureDeferred
async def test_what_is_no_segment_is_passed_over(storage, hand):
    """A file that ends like a segment and has no id for a name is told with the rule;
    other files and hidden ones are left alone."""
    hand.put("300/bad\x85name.sqlite", b"x")
    hand.put(f"{'x' * 117}.sqlite", b"x")
    for ignored in ("README.txt", ".hidden.sqlite", ".trash/300001.sqlite", "300/a.sqlite-wal"):
        hand.put(ignored, b"x")
    hand.put("300/300001.sqlite", b"x")
    before = hand.names()
    changes = await storage.changes(None)
    assert named(changes.present) == [("300/300001.sqlite", 1, "300001")]
    skipped = changes.listing.skipped
    assert set(skipped) == {"300/bad\\x85name.sqlite", f"{'x' * 117}.sqlite"}
    assert all("a segment id is" in reason for reason in skipped.values())
    assert hand.names() == before


@pytest_twisted.ensureDeferred
async def test_of_two_files_with_one_id_the_newer_counts(storage, hand):
    """The older one is told as skipped, with where the newer is; when that goes, the older
    one is the segment's."""
    hand.put("300/300001.sqlite", b"default")
    hand.put("a/300001.sqlite", b"elsewhere")
    hand.put("b/300001.sqlite", b"oldest")
    hand.set_modified("300/300001.sqlite", 1_600_000_000)
    hand.set_modified("a/300001.sqlite", 1_700_000_000)
    hand.set_modified("b/300001.sqlite", 1_500_000_000)
    changes = await storage.changes(None)
    assert named(changes.present) == [("a/300001.sqlite", 9, "300001")]
    assert set(changes.listing.skipped) == {"300/300001.sqlite", "b/300001.sqlite"}
    assert "a/300001.sqlite" in changes.listing.skipped["b/300001.sqlite"]

    hand.remove("a/300001.sqlite")
    changes = await storage.changes(changes.listing)
    assert named(changes.present) == [("300/300001.sqlite", 7, "300001")]
    assert (set(changes.listing.skipped), changes.gone) == ({"b/300001.sqlite"}, ())

    hand.remove("b/300001.sqlite")
    changes = await storage.changes(changes.listing)
    assert (named(changes.present), changes.gone, changes.listing.skipped) == ([], (), {})
    hand.remove("300")
    changes = await storage.changes(changes.listing)
    assert (named(changes.present), changes.gone) == ([], ("300001",))


@pytest_twisted.ensureDeferred
async def test_left_over_uploads_are_swept(storage, hand):
    """A look removes an upload that was left behind days ago, and leaves a young one and
    a stranger's hidden file alone."""
    old, young = (f"300/{atomic_files.temporary_name('300001.sqlite')}" for _ in range(2))
    for path in (old, young, "300/.300001.sqlite.swp"):
        hand.put(path, b"half")
    for path in (old, "300/.300001.sqlite.swp"):
        hand.set_modified(path, 1_500_000_000)
    changes = await storage.changes(None)
    assert tuple(changes.present) == ()
    assert hand.names() == sorted([young, "300/.300001.sqlite.swp"])

    hand.set_modified(young, 1_500_000_000)
    await storage.changes(changes.listing)
    assert hand.names() == ["300/.300001.sqlite.swp"]


# -- storage away --------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_a_root_that_is_gone_is_not_an_empty_storage(storage, hand, source, tmp_path):
    """Without its root the storage is unavailable; nothing is told as gone, and nothing is
    created in its place."""
    copy = await storage.publish(source(b"x"), "300001")
    listing = (await storage.changes(None)).listing
    hand.remove("")
    for call in (
        functools.partial(storage.changes, listing),
        functools.partial(storage.changes, None),
        functools.partial(storage.publish, source(b"y"), "300001"),
        functools.partial(storage.fetch, copy, tmp_path / "x"),
        functools.partial(storage.delete, copy),
    ):
        with pytest.raises(errors.Unavailable):
            await call()
    assert not (tmp_path / "x").exists()
    assert not Path(hand.root).exists()


@pytest.mark.parametrize("companion", ["-wal", "-journal"])
@pytest_twisted.ensureDeferred
async def test_half_a_database_is_skipped(storage, hand, source, tmp_path, companion):
    """A file whose last rows are in a log beside it is skipped, and the reason says so. It is found
    and fetched once the log is empty or gone, though no directory's time moves."""
    hand.put("a.sqlite", b"whole")
    hand.put("b.sqlite", b"half")
    hand.put(f"b.sqlite{companion}", b"")
    hand.settle()
    first = await storage.changes(None)
    assert named(first.present) == [("a.sqlite", 5, "a"), ("b.sqlite", 4, "b")]
    copy = await storage.find("b", "b.sqlite")

    hand.put(f"b.sqlite{companion}", b"rows")
    hand.settle()
    second = await storage.changes(first.listing)
    assert second.gone == ("b",)
    (path,) = second.listing.skipped
    assert path == "b.sqlite"
    assert f"b.sqlite{companion} lies beside it" in second.listing.skipped[path]
    for call in (storage.find("b", "b.sqlite"), storage.fetch(copy, tmp_path / "x")):
        with pytest.raises(errors.UnusableFile, match="not all of it is in the one file"):
            await call
    assert not (tmp_path / "x").exists()

    hand.remove(f"b.sqlite{companion}")
    hand.settle(SETTLED + 1)
    third = await storage.changes(second.listing)
    assert "b.sqlite" in [copy.path for copy in third.present]
    assert third.listing.skipped == {}
    assert (await storage.find("b", "b.sqlite")).size == 4


# -- any id ----------------------------------------------------------------------

ODD_IDS = ["crawl 2026", " a ", "omü", "\u00e1b", "\U0001f577 web", "x" * 116, "ü" * 58]
ODD_IDS += [f"odd{character}id" for character in " !\"#$%&'()*+,;<=>?@[\\]^_`{|}~"]
ODD_IDS += [
    "%41",
    "a%2Fb",
    "~a",
    "-a",
    "a..",
    "a*",
    "?",
    "new",
    "NEW",
    "a.sqlite",
    "\u200c\u0645 x",
]


@pytest_twisted.ensureDeferred
async def test_every_segment_id_is_a_file_of_its_own(storage, hand, source, tmp_path):
    """Each can be published, found, listed, fetched and deleted, and none is another one."""
    contents = {segment: segment.encode() * 3 for segment in ODD_IDS}
    for segment, content in contents.items():
        await storage.publish(source(content), segment)
    listed = (await storage.changes(None)).present
    assert sorted(copy.segment for copy in listed) == sorted(ODD_IDS)
    for segment, content in contents.items():
        found = await storage.find(segment)
        assert found is not None and found.size == len(content), segment
        await storage.fetch(found, tmp_path / "fetched")
        assert (tmp_path / "fetched").read_bytes() == content, segment
        (tmp_path / "fetched").unlink()
        assert hand.read(found.path) == content
    for segment in ODD_IDS:
        await storage.delete(await storage.find(segment))
        assert await storage.find(segment) is None
    assert hand.names() == []

"""What only a directory as canonical storage can meet."""

import contextlib
import fcntl
import math
import os
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import pytest
import pytest_twisted
from twisted.internet import defer, reactor
from waiting import until

from trough import errors
from trough.model import CanonicalCopy, canonical_path
from trough.storage.directory import scan as directory_look
from trough.storage.directory.backend import DirectoryBackend
from trough.storage.open import open_storage
from trough.storage.threaded import SHORT_CALLS
from trough.util import atomic_files
from trough.util.confined_files import (
    LEADS_NOWHERE,
    LEADS_OUT,
    LINKED_DIRECTORY,
    NOT_PLAIN,
    OWN,
    OwnFiles,
)
from trough.util.threads import Cancellation


@pytest.fixture
def root(tmp_path):
    return tmp_path / "canonical"


@pytest.fixture
def backend(root):
    """The backend itself, opened: blocking calls."""
    opened = DirectoryBackend(root)
    opened.prepare(Cancellation())
    return opened


def look(backend, since=None, full=False):
    return backend.look(Cancellation(), since, full)


def stage(backend, source, segment="300001"):
    return backend.stage(
        Cancellation(), source, segment, canonical_path(segment), lambda done: None
    )


def fetch(backend, copy, destination, progress=lambda done: None):
    return backend.fetch(Cancellation(), copy, destination, progress)


def names(directory):
    return sorted(path.name for path in directory.iterdir())


def test_links_below_the_root(backend, root, tmp_path):
    """A link to a file is followed as long as it stays below the root, whether it is
    relative or absolute; the file is served under the link's name."""
    (root / "kept").mkdir()
    (root / "kept" / "whole.bin").write_bytes(b"four")
    (root / "relative.sqlite").symlink_to("kept/whole.bin")
    (root / "absolute.sqlite").symlink_to(root / "kept" / "whole.bin")
    (root / "kept" / "twice.sqlite").symlink_to("../relative.sqlite")
    changes = look(backend)
    copies = {copy.path: copy for copy in changes.present}
    assert {path: copy.size for path, copy in copies.items()} == {
        "relative.sqlite": 4,
        "absolute.sqlite": 4,
        "kept/twice.sqlite": 4,
    }
    for copy in copies.values():
        assert backend.find(Cancellation(), copy.segment, copy.path) == copy
        fetch(backend, copy, tmp_path / "x")
        assert (tmp_path / "x").read_bytes() == b"four"


@pytest.mark.parametrize(
    ("name", "target", "reason"),
    [
        ("out", "{outside}/a.sqlite", LEADS_OUT),
        ("up", "../elsewhere/a.sqlite", LEADS_OUT),
        ("chain", "out.sqlite", LEADS_OUT),
        ("beside", "{root}-more/a.sqlite", LEADS_OUT),
        ("process", "/proc/self/exe", LEADS_OUT),
        ("device", "/dev/zero", LEADS_OUT),
        ("pipe", "pipe", NOT_PLAIN),
        ("itself", ".", LINKED_DIRECTORY),
        ("nowhere", "nothing", LEADS_NOWHERE),
        ("circle", "circle.sqlite", LEADS_NOWHERE),
    ],
)
def test_links_that_are_not_followed(backend, root, tmp_path, name, target, reason):
    """They are listed as skipped with the reason, and to find or fetch such a path is
    refused at once: nothing behind it is opened."""
    outside = tmp_path / "elsewhere"
    outside.mkdir()
    (outside / "a.sqlite").write_bytes(b"secret")
    (root / "out.sqlite").symlink_to(outside / "a.sqlite")
    os.mkfifo(root / "pipe")
    link = root / f"{name}.sqlite"
    if not link.is_symlink():
        link.symlink_to(target.format(outside=outside, root=root))
    changes = look(backend)
    assert list(changes.present) == []
    assert changes.listing.skipped[link.name] == reason
    copy = CanonicalCopy(name, link.name, 6, 1)
    with pytest.raises(errors.UnusableFile):
        backend.find(Cancellation(), name, link.name)
    with pytest.raises(errors.UnusableFile):
        fetch(backend, copy, tmp_path / "x")
    assert not (tmp_path / "x").exists()


def test_linked_directories(backend, root, tmp_path):
    """No way leads through a link: not to list, find, fetch, publish or delete."""
    outside = tmp_path / "elsewhere"
    outside.mkdir()
    (outside / "300001.sqlite").write_bytes(b"theirs")
    (root / "300").symlink_to(outside)
    (root / "loop").symlink_to(root)
    changes = look(backend)
    assert list(changes.present) == []
    assert changes.listing.skipped == {"300": LINKED_DIRECTORY, "loop": LINKED_DIRECTORY}
    copy = CanonicalCopy("300001", "300/300001.sqlite", 6, 1)
    source = tmp_path / "source"
    source.write_bytes(b"ours")
    for call in (
        lambda: backend.find(Cancellation(), "300001", copy.path),
        lambda: fetch(backend, copy, tmp_path / "x"),
        lambda: stage(backend, source),
        lambda: backend.delete(Cancellation(), copy),
    ):
        with pytest.raises(errors.UnusableFile, match="link to a directory"):
            call()
    assert names(outside) == ["300001.sqlite"]
    assert (outside / "300001.sqlite").read_bytes() == b"theirs"


@pytest.mark.parametrize("beside", ["", "-wal", "-shm"])
@pytest.mark.parametrize("kind", ["database", "copy"])
def test_hard_links_to_our_own_files(root, tmp_path, kind, beside):
    """Whatever name it has, a database that this process may have open is no segment, nor
    is a local copy; another file with two names is one."""
    registry, data = tmp_path / "registry.db", tmp_path / "data"
    (data / "300").mkdir(parents=True)
    own = registry if kind == "database" else data / "300" / "300001.sqlite"
    for suffix in ("", "-wal", "-shm"):
        Path(f"{own}{suffix}").write_bytes(b"ours")
    backend = DirectoryBackend(root, own=OwnFiles((registry,), (data,)))
    backend.prepare(Cancellation())
    (root / "mine.sqlite").hardlink_to(f"{own}{beside}")
    (root / "theirs.sqlite").write_bytes(b"x")
    (root / "backup").hardlink_to(root / "theirs.sqlite")
    changes = look(backend)
    assert [copy.path for copy in changes.present] == ["theirs.sqlite"]
    assert changes.listing.skipped == {"mine.sqlite": OWN}
    with pytest.raises(errors.UnusableFile, match="own"):
        fetch(backend, CanonicalCopy("mine", "mine.sqlite", 4, 1), tmp_path / "x")


def test_a_registry_that_is_linked_keeps_its_locks(root, tmp_path):
    """To list and to fetch a link to a database that this process has open drops none of
    SQLite's locks on it: another process could take them, and remove the log."""
    registry = tmp_path / "registry.db"
    with contextlib.closing(sqlite3.connect(registry, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("CREATE TABLE t(a)")
        backend = DirectoryBackend(root, own=OwnFiles((registry,)))
        backend.prepare(Cancellation())
        (root / "soft.sqlite").symlink_to(registry)
        (root / "hard.sqlite").hardlink_to(registry)
        look(backend)
        for name in ("soft", "hard"):
            with pytest.raises(errors.UnusableFile):
                backend.find(Cancellation(), name, f"{name}.sqlite")
            with pytest.raises(errors.UnusableFile):
                copy = CanonicalCopy(name, f"{name}.sqlite", 1, 1)
                fetch(backend, copy, tmp_path / "x")
        # Another process that opens and closes it may not take itself for the last one.
        other = "import sqlite3, sys; sqlite3.connect(sys.argv[1]).execute('SELECT * FROM t')"
        subprocess.run([sys.executable, "-c", other, str(registry)], check=True)
        assert Path(f"{registry}-wal").exists()
        connection.execute("INSERT INTO t VALUES (1)")
        assert sqlite3.connect(registry).execute("SELECT a FROM t").fetchall() == [(1,)]


def test_a_restored_directory_is_looked_into(backend, root):
    """Its modification time may be put back as well, and is that of what was known then."""
    (root / "a.sqlite").write_bytes(b"new")
    settled = (1_700_000_000, 1_700_000_000)
    os.utime(root / "a.sqlite", settled)
    os.utime(root, settled)
    known = look(backend).listing
    assert look(backend, known).looked_into == 0
    (root / ".restored").write_bytes(b"older")
    (root / ".restored").replace(root / "a.sqlite")
    os.utime(root, settled)
    assert [copy.size for copy in look(backend, known).present] == [5]


def test_other_things_than_files(backend, root):
    """A pipe named like a segment is skipped, a directory named so is a directory, and
    what a file system keeps for itself is left alone."""
    os.mkfifo(root / "pipe.sqlite")
    (root / "directory.sqlite").mkdir()
    (root / "directory.sqlite" / "a.sqlite").touch()
    (root / "lost+found").mkdir()
    (root / "lost+found" / "b.sqlite").touch()
    changes = look(backend)
    assert [copy.path for copy in changes.present] == ["directory.sqlite/a.sqlite"]
    assert changes.listing.skipped == {"pipe.sqlite": "not a plain file"}


def test_names_that_are_no_text(backend, root):
    """File and directory names of any bytes are skipped, and shown so that a terminal and
    a database can take it."""
    for name in (b"\xff\xfe.sqlite", b"\x1b[2J.sqlite", b"a\nb.sqlite"):
        (root / os.fsdecode(name)).touch()
    (root / os.fsdecode(b"dir\xff")).mkdir()
    changes = look(backend)
    assert len(changes.present) == 0
    assert set(changes.listing.skipped) == {
        r"\udcff\udcfe.sqlite",
        r"\x1b[2J.sqlite",
        r"a\nb.sqlite",
        r"dir\udcff",
    }


def test_another_directory_at_the_root(backend, root):
    """A root that was swapped for another directory, as when a mount is gone, makes all
    calls unavailable, instead of all segments gone; when it is back, all is well."""
    (root / "300").mkdir()
    (root / "300" / "300001.sqlite").touch()
    listing = look(backend).listing
    aside = root.with_name("aside")
    root.rename(aside)
    root.mkdir()
    with pytest.raises(errors.Unavailable, match="another directory lies at"):
        look(backend, listing)
    with pytest.raises(errors.Unavailable, match="another directory lies at"):
        backend.find(Cancellation(), "300001", "300/300001.sqlite")
    root.rmdir()
    aside.rename(root)
    assert look(backend, listing, full=True).gone == ()


@pytest.fixture
def nobodys_root():
    """A root that everybody may read, while this process is no superuser."""
    with tempfile.TemporaryDirectory() as directory:
        root = Path(directory)
        root.chmod(0o755)
        (root / "300").mkdir(mode=0)
        was = os.geteuid()
        if was == 0:
            os.seteuid(65534)
        yield root
        os.seteuid(was)


def test_a_directory_that_may_not_be_read(nobodys_root):
    """A directory without permission makes the look unavailable, naming it, rather than
    its segments gone."""
    backend = DirectoryBackend(nobodys_root)
    backend.prepare(Cancellation())
    with pytest.raises(errors.Unavailable, match=r"Permission denied.*300.*read and write"):
        look(backend)


def test_left_overs_are_due_in_time(root):
    """A directory in which a young upload was left is looked into again when that is an
    hour old, though nothing moved its time."""
    now = [time.time() + 60]
    backend = DirectoryBackend(root, lambda: now[0])
    backend.prepare(Cancellation())
    left = root / atomic_files.temporary_name("300001.sqlite")
    left.touch()
    listing = look(backend).listing
    now[0] += 10
    again = look(backend, listing)
    assert (again.looked_into, names(root)) == (0, [left.name])
    now[0] += directory_look.LEFT_OVER_AGE
    assert look(backend, again.listing).looked_into == 1
    assert names(root) == []


def test_a_file_that_is_being_copied_in_is_seen_whole_in_the_end(root):
    """A file written under its final name moves its directory's time only at first; as
    long as its own time is fresh, its directory is looked into again."""
    now = time.time()
    backend = DirectoryBackend(root, lambda: now)
    backend.prepare(Cancellation())
    target = root / "a.sqlite"
    target.write_bytes(b"half")
    os.utime(target, (now, now))
    os.utime(root, (1_700_000_000, 1_700_000_000))
    first = look(backend)
    with target.open("ab") as file:
        file.write(b" and half")
    second = look(backend, first.listing)
    assert [copy.size for copy in first.present] == [4]
    assert [copy.size for copy in second.present] == [13]


def test_a_file_replaced_while_it_is_fetched_is_fetched_whole(backend, root, tmp_path):
    """A rename over the file in the middle of a fetch does not mix two versions."""
    old, new = b"o" * (3 * atomic_files.CHUNK), b"n" * (2 * atomic_files.CHUNK)
    target = root / "a.sqlite"
    target.write_bytes(old)
    (copy,) = look(backend).present

    def replace(done):
        temporary = root / ".new"
        if not temporary.exists() and target.read_bytes() == old:
            temporary.write_bytes(new)
            temporary.rename(target)

    got = fetch(backend, copy, tmp_path / "x", replace)
    assert (tmp_path / "x").read_bytes() == old
    assert got.version == copy.version


def test_a_file_written_in_place_while_it_is_fetched_is_fetched_again(backend, root, tmp_path):
    """Content that moves under a fetch is noticed, and what comes out is one state."""
    target = root / "a.sqlite"
    target.write_bytes(b"o" * (3 * atomic_files.CHUNK))
    (copy,) = look(backend).present
    changes = iter([b"n" * atomic_files.CHUNK, b"x" * 10])

    def write(done):
        target.write_bytes(next(changes, None) or target.read_bytes())
        if target.stat().st_size == 10:
            os.utime(target, (1_700_000_000, 1_700_000_000))

    got = fetch(backend, copy, tmp_path / "x", write)
    assert (tmp_path / "x").read_bytes() == target.read_bytes()
    assert got.size == target.stat().st_size


def test_a_file_that_never_holds_still(backend, root, tmp_path):
    """A file that changes during every attempt is given up, the destination untouched."""
    target = root / "a.sqlite"
    target.write_bytes(b"x")
    (copy,) = look(backend).present
    (tmp_path / "local").mkdir()

    def append(done):
        with target.open("ab") as file:
            file.write(b"x")

    with pytest.raises(errors.Unavailable, match="keeps changing"):
        fetch(backend, copy, tmp_path / "local" / "x", append)
    assert names(tmp_path / "local") == []


def test_no_room_for_a_fetch(backend, root, tiny_disk, monkeypatch):
    """A local disk without room is told as that, before and in the middle of the copy,
    and nothing is left on it."""
    (root / "a.sqlite").write_bytes(bytes(2 << 20))
    (copy,) = look(backend).present
    (tiny_disk / "x").write_bytes(b"before")
    with pytest.raises(errors.DiskFull, match="are needed and"):
        fetch(backend, copy, tiny_disk / "x")
    monkeypatch.setattr(atomic_files, "check_room", lambda directory, size: None)
    with pytest.raises(errors.DiskFull, match="no room for"):
        fetch(backend, copy, tiny_disk / "x")
    assert names(tiny_disk) == ["x"]
    assert (tiny_disk / "x").read_bytes() == b"before"


def test_no_room_for_a_publication(tiny_disk, tmp_path):
    """A canonical disk without room is unavailable, not full on our side; the former copy
    is whole and nothing is left beside it."""
    backend = DirectoryBackend(tiny_disk / "canonical")
    backend.prepare(Cancellation())
    source = tmp_path / "source"
    source.write_bytes(b"former")
    backend.commit(Cancellation(), stage(backend, source))
    source.write_bytes(bytes(2 << 20))
    with pytest.raises(errors.Unavailable, match=r"canonical storage .*No space left") as refused:
        stage(backend, source)
    assert not isinstance(refused.value, errors.DiskFull)
    directory = tiny_disk / "canonical" / "300"
    assert names(directory) == ["300001.sqlite"]
    assert (directory / "300001.sqlite").read_bytes() == b"former"


def test_an_upload_that_reads_back_differently(backend, root, tmp_path, monkeypatch):
    """What was damaged on its way to the disk never becomes the canonical copy."""
    source = tmp_path / "source"
    source.write_bytes(b"right")
    write_all = atomic_files.write_all
    monkeypatch.setattr(atomic_files, "write_all", lambda file, data: write_all(file, b"wrong"))
    with pytest.raises(errors.Unavailable, match="reads back as 5 bytes"):
        stage(backend, source)
    assert names(root / "300") == []


def test_an_upload_that_was_swept_is_not_committed(backend, root, tmp_path):
    """A process that was asleep for an hour finds its upload gone: refused, the former
    copy untouched."""
    source = tmp_path / "source"
    source.write_bytes(b"former")
    backend.commit(Cancellation(), stage(backend, source))
    staged = stage(backend, source)
    (root / staged.temporary).unlink()
    with pytest.raises(errors.Unavailable):
        backend.commit(Cancellation(), staged)
    assert (root / "300" / "300001.sqlite").read_bytes() == b"former"


def test_commits_of_two_processes_take_turns(root, tmp_path):
    """Many publications of one segment by several backends, as by several processes,
    never leave an older version as the last one."""
    backends = [DirectoryBackend(root) for _ in range(3)]
    for each in backends:
        each.prepare(Cancellation())
    source = tmp_path / "source"
    source.write_bytes(b"x")
    committed = []

    def publish(backend):
        for _ in range(20):
            committed.append(backend.commit(Cancellation(), stage(backend, source)))

    threads = [threading.Thread(target=publish, args=(each,)) for each in backends]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({copy.modified for copy in committed}) == 60
    found = backends[0].find(Cancellation(), "300001", "300/300001.sqlite")
    assert found.modified == max(copy.modified for copy in committed)


@pytest_twisted.ensureDeferred
async def test_a_root_that_cannot_be(tmp_path):
    """A root below a file is unavailable, with the path in the message."""
    (tmp_path / "file").touch()
    storage = open_storage(f"file://{tmp_path}/file/canonical", reactor)
    with pytest.raises(errors.Unavailable, match="file/canonical"):
        await storage.open()
    await storage.close()


@pytest.mark.parametrize("replaced", [False, True])
def test_a_root_that_went_away_is_not_made_anew(backend, root, replaced):
    """Opened again, as sync servers do now and then, a storage whose mount is gone stays
    unavailable: an empty directory in its place would tell that all segments are gone."""
    root.rename(root.with_name("unmounted"))
    if replaced:
        root.mkdir()
    with pytest.raises(errors.Unavailable):
        backend.prepare(Cancellation())
    with pytest.raises(errors.Unavailable):
        look(backend)
    assert root.exists() is replaced


def test_what_is_odd_keeps_nothing_else_from_being_found(backend, root, tmp_path):
    """Links that lead in a circle, and a directory that is named like an upload, are of no
    concern to the segments beside them."""
    (root / "300").mkdir()
    (root / "300" / "300001.sqlite").write_bytes(b"a")
    (root / "300" / "circle.sqlite").symlink_to("circle.sqlite")
    (root / "circle").symlink_to("circle")
    directory = root / atomic_files.temporary_name("300001.sqlite")
    directory.mkdir()
    os.utime(directory, (1, 1))
    changes = look(backend)
    assert [copy.segment for copy in changes.present] == ["300001"]
    assert changes.listing.skipped["300/circle.sqlite"] == "a symbolic link that leads nowhere"
    assert directory.is_dir()


@pytest_twisted.ensureDeferred
async def test_a_publication_cancelled_before_its_last_step_leaves_nothing(root, tmp_path):
    """While others wait for the directory with all threads, one more publication has its
    upload whole; cancelled then, it takes that away."""
    storage = open_storage(f"file://{root}", reactor)
    await storage.open()
    source = tmp_path / "source"
    source.write_bytes(b"content")
    directory = root / "300"
    directory.mkdir()
    descriptor = os.open(directory, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    permitted = []

    async def permit():
        permitted.append(True)
        return math.inf

    try:
        others = [storage.publish(source, f"30000{n}", guard=permit) for n in range(SHORT_CALLS)]
        await until(lambda: len(permitted) == SHORT_CALLS, "the others' last steps")
        last = storage.publish(source, "300009", guard=permit)
        await until(lambda: len(permitted) == SHORT_CALLS + 1, "its own last step")
        last.cancel()
    finally:
        os.close(descriptor)
    with pytest.raises(defer.CancelledError):
        await last
    for other in others:
        await other
    await storage.close()
    assert names(directory) == [f"30000{n}.sqlite" for n in range(SHORT_CALLS)]


@pytest_twisted.ensureDeferred
async def test_a_publication_that_waits_for_another_process_can_be_cancelled(root, tmp_path):
    """Its thread is free again, though the other one goes on renaming for ever."""
    storage = open_storage(f"file://{root}", reactor)
    await storage.open()
    source = tmp_path / "source"
    source.write_bytes(b"content")
    (root / "300").mkdir()
    descriptor = os.open(root / "300", os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    try:
        publishing = storage.publish(source, "300001")
        await until(lambda: storage._calls.pending, "the last step")
        publishing.cancel()
        with pytest.raises(defer.CancelledError):
            await publishing
        await until(lambda: not storage._calls.pending, "the end of the call")
        await storage.close()
    finally:
        os.close(descriptor)
    assert names(root / "300") == []

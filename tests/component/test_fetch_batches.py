"""Small segments that are fetched together: each as if it had been fetched alone."""

import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
import pytest_twisted
from twisted.internet.defer import CancelledError, Deferred, DeferredList
from worker_parts import running_worker

from trough import errors
from trough.model import canonical_path
from trough.util.file_batch import FileBatch
from trough.worker.catalogue import Catalogue

SEGMENTS = [f"{300_000 + number}" for number in range(40)]


async def put_all(worker, segments=SEGMENTS):
    """Have them in canonical storage; as a look at it would report them."""
    found = []
    for rows, segment in enumerate(segments):
        worker.put_canonical(segment, rows + 1)
        found.append(await worker.storage.find(segment))
    return found


async def fetch_all(worker, wanted):
    """Begin all fetches at once; segment: what went wrong, or None."""
    fetching = [Deferred.fromCoroutine(worker.segments.fetch(copy)) for copy in wanted]
    results = await DeferredList(fetching, consumeErrors=True)
    return {
        copy.segment: None if success else result.value
        for copy, (success, result) in zip(wanted, results, strict=True)
    }


def rows_of(worker, segment):
    """Rows of the local copy."""
    with sqlite3.connect(worker.segments.get(segment).target.path) as database:
        (number,) = database.execute("SELECT count(*) FROM crawled_url").fetchone()
    database.close()
    return number


@pytest_twisted.ensureDeferred
async def test_what_comes_together_is_recorded_together(tmp_path, monkeypatch):
    """The first one does not wait for others; the others share one commit."""
    commits, put = [], Catalogue.put
    monkeypatch.setattr(
        Catalogue, "put", lambda self, *entries: (commits.append(len(entries)), put(self, *entries))
    )
    async with running_worker(tmp_path) as worker:
        wanted = await put_all(worker)
        assert set((await fetch_all(worker, wanted)).values()) == {None}
        assert commits == [1, len(SEGMENTS) - 1]
        assert [rows_of(worker, segment) for segment in SEGMENTS] == list(range(1, 41))
        kept = {entry.segment: entry for entry in worker.segments._catalogue._catalogue.entries()}
        for copy in wanted:
            entry = kept[copy.segment]
            assert (entry.modified, entry.size) == copy.version
            assert entry.checksum.startswith("sha256:")
            path = worker.segments.get(copy.segment).target.path
            status = Path(path).stat()
            assert (entry.file_size, entry.file_modified) == (status.st_size, status.st_mtime_ns)
        assert not list(worker.directory.rglob("*.unfinished"))


@pytest_twisted.ensureDeferred
async def test_one_that_fails_does_not_hold_up_the_others(tmp_path):
    """Gone, half a database, or no plain file: each is refused for its own reason."""
    async with running_worker(tmp_path) as worker:
        wanted = await put_all(worker)
        gone, half, link, grown = (worker.canonical / copy.path for copy in wanted[5:9])
        gone.unlink()
        Path(f"{half}-wal").write_bytes(b"what is not in the file")
        link.unlink()
        link.symlink_to(tmp_path / "registry.db")
        worker.put_canonical(wanted[8].segment, 5_000)
        reasons = await fetch_all(worker, wanted)
        assert isinstance(reasons.pop(wanted[5].segment), errors.NoSuchSegment)
        assert isinstance(reasons.pop(wanted[6].segment), errors.UnusableFile)
        assert isinstance(reasons.pop(wanted[7].segment), errors.UnusableFile)
        assert set(reasons.values()) == {None}
        assert rows_of(worker, wanted[8].segment) == 5_000 and grown.stat().st_size > 8192
        assert all(worker.segments.get(copy.segment) is None for copy in wanted[5:8])


@pytest_twisted.ensureDeferred
async def test_a_catalogue_without_room_leaves_no_file_that_it_does_not_know(tmp_path, monkeypatch):
    """They take the room that the next try needs."""
    put = Catalogue.put

    def refuse(self, *entries):
        if len(entries) > 1:
            raise errors.DiskFull("no room", "free some")
        put(self, *entries)

    async with running_worker(tmp_path) as worker:
        wanted = await put_all(worker)
        with monkeypatch.context() as full:
            full.setattr(Catalogue, "put", refuse)
            reasons = await fetch_all(worker, wanted)
        assert reasons.pop(SEGMENTS[0]) is None
        assert {type(reason) for reason in reasons.values()} == {errors.DiskFull}
        names = {path.name for path in (worker.directory / "segments").rglob("*.sqlite")}
        assert names == {f"{SEGMENTS[0]}.sqlite"}
        assert set((await fetch_all(worker, wanted)).values()) == {None}


@pytest_twisted.ensureDeferred
async def test_one_that_is_cancelled_while_it_waits_is_not_fetched(tmp_path):
    """Its lock is free at once, for what comes next."""
    async with running_worker(tmp_path) as worker:
        wanted = await put_all(worker)
        fetching = [Deferred.fromCoroutine(worker.segments.fetch(copy)) for copy in wanted]
        fetching[7].cancel()
        results = await DeferredList(fetching, consumeErrors=True)
        assert results[7][1].check(CancelledError)
        assert [success for success, _ in results].count(False) == 1
        assert worker.segments.get(SEGMENTS[7]) is None
        path = worker.directory / "segments" / canonical_path(SEGMENTS[7])
        assert not path.exists()
        await worker.segments.fetch(wanted[7])
        assert rows_of(worker, SEGMENTS[7]) == 8


def test_each_file_is_flushed_before_its_name_and_the_name_after_it(tmp_path, monkeypatch):
    """Or a power cut leaves a name without its content, or an entry without a file."""
    steps = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(
        os, "fsync", lambda fd: (steps.append(("flush", os.fstat(fd).st_ino)), fsync(fd))
    )

    def named(source, target, **places):
        steps.append(("name", Path(source).stat().st_ino))
        replace(source, target, **places)

    monkeypatch.setattr(os, "replace", named)
    folders = [tmp_path / name for name in ("a", "b")]
    for folder in folders:
        folder.mkdir()
    with FileBatch() as files:
        for number in range(10):
            with files.writing(folders[number % 2] / f"{number}") as file:
                file.write(b"%d" % number)
        files.install()
    for number in range(10):
        path = folders[number % 2] / f"{number}"
        assert path.read_bytes() == b"%d" % number
        inode = path.stat().st_ino
        flushed, named_at = steps.index(("flush", inode)), steps.index(("name", inode))
        folder = steps.index(("flush", path.parent.stat().st_ino))
        assert flushed < named_at < folder
    assert [kind for kind, _ in steps].count("flush") == 12


def test_a_batch_that_is_not_installed_leaves_nothing(tmp_path):
    """Also where it was left by an exception."""
    (tmp_path / "kept").write_bytes(b"as it was")
    with pytest.raises(RuntimeError), FileBatch() as files:
        for name in ("kept", "new"):
            with files.writing(tmp_path / name) as file:
                file.write(b"half")
        raise RuntimeError
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]
    assert (tmp_path / "kept").read_bytes() == b"as it was"


# Counts what Python's own audit reports: files opened, renamed and removed. Each child is killed at
# one further such event, and the parent starts as a worker does after it.
KILLED_AT_EACH_STEP = """
import os, signal, sys
from pathlib import Path
from trough.model import CanonicalCopy, canonical_path
from trough.storage.directory.backend import DirectoryBackend
from trough.util.threads import Cancellation
from trough.worker import fetch_batches, local_files
from trough.worker.catalogue import Catalogue, Entry

home = Path(sys.argv[1])
names = [f"{number}00001" for number in (1, 1, 2, 3)]
names = [f"{name}{place}" for place, name in enumerate(names)]
backend = DirectoryBackend(home / "canonical")
backend.prepare(Cancellation())
for name in names:
    path = home / "canonical" / canonical_path(name)
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(name.encode() * 1000)

class Deadly:
    left = None
    def __call__(self, event, arguments):
        if self.left is not None and event in ("open", "os.rename", "os.remove", "os.mkdir"):
            self.left -= 1
            if self.left < 0:
                os.kill(os.getpid(), signal.SIGKILL)

def fetch(worker):
    catalogue = Catalogue(local_files.catalogue_path(worker))
    wanted = []
    for name in names:
        found = backend.find(Cancellation(), name, canonical_path(name))
        wanted.append((found, local_files.path_of(worker, name)))
    assert not fetch_batches._make_ready(wanted)
    entries = []
    for got in backend.fetch_many(Cancellation(), wanted):
        entries.append(Entry(got.segment, got.path))
        entries[-1].adopt(got)
    found = fetch_batches._identify([path for _, path in wanted])
    for entry, identity in zip(entries, found):
        entry.file_size, entry.file_modified = identity
    catalogue.put(*entries)

deadly = Deadly()
sys.addaudithook(deadly)
outcomes = set()
for step in range(10_000):
    worker = home / f"worker-{step}"
    worker.mkdir()
    for folder in local_files.FOLDERS:
        (worker / folder).mkdir()
    child = os.fork()
    if child == 0:
        deadly.left = step
        fetch(worker)
        os._exit(0)
    killed = os.waitpid(child, 0)[1] == signal.SIGKILL
    catalogue, entries = local_files.open_and_reconcile(worker)
    catalogue.close()
    for entry in entries:
        path = local_files.path_of(worker, entry.segment)
        assert path.read_bytes() == entry.segment.encode() * 1000, (step, entry)
    left = [path for path in (worker / "segments").rglob("*") if path.is_file()]
    assert len(left) == len(entries), (step, left)
    outcomes.add(len(entries))
    if not killed:
        break
assert outcomes == {0, len(names)}, outcomes
print("killed", step)
"""


def test_a_batch_killed_at_each_step_leaves_all_of_it_or_nothing(tmp_path):
    """The next start knows each file that it finds, and each is whole."""
    command = [sys.executable, "-c", KILLED_AT_EACH_STEP, str(tmp_path)]
    found = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert found.returncode == 0, found.stderr
    word, steps = found.stdout.split()
    assert word == "killed" and int(steps) > 20

"""Files of unpromoted writes: listed, compared with the canonical copy, put back, deleted."""

import argparse
import io
import sqlite3
from contextlib import asynccontextmanager, closing

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from worker_parts import HeldUp, running_worker

from trough import admin, errors
from trough.model import Worker
from trough.protocols.http.manager import ManagerResource
from trough.protocols.http.site import Site
from trough.worker.aside_files import AsideFiles, parse_name


async def put_aside(worker, segment="300001"):
    """A file aside with the rows 0, 1 and 2, of a segment whose canonical copy has 0 and 7."""
    await worker.writable(segment)
    await worker.written(segment, "INSERT INTO t VALUES (1), (2); CREATE TABLE more (a)")
    name = (await worker.controller.revert(segment))["aside"]
    await worker.written(segment, "INSERT INTO t VALUES (7)")
    await worker.controller.promote(segment)
    return name


async def rows(worker, segment="300001"):
    """What the segment has on disk, its log included."""
    path = worker.segments.get(segment).target.path
    with closing(sqlite3.connect(path)) as database:
        return sorted(n for (n,) in database.execute("SELECT n FROM t"))


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("300001.4.20260102T030405Z.sqlite", ("300001", 4)),
        ("300001.4.20260102T030405Z.2.sqlite", ("300001", 4)),
        ("a.b.4.20260102T030405Z.9.20260102T030405Z.sqlite", ("a.b.4.20260102T030405Z", 9)),
        ("crawl 2026.1.20260102T030405Z.sqlite", ("crawl 2026", 1)),
    ],
)
def test_a_name_tells_segment_and_epoch(name, told):
    """Also where the segment's id has dots and numbers."""
    file = parse_name(name)
    assert (file.segment, file.epoch) == told


@pytest.mark.parametrize(
    "name",
    ["", "x.sqlite", "../300001.4.20260102T030405Z.sqlite", "a/b.1.20260102T030405Z.sqlite"],
)
def test_what_is_no_such_name(name):
    """Nothing outside of the folder can be named."""
    with pytest.raises((errors.NotFound, errors.BadSegmentId)):
        parse_name(name)


@pytest_twisted.ensureDeferred
async def test_a_file_is_compared_with_the_canonical_copy(tmp_path):
    """Row by row, for each table that one of them has."""
    async with running_worker(tmp_path) as worker:
        files = AsideFiles(worker.controller)
        name = await put_aside(worker)
        [listed] = await files.list()
        assert (listed["name"], listed["segment"]) == (name, "300001") and listed["size"] > 0
        told = await files.compare(name)
        assert told["promoted_at"] > 0
        assert told["tables"] == {
            "t": {"kept": 3, "canonical": 2, "only_kept": 2, "only_canonical": 1},
            "more": {"kept": 0, "canonical": None, "only_kept": 0, "only_canonical": None},
        }
        assert list(worker.directory.joinpath("snapshots").iterdir()) == []


@pytest_twisted.ensureDeferred
async def test_a_file_is_put_back(tmp_path):
    """As the segment's present state, which is dirty and can be promoted; the file stays."""
    async with running_worker(tmp_path) as worker:
        files = AsideFiles(worker.controller)
        name = await put_aside(worker)
        assert await rows(worker) == [0, 7]
        answer = await files.put_back(name)
        assert (answer["segment"], answer["node"]) == ("300001", "w1")
        assert await rows(worker) == [0, 1, 2]
        assert worker.segments.get("300001").entry.unpromoted
        assert not (await worker.metadata.lock_of("300001")).is_clean
        await worker.written("300001", "INSERT INTO t VALUES (3)")
        with pytest.raises(errors.Conflict, match="not promoted"):
            await files.put_back(name)
        await worker.controller.promote("300001")
        canonical = worker.canonical / "300" / "300001.sqlite"
        with closing(sqlite3.connect(canonical)) as database:
            assert database.execute("SELECT sum(n) FROM t").fetchone() == (6,)
        assert [file["name"] for file in await files.list()] == [name]
        await files.delete(name)
        assert await files.list() == [] and worker.segments.aside() == []
        for call in (files.compare, files.put_back, files.delete):
            with pytest.raises(errors.NotFound, match="aside"):
                await call(name)


@pytest_twisted.ensureDeferred
async def test_a_look_meanwhile_does_not_retire_what_is_put_back(tmp_path):
    """Writes are refused for a moment, which is no sign that the lock is given up."""
    async with running_worker(tmp_path) as worker:
        name = await put_aside(worker)
        replacing = HeldUp(worker.pool, "forget")
        putting = Deferred.fromCoroutine(AsideFiles(worker.controller).put_back(name))
        await replacing.reached
        copy = worker.segments.get("300001")
        with pytest.raises(errors.NoWriteLock):
            worker.write("300001", "INSERT INTO t VALUES (9)")
        await worker.controller.reconciler._look_at_written("300001", copy, None)
        replacing.go_on()
        await putting
        assert await rows(worker) == [0, 1, 2]
        assert worker.segments.aside() == [name]


@pytest_twisted.ensureDeferred
async def test_a_damaged_file_is_not_put_back(tmp_path):
    """The present state stays as it is, and can be written to."""
    async with running_worker(tmp_path) as worker:
        files = AsideFiles(worker.controller)
        name = await put_aside(worker)
        path = worker.directory / "aside" / name
        path.write_bytes(b"no database at all, and longer than a header of a hundred bytes" * 90)
        with pytest.raises(errors.TroughError):
            await files.put_back(name)
        assert await rows(worker) == [0, 7]
        await worker.written("300001", "INSERT INTO t VALUES (8)")
        assert await rows(worker) == [0, 7, 8]


@asynccontextmanager
async def managed(worker):
    """The worker's manager port, in its row of the metadata store."""
    resource = ManagerResource(worker.controller, None, aside=AsideFiles(worker.controller))
    listening = reactor.listenTCP(0, Site(resource, reactor, 10**6), interface="127.0.0.1")
    url = f"http://127.0.0.1:{listening.getHost().port}/"
    row = worker.controller.myself
    worker.controller.myself = Worker(
        row.node, row.identity, "", url, url, url, 10**12, 10**12, ttl=600.0
    )
    await worker.metadata.beat(worker.controller.myself)
    try:
        yield
    finally:
        await listening.stopListening()


async def run(worker, *arguments):
    """Exit status and output of ``trough-admin aside``."""
    output = io.StringIO()
    console = admin.Console(worker.metadata, io.StringIO(), output, reactor)
    options = admin.command_line().parse_args(["aside", *arguments])
    assert isinstance(options, argparse.Namespace)
    return await options.command(console, options), output.getvalue()


@pytest_twisted.ensureDeferred
async def test_the_tool_lists_compares_puts_back_and_deletes(tmp_path, capsys):
    """All of it through the workers' manager ports; what cannot be undone is asked for."""
    async with running_worker(tmp_path) as worker:
        name = await put_aside(worker, "crawl 2026")
        async with managed(worker):
            status, text = await run(worker)
            assert status == admin.DONE and text.splitlines()[1].endswith(name)
            assert text.splitlines()[1].startswith("w1")
            _, text = await run(worker, "compare", "w1", name)
            assert text.splitlines()[-1].split() == ["t", "3", "2", "2", "1"]
            for action in ("put-back", "delete"):
                with pytest.raises(errors.BadRequest, match="--yes"):
                    await run(worker, action, "w1", name)
            _, text = await run(worker, "put-back", "w1", name, "--yes")
            assert "writable on w1" in text
            assert await rows(worker, "crawl 2026") == [0, 1, 2]
            await run(worker, "delete", "--yes", "w1", name)
            assert (await run(worker))[1] == "No file is aside on a living worker.\n"
            with pytest.raises(errors.NotFound):
                await run(worker, "compare", "w1", name)
            with pytest.raises(SystemExit):
                await run(worker, "compare", "w1")
            assert "required: NAME" in capsys.readouterr().err
            with pytest.raises(errors.Unavailable, match="w9 is not alive"):
                await run(worker, "compare", "w9", name)

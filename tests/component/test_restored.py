"""Canonical files that somebody replaced by older ones, as a backup is restored."""

import json
import os
import shutil
import sqlite3
from contextlib import closing

import pytest
import pytest_twisted
from processes import Machine, http, until_blocking
from segments_on_disk import make_segment
from test_reconciler import assign, lead
from waiting import until
from worker_parts import running_worker

from trough import errors
from trough.model import Assignment, canonical_path

ensure = pytest_twisted.ensureDeferred


def backed_up(path):
    """A backup of a file, its time included."""
    return shutil.copy2(path, path.parent.parent.parent / f"{path.name}.backup")


def restore(path, backup):
    """Put a backup in a file's place, its time included, as rsync does."""
    shutil.copy2(backup, path.with_name(".restored")).replace(path)


def rows(path):
    """What is in the table of a segment of the test's own."""
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
        return [row[0] for row in database.execute("SELECT n FROM t ORDER BY n")]


def count(worker, segment):
    """Rows of a local copy that is only read."""
    path = worker.segments.get(segment).target.path
    with closing(sqlite3.connect(f"file:{path}?mode=ro&immutable=1", uri=True)) as database:
        return database.execute("SELECT count(*) FROM crawled_url").fetchone()[0]


async def replaced_twice(worker, segment="300001"):
    """A copy of the second of two versions; the path, and a backup of the first one."""
    path = worker.put_canonical(segment, rows=3)
    os.utime(path, (1_700_000_000, 1_700_000_000))
    backup = backed_up(path)
    worker.put_canonical(segment, rows=50)
    await worker.segments.fetch(await worker.storage.find(segment))
    assert count(worker, segment) == 50
    return path, backup


async def promoted_twice(worker, segment="300001"):
    """A segment that is written after two promotions; the path, and a backup of the first."""
    await worker.writable(segment)
    path = worker.canonical / canonical_path(segment)
    backup = backed_up(path)
    await worker.written(segment, "INSERT INTO t VALUES (1)")
    await worker.controller.promote(segment)
    await worker.written(segment, "INSERT INTO t VALUES (2)")
    return path, backup


@ensure
async def test_a_restored_file_replaces_a_newer_copy(tmp_path):
    """Whoever restores a backup expects that it is served."""
    async with running_worker(tmp_path) as worker:
        leader = await lead(worker)
        path, backup = await replaced_twice(worker)
        restore(path, backup)
        found = await assign(worker, leader, "300001")
        await until(
            lambda: worker.segments.get("300001").entry.canonical.version == found.version,
            "the restored version",
        )
        assert count(worker, "300001") == 3


@ensure
async def test_late_news_of_an_older_version_are_no_reason_to_fetch(tmp_path):
    """What lies in canonical storage tells them from a restored backup."""
    async with running_worker(tmp_path) as worker:
        leader = await lead(worker)
        await replaced_twice(worker)
        copy = worker.segments.get("300001")
        late = Assignment("300001", "w1", 0, copy.entry.path, 1, 1_700_000_000_000)
        await worker.metadata.change_assignments(leader, [late], [])
        looks = worker.controller.looks
        await until(lambda: worker.controller.reconciler.assigned, "the news")
        await until(lambda: not looks.status["active"], "the end of the look")
        assert worker.segments.get("300001") is copy


@ensure
async def test_a_restored_file_is_what_a_provisioned_segment_begins_with(tmp_path):
    """Even where nobody has told of it yet."""
    async with running_worker(tmp_path) as worker:
        path, backup = await replaced_twice(worker)
        restore(path, backup)
        await worker.controller.provision("300001", "default")
        assert count(worker, "300001") == 3


@ensure
async def test_a_segment_that_is_written_gives_way_to_a_restored_file(tmp_path):
    """What was not promoted goes aside, and the restored state is served."""
    async with running_worker(tmp_path) as worker:
        leader = await lead(worker)
        path, backup = await promoted_twice(worker)
        await assign(worker, leader, "300001")
        restore(path, backup)
        await assign(worker, leader, "300001")
        await until(worker.segments.aside, "the file that goes aside")
        await until(lambda: worker.segments.get("300001"), "the restored copy")
        assert rows(worker.segments.get("300001").target.path) == [0]
        (kept,) = worker.segments.aside()
        assert rows(worker.directory / "aside" / kept) == [0, 1, 2]


@ensure
@pytest.mark.parametrize("when", ["before", "meanwhile"])
async def test_a_promotion_does_not_replace_a_restored_file(tmp_path, when):
    """Not even one that was put there while the promotion was being uploaded."""
    async with running_worker(tmp_path) as worker:
        path, backup = await promoted_twice(worker)
        publish = worker.storage.publish

        def restored_meanwhile(*arguments):
            restore(path, backup)
            return publish(*arguments)

        if when == "before":
            restore(path, backup)
        else:
            worker.storage.publish = restored_meanwhile
        with pytest.raises(errors.Conflict, match="has not seen"):
            await worker.controller.promote("300001")
        assert rows(path) == [0]


@ensure
async def test_a_file_whose_time_alone_changed_is_not_taken_for_another_one(tmp_path):
    """A file system that keeps times less exactly than it first tells them, for one."""
    async with running_worker(tmp_path) as worker:
        await worker.writable("300001")
        await worker.written("300001", "INSERT INTO t VALUES (1)")
        path = worker.canonical / canonical_path("300001")
        os.utime(path, (int(path.stat().st_mtime) - 2, int(path.stat().st_mtime) - 2))
        await worker.controller.promote("300001")
        assert rows(path) == [0, 1]


def test_a_restored_backup_is_served(tmp_path):
    """As a whole: the leader sees it, and whoever asks gets the restored rows."""
    with Machine(tmp_path, MINIMUM_ASSIGNMENTS="1") as machine:
        machine.sync("s1").wait_ready()
        machine.worker("w1").wait_ready()
        path = machine.canonical / canonical_path("300001")
        path.parent.mkdir(parents=True)
        reading = machine.url("w1", "READ_PORT") + "?segment=300001"

        def served(number):
            status, body = http("POST", reading, b"SELECT count(*) AS n FROM crawled_url")
            return status == 200 and json.loads(body) == [{"n": number}]

        make_segment(path, 3)
        backup = backed_up(path)
        until_blocking(lambda: served(3), "the first version")
        path.unlink()
        make_segment(path, 50)
        until_blocking(lambda: served(50), "the second version")
        restore(path, backup)
        until_blocking(lambda: served(3), "the restored version")

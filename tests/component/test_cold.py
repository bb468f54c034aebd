"""The bounded cache of cold segments, on real files and executors."""

import shutil
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import pytest_twisted
from executor_pools import answer, running_pool
from segments_on_disk import damage, make_segment
from twisted.internet import defer, reactor
from twisted.internet.defer import Deferred
from waiting import until
from worker_parts import occupied

from trough import errors
from trough.model import CanonicalCopy
from trough.storage.open import open_storage
from trough.util.threads import ThreadPoolService
from trough.worker.cold_cache import ColdSegments


class Cache:
    """A cache of some pages, with segments of its own in canonical storage."""

    def __init__(self, directory, pool, capacity):
        self.canonical = directory / "canonical"
        self.canonical.mkdir()
        self.directory = directory / "cold"
        self.pool = pool
        self.threads = ThreadPoolService("work", 4, reactor)
        self.storage = open_storage(f"file://{self.canonical}", reactor)
        self.segments = ColdSegments(
            self.directory,
            capacity,
            lambda segment: None,
            self.storage,
            pool,
            threads=self.threads,
            clock=reactor,
        )

    async def learn(self, segment, rows):
        """Put a segment into canonical storage, once more perhaps."""
        path = self.canonical / f"{segment}.sqlite"
        path.unlink(missing_ok=True)
        make_segment(path, rows)
        copy = CanonicalCopy(
            segment, path.name, path.stat().st_size, path.stat().st_mtime_ns // 1_000_000
        )
        self.segments.learn(copy)
        return copy.size

    def bytes_on_disk(self):
        """Of all files in the cache."""
        return sum(path.stat().st_size for path in self.directory.iterdir())

    async def count(self, segment):
        """What the rows of a segment are counted to be."""
        target = await self.segments.bring(segment)
        try:
            text, outcome = await answer(self.pool, target, "SELECT count(*) FROM crawled_url")
            assert outcome.error is None and not outcome.failed, text
            return int(text.partition("[[")[2].partition("]]")[0])
        finally:
            self.segments.done(target)


@asynccontextmanager
async def running_cache(directory, capacity):
    """A cache that is open while the block lasts."""
    async with running_pool() as pool:
        cache = Cache(directory, pool, capacity)
        cache.threads.startService()
        await cache.storage.open()
        await cache.segments.open()
        yield cache
        await cache.storage.close()
        await cache.threads.stopService()


@pytest_twisted.ensureDeferred
async def test_a_segment_that_is_asked_for_while_it_goes_is_there(tmp_path):
    """The file of a segment that was evicted is removed, and not the one that was fetched
    for the next query meanwhile."""
    async with running_cache(tmp_path, 90 << 10) as cache:
        small = await cache.learn("small", 1)
        large = await cache.learn("large", 500)
        assert await cache.learn("larger", 500) == large
        assert 2 * small + large <= 90 << 10 < small + 2 * large
        assert await cache.count("small") == 1
        assert await cache.count("large") == 500
        with occupied(cache.threads):
            larger = Deferred.fromCoroutine(cache.count("larger"))
            await until(lambda: cache.segments.status()["evictions"], "an eviction")
            asked = Deferred.fromCoroutine(cache.count("small"))
            await until(lambda: asked.called, "the answer")
        assert await asked == 1
        assert await larger == 500
        assert cache.bytes_on_disk() == cache.segments.status()["bytes"]


@pytest_twisted.ensureDeferred
async def test_a_version_that_was_replaced_takes_no_room(tmp_path):
    """Of a segment with a newer canonical copy only that one stays in the cache."""
    async with running_cache(tmp_path, 200 << 10) as cache:
        for rows in (1, 2, 3):
            await cache.learn("s", rows)
            assert await cache.count("s") == rows
        used = await cache.segments.bring("s")
        await cache.learn("s", 4)
        assert await cache.count("s") == 4
        text, _ = await answer(cache.pool, used, "SELECT count(*) FROM crawled_url")
        assert "[[3]]" in text
        cache.segments.done(used)
        await until(lambda: len(list(cache.directory.iterdir())) == 1, "the end of the older file")
        await until(
            lambda: cache.bytes_on_disk() == cache.segments.status()["bytes"], "the room of it"
        )


@pytest_twisted.ensureDeferred
async def test_a_restored_file_is_fetched_and_late_news_are_not(tmp_path):
    """An older canonical copy is another version; news of a version that was replaced before
    it was fetched are no reason to fetch it for each query."""
    async with running_cache(tmp_path, 200 << 10) as cache:
        await cache.learn("s", 3)
        older = cache.segments._known["s"]
        path = cache.canonical / "s.sqlite"
        backup = shutil.copy2(path, tmp_path)
        await cache.learn("s", 4)
        newer = cache.segments._known["s"]
        cache.segments.learn(older)
        assert [await cache.count("s") for _ in range(3)] == [4, 4, 4]
        cache.segments.learn(newer)
        assert await cache.count("s") == 4
        assert cache.segments.status()["fetches"] == 1
        shutil.copy2(backup, path)
        cache.segments.learn(older)
        assert await cache.count("s") == 3


@pytest_twisted.ensureDeferred
async def test_a_file_that_could_not_be_removed_is_removed_when_room_is_needed(tmp_path):
    """Its room is not lost: the next query for which there is none tries again."""
    async with running_cache(tmp_path, 70 << 10) as cache:
        for name in ("one", "other"):
            assert 2 * await cache.learn(name, 500) > 70 << 10
        assert await cache.count("one") == 500
        forget = cache.pool.forget
        cache.pool.forget = lambda segment: defer.fail(errors.Unavailable("not now"))
        with pytest.raises(errors.Unavailable, match="not now"):
            await cache.count("other")
        cache.pool.forget = forget
        assert await cache.count("other") == 500
        assert cache.bytes_on_disk() == cache.segments.status()["bytes"]


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("gone", [False, True])
async def test_a_damaged_file_in_the_cache_is_fetched_anew(tmp_path, gone):
    """Or one that somebody removed: it is of no use to the next query either."""
    async with running_cache(tmp_path, 200 << 10) as cache:
        await cache.learn("s", 500)
        target = await cache.segments.bring("s")
        cache.segments.done(target)
        if gone:
            Path(target.path).unlink()
        else:
            damage(target.path, 0, 1)
        cache.pool.when_damaged = lambda segments: [cache.segments.discard(s) for s in segments]
        with pytest.raises(AssertionError, match="corrupt"):
            await cache.count("s")
        assert await cache.count("s") == 500
        await until(
            lambda: cache.bytes_on_disk() == cache.segments.status()["bytes"], "the room of it"
        )


@pytest_twisted.ensureDeferred
async def test_a_version_that_is_damaged_in_canonical_storage_is_fetched_once(tmp_path):
    """Not for each query; a whole file in its place is fetched at once."""
    async with running_cache(tmp_path, 200 << 10) as cache:
        await cache.learn("s", 500)
        damage(cache.canonical / "s.sqlite", 0, 1)
        cache.pool.when_damaged = lambda segments: [cache.segments.discard(s) for s in segments]
        with pytest.raises(AssertionError, match="corrupt"):
            await cache.count("s")
        for _ in range(3):
            with pytest.raises(errors.CorruptSegment, match="put a whole file"):
                await cache.count("s")
        assert cache.segments.status()["fetches"] == 1
        await cache.learn("s", 400)
        assert await cache.count("s") == 400


@pytest_twisted.ensureDeferred
async def test_a_query_waits_for_room(tmp_path):
    """Until one that uses the cache ends; it is not refused at once."""
    async with running_cache(tmp_path, 60 << 10) as cache:
        await cache.learn("one", 500)
        await cache.learn("two", 500)
        used = await cache.segments.bring("one")
        waiting = Deferred.fromCoroutine(cache.count("two"))
        await until(lambda: cache.segments.status()["waiting"], "a query in line")
        assert not waiting.called
        cache.segments.done(used)
        assert await waiting == 500


@pytest_twisted.ensureDeferred
async def test_storage_that_is_away_is_remembered(tmp_path):
    """What is in the cache is answered; the rest is refused at once, until it is back."""
    async with running_cache(tmp_path, 200 << 10) as cache:
        await cache.learn("here", 1)
        await cache.learn("there", 2)
        assert await cache.count("here") == 1
        away = tmp_path / "away"
        cache.canonical.rename(away)
        await cache.segments.storage.look()
        assert "is it mounted" in cache.segments.storage.away
        assert await cache.count("here") == 1
        with pytest.raises(errors.Unavailable, match="canonical storage is away"):
            await cache.count("there")
        assert cache.segments.status()["storage_away"]
        away.rename(cache.canonical)
        await cache.segments.storage.look()
        assert await cache.count("there") == 2
        assert cache.segments.status()["storage_away"] is None

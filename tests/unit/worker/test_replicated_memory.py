"""What a replicated segment takes while nothing is written to it."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.internet.task import Clock

from trough.model import Lock, Member
from trough.replication.holder_log import WalReader
from trough.replication.messages import Confirmed
from trough.replication.orders import Order, Reply
from trough.sql import log_mark
from trough.worker.replicated import HolderServices, ReplicatedSegment

COUNT = 200
FOLLOWER = Member("w2", "b" * 32)

#: Bytes, at most. A worker that writes 100,000 segments has them all in memory.
ALLOWED = 2_000


async def run(function: Callable[..., Any], *arguments: Any) -> Any:
    """Carry out what blocks, here."""
    return function(*arguments)


async def confirm(member: Member, order: Order) -> Reply:
    """Reply as a follower that has the whole log."""
    return Confirmed(order.epoch, order.end)


async def change(expected: Lock, wanted: Lock) -> Lock | None:
    """Change each row."""
    return wanted


async def read(segment: str) -> Lock | None:
    """No row was released or taken over, so none is read."""
    raise AssertionError(segment)


def never(*found: object) -> None:
    """No segment is given up."""
    raise AssertionError(found)


def held(services: HolderServices, database: Path, segment: str) -> ReplicatedSegment:
    """A segment at rest, with a follower."""
    log = WalReader(database)
    replicated = ReplicatedSegment(services, Lock(segment, "w1", 1, disk="a" * 32), log, 0, 1)
    replicated.add(FOLLOWER)
    assert replicated.lock.followers == {FOLLOWER}
    assert replicated.is_at_rest
    replicated.rest()
    return replicated


def test_a_segment_that_rests_already_is_left_alone(tmp_path: Path) -> None:
    """Its log is closed once, however often a look finds it at rest."""
    database = tmp_path / "1.sqlite"
    log_mark.write(database, log_mark.begin())
    called: list[Callable[..., Any]] = []

    async def counted(function: Callable[..., Any], *arguments: Any) -> Any:
        called.append(function)
        return function(*arguments)

    replicated = held(services(counted), database, "s")
    before = len(called)
    replicated.rest()
    assert len(called) == before
    replicated.add(Member("w3", "c" * 32))
    replicated.rest()
    assert called[-1] == replicated.log.close
    replicated.close()


def services(running: Callable[..., Any]) -> HolderServices:
    """A worker's services, with a follower that confirms all."""
    return HolderServices(
        running, confirm, change, read, 2.0, False, never, never, never, never, Clock()
    )


def test_a_segment_at_rest_takes_little_memory(tmp_path: Path) -> None:
    """Its log, its links and its queues exist only while something is under way."""
    database = tmp_path / "1.sqlite"
    log_mark.write(database, log_mark.begin())
    worker = services(run)
    kept = [held(worker, database, "first")]  # what is created once
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        kept += [held(worker, database, f"segment-{number}") for number in range(COUNT)]
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert (after - before) / COUNT < ALLOWED
    for each in kept:
        each.close()

"""What a sync server orders, while others do something to the same segment."""

import sqlite3
from contextlib import closing

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from waiting import until
from worker_parts import HeldUp, running_worker

from trough import errors
from trough.leader.term import Leadership, Policy
from trough.model import READ, WRITE, Leader, Worker, canonical_path
from trough.protocols.http.manager_client import ManagerClient
from trough.sync import MasterSyncController

#: Where nobody listens.
NOBODY = "http://127.0.0.1:1/"


def sync_server(worker, holder_wait=0.0):
    """One over the same engines, which does not stand for election."""
    policy = Policy(lambda segment: 1, lambda segment: False, 1)
    return MasterSyncController(
        Leader("s1", "s1", "http://127.0.0.1:1/"),
        worker.metadata,
        worker.storage,
        Leadership(worker.metadata, worker.storage, policy, worker.threads, reactor),
        ManagerClient(reactor),
        is_cold=lambda segment: False,
        election_cycle=1.0,
        holder_wait=holder_wait,
        clock=reactor,
    )


def canonical_rows(worker, segment):
    """How many rows the canonical copy has."""
    with closing(sqlite3.connect(worker.canonical / canonical_path(segment))) as database:
        return database.execute("SELECT count(*) FROM crawled_url").fetchone()[0]


@pytest_twisted.ensureDeferred
async def test_what_was_promoted_since_a_deletion_began_is_not_deleted(tmp_path):
    """To find all files of a segment takes a while, in which somebody may write it."""
    async with running_worker(tmp_path) as worker:
        worker.put_canonical("300001", rows=3)
        finding = HeldUp(worker.storage, "find", done=True)
        deleting = Deferred.fromCoroutine(sync_server(worker).delete("300001"))
        await finding.reached
        await worker.controller.provision("300001", "default")
        await worker.written("300001", "DELETE FROM crawled_url")
        await worker.controller.promote("300001")
        finding.go_on()
        with pytest.raises(errors.LockHeld, match="w1"):
            await deleting
        assert canonical_rows(worker, "300001") == 0


async def overtake_deletion(worker, owner, step):
    """Provision a segment right before a step of its deletion, which is refused then."""
    worker.put_canonical("300001", rows=3)
    held_up = HeldUp(owner, step)
    deleting = Deferred.fromCoroutine(sync_server(worker).delete("300001"))
    await held_up.reached
    await worker.controller.provision("300001", "default")
    held_up.go_on()
    with pytest.raises(errors.LockHeld, match="promote it"):
        await deleting


@pytest_twisted.ensureDeferred
async def test_a_segment_that_is_provisioned_while_its_file_is_deleted_is_not_called_deleted(
    tmp_path,
):
    """Its writer has it, and can promote it."""
    async with running_worker(tmp_path) as worker:
        await overtake_deletion(worker, worker.storage, "delete")
        await worker.controller.promote("300001")
        assert canonical_rows(worker, "300001") == 3


@pytest_twisted.ensureDeferred
async def test_a_segment_that_is_provisioned_at_a_deletions_end_is_found_by_readers(tmp_path):
    """Its rows are not those that the deletion is about."""
    async with running_worker(tmp_path) as worker:
        await overtake_deletion(worker, worker.metadata, "forget_segment")
        copies = (await worker.metadata.copies_of(["300001"]))["300001"]
        assert {copy.role for copy in copies} == {READ, WRITE}


@pytest_twisted.ensureDeferred
async def test_a_provisioning_waits_for_a_holder_that_is_restarted(tmp_path):
    """Whether its row is gone or it cannot be connected to; and not for ever."""
    async with running_worker(tmp_path) as worker:
        store = worker.metadata
        lock = await store.take_lock("300001", "w2")
        sync = sync_server(worker, holder_wait=600.0)
        waiting = Deferred.fromCoroutine(sync.provision("300001"))
        await until(lambda: "w2" in sync._holders._missed, "a look for it")
        await store.register_worker(Worker("w2", "w2", "", *[NOBODY] * 3, ttl=600.0))
        assert not waiting.called
        await store.release_lock(lock)
        with pytest.raises(errors.Unavailable, match="no answer"):  # of the worker chosen then
            await waiting
        await store.take_lock("300002", "w3")
        with pytest.raises(errors.HolderLost, match="w3, which is not alive"):
            await sync_server(worker).provision("300002")

"""Which workers are chosen as followers."""

from __future__ import annotations

from dataclasses import replace

import pytest

from trough.model import Member, Worker
from trough.replication.choice import choose, host_of, member_of
from trough.replication.orders import VERSION


def worker(name: str, host: str, load: float = 0.0, **more: bool) -> Worker:
    return Worker(name, f"disk-{name}", f"{host}:6440", load=load, replication=VERSION, **more)


HOLDER = worker("w1", "10.0.0.1")


def chosen(*others: Worker, **more: object) -> str | None:
    options = {"following": (), "assigned": (), **more}
    found = choose(HOLDER, workers=[HOLDER, *others], **options)  # type: ignore[arg-type]
    return found.node if found is not None else None


def test_the_least_loaded_worker_of_another_host_follows() -> None:
    """Unless the segment is assigned to another one, which has a copy anyway."""
    near = worker("w2", "10.0.0.1", load=0.1)
    busy, idle = worker("w3", "10.0.0.2", load=2.0), worker("w4", "10.0.0.3", load=1.0)
    assert chosen(near, busy, idle) == "w4"
    assert chosen(near, busy, idle, assigned={"w3"}) == "w3"
    assert chosen(near, busy, idle, assigned={"w2"}) == "w4"


def test_no_two_are_on_one_host() -> None:
    """Neither two followers, while there are several hosts, though one stays unused."""
    twin = worker("w3", "10.0.0.2")
    follower = worker("w2", "10.0.0.2")
    assert chosen(follower, twin, following=[member_of(follower)]) is None
    third = worker("w4", "10.0.0.3", load=9.0)
    assert chosen(follower, twin, third, following=[member_of(follower)]) == "w4"


def test_on_one_machine_another_disk_has_to_do() -> None:
    """Where all workers are on the holder's host."""
    assert chosen(worker("w2", "10.0.0.1")) == "w2"
    assert chosen() is None


@pytest.mark.parametrize(
    "unable",
    [
        worker("w2", "10.0.0.2", cold_storage=True),
        worker("w2", "10.0.0.2", draining=True),
        replace(worker("w2", "10.0.0.2"), line=""),
        replace(worker("w2", "10.0.0.2"), identity=""),
        replace(worker("w2", "10.0.0.2"), replication=0),
    ],
    ids=["cold", "draining", "original", "without a disk", "earlier"],
)
def test_who_cannot_follow_is_not_asked(unable: Worker) -> None:
    """A cold one, one that is emptied, and one of the original system."""
    assert chosen(unable) is None
    assert chosen(worker("w2", "10.0.0.2"), refused={"w2"}) is None
    assert chosen(worker("w2", "10.0.0.2"), following=[Member("w2", "other disk")]) is None


def test_a_host_is_that_of_the_published_address() -> None:
    """With TLS or without, and by IPv6 as well."""
    assert host_of(replace(HOLDER, line="tls://[::1]:6440")) == "::1"
    assert host_of(replace(HOLDER, line="nonsense")) == ""

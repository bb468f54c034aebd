"""What a worker's copies amount to is known after each change, however many there are."""

from trough.executors.pool.pool import Target
from trough.worker.catalogue import Entry
from trough.worker.local_copies import LocalCopies, LocalCopy


def copy(segment, size, epoch=0):
    """A copy of so many bytes; written under the lock `epoch`."""
    entry = Entry(segment, segment, epoch=epoch, file_size=size)
    return LocalCopy(entry, Target(segment, f"/{segment}", 1, epoch > 0), 0.0)


def totals(copies):
    return copies.bytes, len(copies), [each.entry.segment for each in copies.writable()]


def test_totals_follow_each_change():
    """Put in, put in again, made writable, and removed."""
    copies = LocalCopies()
    assert totals(copies) == (0, 0, [])
    copies.put(copy("a", 10))
    copies.put(copy("b", 5, epoch=2))
    assert totals(copies) == (15, 2, ["b"])
    copies.put(copy("a", 7, epoch=3))
    copies.put(copy("b", 6))
    assert totals(copies) == (13, 2, ["a"])
    copies.remove("a")
    copies.remove("a")
    assert totals(copies) == (6, 1, [])
    assert list(copies) == ["b"] and copies.get("a") is None


def test_a_copy_that_grew_is_counted_when_it_is_put_in_again():
    """Until then what it was counted as is what is taken off."""
    copies = LocalCopies()
    grown = copy("a", 10, epoch=1)
    copies.put(grown)
    grown.entry.file_size = 25
    assert copies.bytes == 10
    copies.put(grown)
    assert totals(copies) == (25, 1, ["a"])
    grown.entry.file_size = 99
    copies.remove("a")
    assert totals(copies) == (0, 0, [])

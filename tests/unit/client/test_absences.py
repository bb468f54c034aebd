"""How long a read waits for the only worker that has a segment."""

from trough import errors
from trough.client.absences import Absences


def test_a_worker_is_waited_for_once_until_it_answers():
    """The time counts from when the segment was first missed, not from each read."""
    clock = [100.0]
    absences = Absences(lambda segment: segment == "known", lambda: clock[0])
    assert absences.wait("known", 100.0, 15.0, 0.0)
    clock[0] = 114.0
    assert absences.wait("known", 100.0, 15.0, 0.0)
    clock[0] = 116.0
    assert not absences.wait("known", 100.0, 15.0, 0.0)
    assert not absences.wait("known", 116.0, 15.0, 0.0), "another read of what is still missing"
    absences.answered("known")
    assert absences.wait("known", 116.0, 15.0, 0.0)


def test_what_nobody_knows_is_not_waited_for():
    """Nor is anything while the metadata store does not answer, or after the client was closed."""

    def away(segment):
        raise errors.Unavailable("no answer")

    assert not Absences(lambda segment: False).wait("s", 0.0, 1e9, 0.0)
    assert not Absences(away).wait("s", 0.0, 1e9, 0.0)
    closed = Absences(lambda segment: True, lambda: 0.0)
    assert closed.wait("s", 0.0, 15.0, 0.0)
    closed.close()
    assert not closed.wait("s", 0.0, 15.0, 10.0)

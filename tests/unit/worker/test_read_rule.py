"""Whether a worker answers a read, and with which mark: every case of the rule."""

import pytest

from trough.worker.read_rule import Knowledge, LockHolder, Verdict, decide

SURE = Knowledge(locks_known=True, may_wait=False, confirmed=True)
CUT_OFF = Knowledge(locks_known=True, may_wait=False, confirmed=False)
STARTING = Knowledge(locks_known=False, may_wait=True, confirmed=False)
WAITED = Knowledge(locks_known=False, may_wait=False, confirmed=False)

ANSWER, ELSEWHERE, WAIT = Verdict.ANSWER, Verdict.ELSEWHERE, Verdict.WAIT
PROMOTED, UNCONFIRMED = Verdict.ANSWER_LAST_PROMOTED, Verdict.ANSWER_UNCONFIRMED


@pytest.mark.parametrize(
    ("holder", "verdicts"),
    [
        # What the worker knows:  sure, cut off from the store, starting, waited in vain
        (LockHolder.NOBODY, (ANSWER, UNCONFIRMED, WAIT, UNCONFIRMED)),
        (LockHolder.MYSELF, (ANSWER, UNCONFIRMED, WAIT, UNCONFIRMED)),
        (LockHolder.LIVE, (ELSEWHERE, ELSEWHERE, WAIT, UNCONFIRMED)),
        (LockHolder.UNREACHABLE, (PROMOTED, UNCONFIRMED, WAIT, UNCONFIRMED)),
        (LockHolder.DEAD, (PROMOTED, UNCONFIRMED, WAIT, UNCONFIRMED)),
    ],
)
def test_who_holds_the_lock_and_what_is_known(holder, verdicts):
    """For each holder, by what the worker knows of the cluster."""
    known = (SURE, CUT_OFF, STARTING, WAITED)
    assert tuple(decide(each, holder) for each in known) == verdicts


@pytest.mark.parametrize(
    ("holder", "sure", "cut_off"),
    [
        (LockHolder.LIVE, PROMOTED, UNCONFIRMED),
        (LockHolder.UNREACHABLE, PROMOTED, UNCONFIRMED),
        (LockHolder.DEAD, PROMOTED, UNCONFIRMED),
    ],
)
def test_a_read_passed_on_because_the_holder_is_unreachable(holder, sure, cut_off):
    """It is answered although this worker takes the holder to be alive."""
    assert decide(SURE, holder, in_place_of_holder=True) is sure
    assert decide(CUT_OFF, holder, in_place_of_holder=True) is cut_off


@pytest.mark.parametrize(
    ("holder", "verdict"),
    [(LockHolder.NOBODY, UNCONFIRMED), (LockHolder.MYSELF, ANSWER), (LockHolder.DEAD, PROMOTED)],
)
def test_a_newer_version_was_announced(holder, verdict):
    """A copy that waits for its newer version says so; the holder's own rows are the newest."""
    assert decide(SURE, holder, behind=True) is verdict


def test_a_mark_is_the_word_of_the_protocols():
    """Clients know these words, and no others."""
    assert {verdict.mark for verdict in Verdict} == {"", "last-promoted", "unconfirmed"}
    assert {verdict for verdict in Verdict if not verdict.answers} == {WAIT, ELSEWHERE}


@pytest.mark.parametrize("known", [SURE, CUT_OFF, STARTING, WAITED])
def test_the_verdict_that_is_kept_is_that_of_the_rule(known):
    """Most reads take it from there, so it has to be the one that they would be given."""
    assert known.verdict is decide(known, LockHolder.NOBODY)

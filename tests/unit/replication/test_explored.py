"""The rules of replication hold in every order of events; and each of them is needed."""

import random
from dataclasses import replace

import pytest
from replication_explorer import Budget, Explorer, Violation

from trough.replication import follower as follower_rules
from trough.replication import holder as holder_rules
from trough.replication.holder import Holder
from trough.replication.messages import Behind, Confirmed, LockRow

#: Worlds that are small enough to be visited whole: workers, followers, budget.
WHOLE = [
    (2, 1, Budget(writes=2, takeovers=1)),
    (2, 1, Budget(writes=1, takeovers=1, crashes=1)),
    (2, 1, Budget(writes=1, takeovers=1, stuck=1)),
    (2, 1, Budget(writes=1, takeovers=1, candidates=1)),
]

#: Worlds that are only begun, nearest states first.
BEGUN = [
    (2, 1, Budget(writes=1, takeovers=2, crashes=1)),
    (3, 2, Budget(writes=1, takeovers=1)),
    (3, 1, Budget(writes=1, takeovers=1, stuck=1, disks=1, candidates=1)),
    (3, 0, Budget(writes=1, takeovers=1, candidates=1, stuck=1)),
]


@pytest.mark.slow
@pytest.mark.parametrize(("workers", "followers", "budget"), WHOLE)
def test_every_state_of_a_small_world_is_right(workers, followers, budget):
    """No acknowledged write is missing, whatever happens, and work goes on afterwards."""
    explorer = Explorer(workers, followers, budget)
    explored = explorer.explore(20_000, sample=100)
    assert explored.whole and explored.states > 1000
    for state in explored.samples:
        explorer.recover(state)


@pytest.mark.parametrize(("workers", "followers", "budget"), BEGUN)
def test_the_nearest_states_of_a_larger_world_are_right(workers, followers, budget):
    """As above; `make explore` goes further."""
    explorer = Explorer(workers, followers, budget)
    explored = explorer.explore(3_000, sample=100)
    assert not explored.whole
    for state in explored.samples:
        explorer.recover(state)


@pytest.mark.parametrize("seed", range(4))
def test_random_ways_are_right(seed):
    """Long ways, with failures of every kind, end in a state from which work goes on."""
    explorer = Explorer(3, seed % 3, Budget(4, 3, 1, 4, 3, 3))
    for number in range(10):
        explorer.recover(explorer.wander(random.Random(seed * 100 + number), 100))


# -- each rule is needed -------------------------------------------------------------------------


def _no_follower_is_required(patch):
    patch.setattr(Holder, "required", property(lambda self: frozenset()))


def _an_unknown_change_counts_one_way(patch):
    patch.setattr(Holder, "required", property(lambda self: self.row.followers))


def _old_epochs_are_obeyed(patch):
    decide = follower_rules.decide

    def obey(state, order, log):
        decision = decide(replace(state, promised=0), order, log)
        return replace(decision, state=replace(decision.state, promised=0))

    patch.setattr(follower_rules, "decide", obey)


def _a_late_join_truncates(patch):
    join = follower_rules._join
    patch.setattr(
        follower_rules,
        "_join",
        lambda state, order, log: join(replace(state, joined=0), order, log),
    )


def _a_candidate_needs_this_epochs_writes_alone(patch):
    due = holder_rules._due
    patch.setattr(holder_rules, "_due", lambda holder: due(replace(holder, begun=0)))


def _changes_carry_no_revision(patch):
    patch.setattr(LockRow, "changed", lambda self, **fields: replace(self, **fields))


def _who_is_stuck_is_not_waited_for(patch):
    patch.setattr(
        Holder,
        "required",
        property(
            lambda self: (
                (self.row.followers | (self.wanted.followers if self.wanted else frozenset()))
                - self.unwanted
            )
        ),
    )


def _positions_are_compared_without_digests(patch):
    replied = holder_rules.replied
    patch.setattr(
        holder_rules,
        "replied",
        lambda holder, sender, reply, matches: replied(
            holder, sender, reply, isinstance(reply, Behind) and reply.end <= holder.end
        ),
    )
    join = follower_rules._join

    def by_position(state, order, log):
        return join(state, replace(order, digest=log.digest_at(order.end)), log)

    append = follower_rules._append

    def any_digest(state, order, log):
        return append(state, replace(order, digest=log.digest_at(order.start)), log)

    patch.setattr(follower_rules, "_join", by_position)
    patch.setattr(follower_rules, "_append", any_digest)


def _who_takes_over_promises_nothing(patch):
    take_over = follower_rules.take_over

    def forget(state, row, me):
        taken = take_over(state, row, me)
        return taken and (state, taken[1])

    patch.setattr(follower_rules, "take_over", forget)


def _anybody_takes_over(patch):
    take_over = follower_rules.take_over
    patch.setattr(
        follower_rules,
        "take_over",
        lambda state, row, me: take_over(state, replace(row, followers=row.followers | {me}), me),
    )


def _the_own_disk_is_not_waited_for(patch):
    appended = holder_rules.appended
    patch.setattr(
        holder_rules,
        "appended",
        lambda holder, end: appended(replace(holder, synced=end), end),
    )


def _confirmations_of_other_epochs_count(patch):
    replied = holder_rules.replied

    def count(holder, sender, reply, matches):
        if isinstance(reply, Confirmed):
            reply = replace(reply, epoch=holder.row.epoch)
        return replied(holder, sender, reply, matches)

    patch.setattr(holder_rules, "replied", count)


def _a_restarted_holder_keeps_its_epoch(patch):
    take_over = follower_rules.take_over

    def keep(state, row, me):
        if me == row.holder:
            return state, replace(row, revision=row.revision + 1)
        return take_over(state, row, me)

    patch.setattr(follower_rules, "take_over", keep)


MUTANTS = {
    _no_follower_is_required: (2, 1, Budget(1, takeovers=1)),
    _an_unknown_change_counts_one_way: (2, 0, Budget(1, candidates=1, takeovers=0)),
    _old_epochs_are_obeyed: (2, 1, Budget(1, takeovers=1)),
    _a_late_join_truncates: (2, 1, Budget(1, takeovers=1)),
    _a_candidate_needs_this_epochs_writes_alone: (3, 1, Budget(0, 0, candidates=1), 2),
    _changes_carry_no_revision: (2, 1, Budget(1, stuck=1, candidates=1, takeovers=0)),
    _who_is_stuck_is_not_waited_for: (2, 1, Budget(1, stuck=1, takeovers=0)),
    _positions_are_compared_without_digests: (2, 1, Budget(2, takeovers=2, candidates=1)),
    _who_takes_over_promises_nothing: (2, 1, Budget(1, takeovers=1)),
    _anybody_takes_over: (2, 0, Budget(1, takeovers=1)),
    _the_own_disk_is_not_waited_for: (2, 1, Budget(1, crashes=1, takeovers=1)),
    _confirmations_of_other_epochs_count: (2, 1, Budget(2, crashes=1, takeovers=1)),
    _a_restarted_holder_keeps_its_epoch: (2, 1, Budget(2, crashes=1, takeovers=1)),
}


@pytest.mark.slow
@pytest.mark.parametrize("mutate", MUTANTS, ids=lambda mutate: mutate.__name__.strip("_"))
def test_without_a_rule_the_explorer_finds_a_violation(mutate, monkeypatch):
    """Otherwise the explorer could not fail, or the rule would not be needed."""
    mutate(monkeypatch)
    with pytest.raises(Violation):
        Explorer(*MUTANTS[mutate]).explore(60_000)

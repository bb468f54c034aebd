"""Walks through every order of events of a replicated segment, and judges each state.

Messages stay in the network after their delivery, and are delivered at any time, any number of
times, in any order, or never: so they are lost, repeated, reordered and delayed. The store
answers a request at any time after it was sent, or never. Any worker may take over at any time,
also while the holder lives: a lease only makes that rare. Disks may be lost.

Two judgements are made in each state; a third one, progress, by :func:`recover`.

* A write that was ever acknowledged is in the log of the row's holder, and in that of each
  follower that the row names.
* In these logs no record comes behind one of a later epoch. A holder that was replaced may still
  learn that a write was confirmed before; that write then comes before all of the next holder's.

What one worker does depends on that worker and the event alone. So each step is computed once
and looked up afterwards, which is what makes millions of states affordable.
"""

from __future__ import annotations

import random
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from trough.model import Member
from trough.replication import follower as follower_rules
from trough.replication import holder as holder_rules
from trough.replication.follower import Follower
from trough.replication.holder import ChangeRow, Holder, ReadRow, SendBase, SendJoin, SendLog
from trough.replication.messages import Append, Base, Behind, Join, LockRow

STORE = Member("store", "")


class Violation(AssertionError):
    """A state that must not be, with the events that led to it."""


@dataclass(frozen=True)
class Log:
    """A log as a tuple of records; its digest at a position is all that comes before."""

    records: tuple[Any, ...] = ()

    @property
    def end(self) -> int:
        return len(self.records)

    def digest_at(self, position: int) -> Any:
        return self.records[:position] if position <= len(self.records) else None


@dataclass(frozen=True)
class Worker:
    """One worker.

    :ivar synced: the position up to which a crash cannot take the log
    :ivar holding: its state as a holder, which a crash ends
    :ivar taking: the row by which it takes over, while that is not answered
    """

    member: Member
    log: Log = Log()
    synced: int = 0
    following: Follower = field(default_factory=Follower)
    holding: Holder | None = None
    taking: LockRow | None = None
    up: bool = True

    @property
    def holds(self) -> bool:
        """Whether it believes that it holds the lock."""
        return self.holding is not None and not self.holding.fenced


@dataclass(frozen=True)
class Message:
    """On its way, for ever."""

    sender: Member
    to: Member
    content: Any


@dataclass(frozen=True)
class Step:
    """What one event makes of one worker.

    :ivar acknowledged: the records of which the clients are answered now
    """

    worker: Worker
    sent: frozenset[Message] = frozenset()
    acknowledged: frozenset[Any] = frozenset()


@dataclass(frozen=True)
class Budget:
    """How often each kind of event may still happen."""

    writes: int = 2
    crashes: int = 0
    disks: int = 0
    takeovers: int = 1
    stuck: int = 0
    candidates: int = 0

    def without(self, kind: str) -> Budget:
        """One less of a kind."""
        return replace(self, **{kind: getattr(self, kind) - 1}) if kind else self


class Interned:
    """Values by small numbers, so that a state is a few integers."""

    def __init__(self) -> None:
        self.values: list[Any] = []
        self._numbers: dict[Any, int] = {}

    def number(self, value: Any) -> int:
        """The number of a value, equal for equal ones."""
        known = _hashable(value)
        found = self._numbers.get(known)
        if found is None:
            found = self._numbers[known] = len(self.values)
            self.values.append(value)
        return found


def _hashable(value: Any) -> Any:
    if isinstance(value, Worker) and value.holding is not None:
        holder = value.holding
        followers = tuple(sorted(holder.followers.items()))
        return (replace(value, holding=None), replace(holder, followers=()), followers)
    return value


#: A state: numbers of the workers, of the row, of the budget, of the messages; the acknowledged
#: records.
State = tuple[tuple[int, ...], int, int, frozenset[int], frozenset[Any]]


class Explorer:
    """See the module's text.

    :param count: of workers
    :param followers: how many of them follow from the start
    :param history: how many records these and the holder have, all acknowledged
    """

    def __init__(self, count: int, followers: int, budget: Budget, history: int = 0) -> None:
        self._values = Interned()
        self._steps: dict[Any, list[tuple[str, str, Step]]] = {}
        workers = [Worker(Member(f"w{number}", "0")) for number in range(count)]
        log = Log(tuple((1, position, 0) for position in range(history)))
        for place in range(1 + followers):
            workers[place] = replace(workers[place], log=log, synced=history)
        named = frozenset(worker.member for worker in workers[1 : 1 + followers])
        row = LockRow(workers[0].member, 1, 1, named)
        first = replace(workers[0], following=Follower(promised=1))
        step = _stepped(first, holder_rules.begin(row, history))
        workers[0] = step.worker
        number = self._values.number
        self.first: State = (
            tuple(map(number, workers)),
            number(row),
            number(budget),
            frozenset(map(number, step.sent)),
            frozenset(log.records),
        )

    # -- one state's next ones ----------------------------------------------------------

    def following(self, state: State) -> Iterator[tuple[str, State]]:
        """The events that may happen next, and the states to which they lead."""
        workers, row, budget, network, _ = state
        members = {}
        for place, worker in enumerate(workers):
            members[self._values.values[worker].member] = place
            yield from self._local(state, place, worker, row, budget)
        for message in network:
            to = self._values.values[message].to
            if to is STORE or to == STORE:
                yield self._stored(state, message)
            elif to in members:
                place = members[to]
                key = (workers[place], message)
                if key not in self._steps:
                    self._steps[key] = self._delivered(*key)
                for name, kind, step in self._steps[key]:
                    yield name, self._applied(state, place, kind, step)

    def _local(
        self, state: State, place: int, worker: int, row: int, budget: int
    ) -> Iterator[tuple[str, State]]:
        key = (worker, row, budget)
        if key not in self._steps:
            values = self._values.values
            members = tuple(values[each].member for each in state[0])
            self._steps[key] = list(_local(values[worker], values[row], values[budget], members))
        for name, kind, step in self._steps[key]:
            yield name, self._applied(state, place, kind, step)

    def _delivered(self, worker: int, message: int) -> list[tuple[str, str, Step]]:
        before, content = self._values.values[worker], self._values.values[message]
        if not before.up:
            return []
        step = _deliver(before, content)
        changes = step.sent or step.acknowledged or self._values.number(step.worker) != worker
        return [(str(content), "", step)] if changes else []

    def _stored(self, state: State, message: int) -> tuple[str, State]:
        """The store carries out a request, and answers with the row."""
        workers, row, budget, network, acknowledged = state
        asked: Message = self._values.values[message]
        now, rejected = self._values.values[row], 0
        if isinstance(asked.content, ReadRow):
            rejected = asked.content.rejected
        elif now == asked.content.expected:
            now = asked.content.wanted
        answer = self._values.number(Message(STORE, asked.sender, (now, rejected)))
        then = (workers, self._values.number(now), budget, network | {answer}, acknowledged)
        return f"the store does {asked.content}", then

    def _applied(self, state: State, place: int, kind: str, step: Step) -> State:
        workers, row, budget, network, acknowledged = state
        number = self._values.number
        if step.acknowledged:
            acknowledged = acknowledged | step.acknowledged
        if kind:
            budget = number(self._values.values[budget].without(kind))
        if step.sent:
            network = network.union(map(number, step.sent))
        workers = (*workers[:place], number(step.worker), *workers[place + 1 :])
        return workers, row, budget, network, acknowledged

    def judge(self, state: State) -> None:
        """See the module's text.

        :raises Violation: naming what is wrong
        """
        workers, row, _, _, acknowledged = state
        named: LockRow = self._values.values[row]
        for each in workers:
            worker: Worker = self._values.values[each]
            if worker.member == named.holder or worker.member in named.followers:
                lacking = acknowledged.difference(worker.log.records)
                if lacking:
                    raise Violation(f"{worker.member} lacks {sorted(lacking)}; {named}")
                if list(worker.log.records) != sorted(worker.log.records):
                    raise Violation(f"{worker.member} has {worker.log.records}; {named}")

    # -- walks --------------------------------------------------------------------------

    def explore(self, most: int, sample: int = 1000) -> Explored:
        """Visit every state that can be reached, nearest first.

        :param most: states, after which it ends
        :param sample: every so many states are kept, for :meth:`recover`
        :raises Violation: with the events that led there
        """
        explored = Explored()
        came_from: dict[State, tuple[State | None, str]] = {self.first: (None, "")}
        waiting = deque([self.first])
        while waiting and explored.states < most:
            here = waiting.popleft()
            explored.states += 1
            if explored.states % sample == 1:
                explored.samples.append(here)
            try:
                self.judge(here)
                for name, there in self.following(here):
                    if there not in came_from:
                        came_from[there] = (here, name)
                        waiting.append(there)
            except Violation as violation:
                way = "\n".join(_way(came_from, here))
                raise Violation(f"{violation}, after\n{way}") from None
        explored.whole = not waiting
        return explored

    def wander(self, choice: random.Random, steps: int) -> State:
        """Follow one random way, judging each state on it; return its last one.

        :raises Violation: with the events that led there
        """
        here, names = self.first, []
        for _ in range(steps):
            try:
                self.judge(here)
                ways = list(self.following(here))
            except Violation as violation:
                way = "\n".join(names)
                raise Violation(f"{violation}, after\n{way}") from None
            ways = [(name, there) for name, there in ways if there != here]
            if not ways:
                break
            name, here = choice.choice(ways)
            names.append(name)
        self.judge(here)
        return here

    def recover(self, state: State) -> None:
        """All failures end: workers start, messages arrive. Somebody must acknowledge a write.

        :raises Violation: nobody does
        """
        values = self._values.values
        workers = [replace(values[each], up=True, taking=None) for each in state[0]]
        row: LockRow = values[state[1]]
        world = _Recovery({worker.member: worker for worker in workers}, row)
        if not world.progresses():
            raise Violation(f"no progress from {[values[each] for each in state[0]]}, {row}")


@dataclass
class Explored:
    """What an exploration saw.

    :ivar states: how many different ones
    :ivar whole: whether these are all
    """

    states: int = 0
    whole: bool = True
    samples: list[State] = field(default_factory=list)


class _Recovery:
    """A run without failures: each message arrives once, in order, and the store answers."""

    def __init__(self, workers: dict[Member, Worker], row: LockRow) -> None:
        self._workers = workers
        self._row = row
        self._acknowledged: set[Any] = set()
        self._waiting: deque[Message] = deque()

    def progresses(self) -> bool:
        """Whether a new write is acknowledged."""
        holder = self._workers.get(self._row.holder)
        if holder is not None and holder.holds and holder.holding is not None:
            if holder.holding.wanted is not None:
                self._do(holder, lambda w: _stepped(w, holder_rules.row_unknown(w.holding)))
            for member in list(holder.holding.followers):
                self._do(
                    self._workers[holder.member],
                    lambda w, m=member: _stepped(w, holder_rules.lost(w.holding, m)),
                )
        else:
            able = [w for w in self._workers.values() if _taken(w, self._row) is not None]
            if not able:
                return True  # every worker that had all of it lost its disk
            self._do(able[0], lambda worker: _taken(worker, self._row))
        self._run()
        # A follower in the row whose disk is lost does not answer; the holder gives it up.
        for worker in list(self._workers.values()):
            if worker.holds and worker.holding is not None:
                for member in worker.holding.required:
                    if member not in self._workers:
                        self._do(
                            self._workers[worker.member],
                            lambda w, m=member: _stepped(w, holder_rules.stuck(w.holding, m)),
                        )
        self._run()
        for worker in list(self._workers.values()):
            if worker.holds and worker.member == self._row.holder:
                self._do(worker, lambda w: _commit(w, 0))
                self._do(self._workers[worker.member], _sync)
        before = len(self._acknowledged)
        self._run()
        return len(self._acknowledged) > before or before > 0

    def _do(self, worker: Worker, act: Callable[[Worker], Any]) -> None:
        step = act(worker)
        self._workers[worker.member] = step.worker
        self._acknowledged |= step.acknowledged
        self._waiting.extend(sorted(step.sent, key=str))

    def _run(self) -> None:
        for _ in range(10_000):
            if not self._waiting:
                return
            message = self._waiting.popleft()
            if message.to == STORE:
                content, rejected = message.content, 0
                if isinstance(content, ReadRow):
                    rejected = content.rejected
                elif self._row == content.expected:
                    self._row = content.wanted
                answer = Message(STORE, message.sender, (self._row, rejected))
                self._waiting.append(answer)
            elif message.to in self._workers:
                self._do(self._workers[message.to], lambda w, m=message: _deliver(w, m))
        raise Violation("messages without end")


# -- the steps of one worker -------------------------------------------------------------------


def _local(
    worker: Worker, row: LockRow, budget: Budget, members: tuple[Member, ...]
) -> Iterator[tuple[str, str, Step]]:
    """What a worker may do by itself: the event's name, the kind that it spends, the step."""
    name = worker.member.node
    if not worker.up:
        yield f"{name} starts", "", Step(replace(worker, up=True))
        return
    holder = worker.holding
    if holder is not None and worker.holds:
        if budget.writes:
            yield f"{name} commits", "writes", _commit(worker, budget.writes)
        if worker.synced < worker.log.end:
            yield f"{name} syncs", "", _sync(worker)
        for member in holder.followers if budget.stuck else ():
            step = _stepped(worker, holder_rules.stuck(holder, member))
            yield f"{name} gives up {member}", "stuck", step
        for member in members if budget.candidates else ():
            if member not in holder.followers and member != worker.member:
                step = _stepped(worker, holder_rules.candidate(holder, member))
                yield f"{name} invites {member}", "candidates", step
    elif budget.takeovers and worker.taking is None:
        taken = _taken(worker, row)
        if taken is not None:
            yield f"{name} takes over", "takeovers", taken
    if budget.crashes:
        crashed = replace(worker, up=False, holding=None, taking=None)
        yield f"{name} crashes", "crashes", Step(crashed)
        if worker.synced < worker.log.end:
            log = Log(worker.log.records[: worker.synced])
            yield f"{name} crashes, unsynced lost", "crashes", Step(replace(crashed, log=log))
    if budget.disks:
        disk = str(int(worker.member.disk) + 1)
        empty = Worker(replace(worker.member, disk=disk), up=False)
        yield f"{name} loses its disk", "disks", Step(empty)


def _commit(worker: Worker, tag: int) -> Step:
    """Commit a record; `tag` tells it from another one at the same position."""
    holder = worker.holding
    assert holder is not None
    log = Log((*worker.log.records, (holder.row.epoch, worker.log.end, tag)))
    return _stepped(replace(worker, log=log), holder_rules.appended(holder, log.end))


def _sync(worker: Worker) -> Step:
    assert worker.holding is not None
    step = holder_rules.synced(worker.holding, worker.log.end)
    return _stepped(replace(worker, synced=worker.log.end), step)


def _taken(worker: Worker, row: LockRow) -> Step | None:
    """Read the row, promise, and ask the store for the change."""
    taken = follower_rules.take_over(worker.following, row, worker.member)
    if taken is None:
        return None
    following, wanted = taken
    now = replace(worker, following=following, holding=None, taking=wanted, synced=worker.log.end)
    return Step(now, frozenset({Message(worker.member, STORE, ChangeRow(row, wanted))}))


def _deliver(worker: Worker, message: Message) -> Step:
    content = message.content
    if message.sender == STORE:
        return _row_is(worker, *content)
    if isinstance(content, Join | Append | Base):
        return _ordered(worker, message.sender, content)
    if worker.holding is None or not worker.holds:
        return Step(worker)
    matches = isinstance(content, Behind) and worker.log.digest_at(content.end) == content.digest
    step = holder_rules.replied(worker.holding, message.sender, content, matches)
    return _stepped(worker, step)


def _row_is(worker: Worker, row: LockRow, rejected: int) -> Step:
    if worker.taking is not None and row.revision >= worker.taking.revision:
        now = replace(worker, taking=None)
        if row != worker.taking:
            return Step(now)
        return _stepped(now, holder_rules.begin(row, worker.log.end))
    if worker.holding is not None and worker.holds:
        return _stepped(worker, holder_rules.row_is(worker.holding, row, rejected))
    return Step(worker)


def _ordered(worker: Worker, sender: Member, order: Join | Append | Base) -> Step:
    decision = follower_rules.decide(worker.following, order, worker.log)
    log = worker.log
    if decision.truncate is not None:
        log = Log(log.records[: decision.truncate])
    if decision.append is not None:
        log = Log(log.records + decision.append.content)
    if decision.base is not None:
        log = Log(decision.base.content)
    holding, taking = worker.holding, worker.taking
    if holding is not None and decision.promised > holding.row.epoch:
        holding = None
    if taking is not None and decision.promised > taking.epoch:
        taking = None
    changed = log is not worker.log
    now = replace(
        worker,
        log=log,
        synced=log.end if changed else worker.synced,
        following=decision.state,
        holding=holding,
        taking=taking,
    )
    return Step(now, frozenset({Message(worker.member, sender, decision.reply)}))


def _stepped(worker: Worker, step: holder_rules.Step) -> Step:
    """Carry out what a holder decided."""
    holder, actions = step
    before = holder.begun
    if worker.holding is not None and worker.holding.row.epoch == holder.row.epoch:
        before = max(before, worker.holding.acknowledged)
    acknowledged = frozenset(worker.log.records[before : holder.acknowledged])
    sent = frozenset(message for action in actions for message in _messages(worker, holder, action))
    return Step(replace(worker, holding=holder), sent, acknowledged)


def _messages(worker: Worker, holder: Holder, action: Any) -> Iterator[Message]:
    log, epoch = worker.log, holder.row.epoch
    match action:
        case ChangeRow() | ReadRow():
            yield Message(worker.member, STORE, action)
        case SendJoin(to=to):
            yield Message(worker.member, to, Join(epoch, holder.end, log.digest_at(holder.end)))
        case SendLog(to=to, start=start, end=end):
            for at in range(start, end):  # record by record, as a long log goes in pieces
                content = log.records[at : at + 1]
                order = Append(epoch, at, at + 1, log.digest_at(at), content)
                yield Message(worker.member, to, order)
        case SendBase(to=to):
            yield Message(worker.member, to, Base(epoch, log.end, log.records))


def _way(came_from: dict[State, tuple[State | None, str]], here: State | None) -> list[str]:
    names: list[str] = []
    while here is not None:
        here, name = came_from[here]
        names.append(name)
    return names[::-1]


def main() -> None:
    """``make explore``: random ways through large worlds, for the seconds of the argument."""
    seconds, seed = float(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 0
    until, ways, explorer = time.monotonic() + seconds, 0, None
    while time.monotonic() < until:
        if ways % 200 == 0:
            budget = Budget(4, 3, 1, 4, 3, 3)
            explorer = Explorer(3, (ways // 200 + seed) % 3, budget, history=ways // 600 % 3)
        assert explorer is not None
        try:
            explorer.recover(explorer.wander(random.Random(f"{seed} {ways}"), 200))
        except Violation as violation:
            sys.exit(f"way {ways} of seed {seed}: {violation}")
        ways += 1
    print(f"{ways} ways, no violation")


if __name__ == "__main__":
    main()

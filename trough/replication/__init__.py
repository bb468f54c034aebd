"""The rules that keep each acknowledged write on the disks of several workers.

One worker *holds* the write lock of a segment and appends to its log. *Followers* keep copies of
that log. The lock's row in the metadata store names the holder, its epoch and the followers that
are in sync. Two state machines decide everything:

* :mod:`trough.replication.holder`: what to send, when to acknowledge, how to change the row;
* :mod:`trough.replication.follower`: what to store, what to reject, when to take over.

Both are values and functions. A function takes a state and an event, and returns a state and
actions. They use no clock, no socket and no file, so an explorer can try every order of events.

The safety argument in ``docs/replication.rst`` rests on three rules:

1. A holder acknowledges a write only when every follower has confirmed it that the row names *or
   may name*. A change of the row with an unknown outcome counts both ways.
2. A follower enters the row only after it has confirmed every acknowledged write. It leaves the row
   before a write is acknowledged without it.
3. A worker that takes over first promises durably to reject all older epochs. Then it changes the
   row.
"""

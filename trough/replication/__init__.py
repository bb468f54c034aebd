"""Keeps each acknowledged write on the disks of several workers: the rules, without I/O.

One worker *holds* the write lock of a segment and appends to its log. *Followers* keep copies of
that log. The lock's row in the metadata store names the holder, its epoch and the followers that
are in sync. Two state machines decide everything:

* :mod:`trough.replication.holder`: what to send, when to acknowledge, how to change the row;
* :mod:`trough.replication.follower`: what to store, what to reject, when to take over.

Both are values and functions: a state and an event in, a state and actions out. They know no
clock, no socket and no file, so that an explorer can walk through every order of events.

Three rules carry the safety argument, which ``docs/replication.rst`` spells out:

1. A write is acknowledged only when every follower has confirmed it that the row names *or may
   name*: a change of the row whose outcome is unknown counts both ways.
2. A follower enters the row only after it has confirmed every acknowledged write, and leaves it
   before a write is acknowledged without it.
3. Who takes over first promises to reject all older epochs, durably, and then changes the row.
"""

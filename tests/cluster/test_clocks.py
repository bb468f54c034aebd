"""What the time of day is for, and what it is not."""

import subprocess
import sys
import time

import pytest
from processes import Machine, until_blocking
from twisted.internet.testing import Clock, MemoryReactorClock

from trough.util.clocks import elapsed, keep_time_by_elapsed, time_of_day

#: Sets the clock back by an hour, as far as this process can see, between two timers.
SET_BACK = """
import sys, time
right, behind = time.time, []
time.time = lambda: right() - sum(behind)
from twisted.internet import reactor
from trough.taps import node

options = node.Options()
options.parseOptions(["--home", sys.argv[1]])
node.makeService(options)
reactor.callLater(0, behind.append, 3600.0)
reactor.callLater(0.01, reactor.stop)
reactor.run()
"""


def test_a_clock_that_is_set_back_delays_no_timer(tmp_path):
    """Heartbeats, for one, go on at their times."""
    program = [sys.executable, "-c", SET_BACK, tmp_path]
    assert subprocess.run(program, timeout=60).returncode == 0


def test_a_reactor_with_timers_keeps_its_clock():
    """They would never come."""
    reactor = MemoryReactorClock()
    reactor.callLater(1.0, list)
    with pytest.raises(RuntimeError, match="timers already"):
        keep_time_by_elapsed(reactor)
    assert reactor.seconds() == 0.0


def test_elapsed_time_goes_on():
    """And tells no time of day."""
    before = elapsed()
    assert before <= elapsed() < 1e9


def test_a_moment_is_told_as_time_of_day():
    """Whatever the clock counts from."""
    clock = Clock()
    clock.advance(100.0)
    before = time.time()
    assert before - 40.0 <= time_of_day(60.0, clock) <= time.time() - 40.0


def test_a_status_tells_the_time_of_day(tmp_path):
    """People compare it with their own clocks."""
    begun = time.time()
    with Machine(tmp_path, MINIMUM_ASSIGNMENTS="1") as machine:
        machine.sync("s1").wait_ready()
        machine.worker("w1").wait_ready()
        until_blocking(lambda: machine.status("w1")["metadata"]["last_heartbeat"], "a heartbeat")
        beat = machine.status("w1")["metadata"]["last_heartbeat"]
        as_of = machine.status("s1")["metadata"]["as_of"]
        assert begun <= beat <= time.time() and begun <= as_of <= time.time()
